/*
 * value.h
 *	  What a customer is worth: the state that counts purchases.
 *
 * One definition of a purchase (doc/value.md): a row (time, amount) with
 * amount >= 0 is a purchase, with amount < 0 a refund; a refund takes money
 * back and is no visit.  Rows after as_of do not exist.
 *
 * The state is a value of type cdp.rfm_state, so partial results can be
 * stored, sent and combined; it is changed in place while an aggregate runs.
 * Money is exact.  Amounts below 10^16 with at most 8 decimals, which is all
 * real money, are whole multiples of 10^-8 in two 128-bit integers; others
 * go to one of two numerics behind the fixed part ("rest"):
 *
 *		vl_len_ | dscale parts | as_of .. refunded | [gross rest] [refunded rest]
 */
#ifndef CDP_VALUE_H
#define CDP_VALUE_H

#include "cdp.h"

#include "utils/numeric.h"
#include "utils/timestamp.h"

typedef struct RfmState
{
	int32		vl_len_;		/* varlena header, do not touch directly */
	uint16		dscale;			/* largest display scale met, as sum() has it */
	uint16		parts;			/* RFM_GROSS_REST, RFM_REFUNDED_REST */
	TimestampTz as_of;			/* DT_NOBEGIN: no row yet */
	TimestampTz first_at;		/* of purchases; DT_NOEND: none */
	TimestampTz last_at;		/* of purchases; DT_NOBEGIN: none */
	int64		purchases;
	int128		gross;			/* of purchases, in 10^-8 */
	int128		refunded;		/* taken back, >= 0, in 10^-8 */
	/* numerics that parts announces follow, each MAXALIGNed */
} RfmState;

#define RFM_GROSS_REST		0x0001
#define RFM_REFUNDED_REST	0x0002

/* value_money.c: numeric's digits to whole 10^-8 and back */
typedef enum
{
	MONEY_FITS,					/* *units is exact */
	MONEY_LARGE,				/* finite, but no multiple of 10^-8 below 10^16 */
	MONEY_SPECIAL				/* NaN or infinite */
} MoneyKind;

extern MoneyKind cdp_money_read(const struct varlena *num, int128 *units, bool *negative, int *dscale);
extern Numeric cdp_money_numeric(int128 units, int dscale);
extern bool cdp_money_from_float8(float8 value, int128 *units, bool *negative, int *dscale);

/* value_state.c */
extern RfmState *cdp_rfm_state_make(TimestampTz as_of, TimestampTz first_at, TimestampTz last_at,
									int64 purchases, Numeric gross, Numeric refunded, int sqlerrcode);
extern RfmState *cdp_rfm_add_rest(RfmState *state, Numeric amount, uint16 part);
extern Numeric cdp_rfm_rest(const RfmState *state, uint16 part);
extern Numeric cdp_rfm_total(const RfmState *state, uint16 part);
extern Numeric cdp_rfm_net(const RfmState *state);

/* value.c: as_of less a time not after it, in microseconds; 22008 when it does not fit */
extern int64 cdp_purchase_recency(TimestampTz as_of, TimestampTz at);

/* value.c: 22023 for what no purchase can have */
pg_noreturn extern void cdp_purchase_refuse_as_of(void);
pg_noreturn extern void cdp_purchase_refuse_time(void);
pg_noreturn extern void cdp_purchase_refuse_amount(void);
pg_noreturn extern void cdp_purchase_refuse_currency(const char *a, int a_len, const char *b, int b_len);

/*
 * value_query.c: a user's query for purchases, checked and independent of
 * search_path: columns customer_id, occurred_at, amount and, when it has
 * four, currency.
 */
extern char *cdp_purchases_source(const char *query, bool *has_currency);

#endif							/* CDP_VALUE_H */
