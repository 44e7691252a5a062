# Logical replication of tags.  A second server that gets all tables of the schema answers as the first does, after the initial
# copy and while changes, merges of customers and merges of tags stream; one that gets the rows alone answers so after
# CALL cdp.rebuild_tags().  Neither hears of a tag twice, and both can take over.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $main = cdp_server('tag_publisher', allows_streaming => 'logical');
my $copy = cdp_server('tag_subscriber', allows_streaming => 'logical');
my $dir = PostgreSQL::Test::Utils::tempdir;
cdp_install($main, 'crm');
sub main1 { return $main->safe_psql('crm', $_[0]); }
main1(q{
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 200) i));
	SELECT cdp.define_tag('trial', emits_events => true), cdp.define_tag('card', value_type => 'text');
	SELECT cdp.add_tag(i, 'region.' || (ARRAY['华东.上海', '华东x', '华南'])[1 + i % 3]), cdp.add_tag(i, 'aov', (i * 12.25)::text), cdp.add_tag(i, 'card', '622202' || i) FROM generate_series(1, 180) i;
	SET cdp.now = '2026-01-01 00:00:00Z';
	SELECT cdp.add_tag(i, 'trial', NULL, '2026-01-01Z'::timestamptz + i * interval '1 day') FROM generate_series(1, 40) i});
main1("SET cdp.now = '2026-01-15 00:00:00Z'; CALL cdp.merge_tags()");
main1(q{SELECT cdp.add_tag(i, 'fresh') FROM generate_series(50, 90, 3) i; SELECT cdp.merge_customers(i, i + 100, 'x') FROM generate_series(1, 10) i; SELECT cdp.identify('{"member_id": "late"}')});

my $questions = q{SET TimeZone = 'UTC'; SELECT q, at, cdp.count_customers(q, at), (SELECT md5(string_agg(f::text, ',' ORDER BY f)) FROM cdp.find_customers(q, at) f)
	FROM unnest('{*,trial,!trial,region.*,region.华东.*,"region.华东.上海 & aov > 1000","aov <= 100 | fresh","card = \"6222027\"",next,"fresh & !region.*","next | trial | aov = 12.25"}'::cdp.tagquery[]) q,
		unnest('{2026-01-05Z,2026-01-15Z,2026-01-20 00:00:00.000001Z,2027-06-01Z}'::timestamptz[]) at;
	SELECT count(*), md5(string_agg(customer_id || tags::text, ';' ORDER BY customer_id)) FROM cdp.customer_tag;
	SELECT count(*), md5(string_agg(h::text, ';' ORDER BY change_id)) FROM cdp.tag_history h};
my $events = 'SELECT name, count(*) FROM cdp.event GROUP BY 1 ORDER BY 1';

# everything: the tables come without rows, the publication brings them
$copy->safe_psql('postgres', 'CREATE DATABASE crm');
command_ok([ 'pg_dump', '-s', '-d', $main->connstr('crm'), '-f', "$dir/schema.sql" ], 'dump of the definitions');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $copy->connstr('crm'), '-f', "$dir/schema.sql" ], 'definitions in the second server');
main1('CREATE PUBLICATION everything FOR TABLES IN SCHEMA cdp');
$copy->safe_psql('crm', "CREATE SUBSCRIPTION everything CONNECTION '" . $main->connstr . " dbname=crm' PUBLICATION everything");
$copy->wait_for_subscription_sync($main, 'everything', 'crm');
my @sequences = split /\n/, main1(q{SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = 'cdp'::regnamespace});
sub same
{
	my $when = shift;
	$main->wait_for_catchup('everything');
	cdp_same(cdp_sums($copy, 'crm', @sequences), cdp_sums($main, 'crm', @sequences), "$when: equal rows");
	is($copy->safe_psql('crm', $questions), main1($questions), "$when: the same answers");
	is($copy->safe_psql('crm', 'SELECT * FROM cdp.verify_tags()'), '', "$when: tags are sound");
}
same('initial copy');
main1(q{SELECT cdp.add_tag(i, 'next', NULL, '2027-01-01Z') FROM generate_series(1, 60) i; SELECT cdp.remove_tag(i, 'region.*') FROM generate_series(30, 50) i;
	UPDATE cdp.profile_tag SET tags = tags OPERATOR(cdp.+) 'spring' WHERE profile_id % 10 = 3 AND tags IS NOT NULL; DELETE FROM cdp.profile_tag WHERE profile_id = 33;
	SELECT cdp.unmerge_customer(101, 'x'); SELECT cdp.merge_customers(150, 151, 'x')});
