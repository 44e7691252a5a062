# An update while applications are at work: nobody sees anything but waiting.  And what each wrong order of the steps
# says.  The next version is made here: the same code with another number, and an update script that adds a column.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Utils;
use Test::More;
use IPC::Run;
use Time::HiRes qw(sleep time);

my $node = cdp_server('main');
my $db = 'crm';

# ---- the next version, installed beside the present one in the private installation, and taken away at the end
chomp(my $share = `pg_config --sharedir`);
chomp(my $lib = `pg_config --pkglibdir`);
my $ext = "$share/extension";
my ($control, $now) = (slurp_file("$ext/customer_cdp.control"));
($now) = $control =~ /^default_version *= *'(.*?)'/m;
(my $next = $now) =~ s/(\d)(?=\D*$)/$1 == 9 ? 8 : $1 + 1/e;
# the number is longer than the one before it, so that the library can be patched in place; a 9 would have to grow
die "no next version of $now" if $next le $now;
my ($modules) = slurp_file('Makefile') =~ /^CDP_MODULES\s*=\s*((?:.*\\\n)*.*)/m;
my $so = -e "$lib/customer_cdp.so" ? "$lib/customer_cdp.so" : die "no library in $lib";
my $tmp = PostgreSQL::Test::Utils::tempdir;
my $old_binary = slurp_binary($so);
my %made = ("$ext/customer_cdp--$now--$next.sql" => 1);

sub slurp_binary { open my $f, '<:raw', $_[0] or die "$_[0]: $!"; local $/; return <$f>; }
# in one step, as package managers and install(1) do: sessions keep the file they have open
sub put
{
	my ($file, $content) = @_;
	open my $f, '>:raw', "$file.new" or die "$file.new: $!";
	print $f $content; close $f;
	chmod 0755, "$file.new";
	rename "$file.new", $file or die $!;
}
sub install_next
{
	(my $new = $old_binary) =~ s/\Q$now\E\0/$next\0/g or die 'the library does not tell its version';
	put($so, $new);
	put("$ext/customer_cdp.control", $control =~ s/'\Q$now\E'/'$next'/r);
}
sub uninstall_next
{
	put($so, $old_binary);
	put("$ext/customer_cdp.control", $control);
}
END { my $rc = $?; if ($old_binary) { uninstall_next(); unlink keys %made; } $? = $rc; }

# the update script, from the sources as make does it
system("cp -r sql $tmp/ && mkdir -p $tmp/sql/upgrade") == 0 or die;
append_to_file("$tmp/sql/upgrade/$now--$next.sql", <<'S');
-- @data
ALTER TABLE cdp.profile ADD COLUMN IF NOT EXISTS of_next text DEFAULT 'next';
ALTER TABLE cdp.event_key ADD COLUMN IF NOT EXISTS of_next int;
UPDATE cdp.event_key SET of_next = 1;
S
$modules =~ s/\\\n/ /g;
my ($script) = run_command([ 'sh', '-c', "cd $tmp && sh sql/assemble.sh update $now $next $modules" ]);
like($script, qr/of_next/, 'there is an update script');
put("$ext/customer_cdp--$now--$next.sql", "$script\n");

