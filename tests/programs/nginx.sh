# about: nginx serving requests on the loopback, with compression and reloads
# needs: nginx curl
# limit: 60
. "$PB_HERE/common.bash"

mkdir www tmp got
perl -e 'for my $i (1 .. 40) {
	open my $f, ">", "www/$i.txt";
	print $f "line $_ of file $i, ", "word " x ($_ % 9), "\n" for 1 .. $i * $i * 4;
}'

user='' port=''
((EUID != 0)) || user='user root;'
conf()
{
	cat >nginx.conf <<END
daemon off;
$user
worker_processes 2;
pid $PWD/pid;
error_log stderr warn;
events { worker_connections 256; }
http {
	access_log $PWD/access;
	client_body_temp_path tmp/body; proxy_temp_path tmp/proxy; fastcgi_temp_path tmp/f;
	uwsgi_temp_path tmp/u; scgi_temp_path tmp/s;
	proxy_cache_path $PWD/tmp/cache keys_zone=cache:1m;
	types { text/plain txt; }
	gzip on;
	gzip_types text/plain;
	server {
		listen 127.0.0.1:$port;
		root $PWD/www;
		location /again/ {
			proxy_pass http://127.0.0.1:$port/;
			proxy_cache cache;
			proxy_buffers 16 4k;
		}
		location /twice/ { sub_filter word words; sub_filter_once off; alias $PWD/www/; }
		location = /maps { alias /proc/self/maps; }
	}
}
END
}

proved nginx nginx -v 2>&1 | grep -o 'nginx version'
# Somebody may take the port before nginx does: then another one.
for attempt in 1 2 3; do
	port=$(free_port)
	conf
	serve nginx -p "$PWD" -c "$PWD/nginx.conf" -e stderr
	await 10 curl -sf "http://127.0.0.1:$port/1.txt" && break
	((attempt < 3)) || fail 'the server does not answer'
done
mapped "$server"
workers=$(cat "/proc/$server/task/$server/children")
for worker in $workers; do
	mapped "$worker"
done

requests()
{
	for round in 1 2 3 4 5; do
		for i in {1..40}; do
			for place in '' again/ twice/; do
				echo "url = http://127.0.0.1:$port/$place$i.txt"
				echo "output = got/$1.${place%/}.$round.$i"
			done
		done
	done
}
load()
{
	requests "$1" | curl -s --fail --parallel --parallel-max 20 --compressed -K - ||
		fail 'a request failed'
}

load a &
first=$!
load b &
second=$!
# New workers take over under load; the old ones finish what they have begun.
for reload in 1 2 3; do
	old=$(cat "/proc/$server/task/$server/children")
	kill -HUP "$server"
	replaced() { [[ $(cat "/proc/$server/task/$server/children") != "$old" ]]; }
	await 20 replaced || fail 'a reload did nothing'
done
ended "$first"
ended "$second"

for i in {1..40}; do
	for round in 1 2 3 4 5; do
		for half in a b; do
			cmp "www/$i.txt" "got/$half..$round.$i" || fail "wrong bytes of $i.txt"
			cmp "www/$i.txt" "got/$half.again.$round.$i" || fail "wrong bytes through the proxy"
		done
	done
done
ls got | wc -l
cat got/*.twice.* | checksum

kill -QUIT "$server"
ended "$server"
# 1200 from outside, some more through the proxy, of which the cache saves some.
at_least 'requests in the access log' 1200 "$(grep -c '" 200 ' access)"
! grep -v '" 200 ' access || fail 'a request was not answered with 200'
