-- value_affinity: which products go together, and what to offer a customer.
--
-- Two products go together when the same customers bought both.  A customer counts once, however often he bought; what
-- he bought is what the orders of a window say.  With N customers, a and b of them buying either product, c both:
--
--	lift       = c * N / (a * b)			how much more often than by chance
--	affinity   = (c - a * b / N) / (sqrt(a * b) + 10)
--
-- Affinity is the cosine of item-to-item filtering (Linden, Smith, York 2003) with two amendments: what chance gives is
-- taken off, or everything would go best with the bag that everybody buys; and 10 is added, or two rare products that
-- met once would win.  Lists are in its order.  The job counts the pairs of the last 365 days: it writes who bought what into
-- a scratch table, then takes products in batches, each of about so many buyers, and keeps the 100 products
-- that go best with each.  A batch writes only pairs whose count changed.  Counts alone are stored, lift follows when it is
-- asked for: it moves with every new customer.
--
-- Page: doc/value_affinity.md  Tests: test/sql/value_affinity.sql, test/pgtap/value_affinity.sql

-- @type
CREATE TYPE cdp.product_affinity AS (product_id text, customers bigint, lift float8);
COMMENT ON TYPE cdp.product_affinity IS 'A product that goes with another one: what cdp.also_bought answers.';
COMMENT ON COLUMN cdp.product_affinity.product_id IS 'the product';
COMMENT ON COLUMN cdp.product_affinity.customers IS 'who bought both, each once';
COMMENT ON COLUMN cdp.product_affinity.lift IS 'how much more often than by chance; 1 is chance';

-- @code
CREATE OR REPLACE FUNCTION cdp._affinity(together bigint, a bigint, b bigint, customers bigint) RETURNS float8
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (together - a::float8 * b::float8 / customers) / (sqrt(a::float8 * b::float8) + 10);
COMMENT ON FUNCTION cdp._affinity(bigint, bigint, bigint, bigint) IS 'internal: how well two products go together, from how many customers bought both, the one, the other, and anything; 0 is chance';

CREATE OR REPLACE FUNCTION cdp._check_list(n int) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF n IS NULL THEN
		RAISE EXCEPTION 'n must not be NULL' USING ERRCODE = 'null_value_not_allowed', HINT = 'It is how many products are wanted; leave it out for 10.';
	ELSIF n NOT BETWEEN 1 AND 10000 THEN
		RAISE EXCEPTION 'n is %', n USING ERRCODE = 'invalid_parameter_value', HINT = 'It is how many products are wanted, 1 to 10,000.';
	END IF;
END $$;
COMMENT ON FUNCTION cdp._check_list(int) IS 'internal: 22004 or 22023 unless n is a length of a list';

CREATE OR REPLACE PROCEDURE cdp.refresh_product_pairs(batch int DEFAULT 100000) LANGUAGE plpgsql
AS $$
DECLARE
	run   bigint;
	total bigint;
	step  record;
	upto  text := '';
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._require_version();
	IF batch IS NULL OR batch NOT BETWEEN 1 AND 10000000 THEN
		RAISE EXCEPTION 'batch is %', coalesce(batch::text, 'NULL') USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It is the number of buyers whose products are paired in one transaction, 1 to 10,000,000; the default is 100,000.';
	END IF;
	run := cdp._job_begin('refresh_product_pairs');
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM cdp._job_step(run);
	total := cdp._pairs_begin();
	PERFORM cdp._job_progress(run, 0, total);
	COMMIT;
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	LOOP
		PERFORM cdp._job_step(run);
		SELECT * INTO step FROM cdp._pairs_step(upto, batch);
		EXIT WHEN step.upto IS NULL;
		upto := step.upto;
		PERFORM cdp._job_progress(run, step.buyers);
		COMMIT;
		PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	END LOOP;
	PERFORM cdp._pairs_end();
	PERFORM cdp._job_end(run);
END $$;
COMMENT ON PROCEDURE cdp.refresh_product_pairs(int) IS 'Counts anew which products the same customers bought, in the 365 days up to cdp.now(), into cdp.product_pair and cdp.product_popularity. batch: about how many buyers of products one transaction works on. Only counts that changed are written. Progress, in buyers, in cdp.job_status; stopped and started again it begins anew. Commits, so it cannot run inside a transaction. Errors: 22023 batch out of range, 55006 it is running already.';

