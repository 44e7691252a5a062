# A real pg_cron: in this database, for a plain owner and a superuser; and in another database.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sharedir = `pg_config --sharedir`;
chomp $sharedir;
plan skip_all => 'pg_cron is not installed' unless -e "$sharedir/extension/pg_cron.control";

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# background workers need no password and no pg_hba.conf line
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_cron'
cron.database_name = 'shop'
cron.use_background_workers = on
max_worker_processes = 20
});
$node->start;
sub q1 { return $node->safe_psql('shop', $_[0]); }
sub as_keeper { return "SET SESSION AUTHORIZATION keeper; $_[0]"; }

$node->safe_psql('postgres', 'CREATE ROLE keeper LOGIN');
$node->safe_psql('postgres', 'CREATE DATABASE shop OWNER keeper');
q1('CREATE EXTENSION customer_cdp');
q1(as_keeper('CALL cdp.migrate()'));
q1(as_keeper('DELETE FROM cdp.job'));
my ($rc, $out, $err) = $node->psql('shop', as_keeper('CALL cdp.schedule_jobs()'));
is($rc, 0, 'pg_cron is loaded but not created: that is no error');
like($err, qr/CREATE EXTENSION pg_cron/, 'it says what is missing');

q1('CREATE EXTENSION pg_cron');
q1(as_keeper(q{
	CREATE TABLE public.seen (at timestamptz DEFAULT clock_timestamp(), who name DEFAULT current_user, n int);
	CREATE PROCEDURE public.look(batches int) LANGUAGE plpgsql AS $$
	DECLARE
		run bigint;
	BEGIN
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		run := cdp._job_begin('look', batches);
		COMMIT; PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		FOR i IN 1 .. batches LOOP
			INSERT INTO public.seen (n) VALUES (i);
			PERFORM cdp._job_progress(run, 1);
			COMMIT; PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
		END LOOP;
		PERFORM cdp._job_end(run);
	END $$;
	INSERT INTO cdp.job (job, command, schedule, enabled) VALUES
		('look', 'CALL public.look(3)', '* * * * *', true),
		('fails', 'SELECT 1 / 0', '* * * * *', true),
		('rests', 'SELECT 1', '* * * * *', false),
		('by_hand', 'SELECT 1', NULL, true)}));

# a plain owner needs USAGE on pg_cron's schema, and is told so
($rc, $out, $err) = $node->psql('shop', as_keeper('CALL cdp.schedule_jobs()'));
isnt($rc, 0, 'an owner without rights on pg_cron is refused');
like($err, qr/GRANT USAGE ON SCHEMA cron TO keeper/, 'with the statement that helps');
my $rows = q{SELECT string_agg(concat_ws(' ', jobname, schedule, database, username, active), '; ' ORDER BY jobname) FROM cron.job};
is(q1($rows), '', 'and nothing was scheduled');
($rc, $out, $err) = $node->psql('shop', as_keeper('CALL cdp.unschedule_jobs()'));
is($rc, 0, 'there is nothing to take back, so that is no error');

# a superuser schedules on behalf of the owner, the owner for himself: the same rows
q1('CALL cdp.schedule_jobs()');
my $both = 'cdp:shop:fails * * * * * shop keeper t; cdp:shop:look * * * * * shop keeper t';
is(q1($rows), $both, 'a superuser schedules the enabled jobs as the owner');
q1('GRANT USAGE ON SCHEMA cron TO keeper');
q1(as_keeper('CALL cdp.schedule_jobs()'));
is(q1($rows), $both, 'the owner schedules the same; twice is once');

# edits are followed, rows of databases that are gone are swept, rows of others stay
q1(q{INSERT INTO cron.job (schedule, command, database, username, jobname, nodeport) VALUES
	('* * * * *', 'SELECT 1', 'gone', 'keeper', 'cdp:gone:look', 5432), ('0 0 1 1 *', 'SELECT 1', 'shop', 'keeper', 'vacuum', 5432)});
q1(as_keeper(q{UPDATE cdp.job SET schedule = '5 4 * * *' WHERE job = 'fails'; UPDATE cdp.job SET enabled = true WHERE job = 'rests'}));
q1(as_keeper('CALL cdp.schedule_jobs()'));
is(q1($rows), 'cdp:shop:fails 5 4 * * * shop keeper t; cdp:shop:look * * * * * shop keeper t; '
	. 'cdp:shop:rests * * * * * shop keeper t; vacuum 0 0 1 1 * shop keeper t', 'edited schedules are followed');
q1(as_keeper('CALL cdp.unschedule_jobs()'));
is(q1($rows), 'vacuum 0 0 1 1 * shop keeper t', 'unschedule takes ours and no other');
q1(as_keeper(q{UPDATE cdp.job SET schedule = '* * * * *' WHERE job = 'fails'; UPDATE cdp.job SET enabled = false WHERE job = 'rests'}));
($rc, $out, $err) = $node->psql('shop', as_keeper(q{UPDATE cdp.job SET schedule = 'at noon' WHERE job = 'look'; CALL cdp.schedule_jobs()}));
like($err, qr/schedule/, 'pg_cron refuses a schedule that is none');
q1(as_keeper(q{UPDATE cdp.job SET schedule = '* * * * *' WHERE job = 'look'}));
q1(as_keeper('CALL cdp.schedule_jobs()'));

