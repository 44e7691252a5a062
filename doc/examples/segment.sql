-- on CALL cdp.load_demo(): customers in 华东 who bought product DG-009 within the last month, whose average order value is over
-- 1000, who are of high value, and female
SET cdp.now = '2025-07-01 00:00+08';        -- the day on which the demo ends
SELECT customer_id
FROM cdp.find_customers('region.华东.* & aov > 1000 & 高价值 & gender = female') AS f(customer_id)
JOIN cdp.find_buyers('DG-009', '1 month') AS b(customer_id) USING (customer_id) ORDER BY customer_id;
-- the same under a name: its members are kept, and who enters or leaves is an event
SELECT cdp.define_segment('bought DG-009', $$
    SELECT customer_id FROM cdp.find_customers('region.华东.* & aov > 1000 & 高价值 & gender = female') AS f(customer_id)
    JOIN cdp.find_buyers('DG-009', '1 month') AS b(customer_id) USING (customer_id)$$);
CALL cdp.refresh_segments('bought DG-009');
SELECT * FROM cdp.segment_members('bought DG-009');
SELECT name, occurred_at, properties ->> 'segment' AS segment FROM cdp.event WHERE name = 'Segment Entered' AND properties ->> 'segment' = 'bought DG-009';
