# about: gcc compiles the project: the same object files
# needs: gcc make libc6-dev binutils
# limit: 120
. "$PB_HERE/common.bash"
. "$PB_HERE/compile.bash"
build_project gcc cc1
