# kill -9 of sessions that refresh segments, of writers, and an immediate stop: whatever dies when, entered - left is whether a
# customer is a member, for each of them, and history says the same.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = cdp_server('segment_kill');
$node->append_conf('postgresql.conf', "restart_after_crash = on\n");
$node->restart;
cdp_install($node, 'postgres');
my $seed = $ENV{CDP_SEED} // int(rand(1_000_000));
note "seed $seed";
srand($seed);
sub q1 { return $node->safe_psql('postgres', $_[0]); }
q1(q{
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i)))
		FROM generate_series(1, 4000) i));
	SELECT cdp.define_segment('t' || i, 'k' || i || ' | k' || i + 1, refresh_every => '1 microsecond', holdout_percent => 10) FROM generate_series(1, 4) i;
	SELECT cdp.define_segment('nested', 'segment(t1) & !segment(t3)', refresh_every => '1 microsecond');
	SELECT cdp.define_segment('query', $$SELECT c AS customer_id FROM cdp.find_customers('k2') c WHERE c % 3 > 0$$, refresh_every => '1 microsecond')});
my $dir = PostgreSQL::Test::Utils::tempdir;
sub script { my ($name, $text) = @_; open my $f, '>', "$dir/$name" or die; print $f $text; close $f; return "$dir/$name"; }
my $write = script('write.sql', q{\set w random(1, 3900)
\set d random(1, 5)
SELECT CASE WHEN :w % 2 = 0 THEN cdp.add_tag(:w, 'k' || :d) ELSE cdp.remove_tag(:w, 'k' || :d) END;
SELECT cdp.add_tag_many((SELECT jsonb_agg(jsonb_build_object('customer_id', i, 'tag', 'k' || :d, 'remove', i % 5 = :d)) FROM generate_series(:w, :w + 90) i));
});
my $refresh = join(' ', map { '-c "CALL cdp.refresh_segments(' . ($_ % 3 == 0 ? "'nested'" : $_ % 3 == 1 ? "'query'" : '') . ')"' } 1 .. 300);

sub events_are_right {
	my $what = shift;
	is(q1(q{SELECT count(*) FROM (SELECT e.properties->>'segment' AS segment, e.profile_id,
				sum(CASE e.name WHEN 'Segment Entered' THEN 1 ELSE -1 END) AS n FROM cdp.event e WHERE e.name IN ('Segment Entered', 'Segment Left') GROUP BY 1, 2) e
			FULL JOIN (SELECT s.name AS segment, m AS profile_id FROM cdp.segment s, cdp.segment_members(s.name) m) m USING (segment, profile_id)
			WHERE coalesce(e.n, 0) <> (m.profile_id IS NOT NULL)::int}), '0', "$what: entered - left is membership");
	is(q1(q{SELECT count(*) FROM (SELECT h.segment, h.customer_id FROM cdp.segment_history h WHERE h.left_at IS NULL
			EXCEPT SELECT s.name, m FROM cdp.segment s, cdp.segment_members(s.name) m) x}) . '/' .
		q1(q{SELECT count(*) FROM (SELECT s.name, m FROM cdp.segment s, cdp.segment_members(s.name) m
			EXCEPT SELECT h.segment, h.customer_id FROM cdp.segment_history h WHERE h.left_at IS NULL) x}), '0/0', '… history says the same');
	is(q1(q{SELECT count(*) FROM cdp.segment s WHERE s.member_count <> cdp.audience_count(s.members) OR s.last_error IS NOT NULL}), '0', '… counts are right, nothing failed');
	is(q1(q{SELECT count(*) - count(DISTINCT message_id) FROM cdp.event WHERE name LIKE 'Segment %'}), '0', '… no event is there twice');
}

for my $round (0 .. 4) {
	my $out = '';
	my @running = (
		IPC::Run::start(['pgbench', '-n', '-c', '2', '-T', '60', '-f', $write, $node->connstr('postgres')], '>', \$out, '2>', \$out),
		map { IPC::Run::start(['sh', '-c', "exec psql -Xq -d '" . $node->connstr('postgres') . "' $refresh"], '>', \$out, '2>', \$out) } 1 .. 2);
	sleep 1.2 + rand(1);
	if ($round == 3) {
		$node->stop('immediate');
	}
	else {
		my $victim = '';
		for (1 .. 100) {
			$victim = q1(q{SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active' AND query ~ 'refresh_segments' LIMIT 1});
			last if $victim ne '';
			sleep 0.02;
		}
		kill 'KILL', $victim if $victim ne '';
	}
	eval { $_->pump_nb } for @running;	# dies when a process has ended already
	eval { $_->finish } for @running;
	$node->start if $round == 3;
	for (1 .. 300) {
		# a psql that finds no server may be gone before its question is written, which dies here
		last if eval { ($node->psql('postgres', 'SELECT 1'))[0] == 0 };
		sleep 0.1;
	}
	events_are_right("round $round");
	q1('CALL cdp.refresh_segments()');
	events_are_right("round $round, refreshed");
	is(q1(q{SELECT count(*) FROM cdp.segment s WHERE s.kind = 'tagquery' AND s.members OPERATOR(cdp.<>) cdp.audience_of(s.definition::cdp.tagquery)}), '0', '… members are what the definitions say');
}
cmp_ok(q1(q{SELECT count(*) FROM cdp.event WHERE name = 'Segment Left'}), '>', 100, 'many left meanwhile');
$node->stop;
done_testing();
