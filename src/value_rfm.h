/*
 * value_rfm.h
 *	  RFM of all customers at once: one aggregate over the whole table.
 *
 * GROUP BY with a million groups costs ten times the scan, whatever the
 * aggregate in it does.  So one aggregate takes all rows and keeps its own
 * table of customers:
 *
 *		rows -> batch of 32 -> slots (tag, place) -> chunks of entries
 *
 * The batch is there for the processor: the slots, then the entries of all
 * of its rows are asked for before the first is needed.  An entry is 48
 * bytes and never moves, a slot 8 bytes: 56 to 72 MB per million customers.
 *
 * The state is a value of type cdp.rfm_summary: in memory this object, in
 * tuples (between workers, in tables) flat bytes in the order of the ids,
 * about 25 a customer.
 *
 * Money is exact: whole multiples of 10^-8 as far as 64 bits go, a numeric
 * beside the table (a "rest") for what they cannot hold.
 *
 * What is where: value_rfm.c the aggregates, value_rfm_flat.c bytes and
 * text, value_rfm_rule.c the refund rules that look at single rows,
 * value_rfm_score.c ranks, cuts and limits, value_rfm_sort.c sorting,
 * value_rfm_options.c arguments, value_rfm_table.c the functions of a user.
 *
 * SQL: sql/value_rfm.sql.  Tests: test/sql/value_rfm*.sql,
 * test/pgtap/value_rfm.sql.  Page: doc/value_rfm.md.
 */
#ifndef CDP_VALUE_RFM_H
#define CDP_VALUE_RFM_H

#include "value.h"

#include "utils/expandeddatum.h"

#define RFM_MAX_CUSTOMERS	25000000
#define RFM_BATCH			32
#define RFM_CHUNK_BITS		14
#define RFM_CHUNK			(1 << RFM_CHUNK_BITS)

/* how refunds have been counted; the first serves 'ignore' and 'net' */
typedef enum
{
	RFM_RULE_PLAIN,
	RFM_RULE_NET_DAY,
	RFM_RULE_CANCEL
} RfmRule;

/* one customer, or one row of his */
typedef struct RfmEntry
{
	int64		customer_id;
	TimestampTz first_at;		/* of purchases; DT_NOEND: none */
	TimestampTz last_at;		/* of purchases; DT_NOBEGIN: none */
	int64		gross;			/* of purchases, in 10^-8 */
	int64		refunded;		/* >= 0, in 10^-8 */
	uint32		purchases;
	uint16		dscale;			/* largest display scale met */
	uint16		rests;			/* RFM_GROSS_REST, RFM_REFUNDED_REST */
} RfmEntry;

/* money that an entry cannot hold */
typedef struct RfmRest
{
	uint32		place;			/* of the entry */
	char		status;
	Numeric		money[2];		/* gross, refunded; NULL: none */
} RfmRest;

typedef struct RfmSlot
{
	uint32		tag;			/* of the id's hash */
	uint32		place;			/* of the entry, from 1; 0: free */
} RfmSlot;

typedef struct RfmOpen RfmOpen;

typedef struct RfmSummary
{
	ExpandedObjectHeader hdr;
	int			magic;
	RfmRule		rule;
	TimestampTz as_of;			/* DT_NOBEGIN: no row yet */
	int64		skipped_null;	/* rows */
	int64		after_as_of;	/* rows */
	char	   *currency;		/* of all rows; NULL: not told */
	uint32		n;				/* entries */
	uint32		max_chunks;
	RfmEntry  **chunks;
	RfmSlot    *slots;
	int			bits;			/* of the number of slots */
	struct rests_hash *rests;	/* NULL: none */
	uint32		npending;
	RfmEntry	pending[RFM_BATCH];
	RfmOpen    *open;			/* the customer whose rows are being read; of a rule only */
	struct varlena *flat;		/* between the two calls that flatten */
} RfmSummary;

static inline RfmEntry *
cdp_rfm_entry(const RfmSummary *s, uint32 place)
{
	return &s->chunks[place >> RFM_CHUNK_BITS][place & (RFM_CHUNK - 1)];
}

