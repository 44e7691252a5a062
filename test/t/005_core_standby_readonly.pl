# On a streaming standby everything that reads works and everything that writes says 25006, in words and not by accident.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'crm';
my $main = cdp_server('main', allows_streaming => 1);
cdp_install($main, $_) for $db, 'empty';
$main->safe_psql($db, q{CREATE ROLE app; CREATE ROLE boss; SELECT cdp.grant_access('application', 'app'), cdp.grant_access('admin', 'boss')});
cdp_fill($main, $db, 'a');
my $attached = cdp_shop($main, $db);
my $has = sub { cdp_has($main, $db, $_[0]) };

$main->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($main, 'base', has_streaming => 1);
$standby->start;
$main->safe_psql($db, q{SELECT cdp.identify('{"member_id": "late"}')});
$main->wait_for_catchup($standby, 'replay');
is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', 'the standby is one');

# readers: [verb, statement]; the answer must be the primary's
my $m5 = q{cdp.resolve('member_id', 'a-m5')};
for my $r (
	[ resolve => "SELECT $m5 > 0, cdp.resolve('member_id', 'late') > 0, cdp.resolve('phone', '+86 138 0000 0000')" ],
	[ customer_id => 'SELECT sum(cdp.customer_id(profile_id)) FROM cdp.profile' ],
	[ customer => 'SELECT customer_id, traits, profile_ids FROM cdp.customer ORDER BY 1' ],
	[ order_track => 'SELECT order_id, status, amount FROM cdp.order_track ORDER BY 1' ],
	[ customer_360 => "SELECT cdp.customer_360($m5)" ],
	[ timeline => "SELECT * FROM cdp.timeline($m5)" ],
	[ search_customers => q{SELECT * FROM cdp.search_customers('a-m5')} ],
	[ did => "SELECT cdp.did($m5, 'Store Visited', '100 years', 5), cdp.did($m5, 'Store Visited', '1 day')" ],
	[ find_customers_who => q{SELECT * FROM cdp.find_customers_who('Page Viewed', '100 years', 3) ORDER BY 1} ],
	[ find_buyers => q{SELECT * FROM cdp.find_buyers('p1') ORDER BY 1} ],
	[ rfm_table => q{SELECT * FROM cdp.rfm_table('2030-01-01Z') ORDER BY 1} ],
	[ fit_match => q{SELECT cdp.fit_match('SELECT i AS id, i % 3 AS v, i / 2 AS w FROM generate_series(1, 12) i',
		'[{"column": "v", "kind": "number"}, {"column": "w", "kind": "number"}]', '{l.v = r.v,l.w = r.w}')} ],
	[ match_queue => q{SELECT count(*) FROM cdp.match_queue} ],
	[ source_status => q{SELECT count(*) FROM cdp.source_status} ],
	[ job_status => q{SELECT count(*) FROM cdp.job_status} ],
	[ health => q{SELECT check_name FROM cdp.health() ORDER BY 1} ],
	[ version => q{SELECT cdp.version()} ],
	[ event => q{SELECT count(*), max(event_id) FROM cdp.event} ]) {
	my ($verb, $sql) = @$r;
	$has->($verb) or next;
	# a moment that both have: RFM and 360 degrees compute with the clock
	$sql = "SET cdp.now = '2030-01-01 00:00:00Z'; $sql";
	my $here = cdp_works($standby, $db, $sql, "$verb reads on the standby");
	is($here, $main->safe_psql($db, $sql), '... and answers what the primary answers');
	isnt($here, '', '... something') unless $verb =~ /^(order_track|rfm_table)$/ && !$has->('record_order');
}

