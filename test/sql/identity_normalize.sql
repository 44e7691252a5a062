-- one spelling per phone number, e-mail address and name
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cdp CASCADE;
CREATE EXTENSION customer_cdp;
CALL cdp.migrate();
-- what a call answers or how it fails; leaks: the message or the hint holds the value
CREATE FUNCTION pg_temp.try(call text, val text, arg text DEFAULT NULL, OUT result text, OUT state text, OUT leaks boolean)
	LANGUAGE plpgsql AS $$
DECLARE
	msg text; hint text;
BEGIN
	EXECUTE format('SELECT %s(%L%s)', call, val, ', ' || quote_literal(arg)) INTO result;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, msg = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	result := msg;
	leaks := strpos(msg, trim(val)) > 0 AND trim(val) <> '' OR hint = '';
END $$;

-- ten spellings and more of one landline and of one mobile
SELECT cdp.normalize_phone(v) AS phone, count(*) FROM unnest(ARRAY[
	'021-55556666', '(021) 5555-6666', '021.5555.6666', '+86 21 5555 6666', '0086-21-55556666', '86 21 55556666',
	'+86 (0)21 5555 6666', '86 021 55556666', '（０２１）５５５５－６６６６', '＋８６２１５５５５６６６６', '2155556666',
	'086-21-55556666', '(+86) 21-5555 6666', '021—5555 6666', '021　55556666', E'\u202D021\u201155556666\u202C', E' 021\t55556666\n',
	'+008621 5555 6666']) v GROUP BY 1;
SELECT cdp.normalize_phone(v) AS phone, count(*) FROM unnest(ARRAY[
	'13800138000', '138 0013 8000', '138-0013-8000', '+86 138 0013 8000', '8613800138000', '008613800138000',
	'013800138000', '+86 (0)138 0013 8000', '１３８００１３８０００', '＋８６－１３８－００１３－８０００', '(86)138.0013.8000',
	'86 0138 0013 8000']) v GROUP BY 1;
-- area codes of two and of three digits, numbers of seven and of eight
SELECT v, cdp.normalize_phone(v) FROM unnest(ARRAY[
	'010-6552 9988', '010-655 2998', '0755-8888 9999', '0755-888 9999', '0898-66778899', '0371 1234 5678', '86 22 2345678', '8675588889999']) v;
-- other countries, and whose number it is without a prefix
SELECT v, c, cdp.normalize_phone(v, c) FROM (VALUES
	('+44 (0)20 7946 0958', '86'), ('020 7946 0958', '44'), ('44 7911 123456', '44'), ('+1 (212) 555-0123', '86'),
	('212.555.0123', '1'), ('1 212 555 0123', '1'), ('00852 9123 4567', '86'), ('9123 4567', '852'), ('9123 4567', '+852'),
	('0912 345 678', '00886'), ('+39 06 6982 1234', '86'), ('06 6982 1234', '39'), ('+390669821234', '39'), ('+86 138 0013 8000', '44'),
	('+81 (0)90-1234-5678', '86'), ('+683 4002', '86'), ('+49 1512 345678901', '86')) AS t(v, c);
-- refused, and the value is not told
SELECT left(v, 24) AS v, (pg_temp.try('cdp.normalize_phone', v)).* FROM unnest(ARRAY[
	'', ' ', '+', '-', 'abc', '138OO138000', '021-55556666 ext 12', '021-55556666转12', '021-55556666#12', '021-55556666-8001',
	'13800138000,1', '13800138000/13900139000', '400-820-8820', '4008208820', '0800 820 8820', '86 400 820 8820', '+86 800 820 8820',
	'110', '10086', '95588', '12306', '55556666', '1380013800', '138001380001', '12800138000', '0600-1234567', '0861-2345678',
	'021-05556666', '++8613800138000', '86+13800138000', '+00', '000 8613800138000', '+0138',
	'+44 123', '+44 00 7946 0958', '+39 006982', '+800 1234 5678', '+979 123456789', '+1234567890123456', '12345678901234567890123',
	'+49 15123456789012', repeat('1', 300), '๑๓๘๐๐๑๓๘๐๐๐', '①③⑧⓪⓪①③⑧⓪⓪⓪', '138_0013_8000']) v;
