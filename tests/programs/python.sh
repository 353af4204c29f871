# about: python3's own tests of threading, subprocess, multiprocessing and json
# needs: python3 libpython3-stdlib libpython3.11-testsuite
# limit: 150
. "$PB_HERE/common.bash"

# Objects of every size come from malloc then; without it most never reach malloc.
export PYTHONMALLOC=malloc
proved python3 python3 -c 'print(open("maps.python", "w").write(open("/proc/self/maps").read()) > 0)'
maps_have_it maps.python

# Which tests fail is compared with the reference, as some do fail in some places.
tests()
{
	local name=$1
	shift
	under python3 -m test --timeout 100 --junit-xml "$PWD/$name.xml" -j 3 "$@" >"$name.out" 2>&1 || :
	tail -n 40 "$name.out" >&2
	python3 "$PB_HERE/python_results.py" "$name.xml"
}

tests all test_json test_threading test_subprocess
tests multi test_multiprocessing_fork -m '*WithProcessesTestPool*' \
	-m '*WithProcessesTestQueue*' -m '*TestSharedMemory*' -m '*WithThreadsTestPool*'
