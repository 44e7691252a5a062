/*
 * tag_reunite.c
 *	  Tags of customers who are several profiles.
 *
 *		profile_tag		tags				own_tags
 *		7 (One ID)		aov=5, gold, vip	gold, aov=5		what was recorded under 7
 *		8				NULL				vip, aov=3		and under 8
 *
 * The One ID's row carries the union: of a name the One ID's own entry wins,
 * then that of the smallest profile.  A merge and an unmerge only compute it
 * anew, so an unmerge gives back exactly what each side had, and what came
 * later is with the profile it was recorded under.  Where one profile alone
 * has a row there is no need of own_tags.
 *
 * SQL: sql/tag_customer.sql.  Page: doc/tag_customer.md.  Tests:
 * test/sql/tag_customer.sql, test/pgtap/tag_customer.sql,
 * test/specs/tag_alias_race.spec.
 */
#include "tag_customer.h"

#include "catalog/pg_type.h"
#include "identity_step.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cdp_reunite_tags_sql);
PG_FUNCTION_INFO_V1(cdp_restore_tags);

/* a row of profile_tag, with what it shall be */
typedef struct Part
{
	int64		profile_id;
	struct varlena *tags;		/* NULL: none */
	struct varlena *own;		/* as recorded: own_tags, or tags where there are none */
	bool		has_own;		/* it was in own_tags */
	bool		is_new;			/* there is no row yet */
} Part;

typedef struct Family
{
	int64		customer_id;
	Part	   *parts;			/* the One ID first, then by profile_id */
	int			n;
} Family;

static struct varlena *
empty_set(void)
{
	return cdp_tagset_build(NULL, 0);
}

static struct varlena *
column(uint64 row, int col)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, &isnull);

	return isnull ? NULL : PG_DETOAST_DATUM_COPY(value);
}

