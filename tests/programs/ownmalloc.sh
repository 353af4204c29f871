# about: a program whose executable defines malloc itself; the library must stay aside
# needs: gcc libc6-dev
# quick
. "$PB_HERE/common.bash"

gcc -O1 -fno-builtin -pthread -o ownmalloc "$PB_HERE/ownmalloc.c"
under ./ownmalloc
# It writes its own /proc/self/maps there: preloaded, though not used.
maps_have_it maps.own
