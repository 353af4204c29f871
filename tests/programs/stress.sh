# about: the malloc stressors of stress-ng
# needs: stress-ng
# limit: 60
. "$PB_HERE/common.bash"

# Ended by a number of operations, not by time, so that both sides do the same.
stress()
{
	proved stress-ng stress-ng --verify --metrics-brief --timeout 40 --temp-path "$PWD" \
		--oomable "$@" >stress.out 2>&1 || fail "stress-ng: $(tail -n1 stress.out)"
	cat stress.out >&2
	# It reports in words what it found, and a stressor that gave up as a skip.
	grep -o 'successful run completed' stress.out || fail 'no successful run'
	! grep -iE 'fail:|error:|skipp|out of memory|killed' stress.out || fail 'it complains'
}

stress --malloc 2 --malloc-ops 60000 --malloc-bytes 16M --malloc-max 4096
stress --malloc 1 --malloc-ops 10000 --malloc-bytes 16M --malloc-max 2048 --malloc-pthreads 4
stress --malloc 1 --malloc-ops 2000 --malloc-bytes 4M --malloc-touch --malloc-thresh 4096 \
	--malloc-zerofree
