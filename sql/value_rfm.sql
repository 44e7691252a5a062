-- value_rfm: recency, frequency and money of all customers at once, with scores and groups.
-- C: src/value_rfm*.c  Page: doc/value_rfm.md  Tests: test/sql/value_table.sql, test/sql/value_rfm*.sql, test/pgtap/value_rfm.sql

-- @type
CREATE TYPE cdp.rfm_summary;
CREATE FUNCTION cdp._rfm_summary_in(cstring) RETURNS cdp.rfm_summary
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_summary_in';
CREATE FUNCTION cdp._rfm_summary_out(cdp.rfm_summary) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_summary_out';
CREATE FUNCTION cdp._rfm_summary_recv(internal) RETURNS cdp.rfm_summary
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_summary_recv';
CREATE FUNCTION cdp._rfm_summary_send(cdp.rfm_summary) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_summary_send';
CREATE TYPE cdp.rfm_summary (INPUT = cdp._rfm_summary_in, OUTPUT = cdp._rfm_summary_out,
	RECEIVE = cdp._rfm_summary_recv, SEND = cdp._rfm_summary_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = external);
COMMENT ON TYPE cdp.rfm_summary IS 'State behind cdp.rfm_table: what is known of every customer, packed, about 25 bytes each; at most 25 million customers and 1 GB. Text: () before the first row, otherwise \x and hexadecimal digits. Equal rows give equal bytes, whatever their order.';
COMMENT ON FUNCTION cdp._rfm_summary_in(cstring) IS 'internal: text form of cdp.rfm_summary; 22P02 when it is not sound';
COMMENT ON FUNCTION cdp._rfm_summary_out(cdp.rfm_summary) IS 'internal: text form of cdp.rfm_summary; 54000 above 1 GB of text';
COMMENT ON FUNCTION cdp._rfm_summary_recv(internal) IS 'internal: binary form of cdp.rfm_summary; 22P03 when it is not sound';
COMMENT ON FUNCTION cdp._rfm_summary_send(cdp.rfm_summary) IS 'internal: binary form of cdp.rfm_summary, see src/value_rfm_flat.c';

-- @code
CREATE OR REPLACE FUNCTION cdp._rfm_all_accum(state cdp.rfm_summary, customer_id bigint, occurred_at timestamptz, amount numeric, as_of timestamptz)
	RETURNS cdp.rfm_summary LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_all_accum';
COMMENT ON FUNCTION cdp._rfm_all_accum(cdp.rfm_summary, bigint, timestamptz, numeric, timestamptz) IS 'internal: one row into the state, in place; a row with a NULL is counted and skipped. Errors: 22023, 54000, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_all_accum(state cdp.rfm_summary, customer_id bigint, occurred_at timestamptz, amount numeric, as_of timestamptz, refunded numeric, currency text)
	RETURNS cdp.rfm_summary LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_all_accum_order';
COMMENT ON FUNCTION cdp._rfm_all_accum(cdp.rfm_summary, bigint, timestamptz, numeric, timestamptz, numeric, text) IS 'internal: one order with its refunded part (NULL: nothing) into the state, in place; 22023 also for a second currency';
CREATE OR REPLACE FUNCTION cdp._rfm_sorted_accum(state cdp.rfm_summary, customer_id bigint, occurred_at timestamptz, amount numeric, as_of timestamptz, refunded numeric, currency text, net_day boolean)
	RETURNS cdp.rfm_summary LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cdp_rfm_sorted_accum';
COMMENT ON FUNCTION cdp._rfm_sorted_accum(cdp.rfm_summary, bigint, timestamptz, numeric, timestamptz, numeric, text, boolean) IS 'internal: one row into a state under the rule net_day, or cancel; the rows of a customer come together (22023). Days are those of cdp.timezone';
CREATE OR REPLACE FUNCTION cdp._rfm_all_combine(a cdp.rfm_summary, b cdp.rfm_summary) RETURNS cdp.rfm_summary
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_all_combine';
COMMENT ON FUNCTION cdp._rfm_all_combine(cdp.rfm_summary, cdp.rfm_summary) IS 'internal: b into a, in place; 22023 when as_of, currency or rule differ, 55000 outside an aggregate';
CREATE OR REPLACE FUNCTION cdp._rfm_all_final(state cdp.rfm_summary) RETURNS cdp.rfm_summary
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_rfm_all_final';
COMMENT ON FUNCTION cdp._rfm_all_final(cdp.rfm_summary) IS 'internal: the state itself, not copied';

