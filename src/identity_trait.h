/*
 * identity_trait.h
 *	  Survivorship: which of the values that sources give for one trait of one
 *	  customer is the customer's.
 */
#ifndef CDP_IDENTITY_TRAIT_H
#define CDP_IDENTITY_TRAIT_H

#include "cdp.h"

typedef enum TraitStrategy
{
	TRAIT_NEWEST,
	TRAIT_OLDEST,
	TRAIT_SOURCE_RANK,
	TRAIT_MOST_FREQUENT,
	TRAIT_LONGEST,
	TRAIT_MIN,
	TRAIT_MAX,
	TRAIT_UNION
} TraitStrategy;

typedef struct TraitName
{
	const char *bytes;
	int			len;
} TraitName;

/* a row of cdp.survivorship */
typedef struct TraitRule
{
	TraitName	trait;
	TraitStrategy strategy;
	int			nsources;		/* of source_rank, best first */
	TraitName  *sources;
} TraitRule;

/* a row of cdp.profile_trait, and what becomes of it */
typedef struct TraitCandidate
{
	TraitName	trait;
	TraitName	source;
	int64		profile_id;
	TimestampTz observed_at;
	Datum		raw;			/* jsonb as stored */
	/* taken out of raw when first needed, see trait_value() */
	Jsonb	   *jsonb;
	JsonbValue	value;
	TraitName	text;			/* of anything but numbers, for comparisons; of all for their length */
	/* the verdict */
	bool		survives;
	const char *reason;			/* in plain words; only when asked for */
} TraitCandidate;

/* Comparison of names: by length first, as keys of jsonb are sorted. */
extern int	cdp_trait_compare_names(const TraitName *a, const TraitName *b);

/*
 * Judge the candidates of one trait, in the order of source and profile_id.
 * The answer is in *result; false: the trait has no value.
 */
extern bool cdp_trait_judge(TraitCandidate *candidates, int n, const TraitRule *rule, bool explain, JsonbValue *result);

#endif							/* CDP_IDENTITY_TRAIT_H */
