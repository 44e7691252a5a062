/*
 * identity_surname.c
 *	  Which characters of a name are the surname.
 *
 * Chinese names put it first: one character, or a compound surname where a
 * character remains for the given name (欧阳修 is 欧阳 + 修, 欧阳 alone is 欧 + 阳).
 * Foreign names put it last.  A name written in pinyin may do either, which no
 * program can know: compare such names both ways.
 *
 * SQL: sql/identity_normalize.sql.  Page: doc/identity_normalize.md.
 */
#include "identity_normalize.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_split_name);

#define LONGEST_SURNAME	4		/* characters: 爱新觉罗 */

/*
 * Compound surnames, simplified and traditional, in byte order: those of the
 * Hundred Family Surnames, of the northern dynasties, of Jurchens and Manchus,
 * and a few of antiquity and Taiwan that are still met.  Left out is what is
 * far more often a single surname and a given name (王孙, 高阳, 张简).
 */
static const char *const compound_surnames[] = {
	"万俟", "上官", "东方", "东郭", "东里", "东门", "主父", "乌孙", "乐正", "乞伏", "亓官", "五鹿",
	"仆固", "令狐", "仲孙", "仲孫", "佟佳", "侯莫陈", "侯莫陳", "信都", "僕固", "公乘", "公仪", "公伯",
	"公儀", "公冶", "公叔", "公孙", "公孫", "公山", "公戶", "公户", "公羊", "公良", "公西", "公輸",
	"公输", "北宫", "北宮", "北郭", "单于", "南宫", "南宮", "南榮", "南荣", "南郭", "南門", "南门",
	"即墨", "厍狄", "叔孙", "叔孫", "叱列", "叱干", "叱罗", "叱羅", "叶赫", "叶赫那拉", "司城", "司寇",
	"司徒", "司空", "司馬", "司马", "司鸿", "吐谷浑", "吐谷渾", "呼延", "哥舒", "單于", "壤駟", "壤驷",
	"士孙", "士孫", "夏侯", "夙沙", "太叔", "太史", "夹谷", "夾谷", "子車", "子车", "孟孙", "孟孫",
	"季孙", "季孫", "宇文", "完顏", "完颜", "宗政", "室孙", "室孫", "宰父", "富察", "尉迟", "尉遲",
	"少正", "尔朱", "屈突", "屠岸", "左丘", "巫馬", "巫马", "库狄", "庫狄", "延陵", "微生", "愛新覺羅",
	"慕容", "拓拔", "拓跋", "斛律", "斛斯", "新垣", "東方", "東郭", "東里", "東門", "梁丘", "梁由",
	"樂正", "欧阳", "歐陽", "段干", "段幹", "毋丘", "毌丘", "沮渠", "淳于", "漆雕", "澹台", "澹臺",
	"濮阳", "濮陽", "烏孫", "爱新觉罗", "爾朱", "独孤", "獨孤", "瓜尔佳", "瓜爾佳", "申屠", "申徒",
	"百里", "皇甫", "相里", "禿發", "秃发", "穀梁", "端木", "第五", "範姜", "紇奚", "紇干", "納蘭",
	"綦毋", "綦连", "綦連", "纥奚", "纥干", "纳兰", "羊舌", "耶律", "聞人", "胥门", "臧孙", "臧孫",
	"若干", "范姜", "莫折", "萬俟", "落下", "葉赫", "葉赫那拉", "董鄂", "虞丘", "西乞", "西郭", "西門",
	"西门", "諸葛", "诸葛", "谷梁", "豆卢", "豆盧", "費連", "賀拔", "賀若", "賀蘭", "费连", "贺兰",
	"贺拔", "贺若", "贺赖", "赫舍里", "赫连", "赫連", "軒轅", "轩辕", "达奚", "達奚", "那拉", "鈕祜祿",
	"鍾離", "钟离", "钮祜禄", "長孫", "长孙", "閭丘", "闻人", "闾丘", "阿史那", "陆费", "陸費", "雍门",
	"顓孫", "颛孙", "鮮于", "鲜于",
};

