# cdp.rfm_table ends soon after statement_timeout wherever it is: reading, sorting for a rule, ranking, writing rows.  The
# statement it runs goes to parallel workers for both sources.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time);

my $main = cdp_server('rfm');
cdp_install($main, 'crm');
$main->safe_psql('crm', q{
	CREATE TABLE orders AS SELECT (i * 7919::bigint) % 100003 AS customer_id, '2024-01-01'::timestamptz + (i % 700) * interval '1 day' AS at, (i % 9973 - 400)::numeric / 100 AS amount
		FROM generate_series(1, 400000) i;
	INSERT INTO cdp.sales_order (order_id, profile_id, ordered_at, status, amount) SELECT 'o' || i, i % 500, now() - i * interval '1 hour', 'paid', i FROM generate_series(1, 5000) i;
	ANALYZE});

my $source = q{'SELECT customer_id, at, amount FROM orders'};
for ([ plain => '' ], [ rank => ", monetary => 'mean', method => 'nested'" ], [ rule => ", refunds => 'cancel'" ], [ days => ", refunds => 'net_day'" ]) {
	my ($name, $args) = @$_;
	my $query = "SELECT count(*) FROM cdp.rfm_table(NULL, $source$args)";
	my $start = time;
	my $all = $main->safe_psql('crm', $query);
	my $whole = (time - $start) * 1000;
	my (@late, $stopped);
	for my $try (1 .. 9) {
		my $timeout = int($whole * $try / 10) || 1;
		my ($rc, $out, $err) = $main->psql('crm', "\\timing on\nSET statement_timeout = '${timeout}ms';\n$query;\n\\echo :LAST_ERROR_SQLSTATE\nRESET statement_timeout;\nSELECT count(*) FROM cdp.rfm_table(NULL, 'SELECT 1, now(), 1');", on_error_stop => 0);
		my @times = $out =~ /^Time: ([0-9.]+) ms/mg;
		like($out, qr/^1$/m, "$name, $timeout ms: the session goes on");
		# a machine that has become faster meanwhile finishes
		next unless $err =~ /statement timeout/;
		$stopped++;
		push @late, $times[1] - $timeout;
	}
	ok($stopped, "$name: it was stopped ($stopped times)");
	@late = sort { $a <=> $b } @late;
	# the one in the middle: a machine that does other things may stand still now and then
	cmp_ok($late[ $#late / 2 ], '<', 100, "$name: within 100 ms");
	note("$name: the whole takes $whole ms; late by " . join(', ', map { sprintf '%.0f', $_ } @late));
	is($main->safe_psql('crm', $query), $all, "$name: afterwards the answer is what it was");
}

# plans of the statements inside
for ([ 'a query' => "cdp.rfm_table(NULL, $source)" ], [ 'the orders of the CDP' => 'cdp.rfm_table()' ], [ 'rfm_cuts' => "cdp.rfm_cuts(NULL, $source)" ]) {
	my ($name, $call) = @$_;
	my ($rc, $out, $err) = $main->psql('crm', qq{LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on;
		SET auto_explain.log_level = notice; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SELECT count(*) FROM $call;});
	like($err, qr/Finalize Aggregate.*Gather.*Workers Launched: [12].*Partial Aggregate/s, "$name: workers took part");
}
done_testing();
