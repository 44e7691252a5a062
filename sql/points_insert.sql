-- points_insert: plain INSERT and COPY into the journal, and who may not write the tables of the ledger.
-- C: src/points_insert.c, src/points_guard.c  Page: doc/points_insert.md  Tests: test/sql/points_insert.sql, test/t/*_points_guard.pl

-- @code
CREATE OR REPLACE FUNCTION cdp._fill_points_entry() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_fill_points_entry';
COMMENT ON FUNCTION cdp._fill_points_entry() IS 'internal: checks a row that is inserted into cdp.points_entry and fills in entry_id and customer_id. Errors: 22004, 22023, 0A000';

CREATE OR REPLACE FUNCTION cdp._post_points_entries() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'cdp_post_points_entries';
COMMENT ON FUNCTION cdp._post_points_entries() IS 'internal: posts the rows that a statement inserted into cdp.points_entry, all or none. Errors: 23505 a known key, and those of cdp.earn_points() and cdp.spend_points()';

-- @data
-- Applying triggers are ordinary: a subscription and pg_restore bring rows whose effect comes with the other tables.
-- Refusing ones are ALWAYS.
CREATE OR REPLACE TRIGGER points_entry_fill BEFORE INSERT ON cdp.points_entry
	FOR EACH ROW EXECUTE FUNCTION cdp._fill_points_entry();
CREATE OR REPLACE TRIGGER points_entry_post AFTER INSERT ON cdp.points_entry
	REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION cdp._post_points_entries();
DECLARE
	t regclass;
BEGIN
	FOR t IN SELECT 'cdp.points_entry'::regclass UNION ALL SELECT i.inhrelid::regclass FROM pg_inherits i WHERE i.inhparent = 'cdp.points_entry'::regclass LOOP
		EXECUTE format('CREATE OR REPLACE TRIGGER points_entry_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s'
			' FOR EACH STATEMENT EXECUTE FUNCTION cdp._guard_points()', t);
		EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER points_entry_guard', t);
	END LOOP;
END;