CREATE OR REPLACE AGGREGATE cdp._rfm_all(customer_id bigint, occurred_at timestamptz, amount numeric, as_of timestamptz) (
	SFUNC = cdp._rfm_all_accum, STYPE = cdp.rfm_summary, SSPACE = 1048576, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_all_combine, FINALFUNC = cdp._rfm_all_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp._rfm_all(bigint, timestamptz, numeric, timestamptz) IS 'internal: the state of all customers of all rows, for cdp._rfm_rows; rows as for cdp.rfm. Never NULL. Errors: 22023 for NaN or infinite amounts, infinite times, as_of NULL or differing; 54000 beyond 25 million customers';
CREATE OR REPLACE AGGREGATE cdp._rfm_all(customer_id bigint, occurred_at timestamptz, amount numeric, as_of timestamptz, refunded numeric, currency text) (
	SFUNC = cdp._rfm_all_accum, STYPE = cdp.rfm_summary, SSPACE = 1048576, INITCOND = '()',
	COMBINEFUNC = cdp._rfm_all_combine, FINALFUNC = cdp._rfm_all_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE cdp._rfm_all(bigint, timestamptz, numeric, timestamptz, numeric, text) IS 'internal: the same of orders that know their refunds, all in one currency (22023)';
CREATE OR REPLACE AGGREGATE cdp._rfm_sorted(customer_id bigint, occurred_at timestamptz, amount numeric, as_of timestamptz, refunded numeric, currency text, net_day boolean) (
	SFUNC = cdp._rfm_sorted_accum, STYPE = cdp.rfm_summary, SSPACE = 1048576, INITCOND = '()',
	FINALFUNC = cdp._rfm_all_final, FINALFUNC_MODIFY = READ_WRITE, PARALLEL = RESTRICTED);
COMMENT ON AGGREGATE cdp._rfm_sorted(bigint, timestamptz, numeric, timestamptz, numeric, text, boolean) IS 'internal: the same under the rule net_day (true) or cancel (false), of rows sorted by customer_id (22023)';

CREATE OR REPLACE FUNCTION cdp._rfm_refuse(message text, hint text) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = message, HINT = hint;
END $$;
COMMENT ON FUNCTION cdp._rfm_refuse(text, text) IS 'internal: raises 22023';

CREATE OR REPLACE FUNCTION cdp._rfm_rate(rate numeric, from_currency text, to_currency text) RETURNS numeric
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF rate IS NULL THEN
		PERFORM cdp._rfm_refuse(format('there is no rate from %s to %s for the time of some purchase', left(from_currency, 10), left(to_currency, 10)),
			'Insert it into cdp.currency_rate, with valid_from before the first purchase.');
	END IF;
	RETURN rate;
END $$;
COMMENT ON FUNCTION cdp._rfm_rate(numeric, text, text) IS 'internal: the rate, or 22023 when there is none';

CREATE OR REPLACE FUNCTION cdp._rfm_rows(summary cdp.rfm_summary, method text DEFAULT 'quintile', bins int DEFAULT 5,
	r_cuts interval[] DEFAULT NULL, f_cuts numeric[] DEFAULT NULL, m_cuts numeric[] DEFAULT NULL,
	high text DEFAULT 'mean', r_high interval DEFAULT NULL, f_high numeric DEFAULT NULL, m_high numeric DEFAULT NULL,
	monetary text DEFAULT 'sum', refunds text DEFAULT 'net', lang text DEFAULT 'zh')
	RETURNS TABLE (customer_id bigint, recency interval, frequency bigint, monetary numeric, first_at timestamptz, last_at timestamptz,
		gross numeric, refunded numeric, r int, f int, m int, score text, group8 text, group11 text)
	LANGUAGE c STABLE PARALLEL UNSAFE COST 100000 ROWS 100000 AS 'MODULE_PATHNAME', 'cdp_rfm_rows';
COMMENT ON FUNCTION cdp._rfm_rows(cdp.rfm_summary, text, int, interval[], numeric[], numeric[], text, interval, numeric, numeric, text, text, text) IS 'internal: the rows of cdp.rfm_table of a state that is at hand, arguments as there; no rows for NULL. Errors: 22023, also for a rule that the state was not made under';

CREATE OR REPLACE FUNCTION cdp.rfm_table(as_of timestamptz DEFAULT NULL, purchases text DEFAULT NULL, method text DEFAULT 'quintile',
	bins int DEFAULT 5, r_cuts interval[] DEFAULT NULL, f_cuts numeric[] DEFAULT NULL, m_cuts numeric[] DEFAULT NULL,
	high text DEFAULT 'mean', r_high interval DEFAULT NULL, f_high numeric DEFAULT NULL, m_high numeric DEFAULT NULL,
	monetary text DEFAULT 'sum', refunds text DEFAULT 'net', currency text DEFAULT NULL, lang text DEFAULT 'zh')
	RETURNS TABLE (customer_id bigint, recency interval, frequency bigint, monetary numeric, first_at timestamptz, last_at timestamptz,
		gross numeric, refunded numeric, r int, f int, m int, score text, group8 text, group11 text)
	LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000 ROWS 100000 AS 'MODULE_PATHNAME', 'cdp_rfm_table';
COMMENT ON FUNCTION cdp.rfm_table(timestamptz, text, text, int, interval[], numeric[], numeric[], text, interval, numeric, numeric, text, text, text, text) IS
'RFM of every customer with a purchase up to as_of: recency (as_of minus last purchase), frequency (purchases), monetary (money), first_at, last_at, gross (money before refunds), refunded (what was taken off, >= 0), scores r, f, m from 1 to bins (best), score (543), group8 (one of eight groups by high and low), group11 (one of eleven by the scores; NULL unless bins is 5). In no order.
as_of: NULL is cdp.now(). purchases: NULL is cdp.sales_order (paid, shipped, completed and refunded orders, by One ID), else the text of a query for (customer_id bigint, occurred_at timestamptz, amount numeric [, currency text]) that runs read-only with your rights; a negative amount is a refund; date and timestamp are read in cdp.timezone. method: quintile (1 + floor(bins * (rank - 1) / customers), rank counts those strictly worse, so equal values share a score), nested (f within each r, m within each r and f), threshold (f_cuts, m_cuts: 1 + number of cuts <= value; r_cuts: bins minus number of cuts < recency). high: what parts high from low in group8, mean or median; r_high, f_high, m_high are limits of your own (high is recency <= r_high, frequency >= f_high, monetary >= m_high). monetary: sum or mean per purchase. refunds: ignore (they do nothing), net (they lower money alone), net_day (purchases are the days of cdp.timezone whose money is above zero), cancel (a refund of exactly an earlier purchase takes the latest such one away); money is net of all refunds except under ignore. currency: NULL when there is only one; else all money is converted at the time of the purchase as cdp.convert_amount() does, not rounded. lang: names of groups in zh or en.
An argument that is NULL means its default; rows with a NULL are skipped, cdp.rfm_cuts counts them. Memory: 72 MB per million customers, besides work_mem. Errors: 22023 for arguments out of range, two currencies, a missing rate, NaN or infinite values; 42601, 42804, 0A000, 25006 and any other for a query that is not fit; 42501; 54000 beyond 25 million customers.';

CREATE OR REPLACE FUNCTION cdp.rfm_cuts(as_of timestamptz DEFAULT NULL, purchases text DEFAULT NULL, method text DEFAULT 'quintile',
	bins int DEFAULT 5, r_cuts interval[] DEFAULT NULL, f_cuts numeric[] DEFAULT NULL, m_cuts numeric[] DEFAULT NULL,
	high text DEFAULT 'mean', r_high interval DEFAULT NULL, f_high numeric DEFAULT NULL, m_high numeric DEFAULT NULL,
	monetary text DEFAULT 'sum', refunds text DEFAULT 'net', currency text DEFAULT NULL, lang text DEFAULT 'zh')
	RETURNS TABLE (measure text, score int, from_value numeric, to_value numeric, customers bigint)
	LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000 ROWS 18 AS 'MODULE_PATHNAME', 'cdp_rfm_cuts';
COMMENT ON FUNCTION cdp.rfm_cuts(timestamptz, text, text, int, interval[], numeric[], numeric[], text, interval, numeric, numeric, text, text, text, text) IS
'What the scores of cdp.rfm_table with the same arguments mean: for each measure (recency in seconds, frequency, monetary) and each score from 1 to bins the lowest and the highest value among the customers who have it (NULL when nobody has) and how many they are. Three more rows, score NULL: refund_only customers without a purchase left, who are not in the table; skipped_null rows with a NULL; after_as_of rows after as_of. Arguments and errors as cdp.rfm_table; high and lang change nothing.';

-- @access
('function', 'rfm_table', 'EXECUTE', '{reader}'),
('function', 'rfm_cuts', 'EXECUTE', '{reader}'),
('function', '_rfm_all', 'EXECUTE', '{reader}'),
('function', '_rfm_sorted', 'EXECUTE', '{reader}'),
('function', '_rfm_rows', 'EXECUTE', '{reader}'),
('function', '_rfm_refuse', 'EXECUTE', '{reader}'),
('function', '_rfm_rate', 'EXECUTE', '{reader}'),
('table', 'rfm_group', 'SELECT', '{reader}'),
('table', 'rfm_group', 'UPDATE', '{operator}'),
('table', 'rfm_cell', 'SELECT', '{reader}'),
('table', 'rfm_cell', 'UPDATE', '{operator}'),
('table', 'rfm_group_summary', 'SELECT', '{reader}'),

-- @data
PERFORM cdp._ensure_table('rfm_group', $t$ (
	rfm_group    text PRIMARY KEY,
	scheme       int NOT NULL DEFAULT 8,
	label_zh     text NOT NULL,
	label_en     text NOT NULL,
	treatment_zh text,
	treatment_en text,
	sort         int NOT NULL,
	UNIQUE (scheme, label_zh),
	UNIQUE (scheme, label_en)
) $t$);
COMMENT ON TABLE cdp.rfm_group IS 'Names of the RFM groups and what to do with them, to be changed as you like; a group keeps its key.';
COMMENT ON COLUMN cdp.rfm_group.rfm_group IS 'key; of the eight groups: recency, frequency, money, 1 high and 0 low, so 111 is the best';
COMMENT ON COLUMN cdp.rfm_group.scheme IS 'which set of groups: 8 (high and low) or 11 (by scores, see cdp.rfm_cell)';
COMMENT ON COLUMN cdp.rfm_group.label_zh IS 'name in Chinese, shown with lang => ''zh''';
COMMENT ON COLUMN cdp.rfm_group.label_en IS 'name in English, shown with lang => ''en''';
COMMENT ON COLUMN cdp.rfm_group.treatment_zh IS 'what to do with these customers, in Chinese';
COMMENT ON COLUMN cdp.rfm_group.treatment_en IS 'the same in English';
COMMENT ON COLUMN cdp.rfm_group.sort IS 'place in lists of its scheme, best first';
INSERT INTO cdp.rfm_group (rfm_group, scheme, label_zh, label_en, treatment_zh, treatment_en, sort) VALUES
	('111', 8, '重要价值客户', 'Important: value',    '重点维护，优先服务，专属权益', 'look after them first, exclusive benefits', 1),
	('101', 8, '重要发展客户', 'Important: develop',  '提高购买频次，交叉推荐', 'raise how often they buy, cross-sell', 2),
	('011', 8, '重要保持客户', 'Important: keep',     '主动联系，了解近期未购原因', 'get in touch, find out why they stay away', 3),
	('001', 8, '重要挽留客户', 'Important: win back', '高额专属优惠，人工挽回', 'a strong personal offer, a call', 4),
	('110', 8, '一般价值客户', 'General: value',      '提高客单价，套餐与升级推荐', 'raise the basket: bundles, upgrades', 5),
	('100', 8, '一般发展客户', 'General: develop',    '新客培育，引导二次购买', 'welcome them, lead to the second purchase', 6),
	('010', 8, '一般保持客户', 'General: keep',       '定期触达，积分与内容唤醒', 'reach out now and then: points, content', 7),
	('000', 8, '一般挽留客户', 'General: win back',   '低成本自动触达，或放弃', 'cheap automatic messages, or let go', 8),
	('champions',          11, '冠军客户',     'Champions',           '新品优先体验，邀请评价与推荐', 'first to see what is new, ask for reviews and referrals', 1),
	('loyal',              11, '忠诚客户',     'Loyal',               '会员权益升级，高价值商品推荐', 'better member benefits, offer what is worth more', 2),
	('potential_loyalist', 11, '潜力忠诚客户', 'Potential Loyalist',  '引导入会，推荐关联商品', 'invite into the club, recommend what goes with it', 3),
	('new_customers',      11, '新客户',       'New Customers',       '新手引导，首单关怀，促成第二单', 'welcome, see that the first order went well, lead to the second', 4),
	('promising',          11, '有望客户',     'Promising',           '品牌内容触达，小额体验优惠', 'tell about the brand, a small offer to try', 5),
	('need_attention',     11, '需关注客户',   'Need Attention',      '限时优惠，按历史购买推荐', 'an offer with an end, recommend by what they bought', 6),
	('about_to_sleep',     11, '即将沉睡客户', 'About to Sleep',      '热门商品与折扣唤醒', 'what sells well, at a discount, before they forget', 7),
	('at_risk',            11, '流失风险客户', 'At Risk',             '个性化召回，了解离开原因', 'a personal message, ask what went wrong', 8),
	('cannot_lose_them',   11, '不可流失客户', 'Cannot Lose Them',    '人工回访，专属方案挽回', 'call them, an offer made for them', 9),
	('hibernating',        11, '沉睡客户',     'Hibernating',         '低频触达，换季或大促唤醒', 'write seldom: new season, great sales', 10),
	('lost',               11, '已流失客户',   'Lost',                '停止付费触达，仅保留大促', 'no paid messages, great sales only', 11)
	ON CONFLICT DO NOTHING;

PERFORM cdp._ensure_table('rfm_cell', $t$ (
	rfm_cell  text PRIMARY KEY CHECK (rfm_cell ~ '^[1-5]{3}$'),
	rfm_group text NOT NULL
) $t$);
COMMENT ON TABLE cdp.rfm_cell IS 'Which of the eleven groups a customer with these scores is in: all 125 scores, each once. Change rfm_group as you like.';
COMMENT ON COLUMN cdp.rfm_cell.rfm_cell IS 'scores of recency, frequency and money, 5 the best: 543';
COMMENT ON COLUMN cdp.rfm_cell.rfm_group IS 'key of cdp.rfm_group, one of scheme 11';
-- a line is a recency, from the best; in it frequencies from the best, and of each the groups of money 1 to 5
INSERT INTO cdp.rfm_cell (rfm_cell, rfm_group)
	SELECT format('%s%s%s', v.r, v.f, m.m), g.rfm_group FROM (VALUES
		(5, 5, 'LLLCC'), (5, 4, 'LLLCC'), (5, 3, 'PPPLL'), (5, 2, 'PPPPP'), (5, 1, 'NNNNN'),
		(4, 5, 'LLLCC'), (4, 4, 'LLLCC'), (4, 3, 'PPPLL'), (4, 2, 'PPPPP'), (4, 1, 'OOOOO'),
		(3, 5, 'AAALL'), (3, 4, 'AAALL'), (3, 3, 'AAAAA'), (3, 2, 'SSAAA'), (3, 1, 'SSSAA'),
		(2, 5, 'RRRXX'), (2, 4, 'RRRXX'), (2, 3, 'RRRRR'), (2, 2, 'HHHRR'), (2, 1, 'HHHRR'),
		(1, 5, 'HHRXX'), (1, 4, 'HHRXX'), (1, 3, 'HHRRR'), (1, 2, 'ZZHHH'), (1, 1, 'ZZHHH')
	) v(r, f, groups), generate_series(1, 5) m(m), (VALUES ('C', 'champions'), ('L', 'loyal'), ('P', 'potential_loyalist'), ('N', 'new_customers'),
		('O', 'promising'), ('A', 'need_attention'), ('S', 'about_to_sleep'), ('R', 'at_risk'), ('X', 'cannot_lose_them'), ('H', 'hibernating'), ('Z', 'lost')
	) g(letter, rfm_group) WHERE g.letter = substr(v.groups, m.m, 1)
	ON CONFLICT DO NOTHING;

-- @view
CREATE OR REPLACE VIEW cdp.rfm_group_summary AS
SELECT g.label_zh AS group8, coalesce(t.customers, 0) AS customers,
	round(coalesce(t.customers, 0) / nullif(sum(t.customers) OVER (), 0), 4) AS share,
	coalesce(t.monetary, 0) AS monetary,
	round(coalesce(t.monetary, 0) / nullif(sum(t.monetary) OVER (), 0), 4) AS monetary_share,
	t.recency_days
FROM cdp.rfm_group g
LEFT JOIN (SELECT r.group8, count(*) AS customers, sum(r.monetary) AS monetary,
		round(avg(extract(epoch FROM r.recency)) / 86400, 1) AS recency_days
	FROM cdp.rfm_table() r GROUP BY r.group8) t ON t.group8 = g.label_zh
WHERE g.scheme = 8
ORDER BY g.sort;
COMMENT ON VIEW cdp.rfm_group_summary IS 'The eight RFM groups of all customers now, best first: customers, their share, money, its share (NULL when there is none), mean recency in days (NULL for an empty group).';
