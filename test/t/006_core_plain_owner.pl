# Nobody but CREATE EXTENSION needs a superuser: a plain role owns the database, migrates, hands rights on.  Each role
# can do what its kind says and nothing more; hostile callers, strangers and owners gain nothing.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = cdp_server('main');
my $db = 'crm';
$node->safe_psql('postgres', q{
	CREATE ROLE keeper LOGIN; CREATE ROLE app LOGIN; CREATE ROLE analyst LOGIN; CREATE ROLE boss LOGIN; CREATE ROLE chief LOGIN;
	CREATE ROLE stranger LOGIN; CREATE DATABASE crm OWNER keeper});
my @as = map { [ '-U', $_ ] } qw(keeper app analyst boss chief stranger);
my ($keeper, $app, $analyst, $boss, $chief, $stranger) = @as;

# ---- install: the superuser's only statement, then the owner's
cdp_fails($node, $db, 'CREATE EXTENSION customer_cdp', '42501', 'a plain owner cannot create the extension', @$keeper);
cdp_works($node, $db, 'CREATE EXTENSION customer_cdp', 'a superuser can');
cdp_fails($node, $db, 'CALL cdp.migrate()', '42501', 'a stranger cannot migrate', @$stranger);
cdp_works($node, $db, 'CALL cdp.migrate()', 'the owner of the database migrates', @$keeper);
is($node->safe_psql($db, q{SELECT count(*) > 20, bool_and(pg_get_userbyid(relowner) = 'keeper') FROM pg_class WHERE relnamespace = 'cdp'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')}),
	't|t', 'tables, views and sequences belong to him');
is($node->safe_psql($db, q{SELECT string_agg(p.oid::regprocedure::text, ',') FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.pronamespace = 'cdp'::regnamespace AND p.prosecdef AND r.rolsuper}),
	'', 'nothing runs with the rights of a superuser');
cdp_works($node, $db, 'CALL cdp.migrate()', 'he migrates again', @$keeper);
cdp_fails($node, $db, "SELECT cdp.grant_access('reader', 'stranger')", '42501', 'a stranger cannot grant', @$stranger);
cdp_works($node, $db, q{SELECT cdp.grant_access('application', 'app'), cdp.grant_access('reader', 'analyst'), cdp.grant_access('operator', 'boss'), cdp.grant_access('admin', 'chief')},
	'he gives access', @$keeper);

# ---- all the rest by plain roles
cdp_fill($node, $db, 'a', @$app) if !cdp_has($node, $db, 'set_traits');
cdp_fill($node, $db, 'a', @$chief) if cdp_has($node, $db, 'set_traits');
is($node->safe_psql($db, q{SELECT count(*) > 20 FROM cdp.event}), 't', 'the verbs work for them');
if (cdp_has($node, $db, 'attach_source')) {
	ok(cdp_shop($node, $db, @$keeper), 'the owner attaches a source');
	is($node->safe_psql($db, q{SELECT count(*) > 0 FROM cdp.sales_order WHERE source IS NOT NULL}), 't', '... its rows come');
}
cdp_works($node, $db, 'CALL cdp.maintain_partitions()', 'the owner maintains partitions', @$keeper) if cdp_has($node, $db, 'maintain_partitions');

# the rules of access, tried out: [statement, who may]
my %may = (
	q{SELECT cdp.identify('{"member_id": "a-m5"}')}                            => 'app boss chief keeper',
	q{SELECT cdp.resolve('member_id', 'a-m5')}                                 => 'app boss chief keeper',
	q{SELECT cdp.track('{"member_id": "a-m5"}', 'Page Viewed')}                => 'app chief keeper',
	q{SELECT cdp.track_many('[]')}                                             => 'app chief keeper',
	q{SELECT count(*) FROM cdp.customer}                                       => 'app analyst boss chief keeper',
	q{SELECT cdp.customer_id(1)}                                               => 'app analyst boss chief keeper',
	q{SELECT count(*) FROM cdp.event}                                          => 'analyst boss chief keeper',
	q{SELECT count(*) FROM cdp.health()}                                       => 'app analyst boss chief keeper',
	q{SELECT count(*) FROM cdp.identifier}                                     => 'boss chief keeper',
	q{SELECT count(*) FROM cdp.event_key}                                      => 'keeper',
	q{INSERT INTO cdp.profile DEFAULT VALUES}                                  => 'keeper',
	q{INSERT INTO cdp.event_schema (name) VALUES ('Tried') ON CONFLICT DO NOTHING} => 'boss chief keeper',
	q{SELECT cdp.retry_rejects()}                                              => 'boss chief keeper',
	q{SELECT cdp._migrate()}                                                   => 'keeper',
	q{SELECT cdp._as_owner('_migrate')}                                        => 'keeper',
	q{SELECT cdp._insert_events('{}', '{}', '{}', '{}', '{}', '{}', '{}', true)} => 'keeper',
	q{CALL cdp.migrate()}                                                      => 'keeper',
	q{SELECT cdp.grant_access('reader', 'analyst')}                            => 'keeper',
	q{SELECT cdp.normalize_email('A@B.cn'), cdp.now(), cdp.version()}          => 'app analyst boss chief keeper stranger');
for my $sql (sort keys %may) {
	for my $who (@as) {
		my $role = $who->[1];
		if ($may{$sql} =~ /\b$role\b/) {
			cdp_works($node, $db, "BEGIN; $sql; ROLLBACK", "$role may: $sql", @$who);
		} else {
			cdp_fails($node, $db, $sql, '42501', "$role may not: $sql", @$who);
		}
	}
}
# the stranger and every function there is: pure ones alone
is($node->safe_psql($db, q{SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace AND has_function_privilege('stranger', p.oid, 'EXECUTE')
	AND NOT EXISTS (SELECT FROM cdp._access_rules() r WHERE r.object = p.proname AND 'public' = ANY (r.kinds))}), '0', 'a stranger has no other function');
is($node->safe_psql($db, q{SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
	AND has_any_column_privilege('stranger', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')}), '0', '... and no table');
is($node->safe_psql($db, q{SELECT has_schema_privilege('stranger', 'cdp', 'CREATE')}), 'f', '... and makes nothing in the schema');
cdp_works($node, $db, q{SELECT cdp.revoke_access('application', 'app')}, 'access is taken back', @$keeper);
cdp_fails($node, $db, q{SELECT cdp.identify('{"member_id": "a-m5"}')}, '42501', '... at once', @$app);
$node->safe_psql($db, q{SELECT cdp.grant_access('application', 'app')}, extra_params => $keeper);

# ---- a caller with evil names in his search_path: nothing of his runs as the owner
$node->safe_psql($db, q{CREATE SCHEMA evil AUTHORIZATION app; CREATE TABLE public.stolen (who name, wanted text); GRANT INSERT, SELECT ON public.stolen TO PUBLIC});
my $evil = q{
	CREATE FUNCTION evil.note(what text) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.stolen VALUES (current_user, what); END';
	CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(''=''); RETURN true; END';
	CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, PROCEDURE = evil.eq);
	CREATE FUNCTION evil.eq8(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(''=8''); RETURN true; END';
	CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, PROCEDURE = evil.eq8);
	CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, PROCEDURE = evil.eq);
	CREATE FUNCTION evil.cat(text, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(''||''); RETURN $1; END';
	CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, PROCEDURE = evil.cat);
	CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(''now''); RETURN ''2000-01-01Z''; END';
	CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(''format''); RETURN $1; END';
	CREATE FUNCTION evil.coalesce_text(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
	CREATE FUNCTION evil.jsonb_each(jsonb, OUT key text, OUT value jsonb) RETURNS SETOF record LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(''jsonb_each''); END';
	CREATE FUNCTION evil.jsonb_typeof(jsonb) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(''jsonb_typeof''); RETURN ''object''; END';
	CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM evil.note(''lower''); RETURN $1; END';
	CREATE FUNCTION evil.count(*) RETURNS bigint LANGUAGE sql AS 'SELECT 1';
};
$evil =~ s/^\s*CREATE FUNCTION evil\.count.*\n//m;
$node->safe_psql($db, $evil, extra_params => $app);
# temporary tables come first in a search_path that does not name pg_temp last
my $path = q{SET search_path = evil, pg_temp, pg_catalog; CREATE TEMP TABLE meta (key text, value text); CREATE TEMP TABLE profile (profile_id bigint);
	CREATE TEMP TABLE identifier (kind text, value text); CREATE TEMP TABLE event (event_id bigint); CREATE TEMP TABLE pg_class (oid oid); CREATE TEMP TABLE pg_proc (oid oid);};
my @calls = (
	q{SELECT cdp.identify('{"member_id": "e1", "anonymous_id": "a-c3", "email": "E@x.cn"}', '{"name": "e"}', 'evil')},
	q{SELECT cdp.track('{"member_id": "e1"}', 'Product Viewed', '{"product_id": "p1"}', NULL, 'e-1', 'evil')},
	q{SELECT cdp.track_many('[{"identifiers": {"member_id": "e2"}, "name": "Product Viewed", "message_id": "e-2", "traits": {"x": 1}}, {"name": ""}]', 'reject')},
	q{SELECT count(ord) FROM cdp.identify_many('[{"identifiers": {"member_id": "e3"}}]')},
	q{SELECT cdp.resolve('member_id', 'e1')}, q{SELECT count(customer_id) FROM cdp.customer}, q{SELECT count(check_name) FROM cdp.health()});
push @calls, q{SELECT cdp.record_order('{"member_id": "e1"}', '{"order_id": "e1", "ordered_at": "2026-01-01Z", "amount": 5, "lines": [{"line_no": 1, "product_id": "p", "quantity": 1, "unit_price": 5}]}')} if cdp_has($node, $db, 'record_order');
push @calls, q{SELECT cdp.refund_order('e1', 1, 'x', 'e-r')} if cdp_has($node, $db, 'refund_order');
push @calls, q{SELECT cdp.normalize_phone('13800000000', '86'), cdp.normalize_name(' x ')};
cdp_works($node, $db, $path . join(";\n", @calls), 'the verbs work whatever the caller\'s search_path', @$app);
is($node->safe_psql($db, q{SELECT string_agg(DISTINCT wanted || ' as ' || who, ', ') FROM public.stolen WHERE who <> 'app'}), '', '... and nothing of his runs as another role');
is($node->safe_psql($db, q{SELECT count(*) FROM cdp.event WHERE message_id IN ('e-1', 'e-2') AND received_at > '2020-01-01Z'}), '2', '... his clock is not believed');
# does the trap close at all?
$node->safe_psql($db, q{SET search_path = evil, pg_catalog; SELECT 'a'::text = 'b'::text, now()});
is($node->safe_psql($db, q{SELECT count(*) FROM public.stolen WHERE who = current_user}), '2', '(the trap works)');
$node->safe_psql($db, 'TRUNCATE public.stolen');

# ---- the owner is no superuser and does not become one
$node->safe_psql($db, q{
	CREATE FUNCTION public.climb() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.stolen VALUES (current_user, TG_TABLE_NAME);
		BEGIN
			RESET ROLE;
			INSERT INTO public.stolen VALUES (current_user, 'RESET ROLE in ' || TG_TABLE_NAME);
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		BEGIN
			RESET SESSION AUTHORIZATION;
			INSERT INTO public.stolen VALUES (current_user, 'RESET SESSION AUTHORIZATION in ' || TG_TABLE_NAME);
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		RETURN NULL;
	END $$;
	CREATE FUNCTION cdp._health_evil() RETURNS TABLE (check_name text, ok boolean, detail text) LANGUAGE plpgsql AS
		$$BEGIN INSERT INTO public.stolen VALUES (current_user, 'health'); RETURN QUERY VALUES ('evil', true, current_user::text); END$$;
	DO $$DECLARE t regclass; BEGIN
		FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'cdp'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition LOOP
			EXECUTE format('CREATE TRIGGER climb AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH STATEMENT EXECUTE FUNCTION public.climb()', t);
		END LOOP;
	END$$}, extra_params => $keeper);
for my $sql (q{SELECT cdp.identify('{"member_id": "s1"}', '{"name": "s"}')}, q{SELECT cdp.track('{"member_id": "s1"}', 'Page Viewed', '{}', NULL, 's-1')},
	q{SELECT cdp.track_many('[{"identifiers": {"member_id": "s1"}, "name": "Page Viewed"}]')}, q{SELECT cdp.grant_access('reader', 'stranger')},
	q{SELECT cdp.revoke_access('reader', 'stranger')}, q{UPDATE cdp.meta SET value = '0.0.1' WHERE key = 'no'; CALL cdp.migrate()}, q{SELECT * FROM cdp.health()},
	map({ cdp_has($node, $db, /cdp\.(\w+)/) ? $_ : () } 'CALL cdp.schedule_jobs()', 'CALL cdp.unschedule_jobs()', 'CALL cdp.maintain_partitions()',
		'CALL cdp.prune_event_keys()', 'CALL cdp.retry_sources()', q{CALL cdp.run_job('maintain_partitions')}),
	cdp_has($node, $db, 'record_order') ? q{SELECT cdp.record_order('{"member_id": "s1"}', '{"order_id": "s1", "ordered_at": "2026-01-01Z", "amount": 5}')} : ()) {
	$node->safe_psql($db, 'TRUNCATE public.stolen');
	my ($rc, $out, $err) = $node->psql($db, $sql);
	is($rc, 0, "a superuser calls: $sql") or diag($err);
	is($node->safe_psql($db, q{SELECT string_agg(DISTINCT wanted, ', ') FROM public.stolen WHERE who NOT IN ('keeper')} . ($sql =~ /^UPDATE/ ? q{ AND wanted <> 'meta' AND wanted NOT LIKE '%meta'} : '')),
		'', '... the code of the tables\' owner runs as their owner');
}
# what the code of the owner sets is not set in the superuser's session
$node->safe_psql($db, q{CREATE FUNCTION public.sets() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN PERFORM set_config('search_path', 'public, pg_catalog', false), set_config('cdp.timezone', 'UTC', false); RETURN NULL; END$$;
	CREATE TRIGGER sets AFTER INSERT ON cdp.profile FOR EACH STATEMENT EXECUTE FUNCTION public.sets()}, extra_params => $keeper);
is($node->safe_psql($db, q{SET search_path = pg_catalog; SELECT cdp.identify('{"member_id": "s2"}') > 0;
	SELECT current_setting('search_path'), current_setting('cdp.timezone')}), "t\npg_catalog|Asia/Shanghai", 'settings of the owner\'s code end with it');
$node->safe_psql($db, 'DROP TRIGGER sets ON cdp.profile; DROP FUNCTION public.sets()', extra_params => $keeper);
# his rights are his own: nothing that is given to him can be taken from him
$node->safe_psql($db, q{SELECT cdp.grant_access('admin', 'keeper'), cdp.revoke_access('admin', 'keeper')});
cdp_works($node, $db, q{SELECT cdp.track('{"member_id": "s1"}', 'Page Viewed')}, 'an owner whose access is revoked is still the owner', @$keeper);
# what would fire at commit, when the superuser is himself again
$node->safe_psql($db, q{CREATE CONSTRAINT TRIGGER climb_late AFTER INSERT OR UPDATE ON cdp.access_grant DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.climb()}, extra_params => $keeper);
$node->safe_psql($db, 'TRUNCATE public.stolen');
$node->psql($db, q{SELECT cdp.grant_access('reader', 'stranger')});
$node->psql($db, q{DELETE FROM cdp.identifier_kind WHERE kind = 'device_id'; CALL cdp.migrate()});
is($node->safe_psql($db, q{SELECT count(*) FROM public.stolen WHERE who NOT IN ('keeper') AND wanted LIKE '%access_grant'}), '0', 'nothing of his fires at commit as the superuser');
$node->safe_psql($db, q{DROP TRIGGER climb_late ON cdp.access_grant; DROP FUNCTION public.climb() CASCADE; DROP FUNCTION cdp._health_evil()}, extra_params => $keeper);
# the tables still belong to him when a superuser migrates and repairs
$node->safe_psql($db, 'DROP EXTENSION customer_cdp CASCADE; CREATE EXTENSION customer_cdp; CALL cdp.migrate()');
is($node->safe_psql($db, q{SELECT count(*) FROM pg_class WHERE relnamespace = 'cdp'::regnamespace AND relowner <> 'keeper'::regrole AND relkind IN ('r', 'p', 'v', 'S')}), '0', 'a superuser who migrates leaves him the tables');
cdp_works($node, $db, q{SELECT cdp.track('{"member_id": "a-m5"}', 'Page Viewed')}, '... and their users the rights', @$app);

# ---- objects that wait for the one who installs
$node->safe_psql('postgres', 'CREATE DATABASE planted; GRANT CREATE ON DATABASE planted TO stranger');
$node->safe_psql('planted', 'CREATE SCHEMA cdp', extra_params => $stranger);
my $err = cdp_fails($node, 'planted', 'CREATE EXTENSION customer_cdp', '42501', 'the schema of a stranger is refused');
like($err, qr/HINT:.*ALTER SCHEMA cdp OWNER/, '... with a hint');
$node->safe_psql('planted', q{CREATE FUNCTION cdp.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''2000-01-01Z''::timestamptz'}, extra_params => $stranger);
cdp_fails($node, 'planted', 'SET row_security = off; CREATE EXTENSION customer_cdp', '42501', '... also in the guise of a restore, unless it is empty');
$node->safe_psql('planted', 'ALTER SCHEMA cdp OWNER TO CURRENT_USER');
cdp_fails($node, 'planted', 'CREATE EXTENSION customer_cdp', '42723', 'a planted function makes CREATE fail');
$node->safe_psql('planted', 'DROP SCHEMA cdp CASCADE; CREATE SCHEMA cdp; GRANT CREATE ON SCHEMA cdp TO stranger');
cdp_fails($node, 'planted', 'CREATE EXTENSION customer_cdp', '42501', 'a schema in which a stranger may create is refused');
# the owner of the database may create in the schema; a superuser who migrates first must not step into it
$node->safe_psql('postgres', 'CREATE DATABASE trap OWNER keeper');
$node->safe_psql('trap', 'CREATE EXTENSION customer_cdp');
$node->safe_psql('trap', q{CREATE TABLE cdp.identifier_kind (kind text PRIMARY KEY)}, extra_params => $keeper);
cdp_fails($node, 'trap', 'CALL cdp.migrate()', '42501', 'a superuser does not migrate over tables of the database\'s owner');
is($node->safe_psql('trap', q{SELECT to_regclass('cdp.meta') IS NULL}), 't', '... and nothing was made');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');
$node->stop;
done_testing();
