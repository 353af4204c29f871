# about: python3's own tests of threading, subprocess, multiprocessing and json
# needs: python3 libpython3-stdlib libpython3.11-testsuite
# limit: 150
. "$PB_HERE/common.bash"

# Objects of every size come from malloc then; without it most never reach malloc.
export PYTHONMALLOC=malloc
proved python3 python3 -c 'print(open("maps.python", "w").write(open("/proc/self/maps").read()) > 0)'
maps_have_it maps.python

# Which tests fail is compared with the reference, as some do fail in some places.  Many have
# deadlines of a fraction of a second, which both sides together make the machine miss: what
# fails is run twice more, by itself, and is good when it is so once.  Where a test's process
# crashes or does not end nothing is run again.
tests()
{
	local name=$1 failed modules files try word
	shift
	under python3 -m test --timeout 100 --junit-xml "$PWD/$name.xml" -j 3 "$@" >"$name.out" 2>&1 || :
	tail -n 40 "$name.out" >&2
	files=("$name.xml")
	modules=()
	for word; do
		if [[ $word == test_* ]]; then
			modules+=("$word")
		fi
	done
	for try in 1 2; do
		! grep -aqE '\] test_[a-z_]+ (crashed|timed out)' "$name.out" || break
		python3 "$PB_HERE/python_results.py" --failed "${files[@]}" >"$name.failed"
		[[ -s $name.failed ]] || break
		echo "failed, once more: $(tr '\n' ' ' <"$name.failed")" >&2
		failed=()
		while read -r word; do
			failed+=(-m "$word")
		done <"$name.failed"
		under python3 -m test --timeout 100 --junit-xml "$PWD/$name.$try.xml" "${modules[@]}" \
			"${failed[@]}" >"$name.$try.out" 2>&1 || :
		tail -n 40 "$name.$try.out" >&2
		[[ ! -s $name.$try.xml ]] || files+=("$name.$try.xml")
	done
	python3 "$PB_HERE/python_results.py" "${files[@]}"
}

tests all test_json test_threading test_subprocess
tests multi test_multiprocessing_fork -m '*WithProcessesTestPool*' \
	-m '*WithProcessesTestQueue*' -m '*TestSharedMemory*' -m '*WithThreadsTestPool*'
