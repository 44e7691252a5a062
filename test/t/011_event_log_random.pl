# Random transactions of several writers, two consumers beside them, partitions made meanwhile: what was consumed is
# what was committed, each event once.
use strict;
use warnings FATAL => 'all';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{CDP_SEED} // time;
srand($seed);
diag("seed $seed (CDP_SEED repeats the scripts)");
my ($WRITERS, $TRANSACTIONS, $BATCHES) = (4, 80, 100);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nautovacuum_naptime = 1");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION customer_cdp; CALL cdp.migrate(); SELECT cdp._create_consumer('c', 'event');
	CREATE TABLE got (name text, at bigint GENERATED ALWAYS AS IDENTITY)});

sub nap { return sprintf("SELECT pg_sleep(%.3f);\n", rand() < 0.1 ? rand(0.15) : rand(0.008)) }

# most events are of today, some of a month that has no partition yet
sub insert
{
	my ($name) = @_;
	my $at = rand() < 0.15 ? sprintf("'2003-%02d-05 UTC'", 1 + int rand 4) : 'cdp.now()';
	return "INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, '$name', $at);\n";
}

sub writer
{
	my ($w) = @_;
	my $sql = '';
	for my $t (1 .. $TRANSACTIONS)
	{
		my $i = 0;
		$sql .= rand() < 0.1 ? "BEGIN ISOLATION LEVEL REPEATABLE READ;\n" : "BEGIN;\n";
		$sql .= "SELECT count(*) FROM cdp.event;\n" if rand() < 0.1;
		for (0 .. int rand 4)
		{
			my $how = rand;
			$sql .= "SAVEPOINT s;\n" if $how < 0.4;
			$sql .= insert("w$w-$t-" . $i++);
			$sql .= nap() if rand() < 0.5;
			$sql .= "ROLLBACK TO s;\n" if $how < 0.2;
			$sql .= "RELEASE s;\n" if $how >= 0.2 && $how < 0.4;
		}
		$sql .= nap() . (rand() < 0.8 ? "COMMIT;\n" : "ROLLBACK;\n");
	}
	return $sql;
}

sub consumer
{
	my ($c) = @_;
	my $sql = '';
	for my $t (1 .. $BATCHES)
	{
		my $wait = rand() < 0.5 ? 'true' : 'false';
		# a loser of a race at this level is to try again: the next batch does
		$sql .= rand() < 0.15 ? "BEGIN ISOLATION LEVEL REPEATABLE READ;\n" : "BEGIN;\n";
		$sql .= insert("c$c-$t") if rand() < 0.2;
		$sql .= sprintf("INSERT INTO got (name) SELECT name FROM cdp._next_events('c', %d, %s);\n", 1 + int rand 9, $wait)
			for 0 .. int rand 2;
		$sql .= insert("c$c-$t-2") if rand() < 0.1;
		$sql .= (rand() < 0.85 ? "COMMIT;\n" : "ROLLBACK;\n") . nap();
	}
	return $sql;
}

my @runs;
my $dir = PostgreSQL::Test::Utils::tempdir;
sub launch
{
	my ($name, $sql) = @_;
	append_to_file("$dir/$name.sql", $sql);
	my $run = { name => $name, err => '' };
	$run->{h} = IPC::Run::start(['psql', '-Xq', '-d', $node->connstr('postgres'), '-f', "$dir/$name.sql"], '>', '/dev/null', '2>', \$run->{err});
	push @runs, $run;
}
launch("writer$_", writer($_)) for 1 .. $WRITERS;
launch("consumer$_", consumer($_)) for 1 .. 2;
launch('maintainer', "SELECT pg_sleep(0.4);\nCALL cdp.maintain_partitions();\n" x 4);
for my $run (@runs)
{
	IPC::Run::finish($run->{h});
	# what a loser at REPEATABLE READ hears, and what a busy log is left with, are answers
	my @errors = grep { /ERROR|FATAL|PANIC/ && !/could not serialize access|current transaction is aborted/ } split /\n/, $run->{err};
	is(join("\n", @errors), '', "$run->{name}: no error");
}
my $during = $node->safe_psql('postgres', 'SELECT count(*) FROM got');
1 while $node->safe_psql('postgres', q{WITH b AS (INSERT INTO got (name) SELECT name FROM cdp._next_events('c', 50) RETURNING 1) SELECT count(*) FROM b}) > 0;
my $all = $node->safe_psql('postgres', 'SELECT count(*) FROM cdp.event');
diag("$all events, $during consumed beside the writers");
cmp_ok($all, '>', 200, 'there was something to consume');
cmp_ok($during, '>', 50, 'and it was consumed beside the writers');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT name) FROM got'), "$all|$all", 'as many consumed as committed, none twice');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT name FROM got EXCEPT ALL SELECT name FROM cdp.event) x'), '0', 'none that was rolled back');
$node->safe_psql('postgres', 'CALL cdp.maintain_partitions()');
is($node->safe_psql('postgres', 'SELECT count(*) FROM cdp.event_default'), '0', 'strays are in their months');
is($node->safe_psql('postgres', 'SELECT count(*) FROM cdp.event'), $all, 'and none was lost on the way');
$node->stop;
done_testing();
