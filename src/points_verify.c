/*
 * points_verify.c
 *	  Whether two columns of sums are equal, without making either.
 *
 * verify_points() asks of every lot whether what is gone of it is the sum of
 * its uses, of every entry whether it is what its lots say, and so on: the
 * same question each time, whether
 *
 *		sum of x(row) over the rows of an id  =  sum of y(row) over the rows of that id
 *
 * for every id.  Grouping answers it, at the price of a hash table with a
 * place for every id; of a million entries that are several.  But a ledger is
 * nearly always sound, and that it is sound is told by one number for either
 * side:
 *
 *		F(x) = sum of x(row) * r(id of the row)   modulo p = 2^61 - 1
 *
 * where r(id) is a random number below p, made from the id and from a seed
 * that is drawn anew for each verification.  If the sums agree for every id
 * then F(x) = F(y).  If they do not for some id, F(x) = F(y) would need the one
 * r of p that fits the others: one chance in 2^61 (Freivalds 1977 does so for
 * products of matrices; Schwartz 1980).  Differences up to 2^63 in size cannot
 * vanish modulo p unless they are p or 2p, which no sums of points are.
 *
 * When the numbers differ, verify_points() groups, and says which.
 *
 * SQL: sql/points_verify.sql.  Page: doc/points_verify.md.  Tests:
 * test/sql/points_verify.sql.
 */
#include "cdp.h"

#include "common/hashfn.h"

PG_FUNCTION_INFO_V1(cdp_fingerprint_add);
PG_FUNCTION_INFO_V1(cdp_fingerprint_combine);

#define PRIME	((UINT64CONST(1) << 61) - 1)

/* modulo 2^61 - 1: what is above bit 61 counts as what it is above */
static inline uint64
reduce(uint64 x)
{
	x = (x & PRIME) + (x >> 61);
	return x >= PRIME ? x - PRIME : x;
}

static inline uint64
add(uint64 a, uint64 b)
{
	return reduce(a + b);
}

static inline uint64
multiply(uint64 a, uint64 b)
{
	uint128		product = (uint128) a * b;

	return add((uint64) product & PRIME, (uint64) (product >> 61));
}

/* a state that somebody else made: whatever it is, count modulo p */
static inline uint64
state(int64 x)
{
	return reduce((uint64) x);
}

/*
 * _fingerprint_add(state, amount, id, seed)
 *
 * Strict, so a NULL amount or id adds nothing.
 */
Datum
cdp_fingerprint_add(PG_FUNCTION_ARGS)
{
	uint64		sum = state(PG_GETARG_INT64(0));
	int64		amount = PG_GETARG_INT64(1);
	int64		id = PG_GETARG_INT64(2);
	uint64		seed = (uint64) PG_GETARG_INT64(3);
	uint64		weight;
	uint64		part;

	if (amount == 0)
		PG_RETURN_INT64((int64) sum);
	weight = reduce(hash_bytes_extended((const unsigned char *) &id, sizeof(id), seed));
	part = multiply(reduce(amount < 0 ? -(uint64) amount : (uint64) amount), weight);
	if (amount < 0 && part != 0)
		part = PRIME - part;
	PG_RETURN_INT64((int64) add(sum, part));
}

/* _fingerprint_combine(a, b): of two parts of the rows */
Datum
cdp_fingerprint_combine(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) add(state(PG_GETARG_INT64(0)), state(PG_GETARG_INT64(1))));
}
