-- how a name sounds, and its simplified form
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;

SELECT v AS name, cdp.pinyin_key(v) FROM unnest(ARRAY['曾国藩', '欧阳修', '单田芳', '吕布']) v;
-- surnames with a reading of their own, simplified and traditional, compound ones too
SELECT v AS name, cdp.pinyin_key(v) FROM unnest(ARRAY[
	'仇英', '查良镛', '解缙', '区大相', '任贤齐', '盖叫天', '朴树', '翟天临', '乐嘉', '缪斌', '單雄信', '區元', '覃塞', '尉迟恭', '万俟卨', '萬俟卨',
	'单于飞', '長孫無忌', '澹臺滅明', '拓跋宏', '令狐冲', '諸葛亮', '爱新觉罗·溥仪', '叶赫那拉氏', '吐谷浑阿豺']) v;
-- a surname alone; the same characters elsewhere; one who is called 单 or 乐
SELECT v AS name, cdp.pinyin_key(v) FROM unnest(ARRAY['曾', '尉迟', '欧阳', '李曾', '王单', '陈乐乐', '查尔斯·狄更斯', 'david 曾']) v;
-- what is no Han character: words, digits, dots, signs, accents, characters nobody can read
SELECT v AS name, '[' || cdp.pinyin_key(v) || ']' AS pinyin_key FROM unnest(ARRAY[
	'Li  MING', 'Ｌｉ', 'Xi''an', 'O’Brien', 'Jean-Luc', 'smith, john', '张三2号', '王·小 明', 'Müller', 'Ли', '〇一', '𠮷野', '😀张', '张三先生', '', '　', '...']) v;
-- all readings, sorted; pinyin_key is one of them
SELECT v AS name, cdp.pinyin_keys(v) FROM unnest(ARRAY['曾国藩', '单田芳', '乐乐', '任我行', '尉迟', '欧阳修', 'Li Ming', '', NULL]) v;
-- at most sixteen, those with the commonest readings
SELECT cardinality(k) AS n, k[1] AS first, k[16] AS last, cdp.pinyin_key(v) = ANY (k) AS has_key
FROM unnest(ARRAY['重重重重重重', '着着着着']) v, cdp.pinyin_keys(v) k;
SELECT cardinality(cdp.pinyin_keys(repeat('重', 3333))) AS n, length(cdp.pinyin_key(repeat('重', 3333))) AS long;

-- simplified, one for one; what belongs to the standard itself stays
SELECT v, cdp.simplify_han(v) FROM unnest(ARRAY['歐陽脩', '張國榮', '鍾楚紅', '陳奕迅', '邓丽君', '乾隆', '於謙', '著者', '裡面', '麵包後面', 'Abc １２', '㑳', '薴', '😀', '']) v;
SELECT cdp.simplify_han(NULL) IS NULL AND cdp.pinyin_key(NULL) IS NULL AND cdp.pinyin_keys(NULL) IS NULL AS null_in_null_out;
SELECT length(cdp.simplify_han(repeat('張三', 500000))) AS characters, cdp.simplify_han(repeat('張三', 500000)) = repeat('张三', 500000) AS all_of_them;
-- every character of the basic plane: simplified twice is simplified once, and both forms sound alike
SELECT count(*) AS characters, count(*) FILTER (WHERE s <> c) AS changed, count(*) FILTER (WHERE cdp.simplify_han(s) <> s) AS not_at_rest,
	count(*) FILTER (WHERE cdp.pinyin_key('李' || s) <> cdp.pinyin_key('李' || c)) AS sound_otherwise,
	count(*) FILTER (WHERE cdp.pinyin_key(c) = s) AS no_reading
FROM (SELECT chr(i) AS c, cdp.simplify_han(chr(i)) AS s FROM generate_series(x'4E00'::int, x'9FFF'::int) i) t;
-- toneless syllables: nothing but these letters; no surname reading that is none
SELECT count(DISTINCT k) AS syllables, min(k COLLATE "C"), max(k COLLATE "C"), bool_and(k ~ '^[a-z]{1,6}$') AS letters
FROM generate_series(x'4E00'::int, x'9FFF'::int) i, unnest(cdp.pinyin_keys('李' || chr(i))) x, substr(x, 4) k
WHERE cdp.pinyin_key(chr(i)) <> cdp.simplify_han(chr(i));
-- refused
SELECT cdp.pinyin_key(repeat('曾', 3334));
\echo :LAST_ERROR_SQLSTATE
SELECT cdp.pinyin_keys(repeat('曾', 3334));
DROP EXTENSION customer_cdp;
