# about: a plugin opened with RTLD_DEEPBIND, which prefers glibc's malloc
# needs: gcc libc6-dev
# quick
. "$PB_HERE/common.bash"

gcc -O1 -pthread -o deepbind "$PB_HERE/deepbind.c"
gcc -O1 -fPIC -shared -o plugin.so "$PB_HERE/deepbind_plugin.c"

under ./deepbind ./plugin.so
under ./deepbind ./plugin.so libc

# The library's option that lets the flag stand: two allocators must get on with each other.
PAGEBLOCK_CONF=deepbind:true under ./deepbind ./plugin.so 2>deepbind.err
cat deepbind.err >&2
wanted='another one'
[[ $PB_SIDE == library ]] || wanted=ours
same "the plugin's malloc" "the plugin's malloc is $wanted" "$(<deepbind.err)"

LD_DEBUG=bindings LD_BIND_NOW=1 LD_DEBUG_OUTPUT=$PWD/trace under ./deepbind ./plugin.so >/dev/null
grep -qF "binding file ./deepbind [0] to $PB_PRELOAD [0]: normal symbol \`malloc'" trace.* ||
	fail "the program does not take malloc from $PB_PRELOAD"
