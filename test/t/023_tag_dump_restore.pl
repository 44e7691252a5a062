# Dump and restore of a database with tags: plain, -Fc -j2, and schema cdp alone.  Customers have the tags they had, every
# question has the answer it had (what is not merged yet, what has ended since and merged customers included), nobody
# hears of it, and what comes next is counted, said and merged as ever.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = cdp_server('tag_old');
my $new = cdp_server('tag_new');
my $dir = PostgreSQL::Test::Utils::tempdir;
cdp_install($old, 'crm');
$old->safe_psql('crm', q{
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 400) i));
	SELECT cdp.define_tag('card', value_type => 'text'), cdp.define_tag('trial', emits_events => true), cdp.define_tag('rich', rule => 'aov > 3000');
	SELECT cdp.add_tag_many((SELECT jsonb_agg(j) FROM generate_series(1, 350) i, LATERAL (VALUES
		(jsonb_build_object('customer_id', i, 'tag', 'region.' || (ARRAY['华东.上海', '华东x', '华南', '"q"'])[1 + i % 4])),
		(jsonb_build_object('customer_id', i, 'tag', 'aov', 'value', i * 12.25)),
		(jsonb_build_object('customer_id', i, 'tag', 'birthday', 'value', (date '2019-01-01' + i)::text)),
		(jsonb_build_object('customer_id', i, 'tag', 'card', 'value', '622202' || i))) v(j)), 'import');
	SET cdp.now = '2026-01-01 00:00:00Z';
	SELECT cdp.add_tag(i, 'trial', NULL, '2026-01-01Z'::timestamptz + i * interval '1 day') FROM generate_series(1, 40) i;
	SELECT cdp.define_segment('spenders', 'aov > 1000 & !trial')});
$old->safe_psql('crm', "SET cdp.now = '2026-01-15 00:00:00Z'; CALL cdp.refresh_tags()");
$old->safe_psql('crm', "SET cdp.now = '2026-01-15 00:00:00Z'; CALL cdp.merge_tags()");
$old->safe_psql('crm', "SET cdp.now = '2026-01-15 00:00:00Z'; CALL cdp.refresh_segments('spenders')");
# what the bitmaps do not know yet
$old->safe_psql('crm', q{
	SELECT cdp.merge_customers(i, i + 100, 'dump') FROM generate_series(1, 20) i;
	SELECT cdp.unmerge_customer(101, 'dump');
	SELECT cdp.add_tag(i, 'fresh'), cdp.remove_tag(i + 1, 'region.*') FROM generate_series(201, 300, 7) i;
	UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'spring' WHERE profile_id % 10 = 3 AND tags IS NOT NULL;
	DELETE FROM cdp.profile_tag WHERE profile_id = 33;
	SELECT cdp.identify('{"member_id": "late"}')});

my $questions = q{SET TimeZone = 'UTC'; SELECT q, at, cdp.count_customers(q, at), (SELECT md5(string_agg(f::text, ',' ORDER BY f)) FROM cdp.find_customers(q, at) f)
	FROM unnest('{*,trial,!trial,region.*,region.华东.*,"region.华东.上海 & aov > 1000","aov <= 100 | fresh","birthday >= 2019-06-01 & !spring","card = \"6222027\"",rich,"spring & !region.*","fresh | trial | aov = 12.25","!aov | birthday < now-3y"}'::cdp.tagquery[]) q,
		unnest('{2026-01-05Z,2026-01-15Z,2026-01-20 00:00:00.000001Z,2027-06-01Z}'::timestamptz[]) at};
my $tags = q{SET TimeZone = 'UTC'; SELECT count(*), count(*) FILTER (WHERE tags::text <> ''), md5(string_agg(customer_id || tags::text, ';' ORDER BY customer_id)) FROM cdp.customer_tag};
my $said = q{SET TimeZone = 'UTC'; SELECT count(*), max(change_id), md5(string_agg(h::text, ';' ORDER BY change_id)) FROM cdp.tag_history h};
my $events = q{SELECT name, count(*), max(event_id) FROM cdp.event GROUP BY 1 ORDER BY 1};
my %was = map { $_ => $old->safe_psql('crm', $_) } $questions, $tags, $said, $events;
my $sums = cdp_sums($old, 'crm');
is($old->safe_psql('crm', 'SELECT * FROM cdp.verify_tags()'), '', 'tags are sound before');
unlike($old->safe_psql('crm', q{SELECT (SELECT count(*) FROM cdp.tag_change), (SELECT count(*) FROM cdp.tag_bits), (SELECT count(*) FROM cdp.profile_tag WHERE own_tags IS NOT NULL),
	(SELECT count(*) FROM cdp.event WHERE name = 'Tag Expired'), (SELECT count(*) FROM cdp.tag_everyone)}), qr/\b0\b/, 'there is something of everything');
my $members = $old->safe_psql('crm', q{SELECT md5(members::text), member_count FROM cdp.segment});

