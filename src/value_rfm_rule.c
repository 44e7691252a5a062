/*
 * value_rfm_rule.c
 *	  Refund rules that need all rows of a customer together.
 *
 * The aggregate cdp._rfm_sorted gets its rows customer by customer, sorted
 * by the server, and keeps those of one; when the next customer begins, the
 * rule makes an entry of them:
 *
 *		net_day		a purchase is a day, of cdp.timezone, whose money is above
 *					zero; it lasts from its first purchase row to its last
 *		cancel		a refund of exactly the money of an earlier purchase takes
 *					the latest such purchase away
 *
 * Money is that of all rows under both.  For cancel the rows are put in
 * order of amount, then time: within one amount, purchases go on a stack and
 * a refund takes the top one.
 *
 *		10:00 50	11:00 50	12:00 -50	13:00 -50	14:00 -50
 *		push		push		takes 11:00	takes 10:00	takes nothing
 *
 * An order that knows its refunds (sales_order) is cancelled by a refund in
 * full and by nothing else: its refunds are known not to be another's.
 *
 * SQL: sql/value_rfm.sql.  Tests: test/sql/value_rfm.sql,
 * test/pgtap/value_rfm.sql.  Page: doc/value_rfm.md.
 */
#include "value_rfm.h"

#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* exact money: units of 10^-8, and what is no multiple of them or huge */
typedef struct Money
{
	int128		units;
	Numeric		rest;			/* NULL: none */
} Money;

typedef struct OpenRow
{
	TimestampTz at;
	Money		amount;			/* without sign */
	Money		refunded;		/* of a purchase */
	bool		refund;
	bool		cancelled;
} OpenRow;

struct RfmOpen
{
	MemoryContext context;		/* of the rows and their money */
	int64		customer_id;
	uint16		dscale;
	OpenRow    *rows;			/* NULL: no customer is open */
	uint64		nrows;
	uint64		room;
};

void
cdp_rfm_refuse_rules(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("RFM summaries of different rules for refunds, or of the same customers under such a rule, do not combine"),
			 errhint("Only summaries without such a rule combine; under a rule all rows of a customer belong into one.")));
}

static void
money_add(Money *a, const Money *b)
{
	a->units += b->units;
	if (b->rest)
		a->rest = a->rest ? cdp_numeric_add(a->rest, b->rest) : b->rest;
}

static bool
money_equal(const Money *a, const Money *b)
{
	if (a->rest == NULL || b->rest == NULL)
		return a->rest == b->rest && a->units == b->units;
	return DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(a->rest), NumericGetDatum(b->rest)));
}

/* Order of single amounts; those with a rest come last, whatever they are worth. */
static int
money_compare(const Money *a, const Money *b)
{
	if (a->rest && b->rest)
		return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a->rest), NumericGetDatum(b->rest)));
	if (a->rest || b->rest)
		return a->rest ? 1 : -1;
	return a->units < b->units ? -1 : a->units > b->units;
}

/* is a above b? */
static bool
money_above(const Money *a, const Money *b, int dscale)
{
	Numeric		x = cdp_money_numeric(a->units, dscale);
	Numeric		y = cdp_money_numeric(b->units, dscale);

	if (a->rest == NULL && b->rest == NULL)
		return a->units > b->units;
	if (a->rest)
		x = cdp_numeric_add(x, a->rest);
	if (b->rest)
		y = cdp_numeric_add(y, b->rest);
	return DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(x), NumericGetDatum(y)));
}

/* An amount into the current context; answers whether it is below zero. */
static bool
money_read(Money *money, const struct varlena *amount, uint16 *max_dscale)
{
	bool		negative = false;
	int			dscale = 0;

	money->units = 0;
	money->rest = NULL;
	switch (cdp_money_read(amount, &money->units, &negative, &dscale))
	{
		case MONEY_FITS:
			break;
		case MONEY_LARGE:
			money->units = 0;
			money->rest = DatumGetNumeric(DirectFunctionCall1(numeric_abs, PointerGetDatum(amount)));
			break;
		case MONEY_SPECIAL:
			cdp_purchase_refuse_amount();
	}
	*max_dscale = Max(*max_dscale, dscale);
	return negative;
}

/* A row of the open customer; another one closes the one before. */
void
cdp_rfm_open_row(RfmSummary *s, int64 customer_id, TimestampTz at,
				 const struct varlena *amount, const struct varlena *refunded)
{
	RfmOpen    *open = s->open;
	MemoryContext old;
	OpenRow    *row;

	if (open == NULL)
	{
		open = s->open = MemoryContextAllocZero(s->hdr.eoh_context, sizeof(RfmOpen));
		open->context = AllocSetContextCreate(s->hdr.eoh_context, "cdp.rfm_summary rows", ALLOCSET_DEFAULT_SIZES);
	}
	else if (open->rows != NULL && open->customer_id != customer_id)
		cdp_rfm_close(s);
	old = MemoryContextSwitchTo(open->context);
	if (open->rows == NULL)
	{
		open->customer_id = customer_id;
		open->dscale = 0;
		open->nrows = 0;
		open->room = 16;
		open->rows = palloc(open->room * sizeof(OpenRow));
	}
	else if (open->nrows == open->room)
	{
		open->room *= 2;
		open->rows = repalloc_huge(open->rows, open->room * sizeof(OpenRow));
	}
	row = &open->rows[open->nrows++];
	memset(row, 0, sizeof(OpenRow));
	row->at = at;
	row->refund = money_read(&row->amount, amount, &open->dscale);
	if (refunded && money_read(&row->refunded, refunded, &open->dscale))
		cdp_purchase_refuse_amount();
	MemoryContextSwitchTo(old);
}

