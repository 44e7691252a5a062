# The tables are the user's: DROP EXTENSION refuses, DROP EXTENSION ... CASCADE takes code only, and CREATE EXTENSION
# with migrate() gives the whole system back.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = cdp_server('main');
my $db = 'crm';
cdp_install($node, $db);
$node->safe_psql($db, q{
	CREATE ROLE app; CREATE ROLE analyst; CREATE ROLE boss;
	SELECT cdp.grant_access('application', 'app'), cdp.grant_access('reader', 'analyst'), cdp.grant_access('operator', 'boss')});
cdp_fill($node, $db, 'a');
my $attached = cdp_shop($node, $db);
my $catalog = sub {
	my ($out, $err) = run_command([ 'psql', '-XAtq', '-d', $node->connstr($db), '-f', 'test/upgrade/catalog.sql' ]);
	return $out;
};
my $triggers = q{SELECT tgrelid::regclass, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2};

my $rows = cdp_sums($node, $db);
my $objects = $catalog->();
my $fired = $node->safe_psql($db, $triggers);
cmp_ok(length($objects), '>', 10000, 'the catalog is read');

my $err = cdp_fails($node, $db, 'DROP EXTENSION customer_cdp', '2BP01', 'DROP EXTENSION refuses');
like($err, qr/table cdp\.|default value/, '... because of the tables');
cdp_same(cdp_sums($node, $db), $rows, '... and nothing has changed');
is($catalog->(), $objects, '... in the catalog either');

cdp_works($node, $db, 'DROP EXTENSION customer_cdp CASCADE', 'DROP EXTENSION CASCADE runs');
cdp_same(cdp_sums($node, $db), $rows, '... every table has its rows');
cdp_fails($node, $db, q{SELECT cdp.track('{"anonymous_id": "a-c1"}', 'Page Viewed')}, '42883', '... the verbs are gone');
# nobody's own table may be hurt by what is left on it
cdp_works($node, $db, q{INSERT INTO shop_order VALUES (100, 's1', '2026-03-01Z', 'paid', 7); DELETE FROM shop_order WHERE id = 100},
	'... the shop goes on');

# what the cascade does not take may be lost too
$node->safe_psql($db, q{DROP INDEX cdp.event_profile; DROP INDEX cdp.identifier_live; ALTER TABLE cdp.profile ALTER traits DROP DEFAULT;
	DROP VIEW IF EXISTS cdp.customer CASCADE; ALTER TABLE cdp.profile_alias DROP CONSTRAINT profile_alias_check});

cdp_works($node, $db, 'CREATE EXTENSION customer_cdp; CALL cdp.migrate()', 'CREATE EXTENSION and migrate() run');
cdp_same(cdp_sums($node, $db), $rows, '... every table has its rows');
is($catalog->(), $objects, '... columns, defaults, indexes, constraints, triggers, views, functions and rights are back');
is($node->safe_psql($db, $triggers), $fired, '... and the triggers on tables of others');

for my $kind (qw(app boss)) {
	cdp_works($node, $db, qq{SET ROLE $kind; SELECT cdp.identify('{"anonymous_id": "a-c1"}')}, "role $kind has its rights again");
}
cdp_works($node, $db, q{SET ROLE analyst; SELECT count(*) FROM cdp.customer}, 'role analyst has its rights again');
cdp_fails($node, $db, q{SET ROLE analyst; SELECT cdp.identify('{"anonymous_id": "a-c1"}')}, '42501', '... and no more');
cdp_fails($node, $db, q{INSERT INTO cdp.profile_alias VALUES (1, 2)}, '42501', 'the guard of profile_alias works again');

# the same keys are the same events and customers, new keys are new ones
my $count = q{SELECT (SELECT count(*) FROM cdp.event WHERE source = 'web' OR source IS NULL), (SELECT count(*) FROM cdp.profile)};
my $before = $node->safe_psql($db, $count);
is($node->safe_psql($db, q{SELECT cdp.track('{"member_id": "a-m5"}', 'Store Visited', '{"store_id": "s1"}', NULL, 'a-v1') = event_id
	FROM cdp.event_key WHERE message_id = 'a-v1'}), 't', 'a known message_id is still known');
is($node->safe_psql($db, $count), $before, '... and wrote nothing');
cdp_fill($node, $db, 'b');
isnt($node->safe_psql($db, $count), $before, 'new events are taken');
is($node->safe_psql($db, q{SELECT count(*) FROM cdp.event WHERE message_id LIKE 'b-%'}),
	$node->safe_psql($db, q{SELECT count(*) FROM cdp.event WHERE message_id LIKE 'a-%'}), '... as many as the first time');
if ($attached) {
	$node->safe_psql($db, q{INSERT INTO shop_order VALUES (200, 's1', '2026-03-01Z', 'completed', 7)});
	is($node->safe_psql($db, q{SELECT amount FROM cdp.sales_order WHERE order_id = '200'}), '7', 'attached sources are followed again');
}
is($node->safe_psql($db, q{SELECT string_agg(check_name, ',') FROM cdp.health() WHERE NOT ok AND check_name LIKE '%version'}), '', 'health() has no complaint about versions');

# twice in one session, in one transaction: the session that dropped it has all its caches warm
cdp_works($node, $db, q{SELECT cdp.identify('{"anonymous_id": "a-c1"}');
	BEGIN; DROP EXTENSION customer_cdp CASCADE; CREATE EXTENSION customer_cdp; CALL cdp.migrate();
	SELECT cdp.identify('{"anonymous_id": "a-c1"}'); COMMIT;
	SELECT cdp.track('{"anonymous_id": "a-c1"}', 'Page Viewed', '{}', NULL, 'c-1'); SELECT * FROM cdp.customer LIMIT 1},
	'all of it in one session and one transaction');
is($catalog->(), $objects, '... ends in the same catalog');
$node->stop;
done_testing();