# writers
my @writers = (
	[ identify => q{SELECT cdp.identify('{"member_id": "a-m5"}')} ],
	[ identify => q{SELECT cdp.identify('{"member_id": "brand new"}')} ],
	[ identify_many => q{SELECT * FROM cdp.identify_many('[{"identifiers": {"member_id": "a-m5"}}]')} ],
	[ _identify_rows => q{SELECT * FROM cdp._identify_rows('{"{\"member_id\": \"x\"}"}', '{"{}"}', NULL, '{2026-01-01Z}')} ],
	[ match_profiles => q{SELECT * FROM cdp.match_profiles('none', dry_run => false)} ],
	[ track => q{SELECT cdp.track('{"member_id": "a-m5"}', 'Page Viewed')} ],
	[ track => q{SELECT cdp.track('{"member_id": "a-m5"}', 'Store Visited', '{}', NULL, 'a-v1')} ],
	[ track_many => q{SELECT cdp.track_many('[{"identifiers": {"member_id": "a-m5"}, "name": "Page Viewed"}]')} ],
	[ track_many => q{SELECT cdp.track_many('[{"identifiers": {"member_id": "a-m5"}, "name": ""}]', 'reject')} ],
	[ retry_rejects => q{SELECT cdp.retry_rejects()} ],
	[ set_traits => "SELECT cdp.set_traits($m5, '{\"city\": \"x\"}')" ],
	[ record_order => q{SELECT cdp.record_order('{"member_id": "a-m5"}', '{"order_id": "n1", "ordered_at": "2026-01-01Z", "amount": 1}')} ],
	[ refund_order => q{SELECT cdp.refund_order('a-o2', 1, 'x', 'r2')} ],
	[ merge_customers => q{SELECT cdp.merge_customers(1, 2, 'x')} ],
	[ attach_source => q{SELECT cdp.attach_source('shop_member', 'customer', '{"identifiers": {"member_id": "id"}}')} ],
	[ detach_source => q{SELECT cdp.detach_source('shop_member')} ],
	[ retry_sources => q{CALL cdp.retry_sources()} ],
	[ backfill_source => q{CALL cdp.backfill_source('shop_member')} ],
	[ make_staging => q{SELECT cdp.make_staging('order')} ],
	[ maintain_partitions => q{CALL cdp.maintain_partitions()} ],
	[ _next_events => q{SELECT * FROM cdp._next_events('c', 10)} ],
	[ run_job => q{CALL cdp.run_job('maintain_partitions')} ],
	[ schedule_jobs => q{CALL cdp.schedule_jobs()} ],
	# it refuses a database with customers whatever the server is
	[ load_demo => q{CALL cdp.load_demo(10, 1)}, 'empty' ],
	[ drop_data => q{CALL cdp.drop_data('crm')} ],
	[ migrate => q{CALL cdp.migrate()} ],
	[ grant_access => q{SELECT cdp.grant_access('reader', 'app')} ],
	[ revoke_access => q{SELECT cdp.revoke_access('application', 'app')} ],
	[ profile => q{INSERT INTO cdp.profile DEFAULT VALUES} ],
	[ event => q{INSERT INTO cdp.event (profile_id, name, occurred_at) VALUES (1, 'x', '2026-01-01Z')} ],
	[ profile_alias => q{DELETE FROM cdp.profile_alias} ]);
for my $w (@writers) {
	my ($verb, $sql, $where) = @$w;
	$has->($verb) or next;
	$where //= $db;
	my $err = cdp_fails($standby, $where, $sql, '25006', "$verb: 25006 on the standby");
	unlike($err, qr/a-m5|brand new|server closed/, '... without personal data');
	# the other way to be read-only, on the primary: nothing may be written below the executor either
	cdp_fails($main, $where, "SET default_transaction_read_only = on; $sql", '25006', "$verb: 25006 in a read-only transaction");
}
cdp_fails($standby, $db, q{SET ROLE app; SELECT cdp.track('{"member_id": "a-m5"}', 'Page Viewed')}, '25006', 'the same for a role without rights on tables');

# one session goes through all of it, error after error
my ($rc, $out, $err) = $standby->psql($db, join(";\n", map { $_->[1] } grep { $has->($_->[0]) } @writers) . ";\nSELECT 'alive';", on_error_stop => 0);
is((split /\n/, $out)[-1], 'alive', 'a session survives every refusal');
is($standby->safe_psql($db, 'SELECT count(*) FROM cdp.profile'), $main->safe_psql($db, 'SELECT count(*) FROM cdp.profile'), 'nothing was written');

# promoted it is a primary like any other, sessions that were connected included
my $session = $standby->background_psql($db, on_error_stop => 0);
$session->query_until(qr/ok/, "SELECT $m5;\n\\echo ok\n");
$standby->promote;
$session->query_until(qr/event\W+[0-9]+/, qq{SELECT 'event', cdp.track('{"member_id": "a-m5"}', 'Page Viewed', '{}', NULL, 'promoted');\n});
$session->quit;
is($standby->safe_psql($db, q{SELECT count(*) FROM cdp.event WHERE message_id = 'promoted'}), '1', 'the promoted standby takes events');
unlike(slurp_file($standby->logfile), qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');
$_->stop for $standby, $main;
done_testing();
