# about: redis-server under redis-benchmark, with BGSAVE, AOF rewrite and restart
# needs: redis-server redis-tools
# limit: 90
# quick
. "$PB_HERE/common.bash"

socket=$PWD/s
say() { redis-cli -s "$socket" "$@"; }
answers() { [[ $(say ping) == PONG ]]; }
info() { say info "$1" | tr -d '\r' | sed -n "s/^$2://p"; }
saving_ended() { [[ $(info persistence rdb_bgsave_in_progress) == 0 ]]; }
rewriting_ended() { [[ $(info persistence aof_rewrite_in_progress) == 0 ]]; }

begin()
{
	serve redis-server --port 0 --unixsocket "$socket" --save '' --dir "$PWD" \
		--enable-debug-command yes --logfile "$PWD/redis.log" "$@"
	# While it still loads its data it answers too, but not so.
	await 20 answers || fail 'the server does not answer'
	mapped "$server"
}

# Debian's redis-server is linked with jemalloc; even so malloc must be the preloaded one's.
# The program's file is called redis-check-rdb and redis-server a symbolic link to it.
proved redis-server redis-server --version | grep -o '^Redis server'

# A known set of data of all types and many sizes, in database 0.
data()
{
	perl -e '
		sub cmd { print "*", scalar(@_), "\r\n", map { "\$" . length() . "\r\n$_\r\n" } @_ }
		my $seed = 1;
		sub rnd { $seed = ($seed * 1664525 + 1013904223) % 4294967296; ($seed >> 8) % $_[0] }
		for my $i (1 .. 60000) {
			my $size = rnd(50) ? rnd(300) : rnd(20000);
			cmd("SET", "string:$i", chr(97 + $i % 26) x $size);
			cmd("APPEND", "string:" . (1 + rnd($i)), "more") if $i % 3 == 0;
			cmd("DEL", "string:" . (1 + rnd($i))) if $i % 4 == 0;
			cmd("HSET", "hash:" . rnd(500), "field$i", "value" x rnd(30));
			cmd("RPUSH", "list:" . rnd(200), "item" x rnd(40));
			cmd("ZADD", "zset:" . rnd(200), rnd(1000), "member$i");
			cmd("SADD", "set:" . rnd(200), "member" . rnd(5000));
		}'
}

begin
data | say --pipe | grep -o 'errors: [0-9]*'
say dbsize
digest=$(say debug digest)
echo "digest $digest"

# Load on database 1, with snapshots of both taken meanwhile.
redis-benchmark -s "$socket" --dbnum 1 -q -n 60000 -r 50000 -d 200 -P 16 -c 20 \
	-t set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset \
	>benchmark.out 2>&1 &
benchmark=$!
snapshots=0
while [[ -e /proc/$benchmark/stat ]] && [[ $(cut -d' ' -f3 "/proc/$benchmark/stat") != Z ]]; do
	[[ $(say bgsave) == 'Background saving started' ]] || fail 'BGSAVE does not start'
	await 60 saving_ended || fail 'BGSAVE does not end'
	same 'BGSAVE under load' ok "$(info persistence rdb_last_bgsave_status)"
	snapshots=$((snapshots + 1))
done 2>/dev/null
wait "$benchmark" || fail 'redis-benchmark failed'
tr '\r' '\n' <benchmark.out >&2
! grep -aiE 'err(or)?[: ]|refused' benchmark.out || fail 'redis-benchmark saw an error'
# LPUSH comes twice: once to prepare LRANGE.
same 'kinds of load' 15 "$(tr '\r' '\n' <benchmark.out | grep -c 'requests per second')"
at_least 'snapshots under load' 1 "$snapshots"

say -n 1 flushdb
same 'data after the load' "$digest" "$(say debug digest)"

# Keys that expire, memory that is deleted, then all of it out and in again.
say config set maxmemory-policy allkeys-lru
say debug reload
same 'data after a reload' "$digest" "$(say debug digest)"
say config set appendonly yes
await 60 rewriting_ended || fail 'the AOF rewrite does not end'
same 'AOF rewrite' ok "$(info persistence aof_last_bgrewrite_status)"
say memory purge
say save
redis-check-rdb dump.rdb | grep -o 'Checksum OK'
say shutdown nosave
ended "$server"

begin
same 'data after a restart' "$digest" "$(say debug digest)"
say eval 'local n = 0 for i = 1, 200000 do local t = {} t[1] = "v" .. i n = n + #t[1] end return n' 0
say flushall
say dbsize
say shutdown nosave
ended "$server"
