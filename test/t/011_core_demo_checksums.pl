# The same seed gives the same rows in two databases, down to ids and times, whatever the sessions' settings are.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Row by row, without columns of type xid8: they hold transaction ids of the server, and consumers only compare them.
# log_epoch names the server itself.
sub sums
{
	my ($node, $db) = @_;
	my $sql = $node->safe_psql($db, q{
		SELECT format('SELECT %L, count(*), md5(coalesce(string_agg(md5((to_jsonb(t) - %L::text[])::text), '''' ORDER BY %s), '''')) FROM ONLY cdp.%I t;',
			c.relname, ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND atttypid = 'xid8'::regtype),
			(SELECT string_agg(format('t.%I::text COLLATE "C"', a.attname), ', ' ORDER BY k.n)
				FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, n)
				JOIN pg_attribute a ON a.attnum = k.attnum AND a.attrelid = c.oid
				WHERE i.indrelid = c.oid AND i.indisprimary), c.relname)
		FROM pg_class c WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind = 'r' AND c.relname <> 'log_epoch'
		UNION ALL
		SELECT format('SELECT %L, last_value, is_called FROM cdp.%I;', c.relname, c.relname)
		FROM pg_class c WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind = 'S'
		ORDER BY 1});
	return $node->safe_psql($db, "SET timezone = 'UTC'; SET extra_float_digits = 1;\n$sql");
}

my $node = cdp_server('main');
$node->append_conf('postgresql.conf', "fsync = off\nmax_wal_size = 4GB\nshared_buffers = 256MB");
$node->restart;
cdp_install($node, $_) for qw(one two);
my $start = time;
$node->safe_psql('one', 'CALL cdp.load_demo(10000, 42)');
note 'load_demo(10000, 42) took ' . (time - $start) . ' s';
# an aborted try uses up ids
$node->safe_psql('two', 'BEGIN; CALL cdp.load_demo(50, 1); ROLLBACK;');
$node->safe_psql('two', q{
	SET timezone = 'America/St_Johns'; SET datestyle = 'German, DMY'; SET intervalstyle = 'iso_8601'; SET extra_float_digits = 0;
	SET bytea_output = 'escape'; SET default_transaction_isolation = 'repeatable read';
	CALL cdp.load_demo(10000, 42)});
cdp_same(sums($node, 'two'), sums($node, 'one'), 'load_demo(10000, 42) gives equal checksums of every table and sequence');
cdp_install($node, 'three');
$node->safe_psql('three', 'CALL cdp.load_demo(200, 43)');
cdp_install($node, 'four');
$node->safe_psql('four', 'CALL cdp.load_demo(200, 44)');
isnt(sums($node, 'three'), sums($node, 'four'), 'another seed gives other rows');
is($node->safe_psql('one', q{SELECT count(*) BETWEEN 9800 AND 10000 FROM cdp.customer}), 't', 'there are as many customers as asked for, less shared devices');
is($node->safe_psql('one', q{SELECT count(*) FROM cdp.event_default}), '0', 'every event lies in the partition of its month');
is($node->safe_psql('one', q{
	SELECT max(greatest(e.occurred_at, e.received_at)) < '2025-07-01Z' AND min(e.occurred_at) >= '2023-12-31Z'
		AND bool_and(e.occurred_at >= p.created_at) FROM cdp.event e JOIN cdp.profile p USING (profile_id)}), 't',
	'18 months, and nobody does anything before he was first seen');
is($node->safe_psql('one', q{
	SELECT count(*) FROM cdp.sales_order o
	LEFT JOIN (SELECT order_id, sum(quantity * unit_price) AS amount FROM cdp.sales_order_line GROUP BY 1) l USING (order_id)
	LEFT JOIN (SELECT order_id, sum(amount) AS amount FROM cdp.sales_refund GROUP BY 1) r USING (order_id)
	WHERE o.amount <> l.amount OR l.amount IS NULL OR o.refunded <> coalesce(r.amount, 0)}), '0', 'lines and refunds add up to the orders');
is($node->safe_psql('one', q{
	SELECT count(*) FROM cdp.sales_order o WHERE NOT EXISTS (SELECT FROM cdp.event e
		WHERE e.source = 'cdp' AND e.profile_id = o.profile_id AND e.properties ->> 'order_id' = o.order_id)}), '0', 'every order has its event');
$node->stop;
done_testing();
