# Dump and restore into clusters with lower and with higher transaction ids, there and back: each consumer gets every
# old event that it had not consumed, and every new one, exactly once.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# epoch of the transaction ids: B is far below A, C far above
my %node;
for my $def (['a', 1], ['b', 0], ['c', 5])
{
	my ($name, $epoch) = @$def;
	my $n = $node{$name} = PostgreSQL::Test::Cluster->new($name);
	$n->init;
	$n->append_conf('postgresql.conf', "max_prepared_transactions = 5\nautovacuum = off");
	PostgreSQL::Test::Utils::system_or_bail('pg_resetwal', '-e', $epoch, '-D', $n->data_dir) if $epoch;
	$n->start;
}
my $dump = PostgreSQL::Test::Utils::tempdir;
my $a = $node{a};
cmp_ok($a->safe_psql('postgres', 'SELECT pg_current_xact_id()::text::bigint >> 32'), '==', 1, 'A has larger transaction ids than B');

sub event
{
	my ($n, $db, @names) = @_;
	$n->safe_psql($db, "INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, '$_', cdp.now())") for @names;
}

# one batch; what was consumed is noted in the same transaction, and travels with the dump
sub batch
{
	my ($n, $db, $consumer, $rows) = @_;
	return $n->safe_psql($db, "WITH b AS (INSERT INTO got SELECT '$consumer', name FROM cdp._next_events('$consumer', $rows) RETURNING 1) SELECT count(*) FROM b");
}

sub drain
{
	my ($n, $db) = @_;
	for my $consumer ('half', 'fresh', 'late', 'idle')
	{
		1 while batch($n, $db, $consumer, 3) > 0;
	}
}

sub check
{
	my ($n, $db, $title) = @_;
	is($n->safe_psql($db, q{
		SELECT c.name, e.name, (SELECT count(*) FROM got g WHERE g.consumer = c.name AND g.name = e.name)
		FROM cdp.event_consumer c, cdp.event e
		WHERE (SELECT count(*) FROM got g WHERE g.consumer = c.name AND g.name = e.name) <> 1 ORDER BY 1, 2}), '', "$title: every event once, for every consumer");
	is($n->safe_psql($db, q{SELECT count(*) FROM got WHERE name NOT IN (SELECT name FROM cdp.event)}), '0', "$title: nothing that is not there");
}

$a->safe_psql('postgres', q{
	CREATE EXTENSION customer_cdp; CALL cdp.migrate(); CREATE TABLE got (consumer text, name text);
	SELECT cdp._create_consumer(c, 'event') FROM unnest('{half,fresh,late,idle}'::text[]) c});
event($a, 'postgres', map { "old$_" } 1 .. 10);
1 while batch($a, 'postgres', 'idle', 100) > 0;
# a transaction that is open while consumer late makes a whole pass, and commits before the dump
$a->safe_psql('postgres', q{BEGIN; INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'late', cdp.now()); PREPARE TRANSACTION 'late'});
event($a, 'postgres', 'after late');
1 while batch($a, 'postgres', 'late', 100) > 0;
is($a->safe_psql('postgres', q{SELECT count(*) FROM cdp.event_consumer c, pg_snapshot_xip(c.done) WHERE name = 'late'}), '1', 'done remembers the open transaction');
# in the middle of a pass
batch($a, 'postgres', 'half', 3);
is($a->safe_psql('postgres', q{SELECT target IS NOT NULL FROM cdp.event_consumer WHERE name = 'half'}), 't', 'a pass is under way');
$a->safe_psql('postgres', q{COMMIT PREPARED 'late'});
# and one that never commits
$a->safe_psql('postgres', q{BEGIN; INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'lost', cdp.now()); PREPARE TRANSACTION 'lost'});
event($a, 'postgres', 'last');

$a->command_ok(['pg_dump', '-f', "$dump/a.sql", 'postgres'], 'plain dump of A');
$a->safe_psql('postgres', q{ROLLBACK PREPARED 'lost'});

for my $name ('b', 'c')
{
	my $n = $node{$name};
	my $how = $name eq 'b' ? 'A to B, lower ids' : 'A to C, higher ids';
	$n->safe_psql('postgres', 'CREATE DATABASE shop');
	$n->command_ok(['psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'shop', '-f', "$dump/a.sql"], "$how: restored");
	# the first writer rolls back, the second commits
	$n->safe_psql('shop', q{BEGIN; INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'never', cdp.now()); ROLLBACK});
	event($n, 'shop', 'new1');
	is($n->safe_psql('shop', q{SELECT min(xid) FILTER (WHERE name = 'new1') > max(xid) FILTER (WHERE name <> 'new1') FROM cdp.event}), 't', "$how: new ids are larger");
	drain($n, 'shop');
	event($n, 'shop', 'new2', 'new3');
	drain($n, 'shop');
	check($n, 'shop', $how);
	# one more transaction that is late, in the new cluster
	$n->safe_psql('shop', q{BEGIN; INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'late here', cdp.now()); PREPARE TRANSACTION 'late'});
	event($n, 'shop', 'new4');
	drain($n, 'shop');
	$n->safe_psql('shop', q{COMMIT PREPARED 'late'});
	event($n, 'shop', 'new5');
	batch($n, 'shop', 'half', 1);
}
# B to C and C back to A, the latter with a consumer as the first writer
my @hops = (['b', 'c', 'hop1', 'B to C'], ['c', 'a', 'hop2', 'C back to A']);
for my $hop (@hops)
{
	my ($from, $to, $db, $how) = @$hop;
	my ($f, $t) = ($node{$from}, $node{$to});
	$f->command_ok(['pg_dump', '-Fc', '-f', "$dump/$db.dump", 'shop'], "$how: dumped");
	$t->safe_psql('postgres', "CREATE DATABASE $db");
	$t->command_ok(['pg_restore', '-e', '-j2', '-d', $db, "$dump/$db.dump"], "$how: restored");
	batch($t, $db, 'fresh', 1);
	event($t, $db, 'newest');
	drain($t, $db);
	check($t, $db, $how);
	$t->safe_psql($db, 'CALL cdp.migrate()');
	event($t, $db, 'newest of all');
	drain($t, $db);
	check($t, $db, "$how, migrated");
}
# within one cluster nothing has to be raised
$a->safe_psql('postgres', 'CREATE DATABASE same');
$a->command_ok(['psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'same', '-f', "$dump/a.sql"], 'A to A: restored');
event($a, 'same', 'new');
drain($a, 'same');
check($a, 'same', 'A to A');
is($a->safe_psql('same', 'SELECT xid_offset FROM cdp.log_epoch'), '0', 'A to A: the offset is what it was');
$_->stop for values %node;
done_testing();
