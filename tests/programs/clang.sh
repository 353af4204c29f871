# about: clang compiles the project: the same object files
# needs: clang make libc6-dev binutils
# limit: 120
. "$PB_HERE/common.bash"
. "$PB_HERE/compile.bash"
build_project clang clang