/* is name[0..n) a compound surname? */
static bool
is_compound(const pg_wchar *name, int n)
{
	unsigned char key[LONGEST_SURNAME * MAX_MULTIBYTE_CHAR_LEN + 1];
	unsigned char *o = key;
	int			lo = 0;
	int			hi = lengthof(compound_surnames) - 1;

	for (int i = 0; i < n; i++)
	{
		unicode_to_utf8(name[i], o);
		o += pg_utf_mblen(o);
	}
	*o = '\0';
	while (lo <= hi)
	{
		int			mid = (lo + hi) / 2;
		int			cmp = strcmp((char *) key, compound_surnames[mid]);

		if (cmp == 0)
			return true;
		if (cmp < 0)
			hi = mid - 1;
		else
			lo = mid + 1;
	}
	return false;
}

int
cdp_surname_chars(const pg_wchar *name, int n)
{
	for (int k = Min(LONGEST_SURNAME, n - 1); k > 1; k--)
	{
		if (is_compound(name, k))
			return k;
	}
	return Min(n, 1);
}

/*
 * Where a normalised name falls apart: surname [s0, s1), given name [g0, g1),
 * an empty range when there is none.
 *
 *		smith, john			a comma says it
 *		卡尔·马克思			behind the last dot, as foreign names go,
 *		爱新觉罗·溥仪			unless a compound surname stands before it
 *		张三, 欧阳修, 张 david	Han comes first: a compound surname or one character
 *		john smith			the last word
 */
static void
find_surname(const pg_wchar *w, int n, int *s0, int *s1, int *g0, int *g1)
{
	int			comma = -1;
	int			dot = -1;
	int			space = -1;

	*s0 = *s1 = *g0 = *g1 = 0;
	if (n == 0)
		return;
	for (int i = 1; i < n - 1; i++)
	{
		if (w[i] == ',' && comma < 0)
			comma = i;
		else if (w[i] == CDP_MIDDLE_DOT)
			dot = i;
		else if (w[i] == ' ')
			space = i;
	}

	*s1 = *g1 = n;
	if (comma > 0)
	{
		*s1 = comma;
		*g0 = comma + 1;
		while (*s1 > 0 && w[*s1 - 1] == ' ')
			(*s1)--;
		while (*g0 < n && w[*g0] == ' ')
			(*g0)++;
	}
	else if (dot > 0)
	{
		if (dot <= LONGEST_SURNAME && is_compound(w, dot))
		{
			*s1 = dot;
			*g0 = dot + 1;
		}
		else
		{
			*g1 = dot;
			*s0 = dot + 1;
		}
	}
	else if (cdp_is_han(w[0]))
	{
		*s1 = *g0 = cdp_surname_chars(w, n);
		if (*g0 < n && w[*g0] == ' ')
			(*g0)++;
	}
	else if (space > 0)
	{
		*g1 = space;
		*s0 = space + 1;
	}
	else
		*s1 = 0;				/* one foreign word is what somebody is called by */
}

static Datum
part(const pg_wchar *w, int from, int to, bool *isnull)
{
	char	   *s;
	int			bytes;

	*isnull = from >= to;
	if (*isnull)
		return (Datum) 0;
	s = cdp_encode(w + from, to - from, &bytes);
	return PointerGetDatum(cstring_to_text_with_len(s, bytes));
}

/* cdp.split_name(name text) -> (surname text, given_name text) */
Datum
cdp_split_name(PG_FUNCTION_ARGS)
{
	text	   *in = PG_GETARG_TEXT_PP(0);
	TupleDesc	desc = (TupleDesc) fcinfo->flinfo->fn_extra;
	Datum		values[2];
	bool		nulls[2];
	const char *why;
	pg_wchar   *w;
	int			n,
				s0,
				s1,
				g0,
				g1;

	if (desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		desc = BlessTupleDesc(CreateTupleDescCopy(desc));
		fcinfo->flinfo->fn_extra = desc;
		MemoryContextSwitchTo(old);
	}
	w = cdp_name_normalize(VARDATA_ANY(in), VARSIZE_ANY_EXHDR(in), &n, &why);
	if (w == NULL)
		CDP_NAME_REFUSE(why);
	find_surname(w, n, &s0, &s1, &g0, &g1);
	values[0] = part(w, s0, s1, &nulls[0]);
	values[1] = part(w, g0, g1, &nulls[1]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
