# kill -9 of a session that scores, and an immediate stop: a run that is begun again ends with the rows, stages and events of
# one that was never disturbed.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = cdp_server('value_crash');
$node->append_conf('postgresql.conf', "restart_after_crash = on\n");
$node->restart;
my $now = "SET cdp.now = '2025-07-01 00:00+08';";
# two databases with the same past, row by row: the demo is the same everywhere
for my $db ('calm', 'rough') {
	cdp_install($node, $db);
	$node->safe_psql($db, "$now CALL cdp.load_demo(200); CALL cdp.fit_value_models(); CALL cdp.score_customers('2025-04-01 00:00+08')");
}
my $score = 'CALL cdp.score_customers(batch => 1)';
$node->safe_psql('calm', "$now CALL cdp.score_customers()");
my $rows = q{SELECT md5(string_agg(v::text, '|' ORDER BY customer_id)) FROM cdp.customer_value v};
my $log = q{SELECT md5(string_agg(concat_ws(',', customer_id, from_stage, to_stage, as_of, reason), '|' ORDER BY customer_id, as_of)) FROM cdp.lifecycle_log};
my $events = q{SELECT md5(string_agg(concat_ws(',', profile_id, name, properties, message_id, occurred_at), '|' ORDER BY message_id)) FROM cdp.event
	WHERE name IN ('Lifecycle Stage Changed', 'Value Tier Changed', 'Churn Risk Raised')};
cmp_ok($node->safe_psql('calm', q{SELECT count(*) FROM cdp.event WHERE name = 'Lifecycle Stage Changed'}), '>', 10, 'stages changed');

# slow enough to be caught in the middle
$node->safe_psql('rough', q{CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.03); RETURN NEW; END $$;
	CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON cdp.customer_value FOR EACH ROW EXECUTE FUNCTION public.slow()});
my $killed = 0;
for my $round (0 .. 3) {
	my $out = '';
	my $begun = $node->safe_psql('rough', 'SELECT count(*) FROM cdp.customer_value WHERE changed_at > \'2025-05-01\'');
	my $run = IPC::Run::start(['psql', '-Xq', '-d', $node->connstr('rough'), '-c', $now, '-c', $score], '>', \$out, '2>', \$out);
	# wait until some rows of this run are there
	for (1 .. 100) {
		my $done = $node->safe_psql('rough', 'SELECT count(*) FROM cdp.customer_value WHERE changed_at > \'2025-05-01\'');
		last if $done > $begun + 5;
		sleep 0.02;
	}
	if ($round == 2) {
		$node->stop('immediate');
		$killed++;
	}
	else {
		my $victim = $node->safe_psql('rough', q{SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query ~ 'score_customers' AND state = 'active' LIMIT 1});
		if ($victim ne '') {
			kill 'KILL', $victim;
			$killed++;
			sleep 1;	# the postmaster takes its time to notice
		}
	}
	eval { $run->pump_nb };
	eval { $run->finish };
	$node->start if $round == 2;
	for (1 .. 300) {
		last if eval { ($node->psql('rough', 'SELECT 1'))[0] == 0 };
		sleep 0.1;
	}
	is($node->safe_psql('rough', 'SELECT count(*) - count(DISTINCT customer_id) FROM cdp.customer_value'), '0', "round $round: one row per customer");
	is($node->safe_psql('rough', q{SELECT count(*) - count(DISTINCT message_id) FROM cdp.event WHERE source = 'cdp' AND message_id LIKE 'value:%'}), '0', '… no event twice');
}
cmp_ok($killed, '>', 1, 'sessions died in the middle');
$node->safe_psql('rough', 'DROP FUNCTION public.slow() CASCADE');
$node->safe_psql('rough', "$now CALL cdp.score_customers()");
is($node->safe_psql('rough', $rows), $node->safe_psql('calm', $rows), 'rows are those of a run without a crash');
is($node->safe_psql('rough', $log), $node->safe_psql('calm', $log), 'stages too');
is($node->safe_psql('rough', $events), $node->safe_psql('calm', $events), 'events too');
$node->safe_psql('rough', "$now CALL cdp.score_customers()");
is($node->safe_psql('rough', 'SELECT differ FROM cdp.value_run ORDER BY value_run_id DESC LIMIT 1'), '0', 'nothing is left to write');
$node->stop;
done_testing();