/* the rows of a customer, locked */
static void
load_family(Family *family, int64 customer_id)
{
	static SPIPlanPtr profiles = NULL;
	static SPIPlanPtr rows = NULL;
	static const Oid one[1] = {INT8OID};
	static const Oid two[2] = {INT8OID, INT8ARRAYOID};
	Datum		args[2] = {Int64GetDatum(customer_id)};
	int64	   *ids;
	uint64		n;
	bool		isnull;

	if (SPI_execute_plan(cdp_plan(&profiles, "SELECT profile_id FROM cdp.profile_alias WHERE customer_id = $1", 1, one),
						 args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read aliases");
	n = SPI_processed;
	ids = palloc(sizeof(int64) * (n + 1));
	for (uint64 i = 0; i < n; i++)
		ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	ids[n] = customer_id;
	args[1] = cdp_id_array(ids, n + 1);
	if (SPI_execute_plan(cdp_plan(&rows, "SELECT profile_id, tags, own_tags FROM cdp.profile_tag WHERE profile_id = ANY ($2)"
								  " ORDER BY profile_id <> $1, profile_id FOR NO KEY UPDATE", 2, two),
						 args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read cdp.profile_tag");
	family->customer_id = customer_id;
	family->parts = palloc0(sizeof(Part) * (SPI_processed + 1));
	family->n = 0;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Part	   *p = &family->parts[family->n];

		p->profile_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		if (family->n == 0 && p->profile_id != customer_id)
		{
			/* the others have tags, the One ID has no row */
			p[1].profile_id = p->profile_id;
			p->profile_id = customer_id;
			p->is_new = true;
			p++;
			family->n++;
		}
		p->tags = column(i, 2);
		p->own = column(i, 3);
		p->has_own = p->own != NULL;
		if (p->own == NULL)
			p->own = p->tags;
		family->n++;
	}
	SPI_freetuptable(SPI_tuptable);
	for (int i = 0; i < family->n; i++)
	{
		if (family->parts[i].own == NULL)
			family->parts[i].own = empty_set();
	}
}

typedef struct Claim
{
	TagEntry	entry;
	int			rank;			/* 0: of the One ID */
} Claim;

static int
compare_claims(const void *x, const void *y)
{
	const Claim *a = x;
	const Claim *b = y;
	int			cmp = memcmp(a->entry.name, b->entry.name, Min(a->entry.name_len, b->entry.name_len));

	if (cmp == 0)
		cmp = a->entry.name_len - b->entry.name_len;
	return cmp != 0 ? cmp : a->rank - b->rank;
}

static int
compare_ranks(const void *x, const void *y)
{
	const Claim *a = x;
	const Claim *b = y;

	return a->rank != b->rank ? a->rank - b->rank : compare_claims(x, y);
}

/* what own tags of all parts come to; a merge must not fail for the number of tags, so the last profiles give up theirs */
static struct varlena *
unite(Family *family)
{
	Claim	   *claims;
	TagEntry   *entries;
	TagSet	   *sets = palloc(sizeof(TagSet) * Max(family->n, 1));
	int			total = 0,
				n = 0;

	for (int i = 0; i < family->n; i++)
	{
		cdp_tagset_open(&sets[i], family->parts[i].own);
		total += sets[i].count;
	}
	claims = palloc_extended(sizeof(Claim) * Max(total, 1), MCXT_ALLOC_HUGE);
	total = 0;
	for (int i = 0; i < family->n; i++)
	{
		for (TagCursor c = {0}; cdp_tagset_next(&sets[i], &c, &claims[total].entry);)
			claims[total++].rank = i;
	}
	qsort(claims, total, sizeof(Claim), compare_claims);
	for (int i = 0; i < total; i++)
	{
		if (n > 0 && claims[n - 1].entry.name_len == claims[i].entry.name_len &&
			memcmp(claims[n - 1].entry.name, claims[i].entry.name, claims[i].entry.name_len) == 0)
			continue;
		claims[n++] = claims[i];
	}
	if (n > TAGSET_MAX_ENTRIES)
	{
		qsort(claims, n, sizeof(Claim), compare_ranks);
		n = TAGSET_MAX_ENTRIES;
	}
	entries = palloc(sizeof(TagEntry) * Max(n, 1));
	for (int i = 0; i < n; i++)
		entries[i] = claims[i].entry;
	return cdp_tagset_build(entries, n);
}

static void
write_part(Part *part, struct varlena *tags, struct varlena *own, const CdpTagWriter *writer)
{
	static CdpTagPlan update = {0};
	static CdpTagPlan insert = {0};
	static const Oid types[3] = {INT8OID, InvalidOid, InvalidOid};
	Datum		args[3];
	char		nulls[3] = {' ', tags ? ' ' : 'n', own ? ' ' : 'n'};

	args[0] = Int64GetDatum(part->profile_id);
	args[1] = PointerGetDatum(tags);
	args[2] = PointerGetDatum(own);
	if (part->is_new)
		cdp_insert_tags(cdp_tag_plan(&insert, "INSERT INTO cdp.profile_tag (profile_id, tags, own_tags) VALUES ($1, $2, $3)"
									 " ON CONFLICT (profile_id) DO NOTHING", 3, types), args, nulls, writer, 1);
	else
		(void) cdp_write_tags(cdp_tag_plan(&update, "UPDATE cdp.profile_tag SET tags = $2, own_tags = $3 WHERE profile_id = $1", 3, types),
							  args, nulls, writer);
}

/* thousands of customers are one statement: a connection for each gives back what one took */
static void
begin_customer(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static void
end_customer(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

void
cdp_reunite_tags(int64 customer_id)
{
	static const CdpTagWriter writer = {.quiet = true, .locked = true};
	Family		family;
	struct varlena *all;

	begin_customer();
	load_family(&family, customer_id);
	all = family.n > 0 ? unite(&family) : NULL;
	for (int i = 0; i < family.n; i++)
	{
		Part	   *p = &family.parts[i];
		struct varlena *tags = i == 0 ? all : NULL;
		struct varlena *own = family.n > 1 ? p->own : NULL;

		/* a part without a row of its own and nothing to carry */
		if (p->is_new && VARSIZE_ANY_EXHDR(all) == VARSIZE_ANY_EXHDR(empty_set()))
			continue;
		if (p->is_new || !cdp_tagset_same(p->tags, tags) || p->has_own != (own != NULL))
			write_part(p, tags, own, &writer);
	}
	end_customer();
}

/* does the set have this very entry? */
static bool
has_entry(const TagSet *set, const TagEntry *wanted)
{
	int			i = cdp_tagset_find(set, wanted->name, wanted->name_len);
	TagEntry	e;

	if (i < 0)
		return false;
	cdp_tagset_entry(set, i, &e);
	return cdp_tag_same_entry(&e, wanted);
}

/*
 * tags of a merged customer were written: what is new or different was said
 * of the One ID, what is gone was taken from whoever had it.  What the same
 * statement has said of the other profiles is not gone.
 */
void
cdp_spread_tags(int64 customer_id, const struct varlena *gone, const CdpTagWriter *as)
{
	CdpTagWriter writer = *as;
	Family		family;
	TagSet		wanted,
				taken,
				united;
	struct varlena *tags;

	begin_customer();
	load_family(&family, customer_id);
	writer.spreading = writer.locked = true;
	tags = family.n > 0 && family.parts[0].tags ? family.parts[0].tags : empty_set();
	cdp_tagset_open(&wanted, tags);
	cdp_tagset_open(&taken, gone ? gone : empty_set());
	cdp_tagset_open(&united, unite(&family));
	for (int i = 0; i < family.n; i++)
	{
		Part	   *p = &family.parts[i];
		TagSet		own;
		TagEntry   *entries;
		TagEntry	e;
		int			n = 0;
		struct varlena *after;

		cdp_tagset_open(&own, p->own);
		entries = palloc(sizeof(TagEntry) * (own.count + wanted.count + 1));
		for (TagCursor c = {0}; cdp_tagset_next(&own, &c, &e);)
		{
			if (cdp_tagset_find(&taken, e.name, e.name_len) < 0)
				entries[n++] = e;
		}
		for (TagCursor c = {0}; i == 0 && cdp_tagset_next(&wanted, &c, &e);)
		{
			if (!has_entry(&united, &e))
				entries[n++] = e;
		}
		after = cdp_tagset_build(entries, n);
		if (!cdp_tagset_same(p->own, after) || (i == 0 && p->tags == NULL && !p->is_new))
			write_part(p, i == 0 ? tags : NULL, after, &writer);
	}
	end_customer();
}

void
cdp_tags_customers_changed(int64 winner, int64 loser, const char *action)
{
	cdp_reunite_tags(winner);
	if (strcmp(action, "unmerge") == 0)
		cdp_reunite_tags(loser);
}

/* cdp._reunite_tags(customer_id) */
Datum
cdp_reunite_tags_sql(PG_FUNCTION_ARGS)
{
	CdpVerb		verb;

	cdp_begin_write(&verb, "reunite_tags");
	cdp_reunite_tags(PG_GETARG_INT64(0));
	cdp_end(&verb);
	PG_RETURN_VOID();
}

/*
 * cdp._restore_tags() -> rows that were wrong.  What was said last of each
 * tag is the truth; that it expired is nothing that was said.
 */
Datum
cdp_restore_tags(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plans[3] = {NULL};
	static SPIPlanPtr merged = NULL;
	static const char *const said =
		"WITH newest AS ("
		"  SELECT DISTINCT ON (profile_id, tag) profile_id, tag, change, value, value_type, valid_until"
		"  FROM cdp.tag_history WHERE change <> 'expired' ORDER BY profile_id, tag, change_id DESC"
		"), said AS ("
		"  SELECT n.profile_id, cdp._tagset_of(array_agg(n.tag), array_agg(n.value), array_agg(n.value_type), array_agg(n.valid_until)) AS tags"
		"  FROM newest n JOIN cdp.profile p USING (profile_id) WHERE n.change <> 'removed' GROUP BY n.profile_id"
		")";
	static const char *const statements[3] = {
		" DELETE FROM cdp.profile_tag t WHERE NOT EXISTS (SELECT FROM said s WHERE s.profile_id = t.profile_id)"
		" AND (coalesce(t.own_tags, t.tags) OPERATOR(cdp.=) ''::cdp.tagset) IS NOT TRUE",
		" UPDATE cdp.profile_tag t SET tags = s.tags, own_tags = NULL FROM said s WHERE s.profile_id = t.profile_id"
		" AND (coalesce(t.own_tags, t.tags) OPERATOR(cdp.=) s.tags) IS NOT TRUE",
		" INSERT INTO cdp.profile_tag (profile_id, tags) SELECT s.profile_id, s.tags FROM said s"
		" WHERE NOT EXISTS (SELECT FROM cdp.profile_tag t WHERE t.profile_id = s.profile_id)",
	};
	static const CdpTagWriter writer = {.quiet = true, .locked = true};
	CdpVerb		verb;
	int64		wrong = 0;
	int64	   *ids;
	uint64		n;

	cdp_begin_write(&verb, "restore_tags");
	for (int i = 0; i < lengthof(statements); i++)
		wrong += cdp_write_tags(cdp_plan(&plans[i], psprintf("%s%s", said, statements[i]), 0, NULL), NULL, NULL, &writer);
	if (SPI_execute_plan(cdp_plan(&merged, "SELECT customer_id FROM cdp.profile_alias UNION SELECT t.profile_id FROM cdp.profile_tag t"
								  " WHERE t.own_tags IS NOT NULL AND NOT EXISTS (SELECT FROM cdp.profile_alias a WHERE a.profile_id = t.profile_id)",
								  0, NULL), NULL, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read aliases");
	n = SPI_processed;
	ids = palloc_extended(sizeof(int64) * Max(n, 1), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	for (uint64 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		cdp_reunite_tags(ids[i]);
	}
	cdp_end(&verb);
	PG_RETURN_INT64(wrong);
}
