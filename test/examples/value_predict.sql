-- two thousand customers as doc/value_predict.md wants them: weeks since the first purchase; their money, and the models of them
CREATE SCHEMA example_shop;
CREATE TABLE example_shop.summary AS
SELECT customer AS customer_id, x::float8, t_x, t_cal, CASE WHEN x > 0 THEN round((30 * (1 + customer * 7919 % 1000 / 500.0) + 60 * (customer * 104729 % 997 / 997.0) / x)::numeric, 2)::float8 END AS mean_amount
FROM cdp.simulate_purchases(cdp.mbgnbd_model(0.7, 6, 0.8, 2.5), 2000, 52, 1);
CREATE TABLE example_shop.model AS SELECT cdp.fit_mbgnbd(x, t_x, t_cal) AS m, cdp.fit_gammagamma(x, mean_amount) FILTER (WHERE x > 0) AS g FROM example_shop.summary;