/* Time, and of one moment purchases first: a refund never comes before what it pays back. */
static int
compare_time(const void *a, const void *b)
{
	const OpenRow *x = a;
	const OpenRow *y = b;

	CHECK_FOR_INTERRUPTS();
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return (int) x->refund - (int) y->refund;
}

static int
compare_amount(const void *a, const void *b)
{
	int			c = money_compare(&((const OpenRow *) a)->amount, &((const OpenRow *) b)->amount);

	return c != 0 ? c : compare_time(a, b);
}

static void
cancel_rows(RfmOpen *open)
{
	OpenRow   **stack;
	uint64		depth = 0;

	qsort(open->rows, open->nrows, sizeof(OpenRow), compare_amount);
	stack = MemoryContextAllocHuge(open->context, open->nrows * sizeof(OpenRow *));
	for (uint64 i = 0; i < open->nrows; i++)
	{
		OpenRow    *row = &open->rows[i];
		bool		own = row->refunded.units != 0 || row->refunded.rest != NULL;

		if (i > 0 && !money_equal(&row->amount, &row[-1].amount))
			depth = 0;
		if (row->refund)
		{
			if (depth > 0)
				stack[--depth]->cancelled = true;
		}
		else if (own && money_equal(&row->amount, &row->refunded))
			row->cancelled = true;
		else
			stack[depth++] = row;
	}
}

/* The entry's purchases, first and last, as days count. */
static void
count_days(RfmOpen *open, RfmEntry *entry)
{
	struct pg_tz *zone = cdp_zone();
	uint64		start = 0;

	qsort(open->rows, open->nrows, sizeof(OpenRow), compare_time);
	while (start < open->nrows)
	{
		Money		bought = {0, NULL};
		Money		back = {0, NULL};
		TimestampTz first_at = DT_NOEND;
		TimestampTz last_at = DT_NOBEGIN;
		int			day = 0;
		uint64		i;

		for (i = start; i < open->nrows; i++)
		{
			OpenRow    *row = &open->rows[i];
			struct pg_tm tm;
			fsec_t		fsec;
			int			offset;

			CHECK_FOR_INTERRUPTS();
			if (timestamp2tm(row->at, &offset, &tm, &fsec, NULL, zone) != 0)
				cdp_purchase_refuse_time();
			if (i == start)
				day = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday);
			else if (day != date2j(tm.tm_year, tm.tm_mon, tm.tm_mday))
				break;
			money_add(row->refund ? &back : &bought, &row->amount);
			money_add(&back, &row->refunded);
			if (!row->refund)
			{
				first_at = Min(first_at, row->at);
				last_at = Max(last_at, row->at);
			}
		}
		if (money_above(&bought, &back, open->dscale))
		{
			entry->purchases++;
			entry->first_at = Min(entry->first_at, first_at);
			entry->last_at = Max(entry->last_at, last_at);
		}
		start = i;
	}
}

static void
count_rows(RfmOpen *open, RfmEntry *entry)
{
	for (uint64 i = 0; i < open->nrows; i++)
	{
		OpenRow    *row = &open->rows[i];

		if (row->refund || row->cancelled)
			continue;
		entry->purchases++;
		entry->first_at = Min(entry->first_at, row->at);
		entry->last_at = Max(entry->last_at, row->at);
	}
}

/* The rows of the open customer become his entry. */
void
cdp_rfm_close(RfmSummary *s)
{
	RfmOpen    *open = s->open;
	RfmEntry	entry;
	Numeric		rests[2] = {NULL, NULL};
	Money		total[2] = {{0, NULL}, {0, NULL}};
	MemoryContext old;
	uint32		before = s->n;

	if (open->rows == NULL)
		return;
	old = MemoryContextSwitchTo(open->context);
	entry = cdp_rfm_entry_of(open->customer_id);
	entry.dscale = open->dscale;
	if (s->rule == RFM_RULE_NET_DAY)
		count_days(open, &entry);
	else
	{
		cancel_rows(open);
		count_rows(open, &entry);
	}
	for (uint64 i = 0; i < open->nrows; i++)
	{
		money_add(&total[open->rows[i].refund ? 1 : 0], &open->rows[i].amount);
		money_add(&total[1], &open->rows[i].refunded);
	}
	for (int i = 0; i < 2; i++)
	{
		uint16		part = i == 0 ? RFM_GROSS_REST : RFM_REFUNDED_REST;

		cdp_rfm_money_set(&entry, rests, part, total[i].units);
		if (total[i].rest)
			rests[i] = rests[i] ? cdp_numeric_add(rests[i], total[i].rest) : total[i].rest;
	}
	open->rows = NULL;
	cdp_rfm_add(s, &entry, rests);
	cdp_rfm_settle(s);
	MemoryContextSwitchTo(old);
	MemoryContextReset(open->context);
	if (s->n == before)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the rows of a customer do not come together"),
				 errhint("Sort them: FROM (SELECT ... ORDER BY customer_id) AS s.")));
}
