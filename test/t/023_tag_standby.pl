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
$main->safe_psql('crm', q{
	SELECT cdp.track(jsonb_build_object('member_id', 'm' || i % 4 + 1), 'Store Visited', '{"store_id": "s1"}', NULL, 'v' || i) FROM generate_series(1, 9) i;
	SELECT cdp.record_order('{"member_id": "m2"}', '{"order_id": "o1", "amount": 5, "status": "paid", "currency": "CNY", "lines": [{"line_no": 1, "product_id": "p1", "quantity": 1, "unit_price": 5}]}');
	SELECT cdp.define_segment('gold', 'vip & aov > 50'), cdp.define_segment('silver', 'member & !segment(gold)', holdout_percent => 20)});
$main->safe_psql('crm', 'CALL cdp.merge_tags()');
$main->safe_psql('crm', 'CALL cdp.refresh_segments()');
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
	[ customer_tag => q{SELECT customer_id, tags FROM cdp.customer_tag ORDER BY 1} ],
	[ '@@' => q{SET enable_seqscan = off; SELECT profile_id FROM cdp.profile_tag WHERE tags OPERATOR(cdp.@@) 'vip & !(aov > 100)' ORDER BY 1} ],
	[ tag_history => q{SELECT count(*), max(change_id) FROM cdp.tag_history} ],
	[ did => q{SELECT i, cdp.did(i, 'Store Visited', '1 day') FROM generate_series(1, 5) i} ],
	[ find_customers_who => q{SELECT * FROM cdp.find_customers_who('Store Visited', at_least => 2)} ],
	[ find_buyers => q{SELECT * FROM cdp.find_buyers('p1', '1 year')} ],
	[ segment => q{SELECT * FROM cdp.segment_members('gold')} ],
	[ 'segment of segments' => q{SELECT cdp.count_customers('segment(gold) & !soon'), cdp.segment_audience('gold'), cdp.in_segment(7, 'gold')} ],
	[ segments_of => q{SELECT name FROM cdp.segments_of(9)} ],
	[ explain_segment => q{SELECT term, holds FROM cdp.explain_segment('gold', 9)} ],
	[ segment_overlap => q{SELECT * FROM cdp.segment_overlap('{gold,silver}')} ],
	[ segment_venn => q{SELECT * FROM cdp.segment_venn('{gold,silver}')} ],
	[ segment_targets => q{SELECT * FROM cdp.segment_targets('silver')} ],
	[ segment_changes => q{SELECT * FROM cdp.segment_changes('gold', now() - interval '1 year', now())} ],
	[ segment_status => q{SELECT name, member_count FROM cdp.segment_status ORDER BY 1} ],
	[ customer_360 => q{SELECT cdp.customer_360(3) -> 'tags', cdp.customer_360(3) -> 'segments'} ],
	[ timeline => q{SELECT count(*) FROM cdp.timeline(3)} ],
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
cdp_fails($standby, 'crm', $_, '25006', "refused on the standby: $_") for q{CALL cdp.merge_tags()}, q{CALL cdp.rebuild_tags()}, q{CALL cdp.prune_tags()},
	q{SELECT cdp.add_tag(1, 'new')}, q{SELECT cdp.add_tag(1, 'vip')}, q{SELECT cdp.remove_tag(1, 'vip')}, q{SELECT cdp.remove_tag(1, 'nothing')},
	q{SELECT cdp.add_tag_many('[{"customer_id": 1, "tag": "new"}]')}, q{SELECT cdp.define_tag('new')}, q{SELECT cdp.drop_tag('soon')}, q{CALL cdp.refresh_tags()},
	q{UPDATE cdp.profile_tag SET tags = ''}, q{SELECT cdp.define_segment('new', 'vip')}, q{SELECT cdp.define_static_segment('new', '{1}')}, q{SELECT cdp.drop_segment('silver')},
	q{CALL cdp.refresh_segments()}, q{CALL cdp.refresh_segments('gold')};
# a session in a read-only transaction of the primary is in the same place
cdp_fails($main, 'crm', "SET default_transaction_read_only = on; $_", '25006', "refused where nothing may be written: $_") for q{CALL cdp.merge_tags()}, q{CALL cdp.rebuild_tags()},
	q{SELECT cdp.add_tag(1, 'new')}, q{SELECT cdp.drop_tag('soon')}, q{CALL cdp.refresh_tags()}, q{CALL cdp.refresh_segments('gold')};
# the standby takes over
$main->stop('immediate');
$standby->promote;
is($standby->safe_psql('crm', q{SELECT cdp.add_tag(45, 'vip'); SELECT cdp.count_customers('vip')}), "t\n21", 'promoted: the next tag counts');
cdp_works($standby, 'crm', 'CALL cdp.merge_tags()', '… and is merged');
is($standby->safe_psql('crm', q{SELECT cdp.count_customers('vip'); SELECT * FROM cdp.verify_tags()}), '21', '… and tags are sound');
$standby->stop;
done_testing();
