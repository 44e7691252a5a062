# A table that a subscription fills: initial copy, inserts, updates and deletes arrive once.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $pub = PostgreSQL::Test::Cluster->new('publisher');
$pub->init(allows_streaming => 'logical');
$pub->start;
my $sub = PostgreSQL::Test::Cluster->new('subscriber');
$sub->init(allows_streaming => 'logical');
$sub->start;
my $ddl = q{
	CREATE TABLE orders (id int PRIMARY KEY, member_id int, at timestamptz, state text, total numeric);
	CREATE TABLE visit (id int, at timestamptz NOT NULL, member_id int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2024-01-01+00') TO ('2024-02-01+00');
	CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM ('2024-02-01+00') TO ('2024-03-01+00')};
$pub->safe_psql('postgres', $ddl . q{;
	INSERT INTO orders SELECT g, g % 3, '2024-01-01 00:00+08', 'placed', g FROM generate_series(1, 10) g;
	INSERT INTO visit SELECT g, '2024-01-05+00'::timestamptz + g * interval '10 days', g FROM generate_series(1, 4) g;
	CREATE PUBLICATION p FOR TABLE orders, visit});
$sub->safe_psql('postgres', $ddl . '; CREATE EXTENSION customer_cdp; CALL cdp.migrate()');
my $connstr = $pub->connstr . ' dbname=postgres';
# the subscription is there, the copy has not begun: the attached table sees it
$sub->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connstr' PUBLICATION p WITH (enabled = false)");
sub cdp { return $sub->safe_psql('postgres', $_[0]); }
cdp(q{SELECT cdp.attach_source('orders', 'order', '{"order_id": "id", "identifiers": {"member_id": "member_id"}, "ordered_at": "at",
	"status": "state", "amount": "total"}', on_delete => 'cancel')});
cdp(q{SELECT cdp.attach_source('visit', 'event', '{"identifiers": {"member_id": "member_id"}, "name": "''Store Visited''", "occurred_at": "at", "message_id": "id"}')});
is(cdp(q{SELECT string_agg(DISTINCT tgname || ' ' || tgenabled::text, ', ') FROM pg_trigger WHERE tgname LIKE 'cdp_source%'}),
	'cdp_source_row A, cdp_source_truncate A', 'row triggers that always fire');
cdp(q{ALTER SUBSCRIPTION s ENABLE});
$sub->wait_for_subscription_sync($pub, 's');
is(cdp('SELECT count(*), sum(amount) FROM cdp.sales_order'), '10|55', 'the initial copy arrived');
is(cdp(q{SELECT count(*) FROM cdp.event WHERE name = 'Store Visited'}), '4', 'that of the partitions, too');
$pub->safe_psql('postgres', q{
	INSERT INTO orders SELECT g, 7, '2024-01-01 00:00+08', 'placed', g FROM generate_series(11, 20) g;
	UPDATE orders SET state = 'completed' WHERE id IN (1, 11);
	UPDATE orders SET total = 100 WHERE id = 2;
	DELETE FROM orders WHERE id = 3;
	INSERT INTO visit VALUES (5, '2024-01-07+00', 1), (6, '2024-02-07+00', 2);
	TRUNCATE visit;
	INSERT INTO orders VALUES (21, NULL, '2024-01-01 00:00+08', 'placed', 1)});
$pub->wait_for_catchup('s');
is(cdp('SELECT count(*), sum(amount) FROM cdp.sales_order'), '20|308', 'inserts and updates arrived');
is(cdp(q{SELECT string_agg(order_id || ' ' || status, ', ' ORDER BY order_id) FROM cdp.sales_order WHERE status <> 'placed'}),
	'1 completed, 11 completed, 3 cancelled', 'updates and the delete arrived');
is(cdp(q{SELECT name, count(*) FROM cdp.event GROUP BY name ORDER BY name}),
	"Order Cancelled|1\nOrder Completed|2\nOrder Placed|20\nStore Visited|6", 'each once');
is(cdp(q{SELECT sum(truncates_ignored) FROM cdp.source_status}), '2', 'TRUNCATE of two partitions was counted, and nothing more');
is(cdp(q{SELECT op, sqlstate FROM cdp.source_queue}), 'insert|LC101', 'a bad row is in the queue and did not stop the subscription');
# a writer of the subscriber's own
cdp(q{INSERT INTO orders VALUES (30, 9, '2024-01-01 00:00+08', 'placed', 30)});
is(cdp(q{SELECT amount FROM cdp.sales_order WHERE order_id = '30'}), '30', 'local writes are followed, too');
$sub->stop;
$pub->stop;
done_testing();
