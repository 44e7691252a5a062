# On a standby previews, explanations, verification and the dry run of a re-check answer what the primary answers;
# whatever changes the partition says 25006.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use Test::More;

my $main = cdp_server('identity_main', allows_streaming => 1);
cdp_install($main, 'crm');
$main->safe_psql('crm', q{
	SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i, 'device_id', 'd' || i / 3))) FROM generate_series(1, 12) i;
	SELECT cdp.merge_customers(1, 4, 'x');
	UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind = 'member_id'});
$main->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('identity_standby');
$standby->init_from_backup($main, 'base', has_streaming => 1);
$standby->start;
$main->wait_for_catchup($standby, 'replay');
for my $r (
	[ preview_merge => 'SELECT * FROM cdp.preview_merge(1, 8)' ],
	[ preview_unmerge => 'SELECT * FROM cdp.preview_unmerge(4)' ],
	[ explain_identity => 'SELECT step, from_profile, to_profile, rule FROM cdp.explain_identity(2, 4)' ],
	[ identity_audit => 'SELECT what, kind, n FROM cdp.identity_audit ORDER BY 1, 2, 3' ],
	[ recheck_identity => 'SELECT * FROM cdp.recheck_identity()' ],
	[ verify_identity => 'SELECT * FROM cdp.verify_identity()' ]) {
	my ($verb, $sql) = @$r;
	my $here = cdp_works($standby, 'crm', $sql, "$verb reads on the standby");
	is($here, $main->safe_psql('crm', $sql), '… and answers what the primary answers');
	isnt($here, '', '… something');
}
for my $w (
	[ merge_customers => q{SELECT cdp.merge_customers(1, 8, 'x')} ],
	[ unmerge_customer => q{SELECT cdp.unmerge_customer(4, 'x')} ],
	[ allow_merge => q{SELECT cdp.allow_merge(1, 8, 'x')} ],
	[ detach_identifier => q{SELECT cdp.detach_identifier('member_id', 'm1', 'x')} ],
	[ recheck_identity => q{SELECT cdp.recheck_identity(dry_run => false)} ],
	[ recheck_identities => q{CALL cdp.recheck_identities()} ],
	[ rebuild_aliases => q{CALL cdp.rebuild_aliases()} ],
	[ check_identity => q{CALL cdp.check_identity()} ]) {
	my ($verb, $sql) = @$w;
	cdp_fails($standby, 'crm', $sql, '25006', "$verb is refused on the standby");
}
$_->stop for $standby, $main;
done_testing();