same('changes');
main1("SET cdp.now = '2026-01-20 00:00:00Z'; CALL cdp.merge_tags()");
same('merged');
is(main1(q{SELECT count(*) FROM cdp.tag_change}), '0', '… of which nothing waits');
main1("SET cdp.now = '2026-01-20 00:00:00Z'; CALL cdp.rebuild_tags()");
same('rebuilt');
main1(q{SELECT cdp.add_tag(7, 'last')});

# rows alone, into a database that has the extension
cdp_install($copy, 'rows');
main1('CREATE PUBLICATION rows FOR TABLE cdp.profile, cdp.profile_alias, cdp.profile_tag, cdp.tag, cdp.tag_history');
$copy->safe_psql('rows', "CREATE SUBSCRIPTION rows CONNECTION '" . $main->connstr . " dbname=crm' PUBLICATION rows");
$copy->wait_for_subscription_sync($main, 'rows', 'rows');
cdp_works($copy, 'rows', "SET cdp.now = '2026-01-20 00:00:00Z'; CALL cdp.rebuild_tags()", 'rows alone: rebuild_tags');
is($copy->safe_psql('rows', $questions), main1($questions), 'rows alone: the same answers after it');
main1(q{SELECT cdp.add_tag(i, 'next', NULL, '2027-01-01Z'), cdp.remove_tag(i, 'aov') FROM generate_series(100, 140) i});
$main->wait_for_catchup('rows');
isnt($copy->safe_psql('rows', 'SELECT * FROM cdp.verify_tags()'), '', 'rows alone: verify_tags says that bitmaps do not know what came since');
cdp_works($copy, 'rows', "SET cdp.now = '2026-01-20 00:00:00Z'; CALL cdp.rebuild_tags()", 'rows alone: and once more');
is($copy->safe_psql('rows', $questions), main1($questions), '… the same answers again');
is($copy->safe_psql('rows', 'SELECT * FROM cdp.verify_tags()'), '', '… and tags are sound');
is($copy->safe_psql('rows', 'SELECT count(*) FROM cdp.event'), '0', '… nobody heard of it');

# taking over: the second server is written, after its sequences are where the rows are, as doc/upgrade.md has it
$main->wait_for_catchup('everything');
my $count = $copy->safe_psql('crm', $events);
my $doc = slurp_file('doc/upgrade.md');
my ($set) = $doc =~ /```sql\n(SELECT format\('SELECT setval.*?)\n```/s or die 'doc/upgrade.md has no statement about sequences';
for my $db ('crm', 'rows')
{
	my $name = $db eq 'crm' ? 'everything' : 'rows';
	$copy->safe_psql($db, "DROP SUBSCRIPTION $name");
	$copy->safe_psql($db, $set);
	cdp_works($copy, $db, q{SELECT cdp.add_tag(200, 'trial', NULL, '2030-01-01Z', 'taken over')}, "$db took over: the next tag");
	is($copy->safe_psql($db, q{SELECT cdp.count_customers('trial', '2029-01-01Z'), (SELECT change_id = (SELECT max(change_id) FROM cdp.tag_history) FROM cdp.tag_history WHERE source = 'taken over')}),
		'1|t', '… is counted and said last');
	cdp_works($copy, $db, "SET cdp.now = '2026-01-20 00:00:00Z'; CALL cdp.merge_tags()", '… and merged');
	is($copy->safe_psql($db, 'SELECT * FROM cdp.verify_tags()'), '', '… and tags are sound');
}
is($copy->safe_psql('crm', $events), $count =~ s/Tag Added\|(\d+)/'Tag Added|' . ($1 + 1)/er, 'one event was added');
$_->stop for $copy, $main;
done_testing();
