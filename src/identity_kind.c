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
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/string.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "regex/regex.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(cdp_normalizer_problem);

static MemoryContext kinds_context = NULL;
static CdpKind *kinds = NULL;
static int	nkinds = 0;
static uint64 kinds_epoch = 0;

/* a function of so many texts that answers one: what call_normalizer may call */
static bool
takes_texts(Oid function, int nargs)
{
	HeapTuple	tup = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool		result;

	if (!HeapTupleIsValid(tup))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tup);
	result = proc->prokind == PROKIND_FUNCTION && !proc->proretset && proc->prorettype == TEXTOID &&
		proc->pronargs == nargs && !OidIsValid(proc->provariadic);
	for (int i = 0; result && i < nargs; i++)
		result = proc->proargtypes.values[i] == TEXTOID;
	ReleaseSysCache(tup);
	return result;
}

/*
 * Split "schema.function(policy)" and find out who that is.  The table's
 * trigger has checked the text; a function dropped since then is an error
 * when the kind is used, not a silent change of what counts as equal.
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
	kind->function = LookupFuncName(cdp_qualified_name(name), -1, NULL, true);
	/* it may have been dropped since, or have become another function: only who uses this kind is told */
	kind->broken = !takes_texts(kind->function, 1) && !takes_texts(kind->function, 2);
	if (kind->broken)
		return;
	fmgr_info(kind->function, &flinfo);
	kind->soft = cdp_soft_normalizer(flinfo.fn_addr);
	kind->broken = kind->soft == NULL && flinfo.fn_nargs != (kind->policy ? 2 : 1);
}

/* Elements of a text[], in context. */
static char **
copy_texts(Datum array, int *n, MemoryContext context)
{
	Datum	   *elems;
	bool	   *nulls;
	char	  **result;
	int			nelems;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &nelems);
	result = MemoryContextAlloc(context, sizeof(char *) * Max(nelems, 1));
	*n = 0;
	for (int i = 0; i < nelems; i++)
	{
		if (!nulls[i])
			result[(*n)++] = MemoryContextStrdup(context, TextDatumGetCString(elems[i]));
	}
	return result;
}

/* Read the table again when somebody changed it. */
static void
load_kinds(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	CdpKind    *fresh;
	uint64		epoch;

	if (kinds != NULL && kinds_epoch == cdp_rules_epoch)
		return;

	cdp_watch_rules(cdp_relation("identifier_kind"));
	epoch = cdp_rules_epoch;
	cdp_read_rules(&plan,
				   "SELECT kind, priority, own_profile, normalizer, coalesce(max_per_customer, 0),"
				   " coalesce((extract(epoch FROM max_window) * 1000000)::bigint, 0),"
				   " coalesce((extract(epoch FROM ttl) * 1000000)::bigint, 0),"
				   " blocked_pattern, blocked_values, owner::text"
				   " FROM cdp.identifier_kind ORDER BY kind COLLATE \"C\"");

	/* build aside, so that an error leaves the old rules in place */
	context = AllocSetContextCreate(CurrentMemoryContext, "customer_cdp identifier kinds", ALLOCSET_SMALL_SIZES);
	fresh = MemoryContextAllocZero(context, sizeof(CdpKind) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tup = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		CdpKind    *kind = &fresh[i];
		char	   *normalizer = SPI_getvalue(tup, desc, 4);
		char	   *pattern = SPI_getvalue(tup, desc, 8);
		char	   *owner = SPI_getvalue(tup, desc, 10);
		bool		isnull;

		kind->kind = MemoryContextStrdup(context, SPI_getvalue(tup, desc, 1));
		kind->priority = DatumGetInt32(SPI_getbinval(tup, desc, 2, &isnull));
		kind->own_profile = DatumGetBool(SPI_getbinval(tup, desc, 3, &isnull));
		kind->max_per_customer = DatumGetInt32(SPI_getbinval(tup, desc, 5, &isnull));
		kind->max_window = DatumGetInt64(SPI_getbinval(tup, desc, 6, &isnull));
		kind->ttl = DatumGetInt64(SPI_getbinval(tup, desc, 7, &isnull));
		if (pattern != NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			kind->blocked_pattern = cstring_to_text(pattern);
			kind->blocks_zeros = strcmp(pattern, CDP_ZEROS_PATTERN) == 0;
			MemoryContextSwitchTo(old);
		}
		kind->blocked_values = copy_texts(SPI_getbinval(tup, desc, 9, &isnull), &kind->nblocked, context);
		kind->owner = owner ? get_role_oid(owner, true) : InvalidOid;
		if (normalizer != NULL)
			resolve_normalizer(kind, normalizer, context);
	}
	MemoryContextSetParent(context, CacheMemoryContext);
	/* a normaliser may have changed the rules; the call that called it goes on with the ones it has */
	if (kinds_context != NULL)
		MemoryContextSetParent(kinds_context, TopTransactionContext);
	kinds_context = context;
	kinds = fresh;
	nkinds = (int) SPI_processed;
	kinds_epoch = epoch;
	SPI_freetuptable(SPI_tuptable);
	/* SPI leaves its own context behind, which ends with the verb; the caller allocates on */
	MemoryContextSwitchTo(caller);
}

