/*
 * identity_kind.c
 *	  Cache of the rules in cdp.identifier_kind, and what they do to a value.
 *
 * A shop has about ten kinds and changes them once a year, while every call
 * asks for them: so they are read once per backend and again after a change,
 * see cdp_rules_epoch.
 *
 * Page: doc/identity.md.  Tests: test/sql/identity.sql.
 */
#include "identity_kind.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/string.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/resowner.h"

static MemoryContext kinds_context = NULL;
static CdpKind *kinds = NULL;
static int	nkinds = 0;
static uint64 kinds_epoch = 0;

/*
 * Split "schema.function(policy)" and find out who that is.  The table's
 * trigger has checked the text; a function dropped since then is an error
 * here, not a silent change of what counts as equal.
 */
static void
resolve_normalizer(CdpKind *kind, const char *text, MemoryContext context)
{
	char	   *name = pstrdup(text);
	char	   *open = strchr(name, '(');
	FmgrInfo	flinfo;

	if (open != NULL)
	{
		char	   *close = strrchr(open, ')');

		*open++ = '\0';
		if (close != NULL)
			*close = '\0';
		kind->policy = MemoryContextStrdup(context, open);
	}
	kind->function = LookupFuncName(cdp_qualified_name(name), -1, NULL, false);
	fmgr_info(kind->function, &flinfo);
	kind->soft = cdp_soft_normalizer(flinfo.fn_addr);
	if (kind->soft == NULL && flinfo.fn_nargs != (kind->policy ? 2 : 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("normalizer of kind \"%s\" must take one text argument, or two with a policy", kind->kind),
				 errhint("Change the normalizer of the kind in cdp.identifier_kind.")));
}

/* Read the table again when somebody changed it. */
static void
load_kinds(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext context;
	CdpKind    *fresh;
	uint64		epoch;

	if (kinds != NULL && kinds_epoch == cdp_rules_epoch)
		return;

	cdp_watch_rules(cdp_relation("identifier_kind"));
	epoch = cdp_rules_epoch;
	if (SPI_execute_plan(cdp_plan(&plan,
								  "SELECT kind, priority, own_profile, normalizer, coalesce(max_per_customer, 0),"
								  " coalesce((extract(epoch FROM max_window) * 1000000)::bigint, 0),"
								  " coalesce((extract(epoch FROM ttl) * 1000000)::bigint, 0)"
								  " FROM cdp.identifier_kind ORDER BY kind COLLATE \"C\"",
								  0, NULL),
						 NULL, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.identifier_kind");

	/* build aside, so that an error leaves the old rules in place */
	context = AllocSetContextCreate(CacheMemoryContext, "customer_cdp identifier kinds", ALLOCSET_SMALL_SIZES);
	fresh = MemoryContextAllocZero(context, sizeof(CdpKind) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tup = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *normalizer = SPI_getvalue(tup, desc, 4);
		bool		isnull;

		fresh[i].kind = MemoryContextStrdup(context, SPI_getvalue(tup, desc, 1));
		fresh[i].priority = DatumGetInt32(SPI_getbinval(tup, desc, 2, &isnull));
		fresh[i].own_profile = DatumGetBool(SPI_getbinval(tup, desc, 3, &isnull));
		fresh[i].max_per_customer = DatumGetInt32(SPI_getbinval(tup, desc, 5, &isnull));
		fresh[i].max_window = DatumGetInt64(SPI_getbinval(tup, desc, 6, &isnull));
		fresh[i].ttl = DatumGetInt64(SPI_getbinval(tup, desc, 7, &isnull));
		if (normalizer != NULL)
			resolve_normalizer(&fresh[i], normalizer, context);
	}
	if (kinds_context != NULL)
		MemoryContextDelete(kinds_context);
	kinds_context = context;
	kinds = fresh;
	nkinds = (int) SPI_processed;
	kinds_epoch = epoch;
	SPI_freetuptable(SPI_tuptable);
}

const CdpKind *
cdp_find_kind(const char *kind, int len)
{
	int			low = 0,
				high;

	load_kinds();
	high = nkinds - 1;
	while (low <= high)
	{
		int			mid = (low + high) / 2;
		int			klen = strlen(kinds[mid].kind);
		int			cmp = memcmp(kind, kinds[mid].kind, Min(len, klen));

		if (cmp == 0)
			cmp = len - klen;
		if (cmp == 0)
			return &kinds[mid];
		if (cmp < 0)
			high = mid - 1;
		else
			low = mid + 1;
	}
	return NULL;
}

char *
cdp_list_kinds(void)
{
	StringInfoData buf;

	load_kinds();
	initStringInfo(&buf);
	for (int i = 0; i < nkinds; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", kinds[i].kind);
	return buf.data;
}

/*
 * A normaliser of the user's may raise for what it does not like; its error
 * is undone in a subtransaction and the value counts as refused.
 */
static char *
call_normalizer(const CdpKind *kind, const char *raw, int len)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile result = NULL;
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo	flinfo;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		Datum		value;

		fmgr_info(kind->function, &flinfo);
		InitFunctionCallInfoData(*fcinfo, &flinfo, flinfo.fn_nargs, DEFAULT_COLLATION_OID, NULL, NULL);
		fcinfo->args[0].value = PointerGetDatum(cstring_to_text_with_len(raw, len));
		fcinfo->args[0].isnull = false;
		if (flinfo.fn_nargs > 1)
		{
			fcinfo->args[1].value = kind->policy ? CStringGetTextDatum(kind->policy) : (Datum) 0;
			fcinfo->args[1].isnull = kind->policy == NULL;
		}
		value = FunctionCallInvoke(fcinfo);
		if (!fcinfo->isnull)
		{
			result = TextDatumGetCString(value);
			if (result[0] == '\0')
				result = NULL;
		}
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		MemoryContextSwitchTo(caller);
		if (ERRCODE_TO_CATEGORY(code) != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		result = NULL;
	}
	PG_END_TRY();
	return result;
}

char *
cdp_normalize_value(const CdpKind *kind, const char *raw, int len)
{
	StringInfoData out;
	const char *why;

	while (len > 0 && isspace((unsigned char) raw[0]))
		raw++, len--;
	while (len > 0 && isspace((unsigned char) raw[len - 1]))
		len--;
	if (len == 0)
		return NULL;

	if (kind->soft != NULL)
	{
		char	   *value = NULL;

		/* not the buffer itself, which has a kilobyte: a batch keeps all its values */
		initStringInfo(&out);
		if (kind->soft(raw, len, kind->policy, &out, &why) && out.len > 0)
			value = pnstrdup(out.data, out.len);
		pfree(out.data);
		return value;
	}
	if (OidIsValid(kind->function))
		return call_normalizer(kind, raw, len);
	return pnstrdup(raw, len);
}