# ---- the load: sessions of several applications, all connected before the update
cdp_install($node, $db);
$node->safe_psql($db, q{CREATE ROLE app LOGIN; SELECT cdp.grant_access('application', 'app'), cdp.grant_access('reader', 'app')});
cdp_fill($node, $db, 'a');
my @load = (
	q{SELECT cdp.track('{"member_id": "a-m5"}', 'Page Viewed', '{}', NULL, 'l-' || :client_id || '-' || :n);},
	q{SELECT cdp.identify(jsonb_build_object('anonymous_id', 'l' || :client_id || '-' || :n, 'member_id', 'l' || :n % 50), '{"level": 2}');},
	q{SELECT cdp.track_many(jsonb_build_array(jsonb_build_object('identifiers', '{"member_id": "a-m10"}'::jsonb, 'name', 'Page Viewed', 'message_id', 'm-' || :client_id || '-' || :n)));},
	# several verbs and reads in one transaction: the order of their locks is the application's, not ours
	qq{BEGIN;\nSELECT cdp.resolve('member_id', 'a-m5');\nSELECT count(*) FROM cdp.event WHERE profile_id = 1;\nSELECT cdp.track('{"member_id": "a-m15"}', 'Page Viewed', '{}', NULL, 't-' || :client_id || '-' || :n);\nSELECT count(*) FROM cdp.customer WHERE customer_id < 5;\nEND;},
	# readers that use no verb at all
	qq{BEGIN;\nSELECT count(*) FROM cdp.event;\nSELECT count(*) FROM cdp.customer;\nSELECT count(*) FROM cdp.profile_alias;\nEND;});
push @load, q{SELECT cdp.record_order('{"member_id": "a-m5"}', jsonb_build_object('order_id', 'o' || :client_id || '-' || :n, 'ordered_at', cdp.now(), 'amount', 1));}
  if cdp_has($node, $db, 'record_order');
my @files;
for my $i (0 .. $#load) {
	append_to_file("$tmp/load$i.sql", "\\set n random(1, 1000000000)\n$load[$i]\n");
	push @files, '-f', "$tmp/load$i.sql";
}
my ($bench_out, $bench_err) = ('', '');
my $bench = IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-j', '2', '-T', '12', '--max-tries=1', '-U', 'app', '-h', $node->host, '-p', $node->port, @files, $db ],
	'>', \$bench_out, '2>', \$bench_err);
# a session that stays in an open transaction for a while, and one that is connected and has never used the library
my $holder = $node->background_psql($db, on_error_stop => 1);
for (1 .. 100) {
	last if $node->safe_psql($db, q{SELECT count(*) > 20 FROM cdp.event WHERE message_id LIKE 'l-%'}) eq 't';
	$bench->pump_nb;
	$bench_err =~ /ERROR|error:/ and die "no load: $bench_err";
	sleep 0.1;
}
$holder->query_safe('BEGIN');
$holder->query_safe(q{SELECT cdp.track('{"member_id": "a-m20"}', 'Page Viewed', '{}', NULL, 'holder')});

# ---- the update; the files and the statement right after each other, as the page says
my $start = time;
install_next();
my ($out, $err) = ('', '');
my $update = IPC::Run::start([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-c', 'BEGIN', '-c', 'ALTER EXTENSION customer_cdp UPDATE',
	'-c', 'CALL cdp.migrate()', '-c', 'SELECT pg_sleep(1)', '-c', 'COMMIT' ], '>', \$out, '2>', \$err);
