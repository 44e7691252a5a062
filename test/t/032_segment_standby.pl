# On a standby all questions about segments answer what the primary answers: just refreshed, with changes of tags that no merge
# and no refresh has met, after merges of customers, and refreshed again; whatever writes says 25006.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use Test::More;

my $main = cdp_server('segment_main', allows_streaming => 1);
cdp_install($main, 'crm');
$main->safe_psql('crm', q{
	CREATE ROLE analyst;
	SELECT cdp.grant_access('reader', 'analyst');
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 60) i));
	SELECT cdp.add_tag(i, 'vip'), cdp.add_tag(i, 'aov', (i * 10)::text), cdp.add_tag(i, 'soon', NULL, now() + interval '1 day') FROM generate_series(1, 30) i;
	CREATE TABLE fans AS SELECT i::bigint AS customer_id FROM generate_series(20, 50) i;
	SELECT cdp.define_segment('rich', 'vip & aov > 100', holdout_percent => 30), cdp.define_segment('fans', 'TABLE fans'),
		cdp.define_segment('rich fans', 'segment(rich) & segment(fans)'), cdp.define_segment('odd', $$SELECT m AS customer_id FROM cdp.segment_members('fans') m WHERE m % 2 = 1$$),
		cdp.define_segment('never', 'vip'), cdp.define_static_segment('list', '{1-5,40}')});
$main->safe_psql('crm', qq{CALL cdp.refresh_segments('$_')}) for 'rich fans', 'odd';
$main->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('segment_standby');
$standby->init_from_backup($main, 'base', has_streaming => 1);
$standby->start;
my $names = q{'{rich, fans, "rich fans", odd, list}'};
my @questions = (
	[ segment_members => qq{SELECT n, m FROM unnest($names\::text[]) n, cdp.segment_members(n) m} ],
	[ segment_targets => q{SELECT * FROM cdp.segment_targets('rich')} ],
	[ segment_audience => qq{SELECT n, cdp.segment_audience(n) FROM unnest($names\::text[]) n} ],
	[ in_segment => q{SELECT i, cdp.in_segment(i, 'rich fans') FROM generate_series(1, 60) i} ],
	[ segments_of => q{SELECT i, s.* FROM generate_series(1, 60) i, cdp.segments_of(i) s} ],
	[ explain_segment => q{SELECT i, s.* FROM generate_series(8, 25) i, cdp.explain_segment('rich', i) s} ],
	[ 'explain_segment of a query' => q{SELECT i, s.* FROM generate_series(18, 25) i, cdp.explain_segment('odd', i) s} ],
	[ 'explain_segment of a list' => q{SELECT i, s.* FROM generate_series(3, 8) i, cdp.explain_segment('list', i) s} ],
	[ segment_overlap => qq{SELECT * FROM cdp.segment_overlap($names)} ],
	[ segment_venn => qq{SELECT * FROM cdp.segment_venn($names)} ],
	[ segment_changes => q{SELECT * FROM cdp.segment_changes('rich', now() - interval '1 day', now() + interval '1 day')} ],
	[ 'snapshots' => q{SELECT snapshot_id, segment, refreshed_at, cdp.audience_from_roaring64(members) FROM cdp.segment_snapshot ORDER BY 1} ],
	[ count_customers => q{SELECT cdp.count_customers('segment(rich) & !segment(odd) | aov = 10 & !segment(list)')} ],
	[ find_customers => q{SELECT * FROM cdp.find_customers('segment("rich fans") | soon & !segment(never)')} ],
	[ matches_customer => q{SELECT i, cdp.matches_customer(i, 'segment(rich) & !segment(odd)') FROM generate_series(1, 60) i} ],
	[ explain_tags => q{SELECT term, holds FROM cdp.explain_tags(21, 'segment(rich) & !segment(odd)')} ],
	[ segment_status => q{SELECT name, kind, version, member_count, refreshed_at, due, last_error FROM cdp.segment_status ORDER BY 1} ],
	[ health => q{SELECT * FROM cdp.health() WHERE check_name = 'segments'} ],
	[ customer_360 => q{SELECT cdp.customer_360(21)->'segments'} ],
	[ timeline => q{SELECT at, title FROM cdp.timeline(21) WHERE kind = 'segment'} ],
	[ find_lookalikes => q{SELECT * FROM cdp.find_lookalikes(cdp.segment_audience('rich'), 25, 0)} ],
	[ 'as a reader' => q{SET ROLE analyst; SELECT cdp.segment_audience('rich fans'), cdp.in_segment(21, 'rich'); SELECT * FROM cdp.explain_segment('odd', 21)} ]);
sub same {
	my $when = shift;
	$main->wait_for_catchup($standby, 'replay');
	for (@questions) {
		my ($verb, $sql) = @$_;
		my $wanted = $main->safe_psql('crm', "SET TimeZone = 'UTC'; $sql");
		isnt($wanted, '', "$when: $verb has an answer");
		is(cdp_works($standby, 'crm', "SET TimeZone = 'UTC'; $sql", '… also on the standby'), $wanted, '… which is the same');
	}
}
same('refreshed');
$main->safe_psql('crm', q{SELECT cdp.add_tag(i, 'vip'), cdp.add_tag(i, 'aov', '500'), cdp.remove_tag(i - 20, 'vip') FROM generate_series(31, 40) i; SELECT cdp.identify('{"member_id": "new"}')});
same('tags not merged');
is($standby->safe_psql('crm', q{SELECT cdp.count_customers('segment(rich)'), cdp.count_customers('segment(rich) & vip'), cdp.count_customers('vip & aov > 100')}), '20|10|20', '… which is right');
$main->safe_psql('crm', q{SELECT cdp.merge_customers(21, 22, 'x'), cdp.merge_customers(1, 23, 'x'), cdp.merge_customers(60, 40, 'x')});
same('customers merged');
is($standby->safe_psql('crm', q{SELECT cdp.in_segment(40, 'list'), cdp.in_segment(60, 'list'), cdp.segment_audience('list')}), 't|t|{1-5,60}', '… which is right');
$main->safe_psql('crm', $_) for 'CALL cdp.merge_tags()', q{CALL cdp.refresh_segments('rich fans')}, q{CALL cdp.refresh_segments('odd')};
same('refreshed again');
my @writes = (
	[ define_segment => q{SELECT cdp.define_segment('x', 'vip')} ],
	[ 'define_segment of a query' => q{SELECT cdp.define_segment('x', 'TABLE fans')} ],
	[ define_static_segment => q{SELECT cdp.define_static_segment('list', '{1}')} ],
	[ drop_segment => q{SELECT cdp.drop_segment('list')} ],
	[ refresh_segments => 'CALL cdp.refresh_segments()' ],
	[ 'refresh_segments by name' => q{CALL cdp.refresh_segments('rich')} ],
	[ 'INSERT' => q{INSERT INTO cdp.segment (name, definition) VALUES ('x', 'vip')} ],
	[ 'UPDATE' => q{UPDATE cdp.segment SET definition = 'vip' WHERE name = 'rich'} ],
	[ rebuild_tags => 'CALL cdp.rebuild_tags()' ]);
cdp_fails($standby, 'crm', $_->[1], '25006', "$_->[0] is refused on the standby") for @writes;
$_->stop for $standby, $main;
done_testing();
