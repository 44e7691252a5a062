#!/bin/bash
# identify and identify_many.  Runs on the server of `make bench`; N customers of three identifiers, by turns.
#
#   identify, 2 known identifiers, over the wire, 1 client   >= 0.45 x prepared SELECT by primary key, table of the same size
#   the same inside the backend                              <= 15 us
#                                                            >= 4    x plain.upsert, plpgsql without limits that notes each
#                                                                      sighting
#   the rest are figures: over the wire, where a SELECT by key is the floor, and plain.identify, plpgsql without limits that
#   looks first and writes what is new, as ours does
#   identify_many, 1,000 new customers, 3 identifiers        >= 0.2  x INSERT .. SELECT of the same rows into profile,
#                                                                      identifier and identity_link
#   identify_many, 1,000 known ones                          >= 5    x the rate of single calls over the wire
set -eu
n=${N:-200000} rounds=${ROUNDS:-5} secs=${SECS:-3}
db=$PGDATABASE
q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
q -v n="$n" <<'X'
SET client_min_messages = warning;
SELECT count(*) FROM generate_series(0, :n / 10000 - 1) b, LATERAL cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers',
	jsonb_build_object('member_id', 'm' || b * 10000 + g, 'device_id', 'd' || b * 10000 + g, 'anonymous_id', 'a' || b * 10000 + g))) FROM generate_series(1, 10000) g)) x \g /dev/null
