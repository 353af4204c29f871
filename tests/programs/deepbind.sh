# about: a plugin opened with RTLD_DEEPBIND, which brings glibc's malloc into the process
# needs: gcc libc6-dev
# quick
. "$PB_HERE/common.bash"

gcc -O1 -pthread -o deepbind "$PB_HERE/deepbind.c"
gcc -O1 -fPIC -shared -o plugin.so "$PB_HERE/deepbind_plugin.c"

# On the library's side the plugin must really see another malloc than the program does.
[[ $PB_SIDE == glibc ]] || export EXPECT_TWO=1
under ./deepbind ./plugin.so
unset EXPECT_TWO

LD_DEBUG=bindings LD_BIND_NOW=1 LD_DEBUG_OUTPUT=$PWD/trace under ./deepbind ./plugin.so >/dev/null
grep -qF "binding file ./deepbind [0] to $PB_PRELOAD [0]: normal symbol \`malloc'" trace.* ||
	fail "the program does not take malloc from $PB_PRELOAD"
