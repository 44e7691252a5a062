# Many sessions on one account: the last point has one winner, a key one answer, transfers there and back neither
# deadlock nor change the sum in any snapshot.  CDP_RACE=N makes it N times as long.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = cdp_server('points_race');
$node->append_conf('postgresql.conf', "max_connections = 60\nsynchronous_commit = off\ndeadlock_timeout = 100ms\n");
$node->restart;
cdp_install($node, 'postgres');
my $times = $ENV{CDP_RACE} // 1;
my $dir = PostgreSQL::Test::Utils::tempdir;
my $books = slurp_file('test/pgtap/points_books.psql');
sub q1 { return $node->safe_psql('postgres', $_[0]); }
sub books_agree {
	my $what = shift;
	is(q1("$books SELECT * FROM pg_temp.broken() WHERE n > 0"), '', "$what: the books agree");
	is(q1('SELECT * FROM cdp.verify_points()'), '', '… and verify_points finds nothing') if cdp_has($node, 'postgres', 'verify_points');
}
# CLIENTS CALLS {script => text, …}: nobody may fail
sub race {
	my ($title, $clients, $calls, %scripts) = @_;
	my ($out, @files) = ('');
	for my $name (sort keys %scripts) {
		open my $f, '>', "$dir/$name.sql" or die;
		print $f $scripts{$name};
		close $f;
		push @files, '-f', "$dir/$name.sql";
	}
	my $ok = IPC::Run::run([ 'pgbench', '-n', '-c', $clients, '-j', 2, '-t', $calls, '-D', 'i=0', @files, $node->connstr('postgres') ], '>', \$out, '2>', \$out);
	ok($ok, $title) or diag($out);
}

q1(q{
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('member_id', 'm' || i)) ORDER BY i) FROM generate_series(1, 2000) i));
	UPDATE cdp.points_program SET transferable = true WHERE program = 'points';
	CREATE TABLE answer (what text, i bigint, id bigint);
	CREATE FUNCTION spend(i bigint, who bigint) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO answer VALUES ('won', i, cdp.spend_points(i, 1, format('last:%s:%s', i, who)));
	EXCEPTION WHEN SQLSTATE 'LC301' THEN
		INSERT INTO answer VALUES ('lost', i, who);
	END $$;
	CREATE FUNCTION give(f bigint, t bigint, n bigint, k text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM cdp.transfer_points(f, t, n, k);
	EXCEPTION WHEN SQLSTATE 'LC301' THEN
		INSERT INTO answer VALUES ('poor', f, t);
	END $$;
	CREATE FUNCTION sums() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT sum(balance) FROM cdp.points_account WHERE customer_id IN (1001, 1002, 1003)) <> 3000 THEN
			RAISE 'the sum of balances is another one';
		ELSIF (SELECT sum(remaining) FROM cdp.points_lot WHERE customer_id IN (1001, 1002, 1003)) <> 3000 THEN
			RAISE 'the sum of lots is another one';
		ELSIF (SELECT sum(amount) FROM cdp.points_entry WHERE customer_id IN (1001, 1002, 1003)) <> 3000 THEN
			RAISE 'the sum of entries is another one';
		END IF;
	END $$;
});
my $rounds = 100 * $times > 1000 ? 1000 : 100 * $times;

# the last point: all go for the accounts in the same order
q1("SELECT count(cdp.earn_points(i, 1, 'one:' || i)) FROM generate_series(1, $rounds) i");
race("32 sessions spend the last point of $rounds accounts", 32, $rounds, last => "\\set i :i + 1\nSELECT spend(:i, :client_id);\n");
is(q1("SELECT count(*), count(DISTINCT i) FROM answer WHERE what = 'won'"), "$rounds|$rounds", 'each has one winner');
is(q1("SELECT count(*) FROM answer WHERE what = 'lost'"), 31 * $rounds, 'the others are told LC301, and nothing else');
is(q1("SELECT count(*), sum(balance) FROM cdp.points_account WHERE customer_id <= $rounds"), "$rounds|0", 'nothing is left');
books_agree('the last point');

# one key
race('16 sessions repeat one call', 16, 63 * $times, key => "INSERT INTO answer SELECT 'key', 0, cdp.earn_points(1100, 7, 'the key', 'order');\n");
is(q1("SELECT count(*), count(DISTINCT id) FROM answer WHERE what = 'key'"), (16 * 63 * $times) . '|1', 'all have one answer');
is(q1('SELECT balance, entries FROM cdp.points_account WHERE customer_id = 1100'), '7|1', 'and it was done once');
race('16 sessions with a new key each time, on accounts that nobody has yet', 16, 100, keys => "\\set i :i + 1\nINSERT INTO answer SELECT 'keys', :i, cdp.earn_points(1200 + :i, 7, 'key ' || :i);\n");
is(q1("SELECT count(*), count(DISTINCT id), count(DISTINCT i) FROM answer WHERE what = 'keys'"), '1600|100|100', 'one answer for each');
for my $other ("earn_points(1100, 8, 'the key', 'order')", "earn_points(1101, 7, 'the key', 'order')", "earn_points(1100, 7, 'the key', 'other')", "earn_points(1100, 7, 'the key')",
	"spend_points(1100, 7, 'the key', 'order')", "earn_points(1100, 7, 'the key', 'order', program => 'growth')", "clawback_points('order', 7, 'the key')") {
	cdp_fails($node, 'postgres', "SELECT cdp.$other", 'LC302', "with another payload it is LC302: $other");
}
books_agree('keys');

# there and back, in a ring, and a reader with one snapshot
q1("SELECT count(cdp.earn_points(c, 100, format('ring:%s:%s', c, i), expires_at => now() + i * interval '1 day')) FROM generate_series(1001, 1003) c, generate_series(1, 10) i");
my $pick = "\\set n random(1, 40)\n\\set k random(1, 1000000000000000000)\n";
race('8 sessions transfer from each to each', 8, 1000 * $times,
	there => "${pick}SELECT give(1001, 1002, :n, 't' || :k);\n", back => "${pick}SELECT give(1002, 1001, :n, 'b' || :k);\n",
	on => "${pick}SELECT give(1002, 1003, :n, 'o' || :k);\n", home => "${pick}SELECT give(1003, 1001, :n, 'h' || :k);\n",
	batch => "${pick}SELECT count(*) FROM cdp.post_points(jsonb_build_array(jsonb_build_object('kind', 'transfer', 'from_customer', 1003, 'to_customer', 1002, 'amount', 1, 'idempotency_key', 'x' || :k),"
		. " jsonb_build_object('kind', 'transfer', 'from_customer', 1002, 'to_customer', 1003, 'amount', 1, 'idempotency_key', 'y' || :k))) WHERE (SELECT balance FROM cdp.points_account WHERE customer_id = 1003) > 2000;\n",
	sums => "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT sums();\nSELECT sums();\nCOMMIT;\n");
cmp_ok(q1("SELECT count(*) FROM cdp.points_entry WHERE kind = 'transfer_out'"), '>', 1000, 'most had enough');
is(q1("SELECT count(*) FROM cdp.points_entry o FULL JOIN cdp.points_entry i ON i.reverses = o.entry_id AND i.kind = 'transfer_in' WHERE o.kind = 'transfer_out' AND o.amount + i.amount IS DISTINCT FROM 0"), '0', 'what one gave the other has');
books_agree('transfers');
unlike(slurp_file($node->logfile), qr/deadlock detected|TRAP|terminated by signal/, 'nobody deadlocked');
$node->stop;
done_testing();
