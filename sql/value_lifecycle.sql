-- value_lifecycle: stages of the lifecycle, tiers by value, the probability of churn.
-- C: src/value_lifecycle.c  Page: doc/value_lifecycle.md  Tests: test/sql/value_lifecycle.sql, test/pgtap/value_lifecycle.sql

-- @code
CREATE OR REPLACE FUNCTION cdp.lifecycle_stage(purchases bigint, gap_ratio float8, p_alive float8 DEFAULT NULL, previous text DEFAULT NULL,
	bought_since boolean DEFAULT true) RETURNS text
	LANGUAGE c STABLE PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_lifecycle_stage';
COMMENT ON FUNCTION cdp.lifecycle_stage(bigint, float8, float8, text, boolean) IS 'In which stage of the lifecycle a customer is: the first row of cdp.lifecycle_rule, by sort, that holds. purchases: how many he has made. gap_ratio: time since the last one divided by his typical gap; NULL: unknown, no reason to leave. p_alive: probability that he will ever buy again, 0 to 1; NULL: unknown. previous: the stage he was in (NULL: none). bought_since: whether he has bought since he was in it; if not, the stage only moves down, from the three active ones to 衰退期 to 流失期, whatever the rules say (NULL: true). NULL for NULL purchases, and where no rule holds. Errors: 22023 purchases or gap_ratio below 0, p_alive outside 0 to 1, NaN, a stage that does not exist.';

CREATE OR REPLACE FUNCTION cdp._value_tier("position" bigint, customers bigint) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_value_tier';
COMMENT ON FUNCTION cdp._value_tier(bigint, bigint) IS 'internal: the tier of the customer at that position, 1 + the number of customers with a larger clv (so ties are in the better tier), among so many; NULL when no tier reaches him; 22023 unless 1 <= position <= customers';

