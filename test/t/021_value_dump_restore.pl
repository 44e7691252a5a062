# Dump and restore of models and scores: rows are equal, a stored model predicts the same to the last digit, states of the
# named aggregate types in tables of one's own are what they were, and the next scoring has nothing to write.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = cdp_server('value_old');
my $new = cdp_server('value_new');
my $dir = PostgreSQL::Test::Utils::tempdir;
my $now = "SET cdp.now = '2025-07-01 00:00+08';";
cdp_install($old, 'crm');
$old->safe_psql('crm', "$now CALL cdp.load_demo(300); CALL cdp.fit_value_models(); CALL cdp.score_customers(); CALL cdp.fit_propensity('Order Completed', '14 days', '60 days')");
$old->safe_psql('crm', q{
	CREATE TABLE public.kept AS SELECT o.profile_id % 7 AS shard, cdp.rfm_partial(o.ordered_at, o.amount, '2025-07-01') AS state FROM cdp.sales_order o GROUP BY 1;
	CREATE TABLE public.model AS SELECT cdp.as_mbgnbd(value_model_id) AS m FROM cdp.value_model WHERE name = 'mbgnbd'});
my $predict = q{SELECT string_agg(concat_ws(' ', cdp.p_alive(cdp.as_mbgnbd(v.value_model_id), 3, 20, t), cdp.expected_purchases(cdp.as_mbgnbd(v.value_model_id), 3, 20, t, 52)), ',' ORDER BY t)
	FROM cdp.value_model v, generate_series(20, 60, 5) t WHERE v.name = 'mbgnbd'};
my $kept = q{SELECT concat_ws(' ', (SELECT cdp.rfm_combine(state) FROM public.kept), (SELECT m FROM public.model), (SELECT cdp.p_alive(m, 3, 20, 30) FROM public.model))};
my $propensity = q{SELECT md5(string_agg(concat(customer_id, score), ',' ORDER BY customer_id)) FROM cdp.propensity_table('Order Completed', '2025-07-01 00:00+08')};
my $rows = cdp_sums($old, 'crm');
my @answers = map { $old->safe_psql('crm', $_) } $predict, $kept, $propensity;
unlike($answers[0], qr/^$/, 'there is something to compare');
for my $way ('plain', '-Fc -j2') {
	my $db = $way eq 'plain' ? 'one' : 'two';
	$new->safe_psql('postgres', "CREATE DATABASE $db");
	if ($way eq 'plain') {
		$old->run_log(['pg_dump', '-f', "$dir/dump.sql", $old->connstr('crm')]);
		$new->command_ok(['psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $new->connstr($db), '-f', "$dir/dump.sql"], "$way: restored");
	}
	else {
		$old->run_log(['pg_dump', '-Fc', '-f', "$dir/dump", $old->connstr('crm')]);
		$new->command_ok(['pg_restore', '-j', '2', '-d', $new->connstr($db), "$dir/dump"], "$way: restored");
	}
	cdp_same(cdp_sums($new, $db), $rows, "$way: models, scores, stages and all else are equal");
	my @now = map { $new->safe_psql($db, $_) } $predict, $kept, $propensity;
	is($now[0], $answers[0], "$way: a stored model predicts the same to the last digit");
	is($now[1], $answers[1], "$way: states and models in tables of one's own");
	is($now[2], $answers[2], "$way: propensities");
	$new->safe_psql($db, "$now CALL cdp.score_customers()");
	is($new->safe_psql($db, 'SELECT differ FROM cdp.value_run ORDER BY value_run_id DESC LIMIT 1'), '0', "$way: nothing to write");
	$new->safe_psql($db, "$now CALL cdp.fit_value_models(); CALL cdp.score_customers()");
	is($new->safe_psql($db, q{SELECT count(DISTINCT parameters) FROM cdp.value_model WHERE name = 'mbgnbd'}), '1', "$way: the next fit finds the same");
}
$_->stop for $old, $new;
done_testing();
