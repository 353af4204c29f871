# about: a ruby program with a hundred threads
# needs: ruby
. "$PB_HERE/common.bash"

proved ruby ruby --version | grep -o '^ruby'
under ruby "$PB_HERE/ruby.rb"
maps_have_it maps.ruby
