# identify_many is identify, item by item: three databases with the same customers get the same stream, one in single
# calls, one in small batches, one in as few calls as there may be.  Answers and tables are equal to the last profile_id
# and merge_id; of identifiers and links, whose own ids follow the order of a batch's inserts, everything else is.
# CDP_MANY_ITEMS (default 3000) is the length of the stream; 100000 is the longest call.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{CDP_SEED} // int(rand(1_000_000));
my $n = $ENV{CDP_MANY_ITEMS} // 3000;
note "seed $seed, $n items";
my $node = cdp_server('identity_many');
$node->append_conf('postgresql.conf', q{
fsync = off
synchronous_commit = off
cdp.now = '2026-03-01 09:00:00+08'
cdp.generic_after = 5
cdp.max_profiles_per_customer = 12
});
$node->restart;

# customers whom everybody knows, and rules that a stream like this one breaks
cdp_install($node, 'single');
my $known = int($n / 4) + 10;
my $apart = int($n / 100) + 1;
$node->safe_psql('single', qq{
	UPDATE cdp.identifier_kind SET max_per_customer = 2 WHERE kind = 'member_id';
	UPDATE cdp.identifier_kind SET max_per_customer = 2, ttl = '60 days' WHERE kind = 'phone';
	UPDATE cdp.identifier_kind SET max_per_customer = 2, max_window = '30 days' WHERE kind = 'email';
	INSERT INTO cdp.trait_definition (trait, value_type) VALUES ('n', 'integer');
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('occurred_at', '2025-02-01T00:00:00+08:00', 'identifiers',
		jsonb_build_object('member_id', 'm' || g, 'phone', '13800' || 100000 + g, 'device_id', 'd' || g))) FROM generate_series(1, $known) g));
	-- the pairs (m1, m2), (m3, m4) … are kept apart
	SELECT cdp.merge_customers(cdp.resolve('member_id', 'm' || 2 * g), cdp.resolve('member_id', 'm' || 2 * g - 1), 'for a moment'),
		cdp.unmerge_customer(cdp.resolve('member_id', 'm' || 2 * g), 'not one') FROM generate_series(1, $apart) g;
	INSERT INTO cdp.identifier_tombstone (hash, kind) VALUES (cdp._tombstone_hash('device_id', 'erased'), 'device_id');
	CREATE TABLE stream (i int PRIMARY KEY, what text, item jsonb);
	SELECT setseed($seed / 1000000.0);
	-- every item is about two customers k and l that are known, or new
	INSERT INTO stream
	SELECT i, what, jsonb_build_object('source', what, 'occurred_at', timestamptz '2025-03-01 00:00+08' + i * (interval '300 days' / $n)
			- late * interval '40 days',
		'identifiers', CASE what
			WHEN 'new' THEN jsonb_build_object('member_id', 'n' || i, 'device_id', 'e' || i, 'anonymous_id', ARRAY['a' || i, 'b' || i])
			WHEN 'known' THEN jsonb_build_object('member_id', 'm' || k, 'device_id', 'd' || k)
			WHEN 'merging' THEN jsonb_build_object('device_id', 'd' || k, 'anonymous_id', 'a' || l, 'email', l % ($n / 20 + 5) || '\@example.com')
			WHEN 'limit' THEN jsonb_build_object('member_id', 'm' || k, 'phone', ARRAY['13800' || 100000 + l, '13900' || 100000 + i])
			WHEN 'members' THEN jsonb_build_object('member_id', ARRAY['m' || k, 'm' || l])
			WHEN 'apart' THEN jsonb_build_object('member_id', 'm' || 2 * (1 + k % $apart), 'device_id', 'd' || 2 * (1 + k % $apart) - 1)
			WHEN 'blocked' THEN jsonb_build_object('member_id', 'm' || k, 'device_id', ARRAY['unknown', 'erased'], 'phone', '0000000', 'email', 'nobody')
			WHEN 'tablet' THEN jsonb_build_object('phone', '13800' || 100000 + k, 'device_id', 'tablet' || l % ($n / 2000 + 1))
			WHEN 'chain' THEN jsonb_build_object('anonymous_id', 'c' || k % ($n / 20 + 5), 'device_id', 'c' || l % ($n / 20 + 5))
			WHEN 'bad' THEN (ARRAY['{"device_id": "none"}', '{"phone": 1380000000}', '{"nobody": "x"}', '[]', '{"member_id": ["m1", {}]}', 'null'])[1 + k % 6]::jsonb
			END) || CASE WHEN i % 3 = 0 THEN jsonb_build_object('traits', jsonb_build_object('city', 'c' || k % 7, 'n', CASE WHEN k % 11 = 0 THEN '"x"' ELSE to_jsonb(l) END)) ELSE '{}' END
	FROM (SELECT i, (random() < 0.1)::int AS late, 1 + floor(random() * $known)::int AS k, 1 + floor(random() * $known)::int AS l,
		(string_to_array('new new new known known known known merging merging limit members apart blocked tablet tablet chain chain bad', ' '))[1 + floor(random() * 18)::int] AS what
		FROM generate_series(1, $n) i) s;
	CREATE TABLE answer (i int PRIMARY KEY, profile_id bigint, customer_id bigint);
	CREATE FUNCTION identified(item jsonb) RETURNS bigint LANGUAGE plpgsql AS \$\$
	BEGIN
		RETURN cdp.identify(nullif(item -> 'identifiers', 'null'), item -> 'traits', item ->> 'source', (item ->> 'occurred_at')::timestamptz);
	EXCEPTION WHEN null_value_not_allowed OR invalid_parameter_value OR SQLSTATE 'LC101' THEN
		RETURN NULL;
	END \$\$;
	-- calls of 1 to most items; 0: single ones
	CREATE PROCEDURE feed(most int, seed float8) LANGUAGE plpgsql AS \$\$
	DECLARE first int := 1; size int := 1;
	BEGIN
		PERFORM setseed(seed);
		WHILE first <= $n LOOP
			IF most = 0 THEN
				INSERT INTO answer SELECT i, NULL, identified(item) FROM stream WHERE i = first;
			ELSE
				size := CASE WHEN most = 100000 THEN most ELSE 1 + floor(random() * most)::int END;
				INSERT INTO answer SELECT first + ord - 1, profile_id, customer_id FROM cdp.identify_many(
					(SELECT jsonb_agg(item ORDER BY i) FROM stream WHERE i BETWEEN first AND first + size - 1), 'skip');
			END IF;
			first := first + size;
			COMMIT;
		END LOOP;
	END \$\$;
	ANALYZE});
