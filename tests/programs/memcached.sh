# about: memcached with four threads, six clients and evictions
# needs: memcached perl
# limit: 60
# quick
. "$PB_HERE/common.bash"

# The value of a key follows from the key and its version; version 0 is "was never set".
cat >client.pl <<'END'
use strict;
use IO::Socket::UNIX;
my ($path, $id) = @ARGV;
my $memcached = IO::Socket::UNIX->new(Peer => $path) or die "no connection: $!";
my ($seed, %version, %count) = ($id);
sub rnd { $seed = ($seed * 1664525 + 1013904223) % 4294967296; ($seed >> 8) % $_[0] }
sub value { my ($key, $version) = @_; ("$key=$version;") x (1 + ($version * 7919 + $id) % 300) }
sub line { my $line = <$memcached> // die 'connection closed'; $line =~ s/\r\n//; $line }
for my $step (1 .. 12000) {
	my $key = "c$id.k" . rnd(1500);
	my $what = rnd(10);
	if ($what < 5) {
		my $value = join '', value($key, $step);
		print $memcached "set $key 0 0 ", length $value, "\r\n$value\r\n";
		line() eq 'STORED' or die 'not stored';
		$version{$key} = $step;
		$count{set}++;
	} elsif ($what < 9) {
		print $memcached "get $key\r\n";
		my $head = line();
		if ($head eq 'END') {
			# Evicted or never set.
			$count{miss}++;
			next;
		}
		my ($bytes) = $head =~ /^VALUE \Q$key\E 0 (\d+)$/ or die "odd reply: $head";
		read $memcached, my $got, $bytes + 2;
		line() eq 'END' or die 'no END';
		$got eq join('', value($key, $version{$key})) . "\r\n" or die "wrong value of $key";
		$count{hit}++;
	} else {
		print $memcached "delete $key\r\n";
		my $reply = line();
		$reply eq 'DELETED' || $reply eq 'NOT_FOUND' or die "odd reply: $reply";
		delete $version{$key};
		$count{delete}++;
	}
}
$count{hit} > 1000 or die 'hardly a hit';
print STDERR "client $id: $count{hit} hits, $count{miss} misses\n";
print "client $id: $count{set} set, $count{delete} deleted, ", $count{hit} + $count{miss}, " read\n";
END

user=()
((EUID != 0)) || user=(-u root)
proved memcached memcached "${user[@]}" -h | grep -o '^memcached'
serve memcached "${user[@]}" -s "$PWD/s" -t 4 -m 64 -o no_modern
# The file is there before anybody listens.
await 20 perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new(Peer => "s")' ||
	fail 'the server does not listen'
mapped "$server"

clients=()
for id in 1 2 3 4 5 6; do
	perl client.pl "$PWD/s" "$id" >"client.$id" &
	clients+=($!)
done
for client in "${clients[@]}"; do
	wait "$client" || fail 'a client saw a wrong reply'
done
cat client.?

kill -TERM "$server"
ended "$server"