$node->poll_query_until($db, q{SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'cdp.meta'::regclass AND NOT granted});
# who connects now has the new library and the old catalog: he waits for the update
my ($late_out, $late_err) = ('', '');
my $late = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr($db), '-c', q{SELECT 'late', cdp.track('{"member_id": "a-m20"}', 'Page Viewed', '{}', NULL, 'late') > 0} ], '>', \$late_out, '2>', \$late_err);
$node->poll_query_until($db, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'SELECT ''late''%' AND wait_event_type = 'Lock'});
pass('a session that connects meanwhile waits');
$holder->query_safe(q{SELECT cdp.track('{"member_id": "a-m15"}', 'Page Viewed', '{}', NULL, 'holder2')});
$holder->query_safe('SELECT count(*) FROM cdp.customer; COMMIT');
ok($update->finish, 'the update runs under load') or diag($err);
note(sprintf 'update took %.1f s', time - $start);
ok($late->finish && $late_out =~ /late\|t/, '... the late session has its answer') or diag($late_err);
ok($bench->finish, 'pgbench ends well') or diag($bench_err);
unlike($bench_err, qr/ERROR|aborted/, 'no client saw an error') or diag($bench_err);
like($bench_out, qr/number of failed transactions: 0 \(/, '... no transaction failed');
my ($tx) = $bench_out =~ /transactions actually processed: (\d+)/;
cmp_ok($tx, '>', 100, "... of $tx");
is($holder->query_safe(q{SELECT cdp.track('{"member_id": "a-m20"}', 'Page Viewed', '{}', NULL, 'holder3') > 0, cdp.version()}), "t|$now", 'a session with the old library goes on');
$holder->quit;
is($node->safe_psql($db, q{SELECT (SELECT extversion FROM pg_extension WHERE extname = 'customer_cdp'), (SELECT value FROM cdp.meta WHERE key = 'version'), cdp.version()}),
	"$next|$next|$next", 'extension, tables and library are of the next version');
is($node->safe_psql($db, q{SELECT count(DISTINCT of_next) FROM cdp.profile}), '1', 'the step of the update ran');
is($node->safe_psql($db, q{SELECT count(*) - count(DISTINCT message_id), count(*) FILTER (WHERE message_id LIKE 'holder%') FROM cdp.event WHERE message_id IS NOT NULL}),
	'0|3', 'each message is one event');
is($node->safe_psql($db, q{SELECT count(*) FROM cdp.event WHERE message_id LIKE 'l-%' AND received_at > (SELECT min(received_at) FROM cdp.event WHERE message_id = 'late')}) > 0,
	1, 'the load went on after the update');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|deadlock/, 'the log of the server is quiet');

# ---- what the wrong orders say
my $hint = qr/HINT:.*\Q$UPDATE\E/;
uninstall_next();
cdp_install($node, 'wrong');
my $verb = q{SELECT cdp.identify('{"member_id": "x"}')};
my $old = $node->background_psql('wrong', on_error_stop => 0);
$old->query_safe($verb);
install_next();
# 1. files alone
like(cdp_fails($node, 'wrong', $verb, '55000', 'new files alone: 55000'), $hint, '... the hint is the one step');
is($old->query_safe("$verb > 0"), 't', '... who was connected goes on');
# 2. ALTER EXTENSION without migrate()
$node->safe_psql('wrong', 'ALTER EXTENSION customer_cdp UPDATE');
for my $sql ($verb, 'SELECT cdp.retry_rejects()', q{SELECT cdp.grant_access('reader', 'app')}) {
	like(cdp_fails($node, 'wrong', $sql, '55000', 'ALTER EXTENSION without migrate(): 55000'), $hint, '... the hint is the one step');
}
$old->query($verb);
like($old->{stderr}, qr/tables of customer_cdp have version \Q$now\E/, '... for who was connected too');
$old->{stderr} = '';
is($node->safe_psql('wrong', q{SELECT string_agg(check_name, ',' ORDER BY check_name) FROM cdp.health() WHERE NOT ok AND check_name LIKE '%version'}), 'table_version', '... and health() tells');
$node->safe_psql('wrong', 'CALL cdp.migrate()');
cdp_works($node, 'wrong', $verb, 'migrate() afterwards repairs it');
is($old->query_safe("$verb > 0"), 't', '... for who was connected too');
is($old->query_safe(q{SELECT ok FROM cdp.health() WHERE check_name = 'library_version'}), 'f', '... and health() says that it should connect anew');
# 3. a release that an old library cannot serve says so
$node->safe_psql('wrong', qq{INSERT INTO cdp.meta VALUES ('min_library', '$next')});
$node->safe_psql('wrong', 'CREATE OR REPLACE FUNCTION public.f() RETURNS int LANGUAGE sql AS $$SELECT 1$$');
$old->query($verb);
like($old->{stderr}, qr/needs version \Q$next\E or newer/, 'an old library below min_library is refused');
$old->{stderr} = '';
cdp_works($node, 'wrong', $verb, '... the new one is not');
$old->quit;
$node->stop;
done_testing();
