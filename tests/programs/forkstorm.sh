# about: threads that allocate while others fork, and children that go on allocating
# needs: gcc libc6-dev
# limit: 90
# quick
. "$PB_HERE/common.bash"

gcc -O1 -pthread -o forkstorm "$PB_HERE/forkstorm.c"
proved sh sh -c 'exit 0'
serve ./forkstorm
await 20 grep -qF " $PB_PRELOAD" "/proc/$server/maps" || fail "$PB_PRELOAD is not mapped"
ended "$server"
