/*
 * identity_normalize.c
 *	  One spelling per phone number, e-mail address and name: the SQL
 *	  functions, and their form that does not raise.
 *
 * Two spellings of one number must become one identifier, and something that
 * identifies nobody must not become one: both mistakes merge or split people.
 * So a value is either brought to its one form or refused with a reason.
 *
 *		 (021) 5555-5555			\
 *		0086 21 5555 5555			 >	+862155555555
 *		＋８６（０）２１ ５５５５５５５５	/
 *		021-55555555 ext 12				refused: is it the person or the exchange?
 *		400-820-8820					refused: a hotline is nobody
 *
 * The work is in identity_phone.c, identity_email.c and identity_name.c.
 * Numbers and addresses are decided in one pass over a small buffer on the
 * stack; only text outside ASCII costs more.  In a database with another
 * encoding than UTF8 they must be ASCII, and names are refused.
 *
 * SQL: sql/identity_normalize.sql.
 * Tests: test/sql/identity_normalize.sql, test/pgtap/identity_normalize.sql.
 * Page: doc/identity_normalize.md.
 */
#include "identity_normalize.h"

#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_normalize_phone);
PG_FUNCTION_INFO_V1(cdp_normalize_email);
PG_FUNCTION_INFO_V1(cdp_normalize_name);

#define REFUSE(why, hint) \
	ereport(ERROR, \
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), \
			 errmsg("%s", why), \
			 errhint("%s", hint)))

/* cdp.normalize_phone(phone text, country_code text) -> text */
Datum
cdp_normalize_phone(PG_FUNCTION_ARGS)
{
	text	   *in = PG_GETARG_TEXT_PP(0);
	text	   *country = PG_GETARG_TEXT_PP(1);
	char		cc[4];
	char		buf[CDP_PHONE_DIGITS + 2];
	const char *why;

	if (!cdp_phone_country(VARDATA_ANY(country), VARSIZE_ANY_EXHDR(country), cc))
		REFUSE(CDP_PHONE_BAD_COUNTRY, "For example '86', '852' or '1'.");
	why = cdp_phone_normalize(VARDATA_ANY(in), VARSIZE_ANY_EXHDR(in), cc, buf);
	if (why != NULL)
		REFUSE(why, CDP_PHONE_HINT);
	PG_RETURN_TEXT_P(cstring_to_text(buf));
}

/* cdp.normalize_email(email text, policy text) -> text */
Datum
cdp_normalize_email(PG_FUNCTION_ARGS)
{
	text	   *in = PG_GETARG_TEXT_PP(0);
	text	   *name = PG_GETARG_TEXT_PP(1);
	CdpEmailPolicy policy;
	char		buf[CDP_EMAIL_MAX];
	const char *why;
	int			n;

	if (!cdp_email_policy(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name), &policy))
		REFUSE(CDP_EMAIL_BAD_POLICY, "The policies are keep, strip_tag and gmail.");
	why = cdp_email_normalize(VARDATA_ANY(in), VARSIZE_ANY_EXHDR(in), policy, buf, &n);
	if (why != NULL)
		REFUSE(why, CDP_EMAIL_HINT);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf, n));
}

/* cdp.normalize_name(name text) -> text */
Datum
cdp_normalize_name(PG_FUNCTION_ARGS)
{
	text	   *in = PG_GETARG_TEXT_PP(0);
	StringInfoData out;
	const char *why;

	initStringInfo(&out);
	if (!cdp_normalize_name_cstr(VARDATA_ANY(in), VARSIZE_ANY_EXHDR(in), NULL, &out, &why))
		CDP_NAME_REFUSE(why);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

CdpNormalizer
cdp_soft_normalizer(PGFunction fn)
{
	if (fn == cdp_normalize_phone)
		return cdp_normalize_phone_cstr;
	if (fn == cdp_normalize_email)
		return cdp_normalize_email_cstr;
	if (fn == cdp_normalize_name)
		return cdp_normalize_name_cstr;
	return NULL;
}

const char *
cdp_normalizer_check(CdpNormalizer fn, const char *arg)
{
	char		cc[4];
	CdpEmailPolicy policy;

	if (arg == NULL)
		return NULL;
	if (fn == cdp_normalize_phone_cstr)
		return cdp_phone_country(arg, strlen(arg), cc) ? NULL : CDP_PHONE_BAD_COUNTRY;
	if (fn == cdp_normalize_email_cstr)
		return cdp_email_policy(arg, strlen(arg), &policy) ? NULL : CDP_EMAIL_BAD_POLICY;
	return "this normaliser takes no argument";
}
