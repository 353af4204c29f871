# about: git clone, gc, fsck, merge and blame on a local repository
# needs: git
# limit: 90
. "$PB_HERE/common.bash"

export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=A \
	GIT_COMMITTER_EMAIL=a@b GIT_AUTHOR_DATE='1700000000 +0000' \
	GIT_COMMITTER_DATE='1700000000 +0000'
proved git git --version | grep -o '^git version'
git config --global init.defaultBranch main
git config --global pack.threads 2
git config --global gc.auto 0

# 600 commits of a growing tree of text files.
history()
{
	perl -e '
		my $seed = 3;
		sub rnd { $seed = ($seed * 1664525 + 1013904223) % 4294967296; ($seed >> 8) % $_[0] }
		my @files = map { [map { "line $_ " . "word " x rnd(12) } 1 .. 50 + rnd(400)] } 1 .. 120;
		for my $commit (1 .. 600) {
			my $when = 1600000000 + $commit * 1000;
			print "commit refs/heads/main\nmark :$commit\ncommitter A <a\@b> $when +0000\n";
			my $message = "commit $commit";
			print "data ", length $message, "\n$message\n";
			print "from :", $commit - 1, "\n" if $commit > 1;
			my %changed = map { (rnd(120) => 1) } 1 .. ($commit == 1 ? 500 : 6);
			for my $i (sort { $a <=> $b } keys %changed) {
				my $lines = $files[$i];
				splice @$lines, rnd(scalar @$lines), rnd(4), map { "changed in $commit, $_" } 1 .. rnd(6);
				my $text = join "\n", @$lines, "";
				print "M 100644 inline dir", $i % 7, "/file$i.txt\ndata ", length $text, "\n$text\n";
			}
		}'
}

# sums REPOSITORY: of its history, of every object in it, and of the reference
sums()
{
	under git -C "$1" rev-parse HEAD
	under git -C "$1" log --format='%H %T %s' | checksum
	under git -C "$1" cat-file --batch-all-objects --batch-check | sort | checksum
	under git -C "$1" fsck --full --strict 2>&1
}

under git init -q origin
history | under git -C origin fast-import --quiet --max-pack-size=1m
under git -C origin reset -q --hard
sums origin >before
cat before
(cd origin && cat dir*/* | checksum)

under git -C origin repack -q -a -d -f --depth=50 --window=30
under git -C origin gc -q --aggressive --prune=now
sums origin | cmp - before || fail 'gc changed the repository'

under git clone -q "file://$PWD/origin" clone
sums clone | cmp - before || fail 'the clone is another'
diff -r origin clone -x .git

cd clone
under git log --stat -p -M -C --format='%H' | checksum
under git blame dir0/file7.txt | checksum
under git grep -c 'changed in 5' | checksum
under git branch side HEAD~50
under git checkout -q side
echo more >>dir1/file1.txt
under git commit -q -a -m side
under git merge -q -m merge main || { under git checkout -q --theirs . && under git commit -q -a -m merge; }
under git rev-parse 'HEAD^{tree}'
under git archive --format=tar HEAD | checksum
under git -c alias.maps='!cat /proc/$PPID/maps' maps >../maps.git
maps_have_it ../maps.git
