# DROP EXTENSION … CASCADE takes every column of our types: tags and members.  CREATE EXTENSION, migrate() and rebuild_tags() bring
# both back from history, row by row, and nobody is told; afterwards segments are refreshed as ever.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use Test::More;

my $node = cdp_server('segment_drop');
cdp_install($node, 'crm');
$node->safe_psql('crm', q{
	CREATE ROLE planner;
	SELECT cdp.grant_access('operator', 'planner');
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 3000) i));
	SELECT count(*) FROM (SELECT cdp.add_tag(i, 'k' || k, CASE WHEN k > 6 THEN (i % 97 * 1.5)::text END, CASE WHEN i % 11 = 0 THEN now() + interval '1 day' END)
		FROM generate_series(1, 3000) i, generate_series(1, 8) k WHERE hashint4(i * 131 + k) % 3 = 0) t;
	SELECT cdp.add_tag(7, '省.市, "x"', 'a, b');
	CREATE TABLE fans AS SELECT i::bigint AS customer_id FROM generate_series(1, 3000, 7) i;
	GRANT SELECT ON fans TO planner;
	SELECT cdp.define_segment('tags', 'k1 & !k2 | k7 > 100', holdout_percent => 20),
		cdp.define_segment('never', 'k3', refresh_every => NULL), cdp.define_static_segment('list', '{1-50,2999}');
	SET ROLE planner;
	SELECT cdp.define_segment('query', 'TABLE fans'), cdp.define_segment('theirs', $$SELECT m AS customer_id FROM cdp.segment_members('query') m WHERE m % 2 = 1$$)});
$node->safe_psql('crm', q{SELECT cdp.define_segment('nested', 'segment(tags) & segment(query)')});
$node->safe_psql('crm', 'CALL cdp.refresh_segments()');
# a past: who left, customers merged before and after a refresh, one taken apart, changes that nothing has met
$node->safe_psql('crm', q{SELECT count(cdp.remove_tag(i, 'k1')) FROM generate_series(1, 3000, 5) i; SELECT count(cdp.merge_customers(i, i + 1, 'x')) FROM generate_series(100, 400, 10) i;
	DELETE FROM fans WHERE customer_id % 3 = 0});
$node->safe_psql('crm', qq{CALL cdp.refresh_segments('$_')}) for 'nested', 'theirs';
$node->safe_psql('crm', q{SELECT count(cdp.merge_customers(i, i + 1, 'y')) FROM generate_series(1100, 1200, 10) i; SELECT cdp.unmerge_customer(101, 'x'), cdp.unmerge_customer(1101, 'y');
	SELECT count(cdp.add_tag(i, 'k1')) FROM generate_series(2500, 2600) i;
	DELETE FROM cdp.identifier WHERE profile_id = 49; DELETE FROM cdp.profile WHERE profile_id = 49});
my @facts = (
	[ tags => q{SELECT count(*), md5(string_agg(customer_id || ' ' || tags, ';' ORDER BY customer_id)) FROM cdp.customer_tag} ],
	[ members => q{SELECT name, md5(cdp.segment_audience(name)::text), (SELECT count(*) FROM cdp.segment_targets(name)) FROM cdp.segment ORDER BY 1} ],
	[ segments => q{SELECT name, definition, kind, version, owner, depends_on, refreshed_at, refreshed_version, last_error FROM cdp.segment ORDER BY 1} ],
	[ history => q{SELECT count(*), md5(string_agg(h::text, ';' ORDER BY history_id)) FROM cdp.segment_history h} ],
	[ snapshots => q{SELECT count(*), md5(string_agg(h::text, ';' ORDER BY snapshot_id)) FROM cdp.segment_snapshot h} ],
	[ 'what was said of tags' => q{SELECT count(*), md5(string_agg(h::text, ';' ORDER BY change_id)) FROM cdp.tag_history h} ],
	[ events => q{SELECT count(*), max(event_id), md5(string_agg(h::text, ';' ORDER BY event_id)) FROM cdp.event h} ],
	[ counts => q{SELECT q, cdp.count_customers(q) FROM unnest('{*,!k1,k7 > 100,segment(nested),k8 = 3 | segment(list)}'::cdp.tagquery[]) q} ]);
my $shown = q{SET TimeZone = 'UTC'; };
my %wanted = map { $_->[0] => $node->safe_psql('crm', $shown . $_->[1]) } @facts;
unlike($wanted{$_->[0]}, qr/^0|^$/, "there are $_->[0]") for @facts;
for my $round (1, 2) {
	$node->safe_psql('crm', 'DROP EXTENSION customer_cdp CASCADE');
	is($node->safe_psql('crm', q{SELECT count(*) FROM pg_attribute WHERE attrelid IN ('cdp.segment'::regclass, 'cdp.profile_tag'::regclass) AND attname IN ('members', 'tags') AND NOT attisdropped}), '0', "$round: the columns are gone");
	is($node->safe_psql('crm', "$shown SELECT count(*), md5(string_agg(h::text, ';' ORDER BY event_id)) FROM cdp.event h"), $wanted{events} =~ s/\|\d+\|/|/r, '… the events are there');
	$node->safe_psql('crm', 'CREATE EXTENSION customer_cdp; CALL cdp.migrate()');
	is($node->safe_psql('crm', $shown . $facts[1][1]), $wanted{members}, '… members are back with migrate() already') if $round == 1;
	$node->safe_psql('crm', 'CALL cdp.rebuild_tags()');
	is($node->safe_psql('crm', $shown . $_->[1]), $wanted{$_->[0]}, "$round: $_->[0]") for @facts;
	is($node->safe_psql('crm', 'SELECT * FROM cdp.verify_tags()'), '', '… bitmaps, rows and history agree');
}
# everything goes on: only what had changed before is told now
my $before = $node->safe_psql('crm', 'SELECT max(event_id) FROM cdp.event');
$node->safe_psql('crm', 'CALL cdp.merge_tags()');
$node->safe_psql('crm', q{CALL cdp.refresh_segments('query')});
is($node->safe_psql('crm', "SELECT string_agg(DISTINCT properties->>'reason', ',') FROM cdp.event WHERE event_id > $before"), '', 'a refresh of what has not changed tells nobody');
$node->safe_psql('crm', q{CALL cdp.refresh_segments('nested')});
is($node->safe_psql('crm', q{SELECT cdp.segment_audience('tags') OPERATOR(cdp.=) cdp.audience_of('k1 & !k2 | k7 > 100')}), 't', 'members are what the definition says');
cmp_ok($node->safe_psql('crm', "SELECT count(*) FROM cdp.event WHERE event_id > $before AND properties->>'segment' = 'tags'"), '<', 120, '… and only what had changed was told');
is($node->safe_psql('crm', q{SELECT count(*) - count(DISTINCT message_id) FROM cdp.event WHERE name LIKE 'Segment %'}), '0', '… nothing twice');
cdp_works($node, 'crm', q{SET ROLE planner; SELECT cdp.define_segment('query', 'SELECT customer_id FROM fans WHERE customer_id < 100')}, 'its owner defines it anew');
cdp_fails($node, 'crm', q{DELETE FROM cdp.segment}, '55000', 'the guard of the table is back');
$node->stop;
done_testing();
