# A large transaction that stays open costs the others nothing; a plain owner; a standby.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nautovacuum = off");
$node->start;
# the tables belong to a plain role that owns the database
$node->safe_psql('postgres', q{CREATE ROLE shop_owner LOGIN; CREATE DATABASE shop OWNER shop_owner});
$node->safe_psql('shop', 'CREATE EXTENSION customer_cdp');
my @owner = (extra_params => ['-U', 'shop_owner']);
$node->safe_psql('shop', q{CALL cdp.migrate(); SELECT cdp._create_consumer('c', 'event'); CALL cdp.maintain_partitions()}, @owner);
is($node->safe_psql('shop', q{SELECT DISTINCT pg_get_userbyid(c.relowner) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'cdp.event'::regclass}),
	'shop_owner', 'partitions belong to the plain owner');

$node->safe_psql('shop', q{
	CREATE FUNCTION rows_read() RETURNS bigint LANGUAGE sql AS $$
		SELECT sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint FROM pg_class c WHERE c.relname ~ '^event_(\d|default)' $$;
	CREATE FUNCTION watched(n int) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE before bigint := rows_read(); got bigint;
	BEGIN
		SELECT count(*) INTO got FROM cdp._next_events('c', n);
		RETURN got || CASE WHEN rows_read() - before <= got + 20 THEN ' bounded' ELSE ' but read ' || rows_read() - before END;
	END $$;
	INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'before', cdp.now());
	BEGIN;
	INSERT INTO cdp.event (profile_id, name, occurred_at) SELECT 1, 'open', cdp.now() FROM generate_series(1, 20000);
	PREPARE TRANSACTION 'open'}, @owner);
for my $pass (1 .. 3)
{
	$node->safe_psql('shop', q{INSERT INTO cdp.event (profile_id, name, occurred_at) SELECT 1, 'beside', cdp.now() FROM generate_series(1, 10)}, @owner);
	is($node->safe_psql('shop', 'SELECT watched(100)', @owner), ($pass == 1 ? '11' : '10') . ' bounded', "pass $pass beside an open transaction of 20,000 events");
}
$node->safe_psql('shop', q{COMMIT PREPARED 'open'}, @owner);
is($node->safe_psql('shop', 'SELECT watched(100)', @owner), '100 bounded', 'once it has committed they come, batch by batch');
is($node->safe_psql('shop', 'SELECT watched(100000)', @owner), '19900 bounded', 'all of them');
is($node->safe_psql('shop', 'SELECT watched(100)', @owner), '0 bounded', 'and no more');

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('write'));
is($standby->safe_psql('shop', q{SELECT count(*) FROM cdp.event}), '20031', 'a standby reads the log');
is($standby->safe_psql('shop', q{SELECT count(*) FROM cdp.health() WHERE check_name IN ('partitions_ahead event', 'oldest_unprocessed_event c') AND ok}), '2', 'and its health');
for my $write (q{SELECT * FROM cdp._next_events('c', 1)}, q{SELECT cdp._log_xid()}, q{CALL cdp.maintain_partitions()}, q{SELECT cdp._repair_log_epoch()})
{
	my ($rc, $out, $err) = $standby->psql('shop', "\\set VERBOSITY sqlstate\n$write");
	# maintain_partitions has nothing to do and does nothing
	if ($write =~ /^CALL/) { is($rc, 0, "$write finds nothing to do") }
	else { like($err, qr/25006/, "$write: 25006") }
}
# promoted, it goes on where it was
$standby->promote;
$standby->safe_psql('shop', q{INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'promoted', cdp.now())}, @owner);
is($standby->safe_psql('shop', q{SELECT string_agg(name, ',') FROM cdp._next_events('c', 10)}, @owner), 'promoted', 'a promoted standby goes on');
$standby->stop;
$node->stop;
done_testing();
