# All tables of the schema published, a second database subscribes: tags, bitmaps and members arrive as they are, with the initial copy
# and after it, and no trigger there says anything a second time.  When the subscription ends, the subscriber goes on by itself.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use Test::More;

my $pub = cdp_server('segment_pub', allows_streaming => 'logical');
my $sub = cdp_server('segment_sub');
cdp_install($_, 'crm') for $pub, $sub;
$pub->safe_psql('crm', q{
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 60) i));
	SELECT cdp.add_tag(i, 'vip'), cdp.add_tag(i, 'aov', (i * 10)::text), cdp.add_tag(i, 'soon', NULL, now() + interval '1 day') FROM generate_series(1, 30) i;
	SELECT cdp.define_segment('rich', 'vip & aov > 100', holdout_percent => 30), cdp.define_static_segment('list', '{1-5,40}'), cdp.define_segment('both', 'segment(rich) | segment(list)')});
$pub->safe_psql('crm', $_) for 'CALL cdp.merge_tags()', 'CALL cdp.refresh_segments()', q{SELECT cdp.add_tag(31, 'vip')},
	'CREATE PUBLICATION p FOR TABLES IN SCHEMA cdp WITH (publish_via_partition_root)';
# what migrate() put there comes from the publisher
$sub->safe_psql('crm', q{SET session_replication_role = replica; DO $$ DECLARE t text; BEGIN
	SELECT string_agg(format('cdp.%I', relname), ', ') INTO t FROM pg_class WHERE relnamespace = 'cdp'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
		-- those that nobody may empty are empty
		AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = pg_class.oid AND g.tgenabled = 'A');
	EXECUTE 'TRUNCATE ' || t; END $$});
$sub->safe_psql('crm', q{CREATE SUBSCRIPTION s CONNECTION '} . $pub->connstr . q{ dbname=crm' PUBLICATION p});
$sub->wait_for_subscription_sync($pub, 's', 'crm');
my @facts = (
	q{SELECT name, definition, kind, version, owner, members, member_count, refreshed_at FROM cdp.segment ORDER BY 1},
	q{SELECT name, cdp.segment_audience(name), (SELECT array_agg(t) FROM cdp.segment_targets(name) t) FROM cdp.segment ORDER BY 1},
	q{SELECT * FROM cdp.segment_history ORDER BY 1}, q{SELECT * FROM cdp.segment_snapshot ORDER BY 1}, q{SELECT * FROM cdp.event ORDER BY event_id},
	q{SELECT customer_id, tags FROM cdp.customer_tag ORDER BY 1}, q{SELECT change_id, profile_id, tag, change FROM cdp.tag_history ORDER BY 1},
	q{SELECT q, cdp.audience_of(q) FROM unnest('{*,vip,!vip,aov > 100,segment(both) & !soon}'::cdp.tagquery[]) q},
	q{SELECT i, cdp.in_segment(i, 'both'), cdp.matches_customer(i, 'segment(rich) & vip') FROM generate_series(1, 60) i},
	q{SELECT * FROM cdp.verify_tags()}, q{SELECT * FROM cdp.segment_overlap('{rich, list, both}')});
sub same {
	my $when = shift;
	$pub->wait_for_catchup('s');
	is($sub->safe_psql('crm', "SET TimeZone = 'UTC'; $_"), $pub->safe_psql('crm', "SET TimeZone = 'UTC'; $_"), "$when: " . ($_ =~ /(FROM cdp\.\w+|cdp\.\w+)/)[0]) for @facts;
}
same('copied');
$pub->safe_psql('crm', $_) for q{SELECT cdp.remove_tag(i, 'vip') FROM generate_series(20, 22) i; SELECT cdp.identify('{"member_id": "new"}'); SELECT cdp.merge_customers(5, 40, 'x')};
same('changed');
$pub->safe_psql('crm', $_) for 'CALL cdp.merge_tags()', 'CALL cdp.refresh_segments()', q{SELECT cdp.define_static_segment('list', '{1-3}')}, q{CALL cdp.refresh_segments('both')}, q{SELECT cdp.add_tag(32, 'vip')};
same('refreshed');
cmp_ok($sub->safe_psql('crm', q{SELECT count(*) FROM cdp.event WHERE name = 'Segment Left'}), '>', 3, 'some have left');
# on its own: sequences are not replicated, so they are set before it writes
$sub->safe_psql('crm', 'DROP SUBSCRIPTION s');
$sub->safe_psql('crm', q{DO $$ DECLARE r record; BEGIN FOR r IN SELECT pg_get_serial_sequence(format('%I.%I', table_schema, table_name), column_name) AS s, format('%I.%I', table_schema, table_name) AS t, column_name AS c
	FROM information_schema.columns WHERE table_schema = 'cdp' AND is_identity = 'YES' LOOP
	EXECUTE format('SELECT setval(%L, coalesce((SELECT max(%I) FROM %s), 0) + 1, false)', r.s, r.c, r.t); END LOOP; END $$});
my $before = $sub->safe_psql('crm', 'SELECT max(event_id) FROM cdp.event');
$sub->safe_psql('crm', q{SELECT cdp.add_tag(50, 'vip'), cdp.add_tag(50, 'aov', '900')});
$sub->safe_psql('crm', $_) for 'CALL cdp.merge_tags()', q{CALL cdp.refresh_segments('both')};
is($sub->safe_psql('crm', "SELECT string_agg(name || ' ' || profile_id || ' ' || (properties->>'segment'), ', ' ORDER BY event_id) FROM cdp.event WHERE event_id > $before AND name LIKE 'Segment %'"),
	'Segment Entered 50 rich, Segment Entered 50 both', 'a subscriber that has taken over refreshes on');
is($sub->safe_psql('crm', 'SELECT * FROM cdp.verify_tags()'), '', '… bitmaps, rows and history agree');
$_->stop for $sub, $pub;
done_testing();