SELECT c, (pg_temp.try('cdp.normalize_phone', '13800138000', c)).result FROM unnest(ARRAY['', '+', '0', '8', '861', '8613', 'CN', '８６', '86 ']) c;
SELECT cdp.normalize_phone('110');
SELECT cdp.normalize_phone('13800138000', 'CN');

-- e-mail: case, width, policies (unaligned: psql 15 and 16 count other widths)
\pset format unaligned
SELECT v, cdp.normalize_email(v), cdp.normalize_email(v, 'strip_tag') AS strip_tag, cdp.normalize_email(v, 'gmail') AS gmail FROM unnest(ARRAY[
	'Zhang.San+Shop@Example.COM', '  zhang.san@qq.com ', E'\tzhang@mail.ustc.edu.cn\n', 'ｚｈａｎｇ＠ｑｑ．ｃｏｍ', 'zhang@qq。com',
	E'\u3000zhang@qq.com\u200B', 'Z.S+a+b@GoogleMail.com', 'z.s@gmail.com', 'z.s+x@gmail.com.cn', '+tag@example.com', 'a.+tag@example.com',
	'张三@例子.中国', 'ÉMILE@exámple.com', 'o''brien_x-y@a-b.co', '123456@qq.com', 'a@1.2']) v;
\pset format aligned
SELECT left(v, 24) AS v, (pg_temp.try('cdp.normalize_email', v)).* FROM unnest(ARRAY[
	'', '  ', 'zhang', 'zhang@', '@qq.com', '@', 'zhang@localhost', 'zhang@@qq.com', 'zhang@qq@com.cn', 'zhang san@qq.com', 'zhang@q q.com',
	E'zhang\u3000san@qq.com', E'zhang@qq\n.com', 'zhang@qq..com', 'zhang@.com', 'zhang@qq.', 'zhang@qq.com.', '.zhang@qq.com', 'zhang.@qq.com',
	'zh..ang@qq.com', 'zhang@-qq.com', 'zhang@qq-.com', 'zhang@qq.-com', 'zhang@qq.com-', 'zhang@q_q.com', 'zhang@[127.0.0.1]',
	'<zhang@qq.com>', 'zhang@qq.com;', 'mailto:zhang@qq.com', '"zhang"@qq.com', 'zhang,li@qq.com', 'zhang@qq,com',
	repeat('a', 250) || '@q.cn', repeat('ａ', 250) || '@q.cn', repeat('张', 4000) || '@q.cn']) v;
SELECT length(cdp.normalize_email(repeat('a', 249) || '@q.cn')), length(cdp.normalize_email(repeat('ａ', 249) || '@q.cn'));
SELECT cdp.normalize_email('zhang@qq');
SELECT cdp.normalize_email('zhang@qq.com', 'lower');

-- names
\pset format unaligned
SELECT v, cdp.normalize_name(v) FROM unnest(ARRAY[
	' 张  三 ', '张　三', '王先生', '王 女士', '张三小姐', '李太太', '陈老师', '先生', '老师', '张先生老师', 'SMITH先生', 'Mr 王 先生', '太太太太',
	'阿依古丽•买买提', '阿依古丽・买买提', '阿依古丽‧买买提', '卡尔 · 马克思', '卡尔··马克思', 'ﾀﾛｳ･ﾔﾏﾀﾞ', 'ＬＩ　　Ｍｉｎｇ', 'Li   Ming', '李 Ming',
	'ÉMILE Zola', E'E\u0301mile', 'Łukasz ŻÓŁĆ', 'İnci', 'NGUYỄN Thị ƠN', 'ИВАН Петров', 'ΑΛΈΞΗΣ', E'Jose\u200Bph', E'张\u200B三', E'葛\U000E0100城', '⼭田', '張三', '']) v;
