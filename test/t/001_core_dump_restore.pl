# Dumps are ordinary dumps.  Plain, custom with parallel restore, and schema cdp alone, each into a server that has never
# seen the database: equal rows, no trigger applied a second time, and the verbs go on without migrate().
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = cdp_server('old');
my $db = 'crm';
my $dir = PostgreSQL::Test::Utils::tempdir;
my $roles = q{CREATE ROLE app; CREATE ROLE analyst; CREATE ROLE keeper; CREATE ROLE admin2 SUPERUSER LOGIN;};
my $grants = q{SELECT cdp.grant_access('application', 'app'), cdp.grant_access('reader', 'analyst')};

# the new server has other transaction ids and another system identifier
my $new = cdp_server('new');
$_->safe_psql('postgres', $roles) for $old, $new;

cdp_install($old, $db);
$old->safe_psql($db, $grants);
cdp_fill($old, $db, 'a');
my $attached = cdp_shop($old, $db);
my $has_jobs = cdp_has($old, $db, 'job_run');
$old->safe_psql($db, q{CALL cdp.run_job('maintain_partitions')}) if $has_jobs && $old->safe_psql($db, q{SELECT EXISTS (SELECT FROM cdp.job WHERE job = 'maintain_partitions')}) eq 't';
# a trigger of the user's own on a table of ours must not be applied by the restore
$old->safe_psql($db, q{
	CREATE TABLE fired (n bigint GENERATED ALWAYS AS IDENTITY);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.fired DEFAULT VALUES; RETURN NULL; END';
	CREATE TRIGGER note AFTER INSERT ON cdp.profile FOR EACH STATEMENT EXECUTE FUNCTION note()});
my $rows = cdp_sums($old, $db);
my $shop = $old->safe_psql($db, 'SELECT (SELECT count(*) FROM shop_member), (SELECT count(*) FROM shop_order), (SELECT count(*) FROM fired)');

# everything that has to hold in a restored database
sub restored
{
	my ($to, $how, $whole) = @_;
	cdp_same(cdp_sums($new, $to), $rows, "$how: equal rows and sequences");
	if ($whole) {
		is($new->safe_psql($to, 'SELECT (SELECT count(*) FROM shop_member), (SELECT count(*) FROM shop_order), (SELECT count(*) FROM fired)'),
			$shop, "$how: no trigger was applied");
	}
	is($new->safe_psql($to, q{SELECT count(*) FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
		WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind <> 'c'}), '0', "$how: tables are not members");
	# the same keys are known, new ones get ids that are not taken
	my $count = 'SELECT (SELECT count(*) FROM cdp.event), (SELECT count(*) FROM cdp.profile)';
	my $before = $new->safe_psql($to, $count);
	is($new->safe_psql($to, q{SELECT cdp.track('{"member_id": "a-m5"}', 'Store Visited', '{"store_id": "s1"}', NULL, 'a-v1') = event_id
		FROM cdp.event_key WHERE message_id = 'a-v1'}), 't', "$how: a known message_id is known");
	is($new->safe_psql($to, $count), $before, "$how: and writes nothing");
	my $max = $new->safe_psql($to, 'SELECT max(event_id) FROM cdp.event');
	is($new->safe_psql($to, qq{SELECT cdp.track('{"member_id": "a-m5"}', 'Store Visited', '{"store_id": "s1"}', NULL, 'new-1') > $max}),
		't', "$how: sequences go on");
	ok($new->safe_psql($to, q{SELECT xid > (SELECT max(xid) FROM cdp.event WHERE message_id LIKE 'a-%') FROM cdp.event WHERE message_id = 'new-1'}) eq 't',
		"$how: logical transaction ids go on");
	cdp_fill($new, $to, 'b');
	is($new->safe_psql($to, q{SELECT count(*) FROM cdp.event WHERE message_id LIKE 'b-%'}),
		$old->safe_psql($db, q{SELECT count(*) FROM cdp.event WHERE message_id LIKE 'a-%'}), "$how: verbs work without migrate()");
	# rights on functions of an extension travel with the extension, so here migrate() has to give them
	$new->safe_psql($to, 'CALL cdp.migrate()') if $how eq '-n cdp';
	cdp_works($new, $to, q{SET ROLE app; SELECT cdp.identify('{"anonymous_id": "a-c1"}')}, "$how: granted rights are there");
	cdp_fails($new, $to, q{SET ROLE analyst; SELECT cdp.identify('{"anonymous_id": "a-c1"}')}, '42501', "$how: and no others");
	if ($whole && $attached) {
		$new->safe_psql($to, q{INSERT INTO shop_order VALUES (200, 's1', '2026-03-01Z', 'completed', 7)});
		is($new->safe_psql($to, q{SELECT amount FROM cdp.sales_order WHERE order_id = '200'}), '7', "$how: attached sources are followed");
	}
	# a job that had run is not run again, and does not look as if it were running
	is($new->safe_psql($to, 'SELECT count(*) FROM cdp.job_run'), $old->safe_psql($db, 'SELECT count(*) FROM cdp.job_run'), "$how: no job ran") if $has_jobs;
	cdp_works($new, $to, 'CALL cdp.migrate()', "$how: migrate() has nothing against it");
}
sub target { my ($name, $owner) = @_; $new->safe_psql('postgres', "CREATE DATABASE $name" . ($owner ? " OWNER $owner" : '')); return $name; }
sub dump_to { my ($file, @o) = @_; command_ok([ 'pg_dump', '-d', $old->connstr($db), '-f', "$dir/$file", @o ], "pg_dump @o"); }
my @psql = ('psql', '-Xq', '-v', 'ON_ERROR_STOP=1');

