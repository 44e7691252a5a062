# Sixteen sessions identify, merge, unmerge, allow, re-check and detach on few identifiers at once: nobody deadlocks,
# nothing fails, no re-check gives up, and the partition is sound; with CDP_RACE_SECONDS=60 it is the long version.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = cdp_server('identity_race');
$node->append_conf('postgresql.conf', "fsync = off\nsynchronous_commit = off\n");
$node->restart;
cdp_install($node, 'postgres');
my $seed = $ENV{CDP_SEED} // int(rand(1_000_000));
my $seconds = $ENV{CDP_RACE_SECONDS} // 6;
note "seed $seed, $seconds s";

# what may be refused here, and only that: kept apart or over a limit, with itself, a merge that is not of this customer
$node->safe_psql('postgres', q{
	UPDATE cdp.identifier_kind SET max_per_customer = 3 WHERE kind IN ('member_id', 'phone');
	CREATE FUNCTION refusable(what text, a bigint, b bigint) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		CASE what
			WHEN 'merge' THEN PERFORM cdp.merge_customers(a, b, 'race');
			WHEN 'override' THEN PERFORM cdp.merge_customers(a, b, 'race', true);
			WHEN 'unmerge' THEN PERFORM cdp.unmerge_customer(a, 'race');
			WHEN 'allow' THEN PERFORM cdp.allow_merge(a, b, 'race');
			WHEN 'detach' THEN PERFORM cdp.detach_identifier('device_id', 'd' || a % 30, 'race');
			WHEN 'recheck' THEN PERFORM count(*) FROM cdp.recheck_identity(dry_run => false);
		END CASE;
		RETURN 'done';
	EXCEPTION WHEN invalid_parameter_value OR SQLSTATE 'LC102' THEN
		RETURN 'refused';
	END $$;
	SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 40) i;
});
my $dir = PostgreSQL::Test::Utils::tempdir;
sub script { my ($name, $sql) = @_; open my $f, '>', "$dir/$name" or die; print $f $sql; close $f; return "$dir/$name"; }
my @verbs;
push @verbs, '-f', script('identify.sql', q{
\set m random(1, 40)
\set d random(1, 30)
\set p random(1, 40)
\set a random(1, 60)
SELECT cdp.identify(jsonb_build_object('member_id', 'm' || :m, 'device_id', 'd' || :d, 'anonymous_id', 'a' || :a), jsonb_build_object('n', :a));
}) . '@6';
push @verbs, '-f', script('phone.sql', q{
\set m random(1, 40)
\set p random(10, 49)
SELECT cdp.identify(jsonb_build_object('member_id', 'm' || :m, 'phone', '138000000' || :p));
}) . '@3';
push @verbs, '-f', script('many.sql', q{
\set k random(1, 30)
SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('device_id', 'd' || i * :k % 30, 'anonymous_id', 'a' || (i + :k) % 60),
	'traits', jsonb_build_object('k', :k))) FROM generate_series(1, 5) i));
}) . '@1';
my %weight = (merge => 4, override => 1, unmerge => 6, allow => 2, detach => 1, recheck => 1);
push @verbs, map { ('-f', script("$_.sql", qq{
\\set a random(1, 120)
\\set b random(1, 120)
SELECT refusable('$_', :a, :b);
}) . "\@$weight{$_}") } sort keys %weight;
$node->command_checks_all(['pgbench', '-n', '-c', '16', '-j', '2', '-T', $seconds, "--random-seed=$seed", @verbs, $node->connstr('postgres')],
	0, [qr/number of failed transactions: 0 /], [qr/^(?!.*(deadlock|ERROR|abort))/s], 'sixteen sessions finish without an error');
note $node->safe_psql('postgres', q{SELECT string_agg(action || ' ' || n, ', ') FROM (SELECT action, count(*) AS n FROM cdp.merge_log GROUP BY 1) x});
is($node->safe_psql('postgres', 'SELECT * FROM cdp.verify_identity()'), '', 'the partition is sound');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cdp.merge_log l WHERE rule <> 'detach' AND NOT EXISTS (SELECT FROM cdp.event e WHERE e.source = 'cdp' AND e.message_id = 'merge:' || l.merge_id)}),
	'0', 'every step has its event');
my $alias = $node->safe_psql('postgres', 'SELECT * FROM cdp.profile_alias ORDER BY 1');
$node->safe_psql('postgres', 'CALL cdp.rebuild_aliases()');
is($node->safe_psql('postgres', 'SELECT * FROM cdp.profile_alias ORDER BY 1'), $alias, 'rebuilding the aliases changes nothing');
$node->safe_psql('postgres', 'SELECT count(*) FROM cdp.recheck_identity(dry_run => false)');
is($node->safe_psql('postgres', 'SELECT * FROM cdp.recheck_identity()'), '', 'a re-check converges');
is($node->safe_psql('postgres', 'SELECT * FROM cdp.verify_identity()'), '', '… and leaves it sound');

# three more sessions re-check while sixteen change what they look at, most of it one component: none gives up
$node->safe_psql('postgres', q{SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i))) FROM generate_series(41, 300) i});
my %busy = (identify => 6, merge => 4, unmerge => 6, allow => 2);
script('identify.sql', q{
\set m random(1, 300)
\set d random(1, 200)
\set a random(1, 400)
SELECT cdp.identify(jsonb_build_object('member_id', 'm' || :m, 'device_id', 'd' || :d, 'anonymous_id', 'a' || :a));
});
my ($from, $to) = split /\|/, $node->safe_psql('postgres', 'SELECT min(profile_id), max(profile_id) FROM cdp.profile');
script("$_.sql", qq{
\\set a random($from, $to)
\\set b random($from, $to)
SELECT refusable('$_', :a, :b);
}) for qw(merge unmerge allow recheck);
my $writers = IPC::Run::start(['pgbench', '-n', '-c', '16', '-j', '2', '-T', $seconds, "--random-seed=$seed",
	(map { ('-f', "$dir/$_.sql\@$busy{$_}") } sort keys %busy), $node->connstr('postgres')], '>', \my $out, '2>', \my $err);
$node->command_checks_all(['pgbench', '-n', '-c', '3', '-T', $seconds, '-f', "$dir/recheck.sql", $node->connstr('postgres')],
	0, [qr/number of failed transactions: 0 /], [qr/^(?!.*(deadlock|ERROR|abort))/s], 'no re-check gives up');
ok($writers->finish, 'sixteen writers beside them finish without an error') or diag $err;
unlike($err, qr/deadlock|ERROR|abort/, '… and without a deadlock');
is($node->safe_psql('postgres', 'SELECT * FROM cdp.verify_identity()'), '', '… the partition is sound');
$node->safe_psql('postgres', 'SELECT count(*) FROM cdp.recheck_identity(dry_run => false)');
is($node->safe_psql('postgres', 'SELECT * FROM cdp.recheck_identity()'), '', '… and a re-check converges');
$node->stop;
done_testing();
