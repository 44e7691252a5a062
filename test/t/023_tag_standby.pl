# On a standby all questions about tags answer what the primary answers, with changes that no merge has met, with entries that
# have ended since, and after a merge; whatever writes says 25006.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use Test::More;

my $main = cdp_server('tag_main', allows_streaming => 1);
cdp_install($main, 'crm');
$main->safe_psql('crm', q{
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 50) i));
	SELECT cdp.add_tag(i, 'vip'), cdp.add_tag(i, 'aov', (i * 10)::text), cdp.add_tag(i, 'soon', NULL, now() + interval '1 day') FROM generate_series(1, 20) i;
	SELECT cdp.add_tag(i, 'member') FROM generate_series(1, 40) i});
$main->safe_psql('crm', 'CALL cdp.merge_tags()');
$main->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('tag_standby');
$standby->init_from_backup($main, 'base', has_streaming => 1);
$standby->start;
my @questions = (
	[ count_customers => q{SELECT q, cdp.count_customers(q), cdp.count_customers(q, now() + interval '2 days'), cdp.count_customers(q, now() - interval '1 year')
		FROM unnest('{*,vip,!vip,aov > 100,soon,!soon & aov <= 50}'::cdp.tagquery[]) q} ],
	[ find_customers => q{SELECT * FROM cdp.find_customers('vip & aov > 50')} ],
	[ audience_of => q{SELECT cdp.audience_of('!vip | aov = 10')} ],
	[ overlap_customers => q{SELECT * FROM cdp.overlap_customers('{vip,aov > 50,!soon}')} ],
	[ matches_customer => q{SELECT cdp.matches_customer(3, 'vip & aov = 30')} ],
	[ explain_tags => q{SELECT term, holds, value FROM cdp.explain_tags(3, 'vip & aov = 30')} ],
	[ lift_table => q{SELECT * FROM cdp.lift_table('{1-10}', NULL, 1)} ],
	[ find_lookalikes => q{SELECT * FROM cdp.find_lookalikes('{1-10}', 25, 0)} ],
	[ verify_tags => q{SELECT count(*) FROM cdp.verify_tags()} ],
	[ health => q{SELECT check_name, ok FROM cdp.health() WHERE check_name LIKE 'tag%'} ]);
sub same {
	my $when = shift;
	$main->wait_for_catchup($standby, 'replay');
	for (@questions) {
		my ($verb, $sql) = @$_;
		is(cdp_works($standby, 'crm', $sql, "$when: $verb reads on the standby"), $main->safe_psql('crm', $sql), '… and answers what the primary answers');
	}
}
same('merged');
$main->safe_psql('crm', q{SELECT cdp.add_tag(i, 'vip'), cdp.remove_tag(i - 20, 'vip'), cdp.add_tag(i - 10, 'aov', '55.5') FROM generate_series(21, 30) i; SELECT cdp.identify('{"member_id": "new"}')});
same('not merged');
is($standby->safe_psql('crm', q{SELECT cdp.count_customers('vip'), cdp.count_customers('aov = 55.5'), cdp.count_customers('*')}), '20|10|51', '… which is right');
$main->safe_psql('crm', 'CALL cdp.merge_tags()');
same('merged again');
cdp_fails($standby, 'crm', 'CALL cdp.merge_tags()', '25006', 'merge_tags is refused on the standby');
cdp_fails($standby, 'crm', 'CALL cdp.rebuild_tags()', '25006', 'rebuild_tags is refused on the standby');
cdp_fails($standby, 'crm', 'CALL cdp.prune_tags()', '25006', 'prune_tags is refused on the standby');
$_->stop for $standby, $main;
done_testing();
