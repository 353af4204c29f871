# about: programs under a limit on address space (ulimit -v 300000) or on data
# needs: gcc libc6-dev
# limit: 60
# quick
. "$PB_HERE/common.bash"

gcc -O1 -pthread -o limits "$PB_HERE/limits.c"
proved limits ./limits small

# Limits are in KiB. Data counts every private writable mapping, address space all of them.
(ulimit -v 300000; under ./limits small)
(ulimit -v 300000; under ./limits exhaust 64)
(ulimit -v 300000; under ./limits together)
(ulimit -d 150000; under ./limits small)
(ulimit -d 150000; under ./limits exhaust 32)
(ulimit -d 150000; under ./limits together)

# The same for somebody else's program: it must also end in its own words when there is no
# memory left, and by no other way.
(ulimit -v 300000; under perl -e 'my %h; $h{$_} = "x" x 50 for 1 .. 200_000; print scalar(keys %h), "\n"')
status=0
(ulimit -v 300000; under perl -e 'my @a; push @a, "x" x 1_000_000 while 1' 2>perl.err) || status=$?
echo "perl without memory: status $status, $(grep -c 'Out of memory' perl.err) complaint"