# pg_cron's own workers run them: within two minutes, visible in job_status
ok($node->poll_query_until('shop', q{SELECT count(*) = 2 FROM cdp.job_status
	WHERE (job, status, done) IN (('look', 'done', 3), ('fails', 'failed', 0))}), 'pg_cron ran both jobs');
is(q1(q{SELECT done || '/' || total || ' ' || run_by FROM cdp.job_status WHERE job = 'look'}), '3/3 keeper', 'job_status shows the run');
is(q1('SELECT DISTINCT who FROM public.seen'), 'keeper', 'it ran as the owner of the tables');
is(q1(q{SELECT ok || ' ' || (detail LIKE 'failed at % UTC: division by zero') FROM cdp.health() WHERE check_name = 'job fails'}),
	'false true', 'health() shows the last failure');
is(q1(q{SELECT count(DISTINCT status) || ' ' || max(status) FROM cron.job_run_details WHERE command LIKE '%look%'}), '1 succeeded',
	'pg_cron is content with the good one');

# a dump of this database carries cron.job; the copy stays quiet until it is told otherwise
my $dump = $node->basedir . '/shop.dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-h', $node->host, '-p', $node->port, 'shop' ], 'dump');
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init;
$copy->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_cron'
cron.database_name = 'shop'
cron.use_background_workers = on
cron.launch_active_jobs = off
});
$copy->start;
$copy->safe_psql('postgres', 'CREATE ROLE keeper LOGIN');
$copy->safe_psql('postgres', 'CREATE DATABASE shop OWNER keeper');
command_ok([ 'pg_restore', '-e', '-d', 'shop', '-h', $copy->host, '-p', $copy->port, $dump ], 'restore');
is($copy->safe_psql('shop', q{SELECT count(*) FROM cron.job WHERE jobname LIKE 'cdp:%'}), 2, 'the schedule came along');
my $runs = $copy->safe_psql('shop', 'SELECT count(*) FROM cdp.job_run');
($rc, $out, $err) = $copy->psql('shop', q{CALL cdp.run_job('look', scheduled => true)});
is($rc, 0, 'what its pg_cron calls returns');
like($err, qr/another cluster/, 'with a warning');
is($copy->safe_psql('shop', 'SELECT count(*) FROM cdp.job_run'), $runs, 'and does nothing');
is($copy->safe_psql('shop', q{SELECT ok FROM cdp.health() WHERE check_name = 'jobs_scheduled'}), 'f', 'health() says so');
$copy->safe_psql('shop', q{SET SESSION AUTHORIZATION keeper; CALL cdp.run_job('look')});
is($copy->safe_psql('shop', 'SELECT count(*) FROM cdp.job_run'), $runs + 1, 'by hand it runs');
$copy->stop;

# pg_cron in another database: a pipe carries the statements over
$node->safe_psql('postgres', 'CREATE DATABASE other OWNER keeper');
$node->safe_psql('other', 'CREATE EXTENSION customer_cdp');
$node->safe_psql('other', as_keeper('CALL cdp.migrate()'));
$node->safe_psql('other', as_keeper(q{DELETE FROM cdp.job; INSERT INTO cdp.job (job, command, schedule) VALUES ('far', 'SELECT 1', '0 5 * * *')}));
($rc, $out, $err) = $node->psql('other', 'CALL cdp.schedule_jobs()');
like($err, qr/works from database "shop"/, 'a superuser learns which database has pg_cron');
($rc, $out, $err) = $node->psql('other', as_keeper('CALL cdp.schedule_jobs()'));
is($rc, 0, 'pg_cron in another database is no error');
like($err, qr/cron\.schedule_in_database\('cdp:other:far', '0 5 \* \* \*'/, 'the statements are printed');
q1($node->safe_psql('other', as_keeper('SELECT cdp.cron_statements()'))) for 1 .. 2;
($rc, $out, $err) = $node->psql('other', as_keeper('CALL cdp.unschedule_jobs()'));
like($err, qr/SELECT cron\.unschedule/, 'unschedule prints its statement too');
is(q1(q{SELECT string_agg(concat_ws(' ', jobname, schedule, command, database, username), '; ') FROM cron.job WHERE database = 'other'}),
	q{cdp:other:far 0 5 * * * CALL cdp.run_job('far', scheduled => true) other keeper}, 'they can be run twice and give one row');
is(q1(q{SELECT count(*) FROM cron.job WHERE database = 'shop' AND jobname LIKE 'cdp:%'}), 2, 'the jobs of this database are untouched');

# drop_data takes the schedule with it
q1(as_keeper(q{CALL cdp.drop_data('shop')}));
is(q1(q{SELECT count(*) FROM cron.job WHERE database = 'shop' AND jobname LIKE 'cdp:%'}), 0, 'drop_data unschedules');
is(q1(q{SELECT to_regclass('cdp.job') IS NULL}), 't', 'and drops');
$node->stop;
done_testing();