const CdpKind *
cdp_all_kinds(int *n)
{
	load_kinds();
	*n = nkinds;
	return kinds;
}

static const CdpKind *
find_kind(const char *kind, int len)
{
	int			low = 0,
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

const CdpKind *
cdp_find_kind(const char *kind, int len)
{
	load_kinds();
	return find_kind(kind, len);
}

const CdpKind *
cdp_find_loaded_kind(const char *kind, int len)
{
	return kinds != NULL && kinds_epoch == cdp_rules_epoch ? find_kind(kind, len) : NULL;
}

char *
cdp_unknown_kind(const char *name, int len)
{
	if (len == 0 || len >= NAMEDATALEN)
		return pstrdup("there is no such kind of identifier");
	for (int i = 0; i < len; i++)
	{
		if (name[i] != '_' && !(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= 'A' && name[i] <= 'Z'))
			return pstrdup("there is no such kind of identifier");
	}
	return psprintf("there is no kind of identifier \"%.*s\"", len, name);
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
	CdpActor	actor;

	if (!OidIsValid(kind->owner) || !cdp_may_execute(kind->function, kind->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the role that wrote the normalizer of kind \"%s\" is gone or may not execute it", kind->kind),
				 errhint("Somebody who may execute it writes his name into column owner of the kind in cdp.identifier_kind.")));
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		Datum		value;

		/* settings that it changes are not those of the statements that follow */
		cdp_become(&actor, kind->owner);

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
		cdp_return(&actor);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		/* also before the error goes on: whoever catches it expects his own subtransaction */
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
			ReThrowError(error);
		FreeErrorData(error);
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
	if (kind->broken)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("the normalizer of kind \"%s\" is not there, or is no function of one text (two with a policy) that returns a text",
						kind->kind),
				 errhint("Create it again, or change column normalizer of the kind in cdp.identifier_kind.")));
	if (OidIsValid(kind->function))
		return call_normalizer(kind, raw, len);
	return pnstrdup(raw, len);
}

static bool
matches_pattern(const CdpKind *kind, const char *s, int len)
{
	/* a value of megabytes is refused for its length anyway */
	if (kind->blocked_pattern == NULL || len > CDP_MAX_VALUE_BYTES)
		return false;
	if (kind->blocks_zeros)
	{
		int			i = 0;
		int			zeros = 0;

		/* one zero alone may be somebody's number */
		for (; i < len && strchr("-:. 0", s[i]) != NULL; i++)
			zeros += s[i] == '0';
		return i == len && zeros > 1;
	}
	return RE_compile_and_execute(kind->blocked_pattern, unconstify(char *, s), len, REG_ADVANCED,
								  DEFAULT_COLLATION_OID, 0, NULL);
}

/*
 * Blocked values are compared as they were given and as they are kept, ASCII
 * letters without case; the pattern looks at the same two.
 */
bool
cdp_is_blocked(const CdpKind *kind, const char *raw, int len, const char *value)
{
	int			vlen = value ? strlen(value) : 0;

	while (len > 0 && isspace((unsigned char) raw[0]))
		raw++, len--;
	while (len > 0 && isspace((unsigned char) raw[len - 1]))
		len--;
	for (int i = 0; i < kind->nblocked; i++)
	{
		const char *blocked = kind->blocked_values[i];
		int			blen = strlen(blocked);

		if ((blen == len && pg_strncasecmp(blocked, raw, len) == 0) ||
			(value != NULL && blen == vlen && pg_strncasecmp(blocked, value, vlen) == 0))
			return true;
	}
	return matches_pattern(kind, raw, len) || (value != NULL && matches_pattern(kind, value, vlen));
}

/* --- the check of a rule --- */

/*
 * cdp._normalizer_problem(function, policy) -> text, NULL when it may stand
 * in a rule
 */
Datum
cdp_normalizer_problem(PG_FUNCTION_ARGS)
{
	FmgrInfo	flinfo;
	CdpNormalizer soft;
	char	   *policy = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	const char *problem = NULL;

	if (PG_ARGISNULL(0) || (!takes_texts(PG_GETARG_OID(0), 1) && !takes_texts(PG_GETARG_OID(0), 2)))
		PG_RETURN_TEXT_P(cstring_to_text("the function must take a text, and a text for a policy if it has any, and return a text"));
	fmgr_info(PG_GETARG_OID(0), &flinfo);
	soft = cdp_soft_normalizer(flinfo.fn_addr);
	if (soft != NULL)
		problem = cdp_normalizer_check(soft, policy);
	else if (flinfo.fn_nargs != (policy ? 2 : 1))
		problem = policy ? "a normalizer with a policy takes two arguments, value and policy" :
			"a normalizer without a policy takes one argument, the value";
	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}
