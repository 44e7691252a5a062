# kill -9 of sessions that count product pairs, and an immediate stop: started again, the job ends with the pairs that plain
# SQL counts, the scratch is empty, and a second one at the same time is refused.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = cdp_server('value_affinity_kill');
$node->append_conf('postgresql.conf', "restart_after_crash = on\n");
$node->restart;
cdp_install($node, 'postgres');
my $seed = $ENV{CDP_SEED} // int(rand(1_000_000));
note "seed $seed";
srand($seed);
sub q1 { return $node->safe_psql('postgres', $_[0]); }
q1(qq{
	SELECT setseed($seed / 1000000.0);
	INSERT INTO cdp.profile (profile_id) SELECT i FROM generate_series(1, 3000) i;
	INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount) SELECT i, 1 + i % 3000, now() - random() * interval '300 days', 'paid', 10 FROM generate_series(1, 12000) i;
	INSERT INTO cdp.sales_order_line (order_id, line_no, product_id) SELECT 1 + i % 12000, i / 12000, 'p' || 1 + floor(300 * random() * random())::int FROM generate_series(0, 35999) i;
	ANALYZE});
sub change {
	q1(q{INSERT INTO cdp.sales_order_line (order_id, line_no, product_id) SELECT 1 + i, 10 + coalesce((SELECT max(line_no) FROM cdp.sales_order_line), 0), 'p' || 1 + floor(300 * random())::int FROM generate_series(0, 999) i});
}
sub pairs_are_right {
	my $what = shift;
	# with 300 products the 100 best are some of all pairs: those that are there are right, and each product has its hundred
	is(q1(q{WITH o AS MATERIALIZED (SELECT DISTINCT profile_id AS c, product_id AS p FROM cdp.sales_order JOIN cdp.sales_order_line USING (order_id)),
			n AS MATERIALIZED (SELECT a.p, b.p AS q, count(*) AS n FROM o a JOIN o b ON b.c = a.c AND b.p <> a.p GROUP BY 1, 2),
			k AS (SELECT p, least(count(*), 100) AS n FROM n GROUP BY p)
		SELECT (SELECT count(*) FROM cdp.product_pair r LEFT JOIN n ON (n.p, n.q) = (r.product_id, r.other_product_id) WHERE n.n IS DISTINCT FROM r.customers)
			|| '/' || (SELECT count(*) FROM k FULL JOIN (SELECT product_id AS p, count(*) AS n FROM cdp.product_pair GROUP BY 1) r USING (p) WHERE k.n IS DISTINCT FROM r.n)
			|| '/' || (SELECT count(*) FROM cdp.product_buyer)}), '0/0/0', "$what: the pairs are those of plain SQL");
}

for my $round (0 .. 3) {
	my $out = '';
	change();
	my $running = IPC::Run::start(['psql', '-Xq', '-d', $node->connstr('postgres'), '-c', 'CALL cdp.refresh_product_pairs(30)'], '>', \$out, '2>', \$out);
	my $pid = '';
	for (1 .. 200) {
		$pid = q1(q{SELECT pid FROM cdp.job_status WHERE job = 'refresh_product_pairs' AND status = 'running' AND done > 0});
		last if $pid ne '';
		sleep 0.05;
	}
	isnt($pid, '', "round $round: the job is at work");
	if ($round == 0) {
		my ($ret, $stdout, $stderr) = $node->psql('postgres', 'CALL cdp.refresh_product_pairs()');
		like($stderr, qr/is running already/, 'a second one is refused');
		like(q1(q{SELECT count(*) FROM cdp.also_bought('p1')}), qr/^\d+$/, 'who asks meanwhile is answered');
	}
	if ($round == 3) {
		$node->stop('immediate');
	}
	else {
		kill 'KILL', $pid;
	}
	eval { $running->finish };
	$node->start if $round == 3;
	for (1 .. 300) {
		# a psql that finds no server may be gone before its question is written, which dies here
		last if eval { ($node->psql('postgres', 'SELECT 1'))[0] == 0 };
		sleep 0.1;
	}
	is(q1(q{SELECT status FROM cdp.job_status WHERE job = 'refresh_product_pairs'}), 'interrupted', '… it was interrupted');
	q1('CALL cdp.refresh_product_pairs(1000)');
	pairs_are_right("round $round");
}
$node->stop;
done_testing();
