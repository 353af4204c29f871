# Lines are split, counted in hashes of hashes, substituted and sorted; prints checksums.
use strict;
use warnings;
my $seed = 1;
sub rnd { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; ($seed >> 8) % $_[0] }
my $sum = 0;
for my $round (1 .. 3) {
	my (%count, @lines, %follows);
	for my $i (1 .. 9000) {
		push @lines, join ' ', map { 'w' . rnd(3000) . 'x' x rnd(12) } 1 .. 5 + rnd(12);
	}
	for my $line (@lines) {
		my @words = split ' ', $line;
		$count{$_}++ for @words;
		$follows{$words[$_]}{$words[$_ + 1]}++ for 0 .. $#words - 1;
	}
	my @most = (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 999];
	$sum = ($sum * 31 + length($_) * $count{$_}) % 4294967291 for @most;
	$sum = ($sum + keys %{$follows{$_}}) % 4294967291 for @most;
	s/w(\d+)x*/<$1>/g for @lines;
	$sum = ($sum * 33 + length join '', sort @lines) % 4294967291;
}
$| = 1;
print "$sum\n";
select undef, undef, undef, ($ENV{WORKLOADS_IDLE_MS} // 0) / 1000;
