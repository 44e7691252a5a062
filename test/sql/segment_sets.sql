-- several segments: overlap, regions; one over time
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET cdp.now = '2026-03-01 00:00:00+00';
SELECT count(cdp.identify(jsonb_build_object('member_id', 'm' || i))) FROM generate_series(1, 1000) i;
SELECT cdp.define_static_segment('two', (SELECT cdp.audience_agg(i) FROM generate_series(2, 1000, 2) i)),
	cdp.define_static_segment('three', (SELECT cdp.audience_agg(i) FROM generate_series(3, 1000, 3) i)),
	cdp.define_static_segment('seven', (SELECT cdp.audience_agg(i) FROM generate_series(7, 1000, 7) i)),
	cdp.define_static_segment('empty', '{}'), cdp.define_static_segment('none', '{}');
SELECT a, b, n, round(jaccard::numeric, 6) AS jaccard FROM cdp.segment_overlap('{two,three,seven,empty,none}');
SELECT * FROM cdp.segment_overlap('{}');
-- the same by counting
SELECT o.a, o.b, o.n = (SELECT count(*) FROM cdp.segment_members(o.a) x JOIN cdp.segment_members(o.b) y ON x = y) AS same FROM cdp.segment_overlap('{seven,two,three}') o;
SELECT * FROM cdp.segment_venn('{two,three,seven}');
SELECT sum(n) = (SELECT count(*) FROM generate_series(1, 1000) i WHERE i % 2 = 0 OR i % 3 = 0 OR i % 7 = 0) AS all_of_them FROM cdp.segment_venn('{two,three,seven,empty}');
SELECT * FROM cdp.segment_venn('{two}');
SELECT count(*) FROM cdp.segment_venn('{two,three,seven,empty,none}');
SELECT * FROM cdp.segment_overlap(NULL);
SELECT * FROM cdp.segment_overlap('{two,NULL}');
SELECT * FROM cdp.segment_overlap('{two,nix}');
SELECT * FROM cdp.segment_venn('{two,two}');
SELECT * FROM cdp.segment_venn('{{two},{three}}');
SELECT * FROM cdp.segment_venn('{a,b,c,d,e,f,g,h,i}');
-- over time
SELECT cdp.define_segment('vip', 'vip');
SELECT count(cdp.add_tag(i, 'vip')) FROM generate_series(1, 4) i;
CALL cdp.refresh_segments('vip');
SET cdp.now = '2026-03-02 00:00:00+00';
SELECT cdp.remove_tag(1, 'vip'), cdp.add_tag(9, 'vip');
CALL cdp.refresh_segments('vip');
SET cdp.now = '2026-03-03 00:00:00+00';
SELECT cdp.remove_tag(9, 'vip'), cdp.add_tag(1, 'vip'), cdp.add_tag(10, 'vip'), cdp.remove_tag(2, 'vip');
CALL cdp.refresh_segments('vip');
SELECT * FROM cdp.segment_changes('vip', '2026-03-01', '2026-03-02');
SELECT * FROM cdp.segment_changes('vip', '2026-03-01', '2026-03-03');
SELECT * FROM cdp.segment_changes('vip', '2026-02-01', '2026-03-01 12:00');
SELECT * FROM cdp.segment_changes('vip', '2026-03-02', '2026-03-02 23:59');
SELECT count(*) FROM cdp.segment_changes('vip', '-infinity', 'infinity');
-- merged customers are one
SELECT cdp.merge_customers(10, 2, 'x');
SELECT * FROM cdp.segment_changes('vip', '2026-03-01', '2026-03-03');
SELECT * FROM cdp.segment_changes('nix', '2026-03-01', '2026-03-03');
SELECT * FROM cdp.segment_changes('vip', NULL, '2026-03-03');
SELECT * FROM cdp.segment_changes('vip', '2026-03-03', '2026-03-01');
