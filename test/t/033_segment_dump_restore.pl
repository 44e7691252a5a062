# Segments through dump and restore: plain, -Fc -j2 and -n cdp.  Definitions, members, history and snapshots are those of before, no
# event is written; afterwards a refresh finds nothing to do, and what changes then is an event, once, by numbers that go on.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = cdp_server('segment_old');
my $new = cdp_server('segment_new');
my $dir = PostgreSQL::Test::Utils::tempdir;
$_->safe_psql('postgres', 'CREATE ROLE planner; CREATE ROLE analyst') for $old, $new;
cdp_install($old, 'crm');
my $fans = 'CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO planner; CREATE TABLE shop.fans AS SELECT i::bigint AS customer_id FROM generate_series(20, 50) i; GRANT SELECT ON shop.fans TO planner';
my $rights = q{SELECT cdp.grant_access('operator', 'planner'), cdp.grant_access('reader', 'analyst')};
$old->safe_psql('crm', qq{$fans; $rights;
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 60) i));
	SELECT cdp.add_tag(i, 'vip'), cdp.add_tag(i, 'aov', (i * 10)::text), cdp.add_tag(i, 'soon', NULL, now() + interval '1 day') FROM generate_series(1, 30) i;
	SELECT cdp.define_segment('rich', 'vip & aov > 100', 'they pay', holdout_percent => 30, holdout_salt => 'salt'), cdp.define_segment('soon', 'soon', snapshots_kept => 2),
		cdp.define_static_segment('list', '{1-5,40}'), cdp.define_segment('never', 'vip', refresh_every => NULL), cdp.define_segment('"odd", name', '!vip'),
		cdp.define_segment('broken', 'SELECT 1 / (SELECT count(*) FROM shop.fans WHERE customer_id = 0) AS customer_id');
	SET ROLE planner; SET search_path = shop;
	SELECT cdp.define_segment('fans', 'TABLE fans'), cdp.define_segment('rich fans', 'segment(rich) & segment(fans)')});
# a past: two versions, some who left, customers merged, refreshes by two roles, one that fails
$old->psql('crm', 'CALL cdp.refresh_segments()');
$old->safe_psql('crm', q{SELECT cdp.remove_tag(i, 'vip') FROM generate_series(12, 14) i; SELECT cdp.merge_customers(25, 26, 'x'), cdp.merge_customers(2, 27, 'x');
	SELECT cdp.define_segment('soon', 'soon & !vip', snapshots_kept => 2); DELETE FROM shop.fans WHERE customer_id IN (20, 21)});
$old->safe_psql('crm', "CALL cdp.refresh_segments('$_')") for 'rich', 'rich fans', 'soon', '"odd", name';
# and tags that no merge has met
$old->safe_psql('crm', q{SELECT cdp.add_tag(i, 'vip') FROM generate_series(31, 33) i; SELECT cdp.remove_tag(29, 'vip')});
$old->safe_psql('crm', q{SELECT cdp.unmerge_customer(27, 'x')});

my @facts = (
	[ segments => q{SELECT name, definition, kind, version, owner, search_path, description, holdout_percent, holdout_salt, refresh_every, snapshots_kept, depends_on,
		asks_tags, members, member_count, refreshed_at, refreshed_version, last_error, last_duration FROM cdp.segment ORDER BY 1} ],
	[ members => q{SELECT s.name, cdp.segment_audience(s.name), (SELECT array_agg(t) FROM cdp.segment_targets(s.name) t) FROM cdp.segment s ORDER BY 1} ],
	[ definitions => 'SELECT * FROM cdp.segment_definition ORDER BY 1' ],
	[ history => 'SELECT * FROM cdp.segment_history ORDER BY 1' ],
	[ snapshots => 'SELECT *, cdp.audience_from_roaring64(members) FROM cdp.segment_snapshot ORDER BY 1' ],
	[ events => q{SELECT * FROM cdp.event ORDER BY event_id} ],
	[ customers => q{SELECT c.customer_id, (SELECT array_agg(s) FROM cdp.segments_of(c.customer_id) s) FROM cdp.customer c ORDER BY 1} ],
	[ overlap => q{SELECT * FROM cdp.segment_overlap('{rich, fans, list}')} ],
	[ changes => q{SELECT * FROM cdp.segment_changes('rich', '-infinity', 'infinity')} ],
	[ counts => q{SELECT cdp.count_customers('segment(rich) & !segment(list)'), cdp.count_customers('vip & aov > 100')} ],
	[ sequences => q{SELECT relname, last_value FROM (SELECT c.relname, pg_sequence_last_value(c.oid) AS last_value FROM pg_class c WHERE relkind = 'S' AND relname ~ '^(segment|event)') s ORDER BY 1} ]);
sub facts {
	my ($node, $db) = @_;
	return { map { $_->[0] => $node->safe_psql($db, "SET TimeZone = 'UTC'; $_->[1]") } @facts };
}
my $wanted = facts($old, 'crm');
isnt($wanted->{$_->[0]}, '', "there are $_->[0]") for @facts;
like($wanted->{segments}, qr/broken.*division by zero/, 'one definition fails');
cmp_ok($old->safe_psql('crm', 'SELECT count(*) FROM cdp.segment_history WHERE left_at IS NOT NULL'), '>', 3, 'some have left');