CREATE SCHEMA plain;
CREATE TABLE plain.pk (id bigint PRIMARY KEY, payload text);
INSERT INTO plain.pk SELECT g, 'm' || g FROM generate_series(1, 3 * :n) g;
-- what a project writes that has no such module: clean the values, look them up, make what is new, let what meets become
-- one, remember pairs and times; the loop with its EXCEPTION block is the documented way to live with others
CREATE FUNCTION plain.identify(ids jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE r record; i record; v text; best bigint; c bigint; customers bigint[]; rows bigint[]; p bigint;
BEGIN
	IF jsonb_typeof(ids) <> 'object' THEN
		RAISE EXCEPTION 'identifiers must be an object';
	END IF;
	LOOP
		BEGIN
			customers := '{}'; rows := '{}';
			FOR r IN SELECT e.key, e.value, k.priority FROM jsonb_each_text(ids) e JOIN cdp.identifier_kind k ON k.kind = e.key ORDER BY k.priority, e.key LOOP
				v := btrim(r.value);
				IF r.key = 'phone' THEN v := regexp_replace(v, '[^0-9+]', '', 'g'); ELSIF r.key = 'email' THEN v := lower(v); END IF;
				CONTINUE WHEN v = '' OR v ~ '^[-:. 0]*0[-:. 0]*$' OR lower(v) IN ('-1', 'null', 'undefined', 'none', 'unknown', 'anonymous', 'test', 'n/a');
				SELECT x.identifier_id, x.profile_id, x.last_seen INTO i FROM cdp.identifier x WHERE x.kind = r.key AND x.value = v AND x.valid_to IS NULL;
				IF NOT FOUND THEN
					IF customers = '{}' THEN
						INSERT INTO cdp.profile DEFAULT VALUES RETURNING profile_id INTO p;
					ELSE
						p := customers[1];
					END IF;
					INSERT INTO cdp.identifier (kind, value, profile_id, first_seen, last_seen) VALUES (r.key, v, p, now(), now())
						RETURNING identifier_id, profile_id, last_seen INTO i;
				ELSIF i.last_seen < now() - interval '1 day' THEN
					UPDATE cdp.identifier SET last_seen = now() WHERE identifier_id = i.identifier_id;
				END IF;
				SELECT a.customer_id INTO c FROM cdp.profile_alias a WHERE a.profile_id = i.profile_id;
				customers := customers || coalesce(c, i.profile_id);
				rows := rows || i.identifier_id;
			END LOOP;
			best := (SELECT min(x) FROM unnest(customers) x);
			FOR n IN 1 .. cardinality(customers) LOOP
				IF customers[n] <> best THEN
					PERFORM FROM cdp.profile WHERE profile_id IN (best, customers[n]) ORDER BY profile_id FOR NO KEY UPDATE;
					UPDATE cdp.profile_alias SET customer_id = best WHERE customer_id = customers[n];
					INSERT INTO cdp.profile_alias VALUES (customers[n], best);
				END IF;
				FOR m IN n + 1 .. cardinality(customers) LOOP
					INSERT INTO cdp.identity_link (identifier_a, identifier_b, rule, occurred_at)
					SELECT least(rows[n], rows[m]), greatest(rows[n], rows[m]), 'seen together', now()
					WHERE NOT EXISTS (SELECT FROM cdp.identity_link l WHERE l.identifier_a = least(rows[n], rows[m])
						AND l.identifier_b = greatest(rows[n], rows[m]) AND l.relation = 'same' AND l.revoked_at IS NULL AND l.refusal IS NULL);
				END LOOP;
			END LOOP;
			RETURN best;
		EXCEPTION WHEN unique_violation THEN
			NULL;	-- somebody else was faster: look again
		END;
	END LOOP;
END $$;
-- the same as it is written at first: every sighting notes its time, with INSERT .. ON CONFLICT DO UPDATE
CREATE FUNCTION plain.upsert(ids jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE r record; i record; p bigint; c bigint; best bigint; rows bigint[] := '{}'; customers bigint[] := '{}';
BEGIN
	SELECT min(x.profile_id) INTO p FROM jsonb_each_text(ids) e JOIN cdp.identifier x ON x.kind = e.key AND x.value = btrim(e.value) AND x.valid_to IS NULL;
	IF p IS NULL THEN
		INSERT INTO cdp.profile DEFAULT VALUES RETURNING profile_id INTO p;
	END IF;
	FOR r IN SELECT e.key, btrim(e.value) AS value FROM jsonb_each_text(ids) e ORDER BY e.key LOOP
		INSERT INTO cdp.identifier AS x (kind, value, profile_id, first_seen, last_seen) VALUES (r.key, r.value, p, now(), now())
			ON CONFLICT (kind, value) WHERE valid_to IS NULL DO UPDATE SET last_seen = excluded.last_seen
			RETURNING x.identifier_id, x.profile_id INTO i;
		SELECT a.customer_id INTO c FROM cdp.profile_alias a WHERE a.profile_id = i.profile_id;
		customers := customers || coalesce(c, i.profile_id);
		rows := rows || i.identifier_id;
	END LOOP;
	best := (SELECT min(x) FROM unnest(customers) x);
	FOR n IN 1 .. cardinality(rows) LOOP
		IF customers[n] <> best THEN
			UPDATE cdp.profile_alias SET customer_id = best WHERE customer_id = customers[n];
			INSERT INTO cdp.profile_alias VALUES (customers[n], best);
		END IF;
		FOR m IN n + 1 .. cardinality(rows) LOOP
			INSERT INTO cdp.identity_link (identifier_a, identifier_b, rule, occurred_at)
			VALUES (least(rows[n], rows[m]), greatest(rows[n], rows[m]), 'seen together', now())
			ON CONFLICT (identifier_a, identifier_b, relation) WHERE revoked_at IS NULL AND refusal IS NULL DO NOTHING;
		END LOOP;
	END LOOP;
	RETURN best;
END $$;
VACUUM ANALYZE;
X
tmp=$(mktemp -d)
cat > $tmp/pk.sql <<X
\set i random(1, $n)
SELECT payload FROM plain.pk WHERE id = :i;
X
cat > $tmp/ours.sql <<X
\set i random(1, $n)
SELECT cdp.identify(jsonb_build_object('member_id', 'm' || :i, 'device_id', 'd' || :i));
X
cat > $tmp/plpgsql.sql <<X
\set i random(1, $n)
SELECT plain.identify(jsonb_build_object('member_id', 'm' || :i, 'device_id', 'd' || :i));
X
cat > $tmp/upsert.sql <<X
\set i random(1, $n)
SELECT plain.upsert(jsonb_build_object('member_id', 'm' || :i, 'device_id', 'd' || :i));
X
tps() { PGOPTIONS='-c synchronous_commit=off' pgbench -n -M prepared -T $secs -c 1 -f "$1" $db 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p'; }
median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
row() { awk -v n="$1" -v a="$2" -v b="$3" -v want="$4" -v unit="$5" 'BEGIN {r = a / b; printf "%-52s %10.1f %10.1f %s  ratio %.2f  %s\n", n, a, b, unit, r, (want == "-" ? "" : "(at least " want ") " (r >= want ? "ok" : "MISSED"))}'; }
for f in pk ours plpgsql upsert; do tps $tmp/$f.sql >/dev/null; done
for i in $(seq $rounds); do for f in pk ours plpgsql upsert; do tps $tmp/$f.sql >> $tmp/$f.tps; done; done
single=$(median < $tmp/ours.tps)
row "identify, 2 known, against a lookup by key" $single $(median < $tmp/pk.tps) 0.45 "calls/s"
row "over the wire, against plpgsql, upserts" $single $(median < $tmp/upsert.tps) - "calls/s"
row "over the wire, against plpgsql that looks first" $single $(median < $tmp/plpgsql.tps) - "calls/s"

q <<'X'
CREATE PROCEDURE plain.loop(times int, n int, how text, INOUT us float8 DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE ids jsonb[]; t timestamptz; x bigint;
BEGIN
	SELECT array_agg(jsonb_build_object('member_id', 'm' || 1 + g::bigint * 7919 % n, 'device_id', 'd' || 1 + g::bigint * 7919 % n)) INTO ids FROM generate_series(1, times) g;
	t := clock_timestamp();
	IF how = 'ours' THEN
		FOR i IN 1 .. times LOOP x := cdp.identify(ids[i]); END LOOP;
	ELSIF how = 'upsert' THEN
		FOR i IN 1 .. times LOOP x := plain.upsert(ids[i]); END LOOP;
	ELSIF how = 'plpgsql' THEN
		FOR i IN 1 .. times LOOP x := plain.identify(ids[i]); END LOOP;
	ELSE
		FOR i IN 1 .. times LOOP x := jsonb_typeof(ids[i])::name::text::"char"::int; END LOOP;
	END IF;
	us := extract(epoch FROM clock_timestamp() - t) * 1e6 / times;
END $$;
-- rows per second of 1,000 items in one statement
CREATE PROCEDURE plain.many(kind text, n int, INOUT rate float8 DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE items jsonb; t timestamptz; spent interval := '0'; base bigint := floor(random() * 1e9)::bigint * 1000; i_from bigint; p_from bigint;
BEGIN
	FOR r IN 1 .. 10 LOOP
		SELECT jsonb_agg(jsonb_build_object('identifiers', CASE many.kind WHEN 'known' THEN jsonb_build_object('member_id', 'm' || k, 'device_id', 'd' || k)
			ELSE jsonb_build_object('member_id', 'n' || base + g, 'device_id', 'e' || base + g, 'anonymous_id', 'b' || base + g) END))
		INTO items FROM (SELECT g, 1 + (g * 7919 + r * 104729) % n AS k FROM generate_series(1, 1000) g) x;
		base := base + 1000;
		IF many.kind <> 'plain' THEN
			t := clock_timestamp();
			PERFORM count(*) FROM cdp.identify_many(items);
			spent := spent + (clock_timestamp() - t);
			CONTINUE;
		END IF;
		-- the rows that the module would write, by set-based SQL
		SELECT max(profile_id) INTO p_from FROM cdp.profile;
		SELECT max(identifier_id) INTO i_from FROM cdp.identifier;
		PERFORM count(*) FROM cdp.identify_many(items);
		CREATE TEMP TABLE p ON COMMIT DROP AS SELECT * FROM cdp.profile WHERE profile_id > p_from;
		CREATE TEMP TABLE i ON COMMIT DROP AS SELECT * FROM cdp.identifier WHERE identifier_id > i_from;
		CREATE TEMP TABLE l ON COMMIT DROP AS SELECT * FROM cdp.identity_link WHERE identifier_a > i_from;
		t := clock_timestamp();
		INSERT INTO plain.profile SELECT * FROM p;
		INSERT INTO plain.identifier SELECT * FROM i;
		INSERT INTO plain.identity_link SELECT * FROM l;
		spent := spent + (clock_timestamp() - t);
		DROP TABLE p, i, l;
	END LOOP;
	rate := 10 * 1000 / extract(epoch FROM spent);
END $$;
CREATE TABLE plain.profile (LIKE cdp.profile INCLUDING ALL EXCLUDING IDENTITY);
CREATE TABLE plain.identifier (LIKE cdp.identifier INCLUDING ALL EXCLUDING IDENTITY);
CREATE TABLE plain.identity_link (LIKE cdp.identity_link INCLUDING ALL EXCLUDING IDENTITY);
INSERT INTO plain.profile SELECT * FROM cdp.profile;
INSERT INTO plain.identifier SELECT * FROM cdp.identifier;
INSERT INTO plain.identity_link SELECT * FROM cdp.identity_link;
VACUUM ANALYZE;
X
for i in $(seq $rounds); do
	for k in ours plpgsql upsert; do q -c "CALL plain.loop(20000, $n, '$k')" >> $tmp/$k.us; done
	for k in plain new known; do q -c "CALL plain.many('$k', $n)" >> $tmp/$k.rate; done
done
ours=$(median < $tmp/ours.us)
awk -v a=$ours 'BEGIN {printf "%-52s %10.1f us  (at most 15) %s\n", "identify, 2 known, inside the backend", a, (a <= 15 ? "ok" : "MISSED")}'
row "the same, against plpgsql, upserts" $(median < $tmp/upsert.us) $ours 4 "us"
row "the same, against plpgsql that looks first" $(median < $tmp/plpgsql.us) $ours - "us"
row "identify_many, 1,000 new of 3 identifiers" $(median < $tmp/new.rate) $(median < $tmp/plain.rate) 0.2 "customers/s"
row "identify_many, 1,000 known, against single calls" $(median < $tmp/known.rate) $single 5 "calls/s"
rm -rf $tmp