-- @access
('function', 'refresh_product_pairs', 'EXECUTE', '{operator}'),
('function', '_pairs_begin', 'EXECUTE', '{operator}'),
('function', '_pairs_step', 'EXECUTE', '{operator}'),
('function', '_pairs_end', 'EXECUTE', '{operator}'),
('function', 'also_bought', 'EXECUTE', '{reader,application}'),
('function', 'recommend_products', 'EXECUTE', '{reader,application}'),
('table', 'product_pair', 'SELECT', '{reader}'),
('table', 'product_popularity', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('product_popularity', $t$ (
	product_id   text PRIMARY KEY,
	customers    bigint NOT NULL,
	of_customers bigint NOT NULL,
	product_no   int NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE
) $t$);
CREATE INDEX IF NOT EXISTS product_popularity_customers ON cdp.product_popularity (customers DESC, product_id COLLATE "C");
COMMENT ON TABLE cdp.product_popularity IS 'Products by how many customers bought them in the 365 days before the last CALL cdp.refresh_product_pairs().';
COMMENT ON COLUMN cdp.product_popularity.product_id IS 'as order lines have it; it may be missing in cdp.product';
COMMENT ON COLUMN cdp.product_popularity.customers IS 'who bought it, each once';
COMMENT ON COLUMN cdp.product_popularity.of_customers IS 'who bought anything, the same in every row';
COMMENT ON COLUMN cdp.product_popularity.product_no IS 'internal: stands for the product while pairs are counted';

PERFORM cdp._ensure_table('product_pair', $t$ (
	product_pair_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	product_id       text NOT NULL,
	other_product_id text NOT NULL,
	customers        bigint NOT NULL,
	UNIQUE (product_id, other_product_id)
) $t$);
COMMENT ON TABLE cdp.product_pair IS 'Which products the same customers bought, in the 365 days before the last CALL cdp.refresh_product_pairs(): for each product the 100 that go best with it; cdp.also_bought() reads it.';
COMMENT ON COLUMN cdp.product_pair.product_id IS 'who bought this';
COMMENT ON COLUMN cdp.product_pair.other_product_id IS 'bought this, too; the pair the other way round is a row of its own, if it is among the 100 there';
COMMENT ON COLUMN cdp.product_pair.customers IS 'who bought both, each once';

PERFORM cdp._ensure_table('product_buyer', $t$ (
	customer_id bigint NOT NULL,
	product_no  int NOT NULL,
	PRIMARY KEY (customer_id, product_no)
) $t$);
CREATE INDEX IF NOT EXISTS product_buyer_product ON cdp.product_buyer (product_no);
COMMENT ON TABLE cdp.product_buyer IS 'internal: scratch of cdp.refresh_product_pairs(), empty while it does not run';

INSERT INTO cdp.job (job, command, schedule, description)
	VALUES ('refresh_product_pairs', 'CALL cdp.refresh_product_pairs()', '23 19 * * *', 'counts which products go together')
	ON CONFLICT (job) DO NOTHING;

-- @view
CREATE OR REPLACE FUNCTION cdp._product_buyers(from_time timestamptz, to_time timestamptz)
	RETURNS TABLE (customer_id bigint, product_id text)
	LANGUAGE sql STABLE ROWS 1000000
BEGIN ATOMIC
	SELECT d.customer_id, d.product_id FROM (
		SELECT coalesce(a.customer_id, o.profile_id) AS customer_id, l.product_id,
			row_number() OVER (PARTITION BY coalesce(a.customer_id, o.profile_id) ORDER BY max(o.ordered_at) DESC, l.product_id COLLATE "C") AS n
		FROM cdp.sales_order o JOIN cdp.sales_order_line l ON l.order_id = o.order_id
		LEFT JOIN cdp.profile_alias a ON a.profile_id = o.profile_id
		WHERE cdp._is_purchase(o.status) AND (o.refunded < o.amount OR o.amount = 0)
		  AND o.ordered_at > _product_buyers.from_time AND o.ordered_at <= _product_buyers.to_time
		  AND l.quantity > 0 AND coalesce(l.unit_price, 0) >= 0
		GROUP BY 1, 2) d
	WHERE d.n <= 200;
END;
COMMENT ON FUNCTION cdp._product_buyers(timestamptz, timestamptz) IS 'internal: who bought which product after from_time and up to to_time, each pair once; of one customer the 200 products bought last';

CREATE OR REPLACE FUNCTION cdp._pairs_begin() RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
-- TRUNCATE gives the room of the last run back at once; nobody else reads the table
DECLARE
	n   bigint;
	who bigint;
BEGIN
	PERFORM cdp._require_version();
	TRUNCATE cdp.product_buyer;
	INSERT INTO cdp.product_popularity (product_id, customers, of_customers)
		SELECT l.product_id, 0, 0 FROM (SELECT DISTINCT l.product_id FROM cdp.sales_order_line l) l
		WHERE NOT EXISTS (SELECT FROM cdp.product_popularity p WHERE p.product_id = l.product_id)
		ORDER BY l.product_id COLLATE "C" ON CONFLICT DO NOTHING;
	INSERT INTO cdp.product_buyer (customer_id, product_no)
		SELECT b.customer_id, p.product_no FROM cdp._product_buyers(cdp.now() - interval '365 days', cdp.now()) b
		JOIN cdp.product_popularity p ON p.product_id = b.product_id;
	GET DIAGNOSTICS n = ROW_COUNT;
	ANALYZE cdp.product_buyer;
	SELECT count(DISTINCT b.customer_id) INTO who FROM cdp.product_buyer b;
	DELETE FROM cdp.product_popularity p WHERE NOT EXISTS (SELECT FROM cdp.product_buyer b WHERE b.product_no = p.product_no);
	UPDATE cdp.product_popularity p SET customers = c.customers, of_customers = who
	FROM (SELECT b.product_no, count(*) AS customers FROM cdp.product_buyer b GROUP BY b.product_no) c
	WHERE c.product_no = p.product_no AND (p.customers, p.of_customers) <> (c.customers, who);
	ANALYZE cdp.product_popularity;
	RETURN n;
END $$;
COMMENT ON FUNCTION cdp._pairs_begin() IS 'internal: first step of cdp.refresh_product_pairs(): who bought what, and popularity; answers the number of buyers of products';

CREATE OR REPLACE FUNCTION cdp._pairs_step("after" text, batch bigint, OUT upto text, OUT buyers bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids text[];
	nos int[];
BEGIN
	PERFORM cdp._require_version();
	SELECT array_agg(c.product_id), array_agg(c.product_no), max(c.product_id COLLATE "C"), sum(c.customers) INTO ids, nos, upto, buyers
	FROM (SELECT p.product_id, p.product_no, p.customers, sum(p.customers) OVER (ORDER BY p.product_id COLLATE "C") AS total
		FROM cdp.product_popularity p WHERE p.product_id COLLATE "C" > _pairs_step.after) c
	WHERE c.total - c.customers < batch;
	IF ids IS NULL THEN
		RETURN;
	END IF;
	WITH n AS (
		SELECT a.product_no, b.product_no AS other_no, count(*) AS customers
		FROM cdp.product_buyer a JOIN cdp.product_buyer b ON b.customer_id = a.customer_id AND b.product_no <> a.product_no
		WHERE a.product_no = ANY (nos) GROUP BY 1, 2
	), best AS MATERIALIZED (
		SELECT s.product_id, s.other_id, s.customers FROM (
			SELECT n.customers, p.product_id, q.product_id AS other_id, row_number() OVER (PARTITION BY n.product_no
				ORDER BY cdp._affinity(n.customers, p.customers, q.customers, p.of_customers) DESC, n.customers DESC, n.other_no) AS place
			FROM n JOIN cdp.product_popularity p ON p.product_no = n.product_no JOIN cdp.product_popularity q ON q.product_no = n.other_no) s
		WHERE s.place <= 100
	), gone AS (
		DELETE FROM cdp.product_pair p WHERE p.product_id = ANY (ids)
		AND NOT EXISTS (SELECT FROM best b WHERE b.product_id = p.product_id AND b.other_id = p.other_product_id)
	)
	INSERT INTO cdp.product_pair AS p (product_id, other_product_id, customers)
		SELECT b.product_id, b.other_id, b.customers FROM best b
		LEFT JOIN cdp.product_pair o ON o.product_id = b.product_id AND o.other_product_id = b.other_id
		WHERE o.customers IS DISTINCT FROM b.customers
		ON CONFLICT (product_id, other_product_id) DO UPDATE SET customers = excluded.customers;
END $$;
COMMENT ON FUNCTION cdp._pairs_step(text, bigint) IS 'internal: one batch of cdp.refresh_product_pairs(): pairs of the products after one, in the order of their bytes, that have about so many buyers; answers the last product, NULL when there was none, and their buyers';

CREATE OR REPLACE FUNCTION cdp._pairs_end() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cdp._require_version();
	DELETE FROM cdp.product_pair p WHERE NOT EXISTS (SELECT FROM cdp.product_popularity q WHERE q.product_id = p.product_id);
	TRUNCATE cdp.product_buyer;
END $$;
COMMENT ON FUNCTION cdp._pairs_end() IS 'internal: last step of cdp.refresh_product_pairs(): pairs of products nobody bought go, the scratch is emptied';

CREATE OR REPLACE FUNCTION cdp.also_bought(product_id text, n int DEFAULT 10, within interval DEFAULT '365 days')
	RETURNS SETOF cdp.product_affinity
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	what ALIAS FOR $1;
BEGIN
	PERFORM cdp._require_version();
	IF what IS NULL THEN
		RAISE EXCEPTION 'product_id must not be NULL' USING ERRCODE = 'null_value_not_allowed', HINT = 'Products are listed in cdp.product and cdp.product_popularity.';
	END IF;
	PERFORM cdp._check_list(n);
	within := coalesce(within, interval '365 days');
	PERFORM cdp._check_within(within);
	IF within = interval '365 days' AND n <= 100 AND EXISTS (SELECT FROM cdp.product_popularity) THEN
		RETURN QUERY
		SELECT p.other_product_id, p.customers, p.customers::float8 * a.of_customers / a.customers / b.customers
		FROM cdp.product_pair p JOIN cdp.product_popularity a ON a.product_id = p.product_id
		JOIN cdp.product_popularity b ON b.product_id = p.other_product_id
		WHERE p.product_id = what
		ORDER BY cdp._affinity(p.customers, a.customers, b.customers, a.of_customers) DESC, p.customers DESC, p.other_product_id COLLATE "C" LIMIT n;
		RETURN;
	END IF;
	RETURN QUERY
	WITH buyer AS MATERIALIZED (SELECT b.customer_id, b.product_id FROM cdp._product_buyers(cdp.now() - within, cdp.now()) b),
	mine AS MATERIALIZED (SELECT b.customer_id FROM buyer b WHERE b.product_id = what),
	totals AS (SELECT count(DISTINCT b.customer_id) AS all_customers, (SELECT count(*) FROM mine) AS mine FROM buyer b),
	other AS (
		SELECT b.product_id, count(*) AS customers, count(m.customer_id) AS together
		FROM buyer b LEFT JOIN mine m ON m.customer_id = b.customer_id WHERE b.product_id <> what GROUP BY b.product_id)
	SELECT o.product_id, o.together, o.together::float8 * t.all_customers / t.mine / o.customers
	FROM other o, totals t WHERE o.together > 0
	ORDER BY cdp._affinity(o.together, t.mine, o.customers, t.all_customers) DESC, o.together DESC, o.product_id COLLATE "C" LIMIT n;
END $$;
COMMENT ON FUNCTION cdp.also_bought(text, int, interval) IS 'What the customers who bought a product also bought, what goes best with it first: customers who bought both, each once, and lift = customers * all / (buyers of the one * buyers of the other), 1 being chance. In the order of their affinity, (customers - buyers of the one * buyers of the other / all) / (sqrt(buyers of the one * buyers of the other) + 10), a cosine (Linden, Smith, York 2003) less what chance gives. n: how many, 1 to 10,000. within: both bought in that time up to cdp.now(), to 100 years; NULL: 365 days. 365 days and n up to 100 are answered from cdp.product_pair as of the last CALL cdp.refresh_product_pairs(); anything else, and all before the first, from the orders, which takes a pass over those of that time. Orders that are paid, shipped, completed or refunded count, by One ID, unless all their money was given back; of one customer the 200 products bought last. No row for a product nobody bought. Errors: 22004 NULL product_id or n, 22023 n or within out of range.';

CREATE OR REPLACE FUNCTION cdp.recommend_products(customer_id bigint, n int DEFAULT 10)
	RETURNS TABLE (product_id text, score float8, because text)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	given ALIAS FOR $1;
	one   bigint;
	ids   bigint[];
BEGIN
	PERFORM cdp._require_version();
	one := cdp._existing_customer(given);
	PERFORM cdp._check_list(n);
	ids := ARRAY(SELECT one UNION ALL SELECT a.profile_id FROM cdp.profile_alias a WHERE a.customer_id = one);
	RETURN QUERY
	WITH owned AS MATERIALIZED (
		SELECT l.product_id, max(o.ordered_at) AS last_at, max(coalesce(l.category, p.category)) AS category
		FROM cdp.sales_order o JOIN cdp.sales_order_line l ON l.order_id = o.order_id LEFT JOIN cdp.product p ON p.product_id = l.product_id
		WHERE o.profile_id = ANY (ids) AND cdp._is_purchase(o.status) AND (o.refunded < o.amount OR o.amount = 0)
		  AND o.ordered_at <= cdp.now() AND l.quantity > 0 AND coalesce(l.unit_price, 0) >= 0
		GROUP BY l.product_id
	), out AS MATERIALIZED (
		-- what he has and does not need again yet; what nobody buys twice he has for good
		SELECT o.product_id FROM owned o
		LEFT JOIN cdp.repurchase_cycle c ON c.repurchase_cycle = 'product:' || o.product_id
		LEFT JOIN cdp.repurchase_cycle k ON k.repurchase_cycle = 'category:' || o.category
		WHERE coalesce(extract(epoch FROM cdp.now() - o.last_at)::float8 / 86400 < coalesce(c.median_gap, k.median_gap), true)
	), pair AS MATERIALIZED (
		SELECT r.other_product_id AS product_id, o.product_id AS owned_id, b.customers::float8 / b.of_customers AS share,
			cdp._affinity(r.customers, a.customers, b.customers, a.of_customers) AS affinity
		FROM (SELECT o.product_id FROM owned o ORDER BY o.last_at DESC, o.product_id COLLATE "C" LIMIT 50) o
		JOIN cdp.product_pair r ON r.product_id = o.product_id
		JOIN cdp.product_popularity a ON a.product_id = r.product_id JOIN cdp.product_popularity b ON b.product_id = r.other_product_id
	), best AS MATERIALIZED (
		-- in the order of the index until there are enough; from the orders as long as nothing was counted
		(SELECT p.product_id, p.customers::float8 / p.of_customers AS share FROM cdp.product_popularity p
		 WHERE p.product_id NOT IN (SELECT t.product_id FROM out t)
		   AND coalesce((SELECT d.status FROM cdp.product d WHERE d.product_id = p.product_id), 'listed') = 'listed'
		 ORDER BY p.customers DESC, p.product_id COLLATE "C" LIMIT n)
		UNION ALL
		(WITH buyer AS MATERIALIZED (SELECT b.customer_id, b.product_id FROM cdp._product_buyers(cdp.now() - interval '365 days', cdp.now()) b
			WHERE NOT EXISTS (SELECT FROM cdp.product_popularity))
		 SELECT b.product_id, count(*)::float8 / (SELECT count(DISTINCT c.customer_id) FROM buyer c) FROM buyer b
		 WHERE b.product_id NOT IN (SELECT t.product_id FROM out t)
		   AND coalesce((SELECT d.status FROM cdp.product d WHERE d.product_id = b.product_id), 'listed') = 'listed'
		 GROUP BY b.product_id ORDER BY count(*) DESC, b.product_id COLLATE "C" LIMIT n)
	), found AS (
		SELECT p.product_id, p.share, sum(p.affinity) AS affinity, (array_agg(p.owned_id ORDER BY p.affinity DESC, p.owned_id COLLATE "C"))[1] AS owned_id
		FROM pair p WHERE p.affinity > 0 GROUP BY p.product_id, p.share
		UNION ALL
		SELECT b.product_id, b.share, 0, NULL FROM best b WHERE NOT EXISTS (SELECT FROM pair p WHERE p.product_id = b.product_id AND p.affinity > 0)
	)
	-- a thousandth of the popularity: it decides where nothing else does
	SELECT f.product_id, f.affinity + f.share / 1000 AS score, coalesce('bought ' || f.owned_id, 'best seller')
	FROM found f
	WHERE f.product_id NOT IN (SELECT t.product_id FROM out t)
	  AND coalesce((SELECT d.status FROM cdp.product d WHERE d.product_id = f.product_id), 'listed') = 'listed'
	ORDER BY score DESC, f.product_id COLLATE "C" LIMIT n;
END $$;
COMMENT ON FUNCTION cdp.recommend_products(bigint, int) IS 'What to offer a customer, best first. score: the affinities above 0 (see cdp.also_bought) of a product with the 50 he bought last, together, plus a thousandth of the share of customers who bought it; because: "bought" and the product_id that weighs most, or "best seller". Left out: products that are not listed (delisted or draft), and those he has bought within their cycle, the median gap in cdp.repurchase_cycle of the product, else of its category, or at all when neither has one. A customer without orders gets the best sellers; so does everybody until the first CALL cdp.refresh_product_pairs(), whose counts it reads. customer_id: any profile id of the customer. n: how many at most, 1 to 10,000. As of cdp.now(). Errors: 22004 NULL, 23503 unknown customer, 22023 n out of range.';