my $told = q{SELECT s.name FROM cdp.segment s WHERE cdp.segment_audience(s.name) OPERATOR(cdp.<>) coalesce((SELECT cdp.audience_agg(cdp.customer_id(h.customer_id))
	FROM cdp.segment_history h WHERE h.segment = s.name AND h.left_at IS NULL), '{}')};
sub restored {
	my ($db, $how) = @_;
	my $got = facts($new, $db);
	is($got->{$_->[0]}, $wanted->{$_->[0]}, "$how: $_->[0]") for @facts;
	$new->safe_psql($db, $rights) if $how eq '-n cdp';
	# a refresh of what has not changed
	my $events = $new->safe_psql($db, 'SELECT count(*) FROM cdp.event');
	$new->safe_psql($db, "CALL cdp.refresh_segments('$_')") for 'fans', 'list';
	is($new->safe_psql($db, 'SELECT count(*) FROM cdp.event'), $events, "$how: a refresh finds nothing new");
	# and of what has: 29 lost a tag, and 27 is himself again, who was no member as part of 2
	$new->safe_psql($db, "CALL cdp.refresh_segments('rich fans')");
	my $first = $new->safe_psql($db, q{SELECT string_agg(format('%s %s %s', substr(name, 9), profile_id, properties->>'segment'), ', ' ORDER BY event_id) FROM cdp.event WHERE event_id > } . $old->safe_psql('crm', 'SELECT max(event_id) FROM cdp.event'));
	is($first, 'Left 29 rich, Entered 27 rich, Left 29 rich fans, Entered 27 rich fans', "$how: who left and entered meanwhile, does now");
	is($new->safe_psql($db, q{SELECT count(*) - count(DISTINCT message_id) FROM cdp.event WHERE name LIKE 'Segment %'}), '0', "$how: no message twice");
	is($new->safe_psql($db, $told), '', "$how: history says who is in");
	is($new->safe_psql($db, 'SELECT max(refresh_id) > ' . $old->safe_psql('crm', 'SELECT max(snapshot_id) FROM cdp.segment_snapshot') .
		q{ FROM (SELECT (properties->>'refresh_id')::int AS refresh_id FROM cdp.event WHERE name LIKE 'Segment %') e}), 't', "$how: numbers of refreshes go on");
	cdp_fails($new, $db, q{CALL cdp.refresh_segments('broken')}, '22012', "$how: what failed fails");
	# rights are where they were
	cdp_works($new, $db, q{SET ROLE planner; SET search_path = shop; SELECT cdp.define_segment('fans', 'SELECT customer_id FROM fans WHERE customer_id > 30')}, "$how: its owner defines it anew");
	cdp_fails($new, $db, q{SET ROLE analyst; SELECT cdp.define_segment('fans', 'vip')}, '42501', "$how: a reader does not");
	$new->safe_psql($db, "CALL cdp.refresh_segments('fans')");
	is($new->safe_psql($db, q{SELECT cdp.segment_audience('fans'), owner, version FROM cdp.segment WHERE name = 'fans'}), '{31-50}|planner|2', "$how: … and that is refreshed");
	cdp_fails($new, $db, q{SELECT cdp.define_segment('rich', 'segment("rich fans")')}, '42P19', "$how: a circle is still one");
	is($new->safe_psql($db, q{SELECT cdp.drop_segment('list')}), '6', "$how: a segment is dropped");
}
my @psql = ('psql', '-Xq', '-v', 'ON_ERROR_STOP=1');
sub dump_to { my ($file, @o) = @_; command_ok([ 'pg_dump', '-d', $old->connstr('crm'), '-f', "$dir/$file", @o ], "pg_dump @o"); }

dump_to('plain.sql');
$new->safe_psql('postgres', 'CREATE DATABASE plain');
command_ok([ @psql, '-d', $new->connstr('plain'), '-f', "$dir/plain.sql" ], 'plain: restored');
restored('plain', 'plain');

dump_to('custom.dump', '-Fc');
$new->safe_psql('postgres', 'CREATE DATABASE custom');
command_ok([ 'pg_restore', '--exit-on-error', '-j2', '-d', $new->connstr('custom'), "$dir/custom.dump" ], '-Fc -j2: restored');
restored('custom', '-Fc -j2');

# the schema alone: the extension is created first, what definitions read is there already
dump_to('schema.sql', '-n', 'cdp');
$new->safe_psql('postgres', 'CREATE DATABASE schema');
$new->safe_psql('schema', "CREATE EXTENSION customer_cdp; $fans; DELETE FROM shop.fans WHERE customer_id IN (20, 21)");
my ($out, $err) = run_command([ 'psql', '-Xq', '-d', $new->connstr('schema'), '-f', "$dir/schema.sql" ]);
unlike($err =~ s/^.*schema "cdp" already exists\n?//mr, qr/ERROR/, '-n cdp: restored');
$new->safe_psql('schema', 'CALL cdp.migrate()');
restored('schema', '-n cdp');
$_->stop for $old, $new;
done_testing();
