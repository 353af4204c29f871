# Hashes, regular expressions, sorting, threads (each with a copy of all data) and processes.
use strict;
use warnings;
use threads;
use Thread::Queue;
use Digest::SHA 'sha256_hex';

my $seed = 7;
sub rnd { $seed = ($seed * 1664525 + 1013904223) % 4294967296; ($seed >> 8) % $_[0] }

my %data;
for my $i (1 .. 150000) {
	my $key = "key" . rnd(30000);
	if (rnd(3)) { $data{$key} = [$i, "text $i " x rnd(12), { n => $i }] }
	else { delete $data{$key} }
}
my $digest = sub {
	sha256_hex(map { "$_=$data{$_}[0],$data{$_}[1],$data{$_}[2]{n};" } sort keys %data)
};
my $whole = $digest->();
print scalar(keys %data), " keys, $whole\n";

my $text = join ' ', map { $_->[1] } map { $data{$_} } sort keys %data;
my %words;
$words{$_}++ for $text =~ /(\d+)/g;
(my $changed = $text) =~ s/(\d)(\d)/$2-$1/g;
print scalar(keys %words), ' numbers, ', sha256_hex($changed), "\n";

my ($work, $results) = (Thread::Queue->new(1 .. 40), Thread::Queue->new);
$work->end;
my @threads = map {
	threads->create(sub {
		while (defined(my $i = $work->dequeue)) {
			my %copy = map { $_ => $data{$_}[1] . $i } grep { /$i/ } keys %data;
			$results->enqueue("$i: " . sha256_hex(map { $copy{$_} } sort keys %copy));
		}
		return $digest->() eq $whole;
	})
} 1 .. 4;
my $good = grep { $_->join } @threads;
print "$good threads saw the same data\n";
print sha256_hex(sort map { $results->dequeue } 1 .. 40), "\n";

for (1 .. 10) {
	my $pid = fork // die;
	if (!$pid) { %data = (); exit($text =~ /text 1/ ? 3 : 4) }
	waitpid $pid, 0;
	print 'child: ', $? >> 8, ' ', $? & 127, "\n";
}

open my $in, '<', '/proc/self/maps' or die;
open my $out, '>', 'maps.perl' or die;
print $out $_ while <$in>;
close $out or die;