sub restored
{
	my ($db, $how) = @_;
	cdp_same(cdp_sums($new, $db), $sums, "$how: equal rows and sequences");
	is($new->safe_psql($db, $tags), $was{$tags}, "$how: the same tags");
	is($new->safe_psql($db, $questions), $was{$questions}, "$how: the same counts and customers");
	is($new->safe_psql($db, $said), $was{$said}, "$how: the same history");
	is($new->safe_psql($db, $events), $was{$events}, "$how: no new event");
	is($new->safe_psql($db, 'SELECT * FROM cdp.verify_tags()'), '', "$how: tags are sound");
	# life goes on, without migrate() but where rights ask for it
	is($new->safe_psql($db, q{SELECT cdp.add_tag(400, 'trial', NULL, '2030-01-01Z', 'restored'), cdp.add_tag(400, 'trial', NULL, '2030-01-01Z'); SELECT cdp.count_customers('trial', '2029-01-01Z')}),
		"t|f\n1", "$how: the next tag is counted");
	$new->safe_psql($db, q{UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'bulk' WHERE profile_id BETWEEN 150 AND 159});
	is($new->safe_psql($db, q{SELECT cdp.count_customers('bulk'), (SELECT count(*) FROM cdp.event WHERE name = 'Tag Added') - (SELECT split_part(l, '|', 2)::int FROM unnest(string_to_array('} . $was{$events} . q{', E'\n')) l WHERE l LIKE 'Tag Added|%'),
		(SELECT min(change_id) FROM cdp.tag_history WHERE source = 'restored') > } . (split /\|/, $was{$said})[1]), '10|1|t', "$how: triggers are back, one event, history goes on");
	cdp_works($new, $db, "SET cdp.now = '2026-01-20 00:00:00Z'; CALL cdp.merge_tags()", "$how: merge_tags goes on");
	is($new->safe_psql($db, q{SELECT count(*) FROM cdp.tag_change}), '0', "$how: … and merges");
	is($new->safe_psql($db, q{SELECT count(*), count(DISTINCT profile_id) FROM cdp.tag_history WHERE change = 'expired'}), '19|19', "$how: every end is said once, whichever server said it");
	is($new->safe_psql($db, q{SELECT cdp.count_customers('trial', '2026-01-20Z'), cdp.count_customers('bulk'), cdp.count_customers('*') = (SELECT count(*) FROM cdp.customer)}),
		'21|10|t', "$how: … counts stay");
	is($new->safe_psql($db, 'SELECT * FROM cdp.verify_tags()'), '', "$how: … and tags stay sound");
	is($new->safe_psql($db, q{SELECT md5(members::text), member_count FROM cdp.segment}), $members, "$how: the same members");
	$new->safe_psql($db, q{SELECT cdp.unmerge_customer(102, 'dump')});
	is($new->safe_psql($db, q{SELECT cdp.tag_value(tags, 'aov') FROM cdp.customer_tag WHERE customer_id IN (2, 102) ORDER BY customer_id}), "24.5\n1249.5", "$how: a merge made before is taken back with its tags");
	# all of it from history again
	my $now = $new->safe_psql($db, "$tags; $events");
	cdp_works($new, $db, "SET cdp.now = '2026-01-20 00:00:00Z'; CALL cdp.rebuild_tags()", "$how: rebuild_tags has nothing to do");
	is($new->safe_psql($db, "$tags; $events"), $now, "$how: … and changes nothing");
	is($new->safe_psql($db, 'SELECT * FROM cdp.verify_tags()'), '', "$how: … and leaves tags sound");
}
sub dump_to { my ($file, @o) = @_; command_ok([ 'pg_dump', '-d', $old->connstr('crm'), '-f', "$dir/$file", @o ], "pg_dump @o"); }

dump_to('plain.sql');
$new->safe_psql('postgres', "CREATE DATABASE $_") for qw(plain custom schema);
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $new->connstr('plain'), '-f', "$dir/plain.sql" ], 'plain: restore without an error');
restored('plain', 'plain');

dump_to('custom.dump', '-Fc');
command_ok([ 'pg_restore', '--exit-on-error', '-j2', '-d', $new->connstr('custom'), "$dir/custom.dump" ], '-Fc -j2: restore without an error');
restored('custom', '-Fc -j2');

# schema cdp alone does not hold the extension; that the schema is there is the one complaint
dump_to('schema.sql', '-n', 'cdp');
$new->safe_psql('schema', 'CREATE EXTENSION customer_cdp');
my ($out, $err) = run_command([ 'psql', '-Xq', '-d', $new->connstr('schema'), '-f', "$dir/schema.sql" ]);
is(join("\n", map { s/^.*?ERROR/ERROR/r } grep { /ERROR/ } split /\n/, $err), 'ERROR:  schema "cdp" already exists', '-n cdp: one complaint');
restored('schema', '-n cdp');
$_->stop for $old, $new;
done_testing();
