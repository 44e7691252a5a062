# A back-fill of a million rows: another session's INSERT does not wait, kill -9 at any moment loses and doubles nothing.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $rows = $ENV{CDP_BACKFILL_ROWS} || 1000000;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "restart_after_crash = on\nmax_wal_size = 4GB\nshared_buffers = 256MB\n");
$node->start;
sub q1 { return $node->safe_psql('postgres', $_[0]); }
# until the server is there again after a crash
sub patient
{
	for (1 .. 600)
	{
		# psql that finds no server may be gone before it is written to
		my ($rc, $out) = eval { $node->psql('postgres', $_[0]) };
		return $out if defined $rc && $rc == 0;
		sleep 0.1;
	}
	die 'the server did not come back';
}
q1('CREATE EXTENSION customer_cdp; CALL cdp.migrate()');
q1(qq{
	CREATE TABLE orders (id bigint PRIMARY KEY, member_id int, at timestamptz, total numeric);
	INSERT INTO orders SELECT g, g % 20000, '2024-01-01 00:00+08'::timestamptz + g * interval '30 seconds', g % 1000 FROM generate_series(1, $rows) g;
	ANALYZE orders});
my ($rc, $out, $err) = $node->psql('postgres', q{SELECT cdp.attach_source('public.orders', 'order', '{"order_id": "id",
	"identifiers": {"member_id": "member_id"}, "ordered_at": "at", "status": "''completed''", "amount": "total"}')});
like($err, qr/NOTICE:.*not copied yet/, 'a large source is not copied by attach_source');
like($out, qr/back-fill pending/, 'and its answer says so');

my $next = $rows + 1;
my $slowest = 0;
# what a shop does meanwhile
sub shop
{
	my $t = time;
	q1("INSERT INTO orders VALUES ($next, $next % 20000, now(), 7); UPDATE orders SET total = total + 1 WHERE id IN (1, $rows / 2, $rows)");
	$next++;
	$slowest = time - $t if time - $t > $slowest;
	return;
}
my $timer = IPC::Run::timeout(500);
my ($in, $log) = ('', '');
sub backfill
{
	# nothing is written to its input: one who is killed early would take us with him
	($in, $log) = ('', '');
	return IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{CALL cdp.backfill_source('public.orders')} ],
		'<', \$in, '>', \$log, '2>&1', $timer);
}
my $position = q{SELECT coalesce(max(key_position[1]::bigint), 0) FROM cdp.source_state};
my $copied = 0;
for my $kill (1 .. 3)
{
	my $run = backfill();
	my $goal = $copied + $rows / 10;
	while (1)
	{
		$run->pump_nb;
		shop();
		my $at = q1($position);
		last if $at > $goal || !$run->pumpable;
		sleep 0.05;
	}
	my $pid = q1(q{SELECT pid FROM cdp.job_status WHERE job = 'backfill public.orders' AND status = 'running'});
	$copied = q1($position);
	kill 'KILL', $pid if $pid ne '';
	eval { $run->finish; };
	is(patient(q{SELECT status FROM cdp.job_status WHERE job = 'backfill public.orders'}), 'interrupted', "killed after $copied rows");
	cmp_ok(patient($position), '>=', $copied, 'what was committed is kept');
}
# rows whose customer a batch had locked too long
q1('CALL cdp.retry_sources()');
is(q1(q{SELECT count(*) FROM cdp.sales_order}), q1(q{SELECT count(*) FROM orders WHERE id > } . $rows . qq{ OR id <= ($position) OR id IN ($rows / 2, $rows)}),
	'what is there is the part before the position, and what has changed since')
	or diag(q1('SELECT op, row_image, sqlstate, error, queued_at FROM cdp.source_queue ORDER BY queue_id'));
my $run = backfill();
while ($run->pumpable)
{
	$run->pump_nb;
	shop();
	sleep 0.2;
}
$run->finish;
is($log, '', 'the back-fill was finished');
cmp_ok($slowest, '<', 1, sprintf('an INSERT and an UPDATE never took longer than 1 s (%.3f s)', $slowest));
is(q1('CALL cdp.retry_sources(); SELECT count(*) FROM cdp.source_queue'), '0', 'nothing is left in the queue');
is(q1('SELECT count(*), sum(amount) FROM cdp.sales_order'), q1('SELECT count(*), sum(total) FROM orders'), 'every row is there with its newest content');
is(q1('SELECT count(*) FROM orders o JOIN cdp.sales_order s ON s.order_id = o.id::text AND s.amount = o.total'), q1('SELECT count(*) FROM orders'), 'row by row');
is(q1(q{SELECT count(*), count(DISTINCT properties ->> 'order_id') FROM cdp.event WHERE name = 'Order Completed'}),
	q1('SELECT count(*), count(*) FROM orders'), 'and one event each');
is(q1(q{SELECT backfill, key_position IS NULL FROM cdp.source_state}), 'done|t', 'the source is complete');
$node->stop;
done_testing();
