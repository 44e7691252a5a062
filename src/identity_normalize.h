/*
 * identity_normalize.h
 *	  One spelling per phone number, e-mail address and name.
 *
 * The SQL functions cdp.normalize_*() raise for a value they refuse.  Here is
 * the form that does not: identity normalises a hundred thousand values in
 * one call and only counts the bad ones.
 */
#ifndef CDP_IDENTITY_NORMALIZE_H
#define CDP_IDENTITY_NORMALIZE_H

#include "cdp.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

/*
 * Append the normalised form of in[0..len) to out and answer true; or leave
 * out alone, point *why to a constant sentence without personal data and
 * answer false.  in need not end with a zero byte.  arg is the one argument a
 * normaliser may have, NULL for its default: the country code ("86"), the
 * e-mail policy ("keep", "strip_tag", "gmail"); names have none.  A wrong arg
 * is refused like a bad value.
 */
typedef bool (*CdpNormalizer) (const char *in, int len, const char *arg,
							   StringInfo out, const char **why);

extern bool cdp_normalize_phone_cstr(const char *in, int len, const char *country,
									 StringInfo out, const char **why);
extern bool cdp_normalize_email_cstr(const char *in, int len, const char *policy,
									 StringInfo out, const char **why);
extern bool cdp_normalize_name_cstr(const char *in, int len, const char *unused,
									StringInfo out, const char **why);

/* the soft form of a C function (flinfo->fn_addr), NULL when it is none of ours */
extern CdpNormalizer cdp_soft_normalizer(PGFunction fn);

/* what is wrong with an argument, NULL when nothing is: for the check of a rule */
extern const char *cdp_normalizer_check(CdpNormalizer fn, const char *arg);

/* hints that fit every sentence a normaliser gives */
#define CDP_PHONE_HINT \
	"Give one complete number without extension: a mainland mobile, a landline with its area code," \
	" or any other number with + and its country code."
#define CDP_EMAIL_HINT	"Give one bare address of the form name@example.com."
#define CDP_NAME_HINT	"Give one personal name in a database with encoding UTF8."

/* identity_phone.c: "+" and at most 15 digits into buf; NULL, or why not */
#define CDP_PHONE_DIGITS		15
#define CDP_PHONE_BAD_COUNTRY	"country code is not one to three digits of an E.164 country code"

extern bool cdp_phone_country(const char *s, int len, char cc[4]);
extern const char *cdp_phone_normalize(const char *in, int len, const char *cc,
									   char buf[CDP_PHONE_DIGITS + 2]);

/* identity_email.c: *outlen bytes into buf; NULL, or why not.  254 is what a path of RFC 5321 has room for. */
#define CDP_EMAIL_MAX			254
#define CDP_EMAIL_BAD_POLICY	"there is no such e-mail policy"

typedef enum CdpEmailPolicy
{
	CDP_EMAIL_KEEP,				/* tags and dots make another address, as most servers see it */
	CDP_EMAIL_STRIP_TAG,		/* cut +... from the local part */
	CDP_EMAIL_GMAIL				/* strip_tag; at Gmail dots mean nothing and both domains are one */
} CdpEmailPolicy;

extern bool cdp_email_policy(const char *s, int len, CdpEmailPolicy *policy);
extern const char *cdp_email_normalize(const char *in, int len, CdpEmailPolicy policy,
									   char buf[CDP_EMAIL_MAX], int *outlen);

/* identity_name.c: characters, for those who compare names */

/* longest input that is decoded at all, in bytes */
#define CDP_FOLD_MAX	10000

/*
 * in[0..len), len at most CDP_FOLD_MAX, without invisible characters, in
 * NFKC and lower case: a zero-terminated, palloc'd array of *n code points.
 */
extern pg_wchar *cdp_fold(const char *in, int len, int *n);

extern bool cdp_is_han(pg_wchar c);
extern bool cdp_is_blank(pg_wchar c);
extern bool cdp_is_invisible(pg_wchar c);

/* a normalised name as palloc'd code points, and back; CDP_MIDDLE_DOT is the only dot in it */
#define CDP_MIDDLE_DOT	0x00B7

extern pg_wchar *cdp_name_normalize(const char *in, int len, int *n, const char **why);
extern char *cdp_encode(const pg_wchar *w, int n, int *len);

/* raise what cdp_name_normalize() said */
#define CDP_NAME_REFUSE(why) \
	ereport(ERROR, \
			(errcode(GetDatabaseEncoding() == PG_UTF8 ? \
					 ERRCODE_INVALID_PARAMETER_VALUE : ERRCODE_FEATURE_NOT_SUPPORTED), \
			 errmsg("%s", why), \
			 errhint("%s", CDP_NAME_HINT)))

/* identity_surname.c: how many characters of a Han name are the surname; 0 for n = 0 */
extern int	cdp_surname_chars(const pg_wchar *name, int n);

#endif							/* CDP_IDENTITY_NORMALIZE_H */