dump_to('plain.sql');
command_ok([ @psql, '-d', $new->connstr(target('plain')), '-f', "$dir/plain.sql" ], 'plain: restore without an error');
restored('plain', 'plain', 1);

dump_to('custom.dump', '-Fc');
command_ok([ 'pg_restore', '--exit-on-error', '-j2', '-d', $new->connstr(target('custom')), "$dir/custom.dump" ], '-Fc -j2: restore without an error');
restored('custom', '-Fc -j2', 1);

# schema cdp alone, with the extension: one more option
dump_to('schema_e.sql', '-n', 'cdp', '-e', 'customer_cdp');
# the user's trigger calls a function of schema public, which this dump leaves out
my $note = q{CREATE TABLE fired (n bigint GENERATED ALWAYS AS IDENTITY);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.fired DEFAULT VALUES; RETURN NULL; END'};
target('schema_e'); $new->safe_psql('schema_e', $note);
command_ok([ @psql, '-d', $new->connstr('schema_e'), '-f', "$dir/schema_e.sql" ], '-n cdp -e: restore without an error');
is($new->safe_psql('schema_e', 'SELECT count(*) FROM fired'), '0', '-n cdp -e: no trigger was applied');
restored('schema_e', '-n cdp -e');

# schema cdp alone does not hold the extension: it is created first, and "schema exists" is the only complaint
dump_to('schema.sql', '-n', 'cdp');
target('schema'); $new->safe_psql('schema', "CREATE EXTENSION customer_cdp; $note");
my ($out, $err) = run_command([ 'psql', '-Xq', '-d', $new->connstr('schema'), '-f', "$dir/schema.sql" ]);
is(join("\n", grep { /ERROR/ } split /\n/, $err), "psql:$dir/schema.sql:" . ($err =~ /schema\.sql:(\d+): ERROR/ ? $1 : '') . ': ERROR:  schema "cdp" already exists',
	'-n cdp into a database with the extension: one complaint');
is($new->safe_psql('schema', 'SELECT count(*) FROM fired'), '0', '-n cdp: no trigger was applied');
restored('schema', '-n cdp');

# Everything belongs to a plain role that owns schema and database; another superuser restores.
$old->safe_psql('postgres', 'CREATE DATABASE kept OWNER keeper');
$old->safe_psql('kept', 'SET ROLE keeper; CREATE SCHEMA cdp; RESET ROLE; CREATE EXTENSION customer_cdp; SET ROLE keeper; CALL cdp.migrate();' . $grants);
$old->safe_psql('kept', q{SET ROLE keeper; SELECT cdp.identify('{"anonymous_id": "k"}'), cdp.track('{"anonymous_id": "k"}', 'Page Viewed', '{}', NULL, 'k1')});
command_ok([ 'pg_dump', '-Fc', '-d', $old->connstr('kept'), '-f', "$dir/kept.dump" ], 'dump of a database that a plain role owns');
for my $to ([ 'kept_keeper', 'keeper' ], [ 'kept_other', 'admin2' ]) {
	my ($name, $owner) = @$to;
	target($name, $owner);
	command_ok([ 'pg_restore', '--exit-on-error', '-U', 'admin2', '-d', $new->connstr($name), "$dir/kept.dump" ],
		"another superuser restores into a database of $owner");
	is(cdp_sums($new, $name), cdp_sums($old, 'kept'), '... equal rows and sequences');
	is($new->safe_psql($name, q{SELECT nspowner::regrole, (SELECT relowner::regrole FROM pg_class WHERE oid = 'cdp.meta'::regclass) FROM pg_namespace WHERE nspname = 'cdp'}),
		'keeper|keeper', '... schema and tables belong to the role they belonged to');
	$new->safe_psql('postgres', "ALTER DATABASE $name OWNER TO keeper") if $owner ne 'keeper';
	cdp_works($new, $name, q{SET ROLE app; SELECT cdp.track('{"anonymous_id": "k"}', 'Page Viewed', '{}', NULL, 'k2')}, '... and the verbs work');
	cdp_works($new, $name, q{SET ROLE keeper; CALL cdp.migrate()}, '... and its owner migrates');
}
$_->stop for $old, $new;
done_testing();