CREATE OR REPLACE FUNCTION cdp._churn_features(p_alive float8, gap_ratio float8, x float8, t_cal float8) RETURNS float8[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'cdp_churn_features';
COMMENT ON FUNCTION cdp._churn_features(float8, float8, float8, float8) IS 'internal: what the churn model is fitted on and cdp.churn_score looks at: logit p_alive, ln gap_ratio, ln(1 + x), ln t_cal, with 0, 1 and infinity moved inside; 22023 as cdp.churn_score';

CREATE OR REPLACE FUNCTION cdp.churn_score(p_alive float8, gap_ratio float8, x float8 DEFAULT NULL, t_cal float8 DEFAULT NULL,
	model cdp.logistic_model DEFAULT NULL) RETURNS float8
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'cdp_churn_score';
COMMENT ON FUNCTION cdp.churn_score(float8, float8, float8, float8, cdp.logistic_model) IS 'Probability, 0 to 1, that a customer does not buy within the horizon of the model. p_alive: 0 to 1. gap_ratio: time since the last purchase divided by the typical gap, 0 to infinity. x: repeat purchases; t_cal: time since the first purchase, in the unit the model was fitted in. model: of cdp.fit_logistic over (logit p_alive, ln gap_ratio, ln(1 + x), ln t_cal), y being "did not buy in the horizon". It falls with p_alive and rises with gap_ratio: a coefficient of the wrong sign counts as 0. Without model 1 - p_alive * min(1, 1 / gap_ratio). NULL when p_alive or gap_ratio is, with a model also when x or t_cal is. Errors: 22023 values out of range or NaN, a model without exactly five finite coefficients.';

CREATE OR REPLACE FUNCTION cdp._lifecycle_log_kept() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'cdp.lifecycle_log is append-only' USING ERRCODE = 'object_not_in_prerequisite_state',
		HINT = 'A stage that was wrong is corrected by the next row.';
END $$;
COMMENT ON FUNCTION cdp._lifecycle_log_kept() IS 'internal: trigger on cdp.lifecycle_log, refuses changes of rows (55000)';

-- @access
('function', 'lifecycle_stage', 'EXECUTE', '{reader,application}'),
('function', '_value_tier', 'EXECUTE', '{reader,application}'),
('function', '_churn_features', 'EXECUTE', '{reader,application}'),
('function', 'churn_score', 'EXECUTE', '{public}'),
('table', 'lifecycle_rule', 'SELECT', '{reader}'),
('table', 'lifecycle_rule', 'UPDATE', '{operator}'),
('table', 'lifecycle_log', 'SELECT', '{reader}'),
('table', 'lifecycle_flow', 'SELECT', '{reader}'),
('table', 'lifecycle_matrix', 'SELECT', '{reader}'),
('table', 'value_tier', 'SELECT', '{reader}'),
('table', 'value_tier', 'INSERT, UPDATE, DELETE', '{operator}'),

-- @data
PERFORM cdp._ensure_table('lifecycle_rule', $t$ (
	lifecycle_rule text PRIMARY KEY CHECK (lifecycle_rule IN ('获取期', '成长期', '成熟期', '衰退期', '流失期')),
	label_zh       text NOT NULL,
	label_en       text NOT NULL,
	sort           int NOT NULL UNIQUE,
	max_purchases  bigint CHECK (max_purchases >= 0),
	min_purchases  bigint CHECK (min_purchases >= 0),
	min_gap_ratio  float8 CHECK (min_gap_ratio >= 0 AND min_gap_ratio < 'NaN'),
	max_p_alive    float8 CHECK (max_p_alive >= 0 AND max_p_alive <= 1),
	treatment      text
) $t$);
COMMENT ON TABLE cdp.lifecycle_rule IS 'The five stages of the lifecycle and who is in them. The rules are asked by sort, the first that holds gives the stage. Limits, names and treatment are yours to change.';
COMMENT ON COLUMN cdp.lifecycle_rule.lifecycle_rule IS 'the stage, a fixed word: acquisition, growth, maturity, decline, lost';
COMMENT ON COLUMN cdp.lifecycle_rule.label_zh IS 'name to show, in Chinese';
COMMENT ON COLUMN cdp.lifecycle_rule.label_en IS 'name to show, in English';
COMMENT ON COLUMN cdp.lifecycle_rule.sort IS 'place in the order in which the rules are asked';
COMMENT ON COLUMN cdp.lifecycle_rule.max_purchases IS 'holds for at most so many purchases; NULL: for any number';
COMMENT ON COLUMN cdp.lifecycle_rule.min_purchases IS 'holds for at least so many purchases; NULL: for any number';
COMMENT ON COLUMN cdp.lifecycle_rule.min_gap_ratio IS 'holds when more than so many typical gaps have passed since the last purchase, or when max_p_alive does; NULL: it is not asked';
COMMENT ON COLUMN cdp.lifecycle_rule.max_p_alive IS 'holds when the probability that he will ever buy again is lower, or when min_gap_ratio does; NULL: it is not asked';
COMMENT ON COLUMN cdp.lifecycle_rule.treatment IS 'what to do with these customers';
INSERT INTO cdp.lifecycle_rule (lifecycle_rule, label_zh, label_en, sort, max_purchases, min_purchases, min_gap_ratio, max_p_alive, treatment)
	SELECT v.* FROM (VALUES
		('流失期', '流失期', 'Lost',        1, NULL::bigint, NULL::bigint, 3::float8,    0.2::float8, '高额召回优惠，或停止投入 · a strong offer to return, or no more money'),
		('衰退期', '衰退期', 'Decline',     2, NULL,         NULL,         1.5,          0.5,         '到期提醒，关怀回访，限时优惠 · reminders, a call, an offer that ends'),
		('获取期', '获取期', 'Acquisition', 3, 1,            NULL,         NULL,         NULL,        '新客礼，引导二次购买 · welcome, lead to the second purchase'),
		('成熟期', '成熟期', 'Maturity',    4, NULL,         5,            NULL,         NULL,        '会员权益，交叉推荐，转介绍 · privileges, cross-selling, referral'),
		('成长期', '成长期', 'Growth',      5, NULL,         NULL,         NULL,         NULL,        '提高频次与品类 · more often, more categories')
	) v WHERE NOT EXISTS (SELECT FROM cdp.lifecycle_rule r WHERE r.lifecycle_rule = v.column1 OR r.sort = v.column4);
CREATE OR REPLACE TRIGGER lifecycle_rule_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.lifecycle_rule
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

PERFORM cdp._ensure_table('lifecycle_log', $t$ (
	lifecycle_log_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer_id      bigint NOT NULL,
	from_stage       text,
	to_stage         text NOT NULL,
	as_of            timestamptz NOT NULL DEFAULT cdp.now() CHECK (isfinite(as_of)),
	reason           jsonb
) $t$);
CREATE INDEX IF NOT EXISTS lifecycle_log_customer ON cdp.lifecycle_log (customer_id, as_of);
CREATE OR REPLACE TRIGGER lifecycle_log_kept BEFORE UPDATE ON cdp.lifecycle_log
	FOR EACH ROW EXECUTE FUNCTION cdp._lifecycle_log_kept();
COMMENT ON TABLE cdp.lifecycle_log IS 'Changes of stage, append-only: a row stays as it was written; only erasing a customer takes his rows.';
COMMENT ON COLUMN cdp.lifecycle_log.customer_id IS 'the One ID he had at that time';
COMMENT ON COLUMN cdp.lifecycle_log.from_stage IS 'NULL: his first, or the first after a time in which no rule held';
COMMENT ON COLUMN cdp.lifecycle_log.as_of IS 'from when on he is in to_stage';
COMMENT ON COLUMN cdp.lifecycle_log.reason IS 'what the stage was told from: purchases, gap_ratio, p_alive';

PERFORM cdp._ensure_table('value_tier', $t$ (
	value_tier  text PRIMARY KEY CHECK (value_tier ~ '^[a-z][a-z0-9_]{0,39}$'),
	label_zh    text NOT NULL,
	label_en    text NOT NULL,
	top_percent numeric NOT NULL UNIQUE CHECK (top_percent > 0 AND top_percent <= 100),
	treatment   text
) $t$);
COMMENT ON TABLE cdp.value_tier IS 'Tiers of customers by clv, their value in the next 12 months: the best top_percent of all are in the tier, unless a better one has them. Equal values are in the better tier together. Yours to change.';
COMMENT ON COLUMN cdp.value_tier.value_tier IS 'key';
COMMENT ON COLUMN cdp.value_tier.label_zh IS 'name to show, in Chinese';
COMMENT ON COLUMN cdp.value_tier.label_en IS 'name to show, in English';
COMMENT ON COLUMN cdp.value_tier.top_percent IS 'how many percent of the customers are in this tier or a better one';
COMMENT ON COLUMN cdp.value_tier.treatment IS 'what to do with these customers';
IF NOT EXISTS (SELECT FROM cdp.value_tier) THEN
	INSERT INTO cdp.value_tier (value_tier, label_zh, label_en, top_percent, treatment) VALUES
		('top',    '顶级价值', 'Top value',        1,   '专属顾问，优先服务 · a personal adviser'),
		('high',   '高价值',   'High value',       5,   '专属权益，新品优先 · privileges, new products first'),
		('upper',  '中高价值', 'Upper-mid value',  20,  '提高客单价与品类 · larger baskets, more categories'),
		('middle', '中等价值', 'Mid value',        50,  '提高购买频次 · more often'),
		('base',   '一般价值', 'Base value',       100, '低成本自动触达 · cheap automatic messages');
END IF;
CREATE OR REPLACE TRIGGER value_tier_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cdp.value_tier
	FOR EACH STATEMENT EXECUTE FUNCTION cdp._rules_changed();

-- @view
CREATE OR REPLACE VIEW cdp.lifecycle_flow AS
SELECT date_trunc('month', l.as_of AT TIME ZONE coalesce(current_setting('cdp.timezone', true), 'Asia/Shanghai'))::date AS month, l.from_stage, l.to_stage,
	count(DISTINCT coalesce(a.customer_id, l.customer_id)) AS customers
FROM cdp.lifecycle_log l LEFT JOIN cdp.profile_alias a ON a.profile_id = l.customer_id
GROUP BY 1, 2, 3;
COMMENT ON VIEW cdp.lifecycle_flow IS 'How many customers went from which stage to which in each calendar month (of cdp.timezone), from cdp.lifecycle_log. from_stage NULL: those who came new. A customer who did the same twice in a month counts once.';

CREATE OR REPLACE VIEW cdp.lifecycle_matrix AS
WITH at AS (
	SELECT l.customer_id,
		(array_agg(l.to_stage ORDER BY l.as_of DESC, l.lifecycle_log_id DESC) FILTER (WHERE l.as_of <= cdp.now() - interval '30 days'))[1] AS from_stage,
		(array_agg(l.to_stage ORDER BY l.as_of DESC, l.lifecycle_log_id DESC))[1] AS to_stage
	FROM cdp.lifecycle_log l
	WHERE l.as_of <= cdp.now() AND NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = l.customer_id)
	GROUP BY l.customer_id
), pair AS (
	SELECT f.lifecycle_rule AS from_stage, t.lifecycle_rule AS to_stage, array_position('{获取期,成长期,成熟期,衰退期,流失期}', f.lifecycle_rule) AS f,
		array_position('{获取期,成长期,成熟期,衰退期,流失期}', t.lifecycle_rule) AS t
	FROM cdp.lifecycle_rule f, cdp.lifecycle_rule t
), n AS (SELECT at.from_stage, at.to_stage, count(*) AS customers FROM at GROUP BY 1, 2)
SELECT p.from_stage, p.to_stage, coalesce(n.customers, 0) AS customers,
	round(coalesce(n.customers, 0) / nullif(sum(n.customers) OVER (PARTITION BY p.from_stage), 0), 4) AS share
FROM pair p LEFT JOIN n USING (from_stage, to_stage)
ORDER BY p.f, p.t;
COMMENT ON VIEW cdp.lifecycle_matrix IS 'Of the customers who were in a stage 30 days ago (as of cdp.now()), how many are in which stage now: customers, and their share of those of from_stage (NULL when there were none). From cdp.lifecycle_log; a customer who was merged into another counts as that one.';
