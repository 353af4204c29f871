# about: a lua program of tables, strings and coroutines
# needs: lua5.4
# quick
. "$PB_HERE/common.bash"

proved lua5.4 lua5.4 -e 'print(6 * 7)'
under lua5.4 "$PB_HERE/lua.lua"
maps_have_it maps.lua
