# A server that dies again and again under everything at once: people who are identified and merged, events, orders,
# refunds, a shop's own table that is attached and back-filled, statements that are cancelled.  Whatever was committed
# fits together afterwards, every time.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $seed = $ENV{CDP_SEED} // int(rand(1_000_000));
note "seed $seed";
srand($seed);
my $node = PostgreSQL::Test::Cluster->new('mixed');
$node->init;
$node->append_conf('postgresql.conf', "restart_after_crash = on\nshared_buffers = 128MB\nsynchronous_commit = off\ncdp.backfill_inline_rows = 0\n");
$node->start;
sub q1 { return $node->safe_psql('postgres', $_[0]); }
# until the server is there again after a crash
sub patient
{
	for (1 .. 600)
	{
		my ($rc, $out) = eval { $node->psql('postgres', $_[0]) };
		return $out if defined $rc && $rc == 0;
		sleep 0.1;
	}
	die 'the server did not come back';
}
q1(q{
	CREATE EXTENSION customer_cdp;
	CALL cdp.migrate();
	CREATE TABLE shop (id bigint PRIMARY KEY, member int, total numeric, at timestamptz DEFAULT '2024-01-01 00:00+08');
	INSERT INTO shop (id, member, total) SELECT i, i % 50, i % 7 FROM generate_series(1, 40000) i;
	CREATE SEQUENCE shop_id START 1000001;
	SELECT cdp.attach_source('shop', 'order', '{"order_id": "''s-'' || id", "identifiers": {"member_id": "member::text"}, "ordered_at": "at", "amount": "total"}')});
my $dir = PostgreSQL::Test::Utils::tempdir;
sub script { my ($name, $sql) = @_; open my $f, '>', "$dir/$name" or die; print $f $sql; close $f; return "$dir/$name"; }
my @scripts = (
	script('identify.sql', q{
\set a random(1, 200)
\set b random(1, 200)
SELECT cdp.identify(jsonb_build_object('anonymous_id', 'a' || :a, 'device_id', 'd' || :b), jsonb_build_object('n', :b));
}),
	script('track.sql', q{
\set m random(1, 5000)
DO $$ BEGIN
	PERFORM cdp.track_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('anonymous_id', 'a' || i % 200), 'name', 'x', 'message_id', 'x' || :m + i))
		FROM generate_series(1, 30) i), 'reject');
