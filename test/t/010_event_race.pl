# Eight sessions send the same messages about the same people at once: each message is one event, nobody deadlocks,
# and a customer is one customer.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('race');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nsynchronous_commit = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION customer_cdp; CALL cdp.migrate()');

my $seed = $ENV{CDP_SEED} // int(rand(1_000_000));
note "seed $seed";
my $dir = PostgreSQL::Test::Utils::tempdir;
sub script { my ($name, $sql) = @_; open my $f, '>', "$dir/$name" or die; print $f $sql; close $f; return "$dir/$name"; }

# every message 1 .. 300 is sent by several sessions, singly and in batches that overlap and are sorted differently;
# cookies, devices and members meet in every combination
my $one = script('one.sql', q{
\set m random(1, 300)
\set c random(1, 20)
\set d random(1, 20)
SELECT cdp.track(jsonb_build_object('anonymous_id', 'c' || :c, 'member_id', 'm' || :m % 10), 'x', message_id => 'x' || :m);
});
my $many = script('many.sql', q{
\set m random(1, 300)
\set k random(1, 30)
SELECT cdp.track_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('device_id', 'd' || i % 20, 'anonymous_id', 'c' || (i * :k) % 20),
	'name', 'x', 'message_id', 'x' || 1 + (:m + i * :k) % 300)) FROM generate_series(1, 20) i));
});
my $r = $node->command_checks_all(
	['pgbench', '-n', '-c', '8', '-j', '2', '-t', '300', "--random-seed=$seed", '-f', "$one\@3", '-f', "$many\@1", $node->connstr('postgres')],
	0, [qr/number of failed transactions: 0 /], [qr/^(?!.*(deadlock|ERROR))/s], 'eight sessions finish without an error');
is($node->safe_psql('postgres', q{SELECT count(*) = count(DISTINCT message_id) FROM cdp.event WHERE name = 'x'}), 't', 'each message is one event');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cdp.event e FULL JOIN cdp.event_key k USING (event_id) WHERE e.event_id IS NULL OR k.event_id IS NULL}), '0',
	'every key has its event and every event its key');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cdp.identifier i WHERE NOT EXISTS (SELECT FROM cdp.profile p WHERE p.profile_id = i.profile_id)}), '0', 'no identifier without a profile');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cdp.profile p WHERE NOT EXISTS (SELECT FROM cdp.identifier i WHERE i.profile_id = p.profile_id)}), '0', 'no profile without an identifier');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cdp.profile_alias a JOIN cdp.profile_alias b ON b.profile_id = a.customer_id}), '0', 'aliases have depth one');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM cdp.identity_link l JOIN cdp.identifier a ON a.identifier_id = l.identifier_a JOIN cdp.identifier b ON b.identifier_id = l.identifier_b
	WHERE cdp.customer_id(a.profile_id) <> cdp.customer_id(b.profile_id)}), '0', 'what was seen together is one customer');

# the same message from eight sessions at the same moment
my $same = script('same.sql', q{SELECT cdp.track('{"member_id": "same"}', 'same', message_id => 'same');});
$node->command_ok(['pgbench', '-n', '-c', '8', '-j', '2', '-t', '25', '-f', $same, $node->connstr('postgres')], 'eight sessions send one message');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cdp.event WHERE name = 'same'}), '1', 'it is one event');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cdp.identifier WHERE value = 'same'}), '1', 'of one customer');
$node->stop;
done_testing();