$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE single") for 'few', 'many';
for (['single', 0], ['few', 40], ['many', 100_000])
{
	my ($db, $most) = @$_;
	my $start = time;
	$node->safe_psql($db, "CALL feed($most, $seed / 1000000.0)", timeout => 3600);
	note sprintf '%s: %d s', $db, time - $start;
}

# what a single call refuses as a whole leaves no trace, a batch that skips it notes it
my $ident = q{(SELECT row(i.kind, i.value, i.profile_id, i.valid_to)::text FROM cdp.identifier i WHERE i.identifier_id = %s)};
my $of_link = 'relation, rule, source, occurred_at, linked_at, merge_id, refusal, revoked_at';
my $link = sprintf "SELECT least(a, b), greatest(a, b), $of_link FROM (SELECT $ident AS a, $ident AS b,"
	. " $of_link FROM cdp.identity_link) l",
	'identifier_a', 'identifier_b';
my @tables = (
	['answers', 'SELECT i, customer_id FROM answer', 'single'],
	['answers with their profiles', 'SELECT i, profile_id, customer_id FROM answer', 'few'],
	['profile', 'SELECT profile_id, created_at, traits FROM cdp.profile', 'single'],
	['identifier', 'SELECT kind, value, profile_id, first_seen, last_seen, source, valid_to, generic_since FROM cdp.identifier', 'single'],
	['profile_alias', 'SELECT profile_id, customer_id FROM cdp.profile_alias', 'single'],
	['identity_link', $link, 'single'],
	['merge_log', 'SELECT merge_id, action, customer_id, other_id, rule, reason, at, before, after FROM cdp.merge_log', 'single'],
	['merge_refusal', sprintf("SELECT reason, kind, $ident, customer_id, other_id, source, occurred_at, times FROM cdp.merge_refusal m", 'm.identifier_id'), 'few'],
	['merge_refusal of what was taken', sprintf("SELECT reason, kind, $ident, customer_id, other_id, source, occurred_at, times FROM cdp.merge_refusal m"
		. ' WHERE source <> \'bad\'', 'm.identifier_id'), 'single'],
	['profile_trait', 'SELECT profile_id, trait, source, value, observed_at FROM cdp.profile_trait', 'single'],
	['trait_reject', 'SELECT trait, profile_id, source, found_type, count(*) FROM cdp.trait_reject GROUP BY 1, 2, 3, 4', 'single'],
	['event', 'SELECT name, profile_id, occurred_at, properties, message_id, source FROM cdp.event', 'single']);
for (@tables)
{
	my ($what, $sql, $against) = @$_;
	my @sides = map { [split /\n/, $node->safe_psql($_, "SELECT t::text FROM ($sql) t ORDER BY t::text COLLATE \"C\"")] } $against, 'many';
	my (%only, @differ);
	$only{$_}++ for @{ $sides[0] };
	$only{$_}-- for @{ $sides[1] };
	@differ = grep { $only{$_} } sort keys %only;
	ok(@{ $sides[0] } && !@differ, "$what: " . @{ $sides[0] } . ' rows as by ' . ($against eq 'few' ? 'small batches' : 'single calls'));
	diag(($only{$_} > 0 ? "only $against: " : 'only many: ') . $_) for @differ[0 .. ($#differ < 9 ? $#differ : 9)];
}
# the stream has what it promises
for (['limit', 'limits'], ['kept_apart', 'judgements'], ['generic_value', 'generic values'], ['blocked_value', 'blocked values'],
	['invalid_value', 'invalid values'], ['tombstone', 'erased values'], ['customer_too_large', 'large customers'])
{
	cmp_ok($node->safe_psql('many', "SELECT coalesce(sum(times), 0) FROM cdp.merge_refusal WHERE reason = '$_->[0]'"), '>', 0, "the stream meets $_->[1]");
}
cmp_ok($node->safe_psql('many', 'SELECT count(*) FROM cdp.identifier WHERE valid_to IS NOT NULL'), '>', 0, 'the stream meets recycled phones');
cmp_ok($node->safe_psql('many', 'SELECT count(*) FROM cdp.profile_alias'), '>', $n / 50, 'the stream merges');
is($node->safe_psql('many', 'SELECT * FROM cdp.verify_identity()'), '', 'the partition is sound');
$node->stop;
done_testing();
