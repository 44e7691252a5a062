# Bytes that nobody should send: every truncation and random mutations of sound bytes, in both Roaring formats, in the
# binary form and in text.  Each is refused with 22P03 (text: 22P02, 22003, 54000) or is an audience whose own bytes and
# text read as itself; the server goes on.  CDP_SEED chooses another run, CDP_FUZZ how many times as many (make fuzz).
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More tests => 8;

my $seed = $ENV{CDP_SEED} // 20260101;
my $times = $ENV{CDP_FUZZ} // 1;
note "seed $seed (CDP_SEED chooses another)";
my $node = cdp_server('main');
$node->append_conf('postgresql.conf', "log_min_messages = fatal\nlog_min_error_statement = panic");
$node->reload;
my $file = $node->data_dir . '/audience.bin';
$node->safe_psql('postgres', 'CREATE EXTENSION customer_cdp; ALTER DATABASE postgres SET search_path = public, cdp');
$node->safe_psql('postgres', q{
	CREATE TABLE good (id int, audience cdp.audience);
	INSERT INTO good SELECT row_number() OVER (), t::cdp.audience FROM unnest(ARRAY['{}', '{1,3}', '{1-5,9}', '{5,70000,140000,210000}', '{1-5,70000,140000,210000-220000}',
		'{0-65535}', '{65535,65536}', '{0-10,20-30,40-50,65530-65540}', '{4294967295}', '{1,2,3,131072-262143}']) t;
	-- a bitset, a full array, and those beside others
	INSERT INTO good SELECT 11, cdp.audience_agg(i * 16) FROM generate_series(0, 4095) i;
	INSERT INTO good SELECT 12, cdp.audience_agg(i * 3) FROM generate_series(0, 30000) i;
	INSERT INTO good SELECT 13, cdp.audience_union(audience) FROM good;
	INSERT INTO good SELECT 14, '{4294967296-4294967300,8589934592,9223372036854775807}'::cdp.audience | audience FROM good WHERE id = 7;
	INSERT INTO good SELECT 15, '{4294967296-4294967300,9223372036854775807}'::cdp.audience | audience FROM good WHERE id = 13;

	CREATE FUNCTION bytes_of(a cdp.audience, form text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
		SELECT CASE form WHEN '32' THEN (a & '{0-4294967295}')::bytea WHEN '64' THEN cdp.audience_to_roaring64(a) WHEN 'text' THEN convert_to(a::text, 'UTF8')
			ELSE cdp._audience_send(a) END $$;
	-- what becomes of bytes: sound, a code, or a wrong answer in words
	CREATE FUNCTION answer(b bytea, form text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		a cdp.audience;
	BEGIN
		IF form = '32' THEN a := b::cdp.audience;
		ELSIF form = '64' THEN a := cdp.audience_from_roaring64(b);
		ELSE
			BEGIN
				a := convert_from(b, 'UTF8')::cdp.audience;
			EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
				RETURN '22P02';
			END;
			-- a digit more is a set that takes long to list
			IF audience_count(a) > 1000000 THEN RETURN 'sound'; END IF;
		END IF;
		IF a::text::audience <> a OR audience_from_roaring64(audience_to_roaring64(a)) <> a OR cardinality(a::bigint[]) <> audience_count(a) THEN
			RETURN 'unsound';
		END IF;
		RETURN 'sound';
	EXCEPTION WHEN OTHERS THEN
		RETURN sqlstate || CASE WHEN sqlstate NOT IN ('22P02', '22P03', '22003', '54000') THEN ' ' || sqlerrm ELSE '' END;
	END $$;
	CREATE FUNCTION damaged(good bytea) RETURNS bytea LANGUAGE plpgsql VOLATILE AS $$
	DECLARE
		b bytea := good;
		n int := length(b);
		k int;
	BEGIN
		FOR i IN 1 .. 1 + floor(random() ^ 3 * 4)::int LOOP
			-- heads are small and decide most: half of the changes go there
			k := floor(random() * CASE WHEN random() < 0.5 THEN least(n, 60) ELSE n END)::int;
			b := CASE floor(random() * 5)::int
				WHEN 0 THEN set_byte(b, k, (ARRAY[0, 1, 255, 127, 128, 58, 59])[1 + floor(random() * 7)::int])
				WHEN 1 THEN set_byte(b, k, floor(random() * 256)::int)
				WHEN 2 THEN set_bit(b, 8 * k + floor(random() * 8)::int, 1 - get_bit(b, 8 * k + floor(random() * 8)::int))
				WHEN 3 THEN substr(b, 1, k) || substr(b, k + 1 + floor(random() * 9)::int)
				ELSE substr(b, 1, k) || substr(b, 1 + floor(random() * n)::int, floor(random() * 9)::int) || substr(b, k + 1) END;
			n := length(b);
			EXIT WHEN n = 0;
		END LOOP;
		RETURN b;
	END $$;
	-- the binary form has no function to call: it comes with a COPY, to a trigger that looks at it and keeps no row
	CREATE TABLE came (audience cdp.audience);
	CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM set_config('fuzz.came', CASE WHEN NEW.audience::text::audience = NEW.audience THEN 'sound' ELSE 'unsound' END, false);
		RETURN NULL;
	END $$;
	CREATE TRIGGER look BEFORE INSERT ON came FOR EACH ROW EXECUTE FUNCTION look();
	CREATE FUNCTION copied(b bytea, path text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM set_config('fuzz.came', 'nothing came', false);
		EXECUTE format('COPY (SELECT %L::bytea) TO %L (FORMAT binary)', b, path);
		EXECUTE format('COPY came FROM %L (FORMAT binary)', path);
		RETURN current_setting('fuzz.came');
	EXCEPTION WHEN OTHERS THEN
		RETURN sqlstate || CASE WHEN sqlstate NOT IN ('22P03', '22003') THEN ' ' || sqlerrm ELSE '' END;
	END $$;
});
my $pid = $node->safe_psql('postgres', 'SELECT setseed(0)') . $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

# every truncation: of the small ones all, of the large ones all heads and every 64th byte
for my $form ('32', '64')
{
	is($node->safe_psql('postgres', qq{WITH g AS MATERIALIZED (SELECT bytes_of(audience, '$form') AS b FROM good)
		SELECT string_agg(DISTINCT answer(substr(b, 1, k), '$form'), ' ') FROM g, generate_series(0, length(b) - 1) k WHERE k < 400 OR k % 64 = 0 OR k > length(b) - 20}), '22P03', "no truncation is read, $form bits");
}
for my $part ([ '32', 47000, '22003|22P03|sound' ], [ '64', 47000, '22003|22P03|sound' ], [ 'text', 1000, '22003|22P02|54000|sound' ])
{
	my ($form, $n, $allowed) = @$part;
	$n *= $times;
	my $said = $node->safe_psql('postgres', qq{SELECT setseed(($seed % 1000) / 1000.0);
		WITH g AS MATERIALIZED (SELECT row_number() OVER (ORDER BY id) - 1 AS i, b FROM good, LATERAL (SELECT bytes_of(audience, '$form') AS b) x WHERE length(b) < 9000 AND b <> ''),
		m AS MATERIALIZED (SELECT damaged(g.b) AS b FROM generate_series(1, $n) k JOIN g ON g.i = k % (SELECT count(*) FROM g))
		SELECT string_agg(a || '=' || n, ' ' ORDER BY a) FROM (SELECT answer(b, '$form') AS a, count(*) AS n FROM m GROUP BY 1) x});
	$said =~ s/^\n//;
	note "$n mutations, $form: $said";
	like($said, qr/^(($allowed)=\d+ ?)+$/, "$n mutations, $form: refused or sound");
}
my $n = 6000 * $times;
my $said = $node->safe_psql('postgres', qq{SELECT setseed(($seed % 1000) / 1000.0);
	WITH g AS MATERIALIZED (SELECT row_number() OVER (ORDER BY id) - 1 AS i, b FROM good, LATERAL (SELECT bytes_of(audience, 'binary') AS b) x WHERE length(b) < 9000)
	SELECT string_agg(a || '=' || n, ' ' ORDER BY a) FROM (SELECT copied(CASE WHEN k % 5 = 0 THEN substr(g.b, 1, k % length(g.b)) ELSE damaged(g.b) END, '$file') AS a, count(*) AS n
		FROM generate_series(1, $n) k JOIN g ON g.i = k % (SELECT count(*) FROM g) GROUP BY 1) x});
$said =~ s/^\n//;
note "$n binary forms: $said";
like($said, qr/^((22003|22P03|sound)=\d+ ?)+$/, "$n binary forms: refused or sound");
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT answer(b, '32'), ' ') FROM (SELECT bytes_of(audience, '32') AS b FROM good) x}), 'sound', 'what was not damaged is sound');
is($node->safe_psql('postgres', 'SELECT setseed(0)') . $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $pid, 'the server did not restart');
$node->stop;
