# For the tests of compilers: compiles the project itself with and without the library.

# build_project COMPILER PROGRAM: builds the library in a copy of the sources, with make and
# everything it starts under the allocator of this side, PROGRAM being the compiler proper;
# the result is the checksum of each object file, which does not depend on the directory.
build_project()
{
	local object
	mkdir source
	tar -C "$PB_ROOT" -cf - --exclude=./build --exclude=./.git . | tar -C source -xf -
	# What make prints comes in any order.
	under make -s -C source -j2 CC="$1" BUILD=out out/libpageblock.so >make.log
	cd source/out
	find . -name '*.o' | sort >objects
	at_least 'object files' 5 "$(wc -l <objects)"
	while read -r object; do
		# The debugging information tells in which directory it was made.
		objcopy --strip-debug "$object" stripped.o
		printf '%s %s\n' "$(checksum stripped.o)" "$object"
	done <objects
	# What was built on the library is good for the next program.
	LD_PRELOAD=$PWD/libpageblock.so perl -e 'print "it runs ", "x" x 10, "\n"'
	cd ../..
	printf 'int main(void) { return 0; }\n' >empty.c
	proved "$2" "$1" -O2 -c -o empty.o empty.c
}
