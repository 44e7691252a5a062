# DROP EXTENSION … CASCADE takes the columns of our types: tags of customers, members of segments.  What was said of tags and
# who entered which segment stays as text, and CREATE, migrate(), rebuild_tags() make tags, counts, merged customers, members
# and rules of it again, without a word to anybody.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use Test::More;

my $node = cdp_server('tag_drop');
cdp_install($node, 'crm');
sub q1 { return $node->safe_psql('crm', $_[0]); }
my $clock = "SET cdp.now = '2026-01-20 00:00:00Z'";
q1(q{
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 300) i));
	SET cdp.now = '2026-01-01 00:00:00Z';
	SELECT cdp.define_tag('trial', emits_events => true), cdp.define_tag('card', value_type => 'text'), cdp.define_tag('rich', rule => 'aov > 2000');
	SELECT cdp.add_tag_many((SELECT jsonb_agg(j) FROM generate_series(1, 250) i, LATERAL (VALUES
		(jsonb_build_object('customer_id', i, 'tag', 'region.' || (ARRAY['华东.上海', '华东x', '华南', '"q"'])[1 + i % 4])),
		(jsonb_build_object('customer_id', i, 'tag', 'aov', 'value', i * 12.25)),
		(jsonb_build_object('customer_id', i, 'tag', 'birthday', 'value', (date '2019-01-01' + i)::text)),
		(jsonb_build_object('customer_id', i, 'tag', 'card', 'value', '622202' || i))) v(j)), 'import');
	SELECT cdp.add_tag(i, 'trial', NULL, '2026-01-01Z'::timestamptz + i * interval '1 day') FROM generate_series(1, 40) i;
	SELECT cdp.define_segment('spenders', 'aov > 1000 & !trial'), cdp.define_segment('rest', 'region.* & !segment(spenders)', holdout_percent => 10);
	SELECT cdp.define_static_segment('hand', '{1-9,200}')});
q1("$clock; $_") for 'CALL cdp.refresh_tags()', 'CALL cdp.merge_tags()', 'CALL cdp.refresh_segments()';
# after the last merge and refresh
q1(qq{$clock;
	SELECT cdp.merge_customers(i, i + 100, 'x') FROM generate_series(1, 20) i; SELECT cdp.unmerge_customer(101, 'x');
	SELECT cdp.add_tag(i, 'fresh'), cdp.remove_tag(i + 1, 'region.*') FROM generate_series(201, 240, 7) i;
	UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'spring' WHERE profile_id % 10 = 3 AND tags IS NOT NULL});

my $questions = qq{SET TimeZone = 'UTC'; $clock;
	SELECT q, at, cdp.count_customers(q, at), (SELECT md5(string_agg(f::text, ',' ORDER BY f)) FROM cdp.find_customers(q, at) f)
	FROM unnest('{*,trial,!trial,region.*,region.华东.*,"aov <= 100 | fresh","birthday >= 2019-06-01 & !spring","card = \\"6222027\\"",rich,"spring & !region.*","segment(rest) & !fresh"}'::cdp.tagquery[]) q,
		unnest('{2026-01-05Z,2026-01-20Z,2027-06-01Z}'::timestamptz[]) at;
	SELECT count(*), md5(string_agg(customer_id || tags::text, ';' ORDER BY customer_id)) FROM cdp.customer_tag;
	SELECT profile_id, own_tags FROM cdp.profile_tag WHERE own_tags IS NOT NULL ORDER BY 1;
	SELECT name, cdp.segment_audience(name), member_count FROM cdp.segment ORDER BY 1};
my $said = q{SELECT (SELECT count(*) FROM cdp.event), (SELECT max(event_id) FROM cdp.event), (SELECT count(*) FROM cdp.tag_history), (SELECT max(change_id) FROM cdp.tag_history), (SELECT count(*) FROM cdp.segment_history)};
my ($was, $were) = (q1($questions), q1($said));
for my $round ('dropped once', 'dropped again')
{
	q1('SET client_min_messages = error; DROP EXTENSION customer_cdp CASCADE');
	is(q1(q{SELECT count(*) FROM information_schema.columns WHERE table_schema = 'cdp' AND udt_name IN ('tagset', 'audience')}), '0', "$round: the columns are gone");
	q1('CREATE EXTENSION customer_cdp');
	q1('CALL cdp.migrate()');
	cdp_works($node, 'crm', "$clock; CALL cdp.rebuild_tags()", "$round: rebuild_tags");
	is_deeply([ split /\n/, q1($questions) ], [ split /\n/, $was ], "$round: the same tags, counts and members");
	is(q1($said), $were, "$round: no event and no history");
	is(q1('SELECT * FROM cdp.verify_tags()'), '', "$round: tags are sound");
}
cdp_works($node, 'crm', "$clock; CALL cdp.refresh_segments('rest')", 'a refresh runs');
is(q1("$clock; SELECT cdp.add_tag(300, 'trial', NULL, '2030-01-01Z'); SELECT cdp.count_customers('trial', '2029-01-01Z')"), "t\n1", 'the next tag counts');
is(q1("$clock; SELECT cdp.unmerge_customer(102, 'x') IS NOT NULL; SELECT cdp.tag_value(tags, 'aov') FROM cdp.customer_tag WHERE customer_id IN (2, 102) ORDER BY customer_id"), "t\n24.5\n1249.5",
	'a merge made before is taken back with its tags');
cdp_fails($node, 'crm', q{SELECT cdp.add_tag(1, 'rich')}, '55000', 'a rule still owns its tag');
cdp_works($node, 'crm', "$clock; CALL cdp.refresh_tags()", '… and runs');
cdp_works($node, 'crm', "$clock; CALL cdp.merge_tags()", 'merge_tags goes on');
is(q1('SELECT * FROM cdp.verify_tags()'), '', 'tags stay sound');
$node->stop;
done_testing();
