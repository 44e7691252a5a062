-- 宝宝年龄: whole months since the trait baby_birthday, by the calendar of cdp.timezone.  refresh_tags() writes it on the day it
-- changes, and the segment is entered on the day the child is 12 months old.
SELECT cdp.define_tag('宝宝年龄', value_type => 'number', description => 'age of the child in months', rule => $$
    SELECT c.customer_id, extract(year FROM a.age) * 12 + extract(month FROM a.age) AS value
    FROM cdp.customer c
    CROSS JOIN LATERAL (SELECT age((cdp.now() AT TIME ZONE current_setting('cdp.timezone'))::date, (c.traits ->> 'baby_birthday')::date) AS age) a
    WHERE a.age >= interval '0'$$);
SELECT cdp.define_segment('宝宝满一岁', '宝宝年龄 >= 12 & 宝宝年龄 < 13', 'the child is one year old, for a month');