\pset format aligned
SELECT v, (cdp.split_name(v)).* FROM unnest(ARRAY[
	'张三', '张三丰', '张', '欧阳', '欧阳修', '歐陽脩', '欧阳 娜娜', '诸葛亮先生', '司马相如', '司马老师', '爱新觉罗·溥仪', '叶赫那拉·杏贞', '欧阳·娜娜', '爱新觉罗溥仪', '爱新觉罗', '王孙权', '上官',
	'卡尔·马克思', '阿依古丽·买买提', 'John Smith', 'Smith, John', '史密斯，约翰', 'Zhang Wei', 'Madonna', 'Jean-Luc de la Tour', '张 David', '欧阳 Nana', 'David 张',
	'', '·', ' , ', 'a,', ',a', '·a', 'a·']) v;
-- compound surnames, each with and without a character behind it
SELECT count(*), bool_and((cdp.split_name(s || '明')).surname = s AND (cdp.split_name(s || '明')).given_name = '明') AS compound,
       bool_and((cdp.split_name(s)).surname = left(s, 1) AND (cdp.split_name(s)).given_name = right(s, 1)) AS alone
FROM regexp_split_to_table('万俟 司马 上官 欧阳 夏侯 诸葛 闻人 东方 赫连 皇甫 尉迟 公羊 澹台 公冶 宗政 濮阳 淳于 单于 太叔 申屠 公孙 仲孙 轩辕 令狐 钟离 宇文 长孙 慕容 鲜于 闾丘 司徒 司空 亓官 司寇 子车 颛孙 端木 巫马 公西 漆雕 乐正 壤驷 公良 拓跋 夹谷 宰父 谷梁 段干 百里 东郭 南门 呼延 羊舌 微生 梁丘 左丘 东门 西门 南宫 第五 独孤 纳兰 哥舒 完颜 耶律 贺兰 贺若 贺拔 斛律 尔朱 达奚 豆卢 乞伏 秃发 沮渠 屈突 仆固 北宫 东里 相里 公输 叔孙 季孙 士孙 太史 主父 毌丘 綦毋 申徒 司城 胥门 屠岸 即墨 叶赫 那拉 富察 佟佳 范姜 萬俟 司馬 歐陽 諸葛 聞人 東方 赫連 尉遲 澹臺 濮陽 單于 公孫 軒轅 鍾離 長孫 鮮于 閭丘 顓孫 樂正 東郭 南宮 獨孤', ' ') s;

-- NULL in, NULL out
SELECT cdp.normalize_phone(NULL) IS NULL AS phone, cdp.normalize_phone('1', NULL) IS NULL AS country, cdp.normalize_email(NULL) IS NULL AS email,
       cdp.normalize_email('x', NULL) IS NULL AS policy, cdp.normalize_name(NULL) IS NULL AS name, (SELECT s IS NULL FROM cdp.split_name(NULL) s) AS split;
-- long input is refused or cut short of any work
SELECT (pg_temp.try('cdp.' || f, repeat('x', 10000001))).state FROM unnest('{normalize_phone,normalize_email,normalize_name,split_name}'::text[]) f;
-- anybody may call them; an expression index may use them
SELECT bool_and(has_function_privilege('public', p.oid, 'EXECUTE')) AS public, bool_and(p.provolatile = 'i' AND p.proisstrict AND p.proparallel = 's') AS pure, count(*)
FROM pg_proc p WHERE p.pronamespace = 'cdp'::regnamespace AND p.proname IN ('normalize_phone', 'normalize_email', 'normalize_name', 'split_name');

-- a database that is not UTF8: ASCII works, what needs Unicode says so
CREATE DATABASE cdp_latin ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
SELECT current_database() AS here \gset
\c cdp_latin
CREATE EXTENSION customer_cdp;
SELECT cdp.normalize_phone('(021) 5555-6666'), cdp.normalize_email(' A+b@Gmail.com', 'gmail');
SELECT cdp.normalize_phone('０２１55556666');
SELECT cdp.normalize_email('张三@qq.com');
SELECT cdp.normalize_name('Smith');
SELECT cdp.split_name('Smith');
\c :here
DROP DATABASE cdp_latin;
