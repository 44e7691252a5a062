# kill -9 in the middle of merges, unmerges and re-checks: afterwards the partition is sound, the aliases are what the
# links say, every step has its log and its event, and a re-check that was killed goes on.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = cdp_server('identity_crash');
$node->append_conf('postgresql.conf', "restart_after_crash = on\n");
$node->restart;
cdp_install($node, 'postgres');
my $seed = $ENV{CDP_SEED} // int(rand(1_000_000));
note "seed $seed";
srand($seed);
sub q1 { return $node->safe_psql('postgres', $_[0]); }
q1(q{
	CREATE FUNCTION step(a bigint, b bigint, dice int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF dice < 5 THEN PERFORM cdp.merge_customers(a, b, 'x');
		ELSIF dice < 8 THEN PERFORM cdp.unmerge_customer(a, 'x');
		ELSE PERFORM cdp.allow_merge(a, b, 'x');
		END IF;
	EXCEPTION WHEN invalid_parameter_value OR SQLSTATE 'LC102' THEN NULL;
	END $$;
	-- 3,000 members on 1,000 devices
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i, 'device_id', 'd' || i / 3)))
		FROM generate_series(1, 3000) i))});
my $dir = PostgreSQL::Test::Utils::tempdir;
open my $f, '>', "$dir/step.sql" or die;
print $f "\\set a random(1, 3000)\n\\set b random(1, 3000)\n\\set d random(0, 9)\nSELECT step(:a, :b, :d);\n";
close $f;

my ($limit, $steps, $rechecked) = (1, 0, 0);
for my $round (1 .. 4) {
	my $out = '';
	# every round the rule is another one, so that the re-check has something to do
	q1('UPDATE cdp.identifier_kind SET max_per_customer = ' . ($limit = 3 - $limit) . q{ WHERE kind = 'member_id'});
	my @running = (
		IPC::Run::start(['pgbench', '-n', '-c', '4', '-T', '60', '-f', "$dir/step.sql", $node->connstr('postgres')], '>', \$out, '2>', \$out),
		IPC::Run::start(['psql', '-X', '-d', $node->connstr('postgres'), '-c', 'CALL cdp.recheck_identities(batch => 2)'], '>', \$out, '2>', \$out));
	sleep 0.2 + rand(0.5);
	# one backend dies, now the re-check and now a merger, and takes the memory of all with it
	my $victim = q1("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query ~ 'recheck|step' ORDER BY query ~ 'recheck' DESC LIMIT 1 OFFSET " . $round % 2);
	kill 'KILL', $victim;
	eval { $_->pump_nb } for @running;	# dies when a process has ended already
	eval { $_->finish } for @running;
	for (1 .. 300) {
		# a psql that finds no server may be gone before its question is written, which dies here
		last if eval { ($node->psql('postgres', 'SELECT 1'))[0] == 0 };
		sleep 0.1;
	}
	is(q1(q{SELECT count(*) FROM cdp.verify_identity() WHERE check_name <> 'limit'}), '0', "round $round: the partition is sound after the crash");
	my $alias = q1('SELECT md5(string_agg(a::text, chr(10) ORDER BY profile_id)) FROM cdp.profile_alias a');
	q1('CALL cdp.rebuild_aliases()');
	is(q1('SELECT md5(string_agg(a::text, chr(10) ORDER BY profile_id)) FROM cdp.profile_alias a'), $alias, '… rebuilding changes nothing');
	is(q1(q{SELECT count(*) FROM cdp.merge_log l FULL JOIN (SELECT * FROM cdp.event WHERE source = 'cdp' AND name IN ('Customer Merged', 'Customer Unmerged')) e ON e.message_id = 'merge:' || l.merge_id
		WHERE l.merge_id IS NULL OR e.event_id IS NULL}), '0', '… every step has its log and its event');
	$rechecked += q1(q{SELECT count(*) FROM cdp.merge_log WHERE action = 'recheck'}) > 0;
	# what was interrupted goes on
	q1('CALL cdp.recheck_identities(batch => 500)');
	is(q1('SELECT * FROM cdp.verify_identity()'), '', '… and after the re-check no limit is broken');
	$steps = q1('SELECT count(*) FROM cdp.merge_log');
}
note "$steps steps";
ok($rechecked > 0 && $steps > 200, 'the crashes met merges and re-checks');
like(q1(q{SELECT string_agg(DISTINCT status, ',') FROM cdp.job_run WHERE job = 'recheck_identities'}), qr/interrupted/, 'a re-check was interrupted');
$node->stop;
done_testing();