/* value_rfm.c */
extern RfmSummary *cdp_rfm_summary_new(MemoryContext parent);
/* what an argument holds, not to be changed */
extern RfmSummary *cdp_rfm_summary_get(Datum value);
/* everything in its place, ready to be read */
extern void cdp_rfm_settle(RfmSummary *s);
extern void cdp_rfm_reserve(RfmSummary *s, uint64 n);
extern void cdp_rfm_add(RfmSummary *s, const RfmEntry *entry, Numeric const *rests);
extern RfmEntry cdp_rfm_entry_of(int64 customer_id);
extern void cdp_rfm_money_set(RfmEntry *entry, Numeric *rests, uint16 part, int128 units);
extern const RfmRest *cdp_rfm_rest_of(const RfmSummary *s, uint32 place);
extern Numeric cdp_rfm_money(const RfmSummary *s, uint32 place, uint16 part);
extern void cdp_rfm_set_as_of(RfmSummary *s, TimestampTz as_of);
extern void cdp_rfm_set_currency(RfmSummary *s, const char *currency, int len);
extern Numeric cdp_numeric_add(Numeric a, Numeric b);

/* value_rfm_flat.c */
extern const ExpandedObjectMethods cdp_rfm_summary_methods;
/* adds what flat bytes hold; what is wrong with them is raised as that */
extern void cdp_rfm_load(RfmSummary *s, const char *bytes, Size len, int sqlerrcode);

/* value_rfm_rule.c */
extern void cdp_rfm_open_row(RfmSummary *s, int64 customer_id, TimestampTz at,
							 const struct varlena *amount, const struct varlena *refunded);
extern void cdp_rfm_close(RfmSummary *s);
pg_noreturn extern void cdp_rfm_refuse_rules(void);

/* value_rfm_sort.c: ascending; scratch has the room of the first */
typedef struct RfmSortPair
{
	uint64		key;
	uint64		place;
} RfmSortPair;

#define RFM_SORT_KEY(signed_value)	((uint64) (signed_value) ^ (UINT64CONST(1) << 63))

extern void cdp_sort_keys(int64 *keys, int64 *scratch, Size n);
extern void cdp_sort_pairs(RfmSortPair *pairs, RfmSortPair *scratch, Size n);

/* value_rfm_score.c */
typedef enum {RFM_R, RFM_F, RFM_M} RfmMeasure;
#define RFM_MEASURES	3

typedef enum {RFM_QUINTILE, RFM_NESTED, RFM_THRESHOLD} RfmMethod;

typedef struct RfmOptions
{
	RfmMethod	method;
	int			bins;
	Interval   *r_cuts;			/* bins - 1 ascending; of RFM_THRESHOLD */
	Numeric    *f_cuts;
	Numeric    *m_cuts;
	bool		median;			/* what parts high from low; else the mean */
	Interval   *r_high;			/* limits of the caller; NULL: none */
	Numeric		f_high;
	Numeric		m_high;
	bool		mean_money;		/* money per purchase */
	bool		ignore_refunds;
	RfmRule		rule;
	bool		english;
} RfmOptions;

/* All scores come from comparing keys: the higher the better. */
typedef struct RfmScores
{
	const RfmSummary *s;
	const RfmOptions *o;
	uint32		n;				/* customers with a purchase */
	/* money that is no whole number of units: ranked; NULL: the key is the number of units */
	uint32	   *rank;			/* by place */
	Numeric    *money;			/* by rank, ascending */
	uint32		nmoney;
	int64	   *cuts[RFM_MEASURES]; /* of each group: the lowest keys of the scores 2 .. bins */
	uint8	   *ncuts[RFM_MEASURES];	/* of each group: how many of them there are */
	int64		high_from[RFM_MEASURES];
	bool		never_high[RFM_MEASURES];
} RfmScores;

extern int64 cdp_rfm_key(const RfmScores *sc, const RfmEntry *entry, uint32 place, RfmMeasure m);
extern void cdp_rfm_score_all(RfmScores *sc, const RfmSummary *s, const RfmOptions *o);
extern void cdp_rfm_score(const RfmScores *sc, const int64 *keys, int *scores);
extern Numeric cdp_rfm_monetary(const RfmScores *sc, uint32 place);
extern int128 cdp_interval_us(const Interval *span);

/* value_rfm_options.c: the arguments from method on, and lang; 22023 for what makes no sense */
extern void cdp_rfm_read_options(FunctionCallInfo fcinfo, int method, int lang, RfmOptions *o);

#endif							/* CDP_VALUE_RFM_H */
