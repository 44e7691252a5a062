/*
 * identity_email.c
 *	  E-mail addresses: one case, one width, and what a policy takes away.
 *
 *		keep		Zhang.San+Shop@GoogleMail.com -> zhang.san+shop@googlemail.com
 *		strip_tag	                                 zhang.san@googlemail.com
 *		gmail		                                 zhangsan@gmail.com
 *
 * Only a bare address is taken; quoted local parts, comments and address
 * literals, which RFC 5321 knows and no customer has, are refused.
 *
 * SQL: sql/identity_normalize.sql.  Page: doc/identity_normalize.md.
 */
#include "identity_normalize.h"

/* keep, strip_tag or gmail */
bool
cdp_email_policy(const char *s, int len, CdpEmailPolicy *policy)
{
	static const char *const names[] = {"keep", "strip_tag", "gmail"};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strlen(names[i]) == len && memcmp(names[i], s, len) == 0)
		{
			*policy = (CdpEmailPolicy) i;
			return true;
		}
	}
	return false;
}

/* NULL, or what is wrong with a domain: labels of letters, digits and inner hyphens, at least two */
static const char *
email_check_domain(const char *d, int n)
{
	int			label = 0;		/* bytes of the label so far */
	bool		dotted = false;

	for (int i = 0; i <= n; i++)
	{
		char		c = i < n ? d[i] : '.';

		if (c == '.')
		{
			if (label == 0)
				return "e-mail address has an empty part";
			if (d[i - 1] == '-')
				return "e-mail address has a domain label that begins or ends with a hyphen";
			dotted |= i < n;
			label = 0;
			continue;
		}
		if (c == '-' && label == 0)
			return "e-mail address has a domain label that begins or ends with a hyphen";
		if (c != '-' && !IS_HIGHBIT_SET(c) && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9'))
			return "e-mail address has a sign in its domain that does not belong there";
		label++;
	}
	return dotted ? NULL : "e-mail address has no dot in its domain";
}

/* full-width and other non-ASCII text: one form of it, and the ideographic full stop is a dot (RFC 3490) */
static char *
email_fold(const char *in, int *len)
{
	pg_wchar   *w;
	char	   *out;
	int			n;

	w = cdp_fold(in, *len, &n);
	for (int i = 0; i < n; i++)
	{
		if (w[i] == 0x3002)		/* 。 */
			w[i] = '.';
		else if (cdp_is_blank(w[i]))
			w[i] = ' ';
	}
	out = cdp_encode(w, n, len);
	pfree(w);
	return out;
}

/* in[0..len) -> buf, *outlen bytes.  Answers NULL, or why not. */
const char *
cdp_email_normalize(const char *in, int len, CdpEmailPolicy policy, char buf[CDP_EMAIL_MAX], int *outlen)
{
	char	   *folded = NULL;
	const char *why;
	int			at = -1;
	int			local,
				n;

	for (n = 0; n < len && !IS_HIGHBIT_SET(in[n]); n++)
		;
	if (n < len)
	{
		if (GetDatabaseEncoding() != PG_UTF8)
			return "e-mail address has a character outside ASCII in a database that is not UTF8";
		if (len > CDP_FOLD_MAX)
			return "e-mail address is longer than 254 bytes";
		in = folded = email_fold(in, &len);
	}
	while (len > 0 && (unsigned char) in[0] <= ' ')
		in++, len--;
	while (len > 0 && (unsigned char) in[len - 1] <= ' ')
		len--;
	if (len == 0)
		return "e-mail address is empty";
	if (len > CDP_EMAIL_MAX)
		return "e-mail address is longer than 254 bytes";

	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) in[i];

		if (c <= ' ' || c == 0x7F)
			return "e-mail address has a space or a control character in it";
		if (c == '@')
		{
			if (at >= 0)
				return "e-mail address has more than one @";
			at = i;
		}
		else if (at < 0 && strchr("()<>[]:;,\\\"", c) != NULL)
			return "e-mail address has a sign before its @ that does not belong there";
		buf[i] = c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
	}
	if (folded != NULL)
		pfree(folded);
	if (at < 0)
		return "e-mail address has no @";
	if (at == 0 || buf[0] == '.' || buf[at - 1] == '.')
		return "e-mail address has an empty part";
	for (int i = 1; i < at; i++)
	{
		if (buf[i] == '.' && buf[i - 1] == '.')
			return "e-mail address has an empty part";
	}
	why = email_check_domain(buf + at + 1, len - at - 1);
	if (why != NULL)
		return why;

	*outlen = len;
	if (policy == CDP_EMAIL_KEEP)
		return NULL;

	/* a tag that is the whole local part is none; a dot before it goes with it */
	local = at;
	for (int i = 1; i < at; i++)
	{
		if (buf[i] == '+')
		{
			local = i;
			break;
		}
	}
	while (buf[local - 1] == '.')
		local--;
	n = len - at;				/* @ and domain */
	if (policy == CDP_EMAIL_GMAIL &&
		((n == 10 && memcmp(buf + at, "@gmail.com", 10) == 0) ||
		 (n == 15 && memcmp(buf + at, "@googlemail.com", 15) == 0)))
	{
		int			k = 0;

		for (int i = 0; i < local; i++)
		{
			if (buf[i] != '.')
				buf[k++] = buf[i];
		}
		memcpy(buf + k, "@gmail.com", 10);
		*outlen = k + 10;
		return NULL;
	}
	memmove(buf + local, buf + at, n);
	*outlen = local + n;
	return NULL;
}

bool
cdp_normalize_email_cstr(const char *in, int len, const char *policy,
						 StringInfo out, const char **why)
{
	char		buf[CDP_EMAIL_MAX];
	CdpEmailPolicy p = CDP_EMAIL_KEEP;
	int			n;

	if (policy != NULL && !cdp_email_policy(policy, strlen(policy), &p))
		*why = CDP_EMAIL_BAD_POLICY;
	else
		*why = cdp_email_normalize(in, len, p, buf, &n);
	if (*why != NULL)
		return false;
	appendBinaryStringInfo(out, buf, n);
	return true;
}
