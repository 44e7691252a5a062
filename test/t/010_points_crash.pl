# kill -9 and immediate stops under eight clients that write down what they were answered: nothing that was acknowledged is
# lost, nothing is done twice, every call that is repeated answers its old id, and the books agree.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = cdp_server('points_crash');
$node->append_conf('postgresql.conf', "restart_after_crash = on\n");
$node->restart;
cdp_install($node, 'postgres');
my $seed = $ENV{CDP_SEED} // int(rand(1_000_000));
my $rounds = $ENV{CDP_CRASHES} // 10;
note "seed $seed (CDP_SEED chooses another, CDP_CRASHES how many)";
srand($seed);
my $dir = PostgreSQL::Test::Utils::tempdir;
sub q1 { return $node->safe_psql('postgres', $_[0]); }
sub pick { return $_[ int(rand(@_)) ]; }
q1(q{
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i)) ORDER BY i) FROM generate_series(1, 200) i));
	UPDATE cdp.points_program SET transferable = true WHERE program = 'points';
	SELECT count(cdp.earn_points(i, 500, 'start:' || i)) FROM generate_series(1, 50) i});

# what one client asks for, a statement a line; few customers, so that they meet
sub statements {
	my ($who, $n) = @_;
	my @list;
	for my $i (1 .. $n) {
		my ($c, $d, $k, $a, $o) = (1 + int(rand(100)), 1 + int(rand(60)), "$who:$i", 1 + int(rand(20)), 'o' . int(rand(400)));
		push @list, pick(
			"cdp.earn_points($c, $a, '$k', '$o')", "cdp.earn_points($c, $a, '$k', '$o', expires_at => now() + interval '$a days')", "cdp.spend_points($c, $a, '$k', '$o')",
			"cdp.spend_points($d, $a, '$k')", "cdp.refund_points('$o', NULL, '$k', customer_id => $c)", "cdp.clawback_points('$o', 1, '$k', customer_id => $c)",
			"cdp.transfer_points($c, $d, $a, '$k', '$o')", "cdp.hold_points($d, $a, '$k', '$o')", "cdp.capture_hold(cdp.hold_points($d, $a, '$k', '$o'))",
			"cdp.release_hold(cdp.hold_points($d, $a, '$k'))",
			"(SELECT string_agg(p.entry_id::text, ',' ORDER BY p.ord) FROM cdp.post_points((SELECT jsonb_agg(jsonb_build_object('kind', 'earn', 'customer_id', 1 + (i * $a) % 150, 'amount', i, 'idempotency_key', '$k:' || i)) FROM generate_series(1, 40) i)) p)");
	}
	return @list;
}
# answers that were written down, by statement
sub answers {
	my $file = shift;
	return map { /^(\d+)\|(.+)$/ ? ($1, $2) : () } split /\n/, -e $file ? slurp_file($file) : '';
}
sub script {
	my ($file, $numbers, @statements) = @_;
	open my $f, '>', $file or die;
	print $f "SELECT $_, $statements[$_];\n" for @$numbers;
	close $f;
}

my ($acknowledged, $cut) = (0, 0);
for my $round (1 .. $rounds) {
	my (@running, @statements);
	my @err = ('') x 8;
	for my $c (0 .. 7) {
		$statements[$c] = [ statements("$round:$c", 4000) ];
		script("$dir/$c.sql", [ 0 .. $#{ $statements[$c] } ], @{ $statements[$c] });
		unlink "$dir/$c.out";
		push @running, IPC::Run::start([ 'psql', '-XAtq', '-f', "$dir/$c.sql", '-d', $node->connstr('postgres') ], '>', "$dir/$c.out", '2>', \$err[$c]);
	}
	sleep 0.4 + rand(0.6);
	if ($round % 4 == 0) {
		$node->stop('immediate');
	}
	else {
		my $victim = '';
		for (1 .. 100) {
			$victim = q1("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active' AND query ~ 'points|hold' ORDER BY random() LIMIT 1");
			last if $victim ne '';
			sleep 0.02;
		}
		kill 'KILL', $victim if $victim ne '';
	}
	eval { $_->finish } for @running;
	$node->start if $round % 4 == 0;
	for (1 .. 300) {
		# a psql that finds no server may be gone before its question is written, which dies here
		last if eval { ($node->psql('postgres', 'SELECT 1'))[0] == 0 };
		sleep 0.1;
	}
	is(q1('SELECT * FROM cdp.verify_points()'), '', "round $round: the books agree");
	is(q1(q{SELECT count(*) FROM (SELECT FROM cdp.points_entry WHERE idempotency_key IS NOT NULL GROUP BY idempotency_key HAVING count(*) > 1) d}), '0', '… no key has two entries');
	my $before = q1('SELECT sum(balance), sum(entries), sum(held) FROM cdp.points_account');
	my ($same, @other) = (0);
	my (@again, @out, @repeating);
	for my $c (0 .. 7) {
		my %was = answers("$dir/$c.out");
		$cut++ if $err[$c] =~ /server closed the connection|terminating connection|connection to server was lost/;
		# a hold that is released again answers false, the second time
		$again[$c] = { map { ($_, $was{$_}) } grep { $statements[$c][$_] !~ /release_hold/ } keys %was };
		script("$dir/again$c.sql", [ sort { $a <=> $b } keys %{ $again[$c] } ], @{ $statements[$c] });
		push @repeating, IPC::Run::start([ 'psql', '-XAtq', '-f', "$dir/again$c.sql", '-d', $node->connstr('postgres') ], '>', "$dir/again$c.out", '2>', \$out[$c]);
	}
	$_->finish for @repeating;
	for my $c (0 .. 7) {
		my %is = answers("$dir/again$c.out");
		for my $n (keys %{ $again[$c] }) {
			if (defined $is{$n} && $is{$n} eq $again[$c]{$n}) { $same++; }
			else { push @other, "$statements[$c][$n]: was $again[$c]{$n}, is " . ($is{$n} // "refused, $out[$c]"); }
		}
	}
	is(scalar(@other), 0, "… all $same acknowledged calls answer what they did") or diag(join "\n", @other[ 0 .. ($#other < 5 ? $#other : 5) ]);
	is(q1('SELECT sum(balance), sum(entries), sum(held) FROM cdp.points_account'), $before, '… and repeating them changed nothing');
	$acknowledged += $same;
}
note "$acknowledged calls, $cut clients were cut off";
cmp_ok($acknowledged, '>', 100 * $rounds, 'much was acknowledged');
cmp_ok($cut, '>=', 4 * $rounds, 'the crashes met clients at work');
$node->stop;
done_testing();
