# A run whose process is gone, killed with the server or alone, is interrupted and can be taken over.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->start;
sub q1 { return $node->safe_psql('postgres', $_[0]); }
q1('CREATE EXTENSION customer_cdp; CALL cdp.migrate()');
q1(q{
	CREATE TABLE todo AS SELECT i, false AS done FROM generate_series(1, 6) i;
	CREATE PROCEDURE work() LANGUAGE plpgsql AS $$
	DECLARE
		run bigint;
		n   bigint;
	BEGIN
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		run := cdp._job_begin('work', (SELECT count(*) FROM public.todo WHERE NOT done));
		COMMIT; PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		LOOP
			PERFORM cdp._job_step(run);
			UPDATE public.todo SET done = true WHERE i = (SELECT min(i) FROM public.todo WHERE NOT done);
			GET DIAGNOSTICS n = ROW_COUNT;
			EXIT WHEN n = 0;
			-- the gate: row 3 waits for whoever holds it
			IF (SELECT count(*) FROM public.todo WHERE done) = 3 THEN PERFORM pg_advisory_xact_lock(3); END IF;
			PERFORM cdp._job_progress(run, n);
			COMMIT; PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		END LOOP;
		PERFORM cdp._job_end(run);
	END $$;
	INSERT INTO cdp.job (job, command) VALUES ('work', 'CALL public.work()')});
my $status = q{SELECT concat_ws(' ', status, done, total, last_failure) FROM cdp.job_status WHERE job = 'work'};

# start the job in the background and wait until it hangs at the gate
my ($in_gate, $out_gate) = ('', '');
my ($in_run, $out_run) = ('', '');
sub hang
{
	my $timer = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	my @psql = ('psql', '-XAtq', '-d', $node->connstr('postgres'));
	($in_gate, $out_gate, $in_run, $out_run) = ('', '', '', '');
	my $gate = IPC::Run::start([@psql], '<', \$in_gate, '>', \$out_gate, '2>', '/dev/null', $timer);
	$in_gate = "SELECT pg_advisory_lock(3);\nSELECT 'held';\n";
	$gate->pump until $out_gate =~ /held/;
	my $runner = IPC::Run::start([@psql], '<', \$in_run, '>', \$out_run, '2>&1', $timer);
	$in_run = "CALL cdp.run_job('work');\n";
	$runner->pump_nb;
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 3 AND NOT granted})
		or die 'the job did not get to its gate';
	return ($gate, $runner);
}
sub finish_both { for my $h (@_) { eval { $h->kill_kill; }; } return; }

my ($gate, $runner) = hang();
is(q1($status), 'running 2 6', 'progress is seen while it runs');
my ($rc, $out, $err) = $node->psql('postgres', q{CALL cdp.run_job('work')});
isnt($rc, 0, 'a second start is refused');
like($err, qr/is running already/, 'and told why');
q1(q{SELECT pg_terminate_backend(pid) FROM cdp.job_status WHERE job = 'work'});
$node->poll_query_until('postgres', q{SELECT status <> 'running' FROM cdp.job_status WHERE job = 'work'});
is(q1($status), 'interrupted 2 6 interrupted', 'its session was ended: interrupted');
is(q1(q{SELECT ok FROM cdp.health() WHERE check_name = 'job work'}), 'f', 'health() shows it');
finish_both($gate, $runner);
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'});

# taken over by another session, which is killed with the server
($gate, $runner) = hang();
is(q1($status), 'running 0 4 interrupted', 'another session took over what was left');
my $pid = q1(q{SELECT pid FROM cdp.job_status WHERE job = 'work'});
kill 'KILL', $pid;
finish_both($gate, $runner);
# poll_query_until cannot connect while the server starts again; try until it does
for (1 .. 300)
{
	($rc, $out, $err) = $node->psql('postgres', $status);
	last if $rc == 0 && $out ne '' && $out !~ /^running/;
	select(undef, undef, undef, 0.2);
}
is($out, 'interrupted 0 4 interrupted', 'kill -9: interrupted');
q1(q{CALL cdp.run_job('work')});
is(q1($status), 'done 4 4 interrupted', 'run again it finishes the rest');
is(q1('SELECT count(*) FROM todo WHERE done'), '6', 'everything was done once');
is(q1(q{SELECT string_agg(status || ' ' || done, ', ' ORDER BY run_id) FROM cdp.job_run}), 'interrupted 2, interrupted 0, done 4',
	'the history tells it');
$node->stop;
done_testing();