EXCEPTION WHEN query_canceled THEN
END $$;
}),
	script('order.sql', q{
\set o random(1, 300)
SELECT cdp.record_order(jsonb_build_object('member_id', 'm' || :o % 50), jsonb_build_object('order_id', 'o' || :o, 'amount', 100, 'status', 'completed',
	'lines', '[{"product_id": "p", "quantity": 2, "unit_price": 50}]'::jsonb)) FROM (SELECT) x WHERE NOT EXISTS (SELECT FROM cdp.sales_order WHERE order_id = 'o' || :o);
BEGIN;
SELECT cdp.refund_order('o' || :o, 1, 'r') FROM cdp.sales_order WHERE order_id = 'o' || :o AND amount - refunded > 20;
SAVEPOINT s;
SELECT cdp.refund_order('o' || :o, 1, 'taken back') FROM cdp.sales_order WHERE order_id = 'o' || :o AND amount - refunded > 20;
ROLLBACK TO s;
COMMIT;
}),
	script('shop.sql', q{
\set i random(1, 40000)
DO $$ BEGIN
	INSERT INTO shop (id, member, total) SELECT nextval('shop_id'), :i % 50, 3 FROM generate_series(1, 5);
	UPDATE shop SET total = total + 1 WHERE id = :i;
EXCEPTION WHEN query_canceled THEN
END $$;
}),
	# a statement that is cancelled in the middle of whatever it does
	script('cancel.sql', q{
SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query ~ '^DO' ORDER BY random() LIMIT 1;
\sleep 150 ms
}));
my @checks = (
	[ 'a key without its event', q{SELECT count(*) FROM cdp.event_key k WHERE NOT EXISTS (SELECT FROM cdp.event e WHERE e.event_id = k.event_id)} ],
	[ 'an event without its key, or twice', q{SELECT count(*) FROM (SELECT FROM cdp.event e LEFT JOIN cdp.event_key k USING (event_id)
		WHERE e.message_id IS NOT NULL GROUP BY coalesce(e.source, ''), e.message_id HAVING count(*) > 1 OR bool_or(k.event_id IS NULL)) x} ],
	[ 'an order whose refunds are not its refunds', q{SELECT count(*) FROM cdp.sales_order o
		WHERE refunded <> (SELECT coalesce(sum(amount), 0) FROM cdp.sales_refund r WHERE r.order_id = o.order_id)} ],
	[ 'a refund without its event', q{SELECT abs((SELECT count(*) FROM cdp.sales_refund) - (SELECT count(*) FROM cdp.event WHERE name = 'Order Refunded'))} ],
	[ 'a completed order without its event, lines or person', q{SELECT count(*) FROM cdp.sales_order o WHERE order_id LIKE 'o%' AND (
		(SELECT count(*) FROM cdp.event e WHERE e.name = 'Order Completed' AND e.properties ->> 'order_id' = o.order_id) <> 1
		OR (SELECT count(*) FROM cdp.sales_order_line l WHERE l.order_id = o.order_id) <> 1
		OR NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = o.profile_id))} ],
	[ 'an alias deeper than one, or of nobody', q{SELECT count(*) FROM cdp.profile_alias a WHERE EXISTS (SELECT FROM cdp.profile_alias b WHERE b.profile_id = a.customer_id)
		OR NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = a.customer_id)} ],
	[ 'an identifier of nobody', q{SELECT count(*) FROM cdp.identifier i WHERE NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = i.profile_id)} ],
	[ 'a sighting of two that are not one customer', q{SELECT count(*) FROM cdp.identity_link l JOIN cdp.identifier a ON a.identifier_id = l.identifier_a
		JOIN cdp.identifier b ON b.identifier_id = l.identifier_b WHERE l.relation = 'same' AND l.revoked_at IS NULL AND cdp.customer_id(a.profile_id) <> cdp.customer_id(b.profile_id)} ]);

my $timer = IPC::Run::timeout(300);
for my $round (1 .. 3)
{
	my ($log, $copy) = ('', '');
	my $load = IPC::Run::start([ 'pgbench', '-n', '-c', '6', '-j', '2', '-T', '60', "--random-seed=" . ($seed + $round),
		map({ ('-f', $_) } @scripts), $node->connstr('postgres') ], '>', \$log, '2>&1', $timer);
	my $backfill = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "CALL cdp.backfill_source('shop', 300)" ], '>', \$copy, '2>&1', $timer);
	sleep 0.7 + rand(0.8);
	my @pids = split /\n/, q1(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = 'postgres'});
	kill 'KILL', @pids ? $pids[ rand @pids ] : ();
	$_->finish for $load, $backfill;
	ok(@pids > 3, "round $round: there is a load to end") or diag $log, $copy;
	patient('SELECT 1');
	is(patient($_->[1]), '0', "round $round: not $_->[0]") for @checks;
}
cmp_ok(q1('SELECT count(*) FROM cdp.event'), '>', 100, 'there was something to lose');
cmp_ok(q1('SELECT count(*) FROM cdp.sales_refund'), '>', 10, 'refunds too');
q1("CALL cdp.backfill_source('shop')");
q1('CALL cdp.retry_sources()');
is(q1(q{SELECT count(*) FROM shop s FULL JOIN (SELECT * FROM cdp.sales_order WHERE order_id LIKE 's-%') o ON o.order_id = 's-' || s.id WHERE o.amount IS DISTINCT FROM s.total}),
	'0', 'every row of the shop is one order with its newest content');
is(q1('SELECT count(*) FROM cdp.source_queue'), '0', 'and nothing waits');
$node->stop;
done_testing();
