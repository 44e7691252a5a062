# kill -9 of writers, of merges and of a rebuild, and an immediate stop: afterwards counts are those of the rows, bitmaps and
# history agree with them, and every entry that ended is said exactly once.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = cdp_server('tag_crash');
$node->append_conf('postgresql.conf', "restart_after_crash = on\n");
$node->restart;
cdp_install($node, 'postgres');
my $seed = $ENV{CDP_SEED} // int(rand(1_000_000));
note "seed $seed";
srand($seed);
sub q1 { return $node->safe_psql('postgres', $_[0]); }
# 3,000 customers; tags that end within the seconds of this test; half of them emit events
q1(q{
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i)))
		FROM generate_series(1, 3000) i));
	SELECT cdp.define_tag('loud' || i, emits_events => true) FROM generate_series(1, 5) i;
	CREATE FUNCTION step(who bigint, dice int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		CASE dice % 8
			WHEN 0 THEN PERFORM cdp.remove_tag(who, 'region.*');
			WHEN 1 THEN PERFORM cdp.add_tag(who, 'region.' || dice % 5 || '.x', 'v' || dice % 3);
			WHEN 2 THEN PERFORM cdp.add_tag(who, 'aov', (dice * 1.25)::text);
			WHEN 3 THEN PERFORM cdp.add_tag(who, 'loud' || 1 + dice % 5, NULL, clock_timestamp() + random() * interval '1 second');
			WHEN 4 THEN PERFORM cdp.add_tag(who, 'quiet', NULL, clock_timestamp() + random() * interval '1 second');
			WHEN 5 THEN PERFORM cdp.add_tag_many((SELECT jsonb_agg(jsonb_build_object('customer_id', i, 'tag', 'bulk' || dice % 3)) FROM generate_series(who, who + 20) i WHERE i <= 3000));
			WHEN 6 THEN PERFORM cdp.identify(jsonb_build_object('member_id', 'n' || dice));
			ELSE PERFORM cdp.merge_customers(who, 1 + (who * 7) % 3000, 'x');
		END CASE;
	EXCEPTION WHEN invalid_parameter_value OR SQLSTATE 'LC102' THEN NULL;
	END $$});
my $dir = PostgreSQL::Test::Utils::tempdir;
open my $f, '>', "$dir/step.sql" or die;
print $f "\\set w random(1, 3000)\n\\set d random(0, 100000)\nSELECT step(:w, :d);\n";
close $f;
my @questions = ('*', '!quiet', 'region.*', 'region.1.x = v1', 'aov > 5000', 'loud1 | loud2', '!(bulk1 & bulk2) & region.*', '!aov <= 99 & !region.*');
sub counts_are_right {
	my $what = shift;
	my $list = join ',', map { "'$_'" } @questions;
	is(q1(qq{SET TimeZone = 'UTC'; SELECT q FROM unnest(ARRAY[$list]::cdp.tagquery[]) q, (SELECT clock_timestamp() - interval '0.1 seconds' AS at) t
		WHERE cdp.count_customers(q, at) <> (SELECT count(*) FROM cdp.customer_tag c WHERE cdp.tagset_matches(c.tags, q, at))}), '', "$what: counts are those of the rows");
	is(q1('SELECT * FROM cdp.verify_tags()'), '', '… bitmaps, rows and history agree');
}

my @victims = ('_merge_tags_step|merge_tags', 'step\\(', 'rebuild_tags');
for my $round (0 .. 5) {
	my $out = '';
	my $loop = join(' ', map { '-c "CALL ' . ($round % 3 == 2 ? 'cdp.rebuild_tags()' : 'cdp.merge_tags(50)') . '"' } 1 .. 200);
	my @running = (
		IPC::Run::start(['pgbench', '-n', '-c', '3', '-T', '60', '-f', "$dir/step.sql", $node->connstr('postgres')], '>', \$out, '2>', \$out),
		IPC::Run::start(['sh', '-c', "exec psql -Xq -d '" . $node->connstr('postgres') . "' $loop"], '>', \$out, '2>', \$out));
	sleep 1.2 + rand(1);
	if ($round == 4) {
		$node->stop('immediate');
	}
	else {
		my $victim = '';
		for (1 .. 100) {
			$victim = q1("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active' AND query ~ '$victims[$round % 3]' LIMIT 1");
			last if $victim ne '';
			sleep 0.02;
		}
		kill 'KILL', $victim if $victim ne '';
	}
	eval { $_->pump_nb } for @running;	# dies when a process has ended already
	eval { $_->finish } for @running;
	$node->start if $round == 4;
	for (1 .. 300) {
		# a psql that finds no server may be gone before its question is written, which dies here
		last if eval { ($node->psql('postgres', 'SELECT 1'))[0] == 0 };
		sleep 0.1;
	}
	counts_are_right("round $round");
	q1('CALL cdp.merge_tags()');
	counts_are_right("round $round, merged");
	is(q1(q{SELECT count(*) FROM (SELECT FROM cdp.tag_history WHERE change = 'expired' GROUP BY profile_id, tag, valid_until HAVING count(*) > 1) t}), '0', '… no end is said twice');
	is(q1(q{SELECT count(*) FROM cdp.tag_history h FULL JOIN (SELECT * FROM cdp.event WHERE name = 'Tag Expired') e ON e.message_id = 'tag:' || h.change_id
		WHERE (h.change = 'expired' AND h.tag LIKE 'loud%') IS DISTINCT FROM (e.event_id IS NOT NULL)}), '0', '… and each of those that are loud is one event');
}
cmp_ok(q1(q{SELECT count(*) FROM cdp.tag_history WHERE change = 'expired'}), '>', 20, 'entries ended meanwhile');
cmp_ok(q1(q{SELECT count(*) FROM cdp.tag_history}), '>', 500, 'and much was said');
# all that has ended by now is said: nothing that the rows hold is missing
sleep 1.2;
q1('CALL cdp.merge_tags()');
is(q1(q{SELECT count(*) FROM cdp.profile_tag t, cdp.tagset_entries(coalesce(t.own_tags, t.tags)) e, cdp.tag_horizon z WHERE t.tags IS NOT NULL AND t.own_tags IS NULL AND e.valid_until <= z.at
	AND NOT EXISTS (SELECT FROM cdp.tag_history h WHERE h.profile_id = t.profile_id AND h.tag = e.tag AND h.change = 'expired' AND h.valid_until = e.valid_until)}), '0', 'every end was said');
$node->stop;
done_testing();
