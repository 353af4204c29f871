# What every program test begins with: `. "$PB_HERE/common.bash"`. The runner (`run`) starts
# a test twice, at the same time, in an empty directory of its own each:
#
#   PB_SIDE=glibc     with glibc's own libc.so.6 preloaded: the reference
#   PB_SIDE=library   with the library under test preloaded
#
# PB_PRELOAD is that preloaded file, PB_ROOT the project's directory, PB_HERE this one. A test
# preloads only into what it runs through `under` and its like. Its standard output is its
# result: it must be the same on both sides, so nothing that varies belongs there. Its
# standard error is a log, kept when the test fails.

set -Eeuo pipefail

# The test ends here, failed, and this is why.
fail()
{
	trap - ERR
	echo "$*" >>"$PB_WHY"
	echo "failed: $*" >&2
	exit 1
}

# The test ends here; what it needs does not exist on this machine.
skip()
{
	trap - ERR
	echo "$*" >>"$PB_WHY"
	exit 77
}

stop_servers()
{
	local pids
	pids=$(jobs -p)
	# Unquoted: one word for each process.
	[[ -z $pids ]] || kill -KILL $pids 2>/dev/null || :
}

# unexpected STATUS: fail, naming the line of the test itself that a command failed in.
unexpected()
{
	local line=${BASH_LINENO[-2]} how="status $1"
	(($1 <= 128)) || how="killed by SIG$(kill -l "$1")"
	fail "line $line, $how: $(sed -n "${line}{s/^[[:space:]]*//p}" "$0" | cut -c1-120)"
}

trap 'unexpected $?' ERR
trap stop_servers EXIT
trap 'exit 143' HUP INT TERM

# same WHAT WANTED GOT
same()
{
	[[ $2 == "$3" ]] || fail "$1: wanted '${2:0:80}', got '${3:0:80}'"
}

# at_least WHAT MINIMUM GOT, for whole numbers
at_least()
{
	[[ $3 =~ ^[0-9]+$ ]] || fail "$1: wanted a number, got '${3:0:80}'"
	(($3 >= $2)) || fail "$1: wanted at least $2, got $3"
}

# await SECONDS COMMAND...: repeat the command until it succeeds, at most so long.
await()
{
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < deadline)) || return 1
		sleep 0.02
	done
}

# under COMMAND...: run it with the allocator of this side.
under()
{
	LD_PRELOAD=$PB_PRELOAD "$@"
}

# serve COMMAND...: start it so in the background; its process id is then in $server.
serve()
{
	# exec: $server must be the program, not a shell that waits for it.
	(trap - ERR EXIT; LD_PRELOAD=$PB_PRELOAD exec "$@") &
	server=$!
}

# ended PID: wait for its end; it must be a good one.
ended()
{
	local status=0
	wait "$1" || status=$?
	((status <= 128)) || fail "the program was killed by SIG$(kill -l "$status")"
	((status == 0)) || fail "the program ended with status $status"
}

# maps_have_it FILE: fail unless this copy of a /proc/PID/maps shows the preloaded file.
maps_have_it()
{
	[[ -s $1 ]] || fail "$1: no list of mappings"
	grep -qF " $PB_PRELOAD" "$1" || fail "the process does not have $PB_PRELOAD mapped"
}

# mapped PID: the same of a running process.
mapped()
{
	cat "/proc/$1/maps" >"maps.$1" || fail "process $1 is gone"
	maps_have_it "maps.$1"
}

# proved PROGRAM COMMAND...: run the command, and fail unless the loader's own account of it
# shows at least one process executing PROGRAM (a file name without directory), the preloaded
# file loaded in each such process, and every symbol malloc and free bound to that file.
proved()
{
	local program=$1 traces
	shift
	rm -rf traces
	mkdir traces
	LD_BIND_NOW=1 LD_DEBUG=files,bindings LD_DEBUG_OUTPUT=$PWD/traces/p \
		LD_PRELOAD=$PB_PRELOAD "$@"
	traces=(traces/*)
	[[ -e ${traces[0]} ]] || fail "$program: the loader told nothing"
	awk -v lib="$PB_PRELOAD" -v program="$program" '
		function reset() { loaded = bound = 0; split("", asking); split("", elsewhere) }
		FNR == 1 { reset() }
		/generating link map/ && index($0, "file=" lib " ") { loaded = 1 }
		# PID: binding file ASKING [0] to GIVING [0]: normal symbol `malloc...
		/binding file .* symbol `(malloc|free)\047/ {
			if ($7 == lib) {
				bound = 1
				asking[$4] = 1
			} else if ($4 != lib) {
				elsewhere[$7] = 1
			}
		}
		/initialize program: / {
			name = $NF
			sub(".*/", "", name)
			# A program that takes the address of malloc may show everybody a stub of
			# its own for it, which then goes where its own calls go.
			if ($NF in asking)
				delete elsewhere[$NF]
			others = 0
			for (file in elsewhere)
				others++
			if (name == program) {
				seen++
				good += loaded && bound && !others
			}
			reset()
		}
		END { exit !(seen && seen == good) }
	' "${traces[@]}" || fail "$program: not every process of it takes malloc from $PB_PRELOAD"
	rm -r traces
}

# checksum [FILE...]: one for all of them, or for standard input.
checksum()
{
	cat "$@" | sha256sum | cut -d' ' -f1
}

# free_port: a TCP port of 127.0.0.1 that nobody listens on at this moment.
free_port()
{
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(
		Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 0)->sockport, "\n"'
}
