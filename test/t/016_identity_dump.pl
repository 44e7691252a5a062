# Dump and restore of a partition with a past: rows are equal, it is sound, and its merges can still be taken back.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = cdp_server('identity_old');
my $new = cdp_server('identity_new');
my $dir = PostgreSQL::Test::Utils::tempdir;
cdp_install($old, 'crm');
$old->safe_psql('crm', q{
	SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i, 'device_id', 'd' || i / 2, 'phone', '1380000' || 1000 + i))) FROM generate_series(1, 40) i;
	SELECT cdp.merge_customers(cdp.resolve('member_id', 'm9'), cdp.resolve('member_id', 'm1'), 'dump');
	SELECT cdp.merge_customers(cdp.resolve('member_id', 'm20'), cdp.resolve('member_id', 'm9'), 'dump');
	SELECT cdp.unmerge_customer(cdp.resolve('member_id', 'm30'), 'dump');
	SELECT count(cdp.identify(jsonb_build_object('email', i || '@example.com', 'device_id', 'shared'))) FROM generate_series(1, 4) i;
	UPDATE cdp.identifier_kind SET max_per_customer = 3 WHERE kind = 'email';
	SELECT count(*) FROM cdp.recheck_identity(dry_run => false);
	SELECT cdp.detach_identifier('device_id', 'd3', 'dump');
	CALL cdp.check_identity()});
my $rows = cdp_sums($old, 'crm');
my $sums = q{SELECT (SELECT count(*) FROM cdp.merge_log), (SELECT count(*) FROM cdp.profile_alias), (SELECT count(*) FROM cdp.identity_link WHERE relation = 'apart')};
unlike($old->safe_psql('crm', $sums), qr/\b0\b/, 'there is a past');
$old->run_log(['pg_dump', '-Fc', '-f', "$dir/dump", $old->connstr('crm')]);
$new->safe_psql('postgres', 'CREATE DATABASE crm');
$new->command_ok(['pg_restore', '-j', '2', '-d', $new->connstr('crm'), "$dir/dump"], 'restored');
cdp_same(cdp_sums($new, 'crm'), $rows, 'partition, links and log are equal');
is($new->safe_psql('crm', 'SELECT * FROM cdp.verify_identity()'), '', 'the partition is sound');
my $alias = $new->safe_psql('crm', 'SELECT * FROM cdp.profile_alias ORDER BY 1');
$new->safe_psql('crm', 'CALL cdp.rebuild_aliases()');
is($new->safe_psql('crm', 'SELECT * FROM cdp.profile_alias ORDER BY 1'), $alias, 'rebuilding the aliases changes nothing');
is($new->safe_psql('crm', 'SELECT * FROM cdp.recheck_identity()'), '', 'a re-check has nothing to do');
# the aliases are a cache: ids included they come back from links and log
$new->safe_psql('crm', 'SET session_replication_role = replica; TRUNCATE cdp.profile_alias');
$new->safe_psql('crm', 'CALL cdp.rebuild_aliases()');
is($new->safe_psql('crm', 'SELECT * FROM cdp.profile_alias ORDER BY 1'), $alias, 'lost aliases are rebuilt as they were');
is($new->safe_psql('crm', q{SELECT cdp.customer_id(cdp.resolve('member_id', 'm1')) = cdp.resolve('member_id', 'm20')}), 't', 'a merge made before');
$new->safe_psql('crm', q{SELECT cdp.unmerge_customer(i.profile_id, 'restored') FROM cdp.identifier i WHERE value = 'm9'});
is($new->safe_psql('crm', q{SELECT cdp.resolve('member_id', 'm9') <> cdp.resolve('member_id', 'm20'), cdp.resolve('member_id', 'm9') = cdp.resolve('member_id', 'm1')}),
	't|t', '… is taken back in the restored database');
is($new->safe_psql('crm', 'SELECT * FROM cdp.verify_identity()'), '', '… and leaves it sound');
$_->stop for $old, $new;
done_testing();
