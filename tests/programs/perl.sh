# about: a perl program of hashes, regular expressions, threads and forks
# needs: perl
# quick
. "$PB_HERE/common.bash"

proved perl perl -e 'print 6 * 7, "\n"'
under perl "$PB_HERE/perl.pl"
maps_have_it maps.perl
