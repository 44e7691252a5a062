/*
 * identity_match.h
 *	  Matching without labels: the stages and what they hand on.
 *
 *		records (SQL) --load--> values, decoded once per distinct value
 *		blocking (SQL) --pairs--> candidate pairs, each once
 *		compare --levels--> one small vector per pair, counted by pattern
 *		fit --> m, u, lambda per level: the model
 *		score --> weight and probability per pattern, given to its pairs
 *
 * A record is known by its number: records are sorted by source and id first,
 * so that nothing depends on the order in which rows arrive.
 *
 * SQL: sql/identity_match.sql.  Page: doc/identity_match.md.
 */
#ifndef CDP_IDENTITY_MATCH_H
#define CDP_IDENTITY_MATCH_H

#include "cdp.h"

#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/tuplestore.h"

#define MATCH_MAX_COLUMNS	16	/* four bits each in a pattern */
#define MATCH_MAX_LEVELS	8	/* without null */
#define MATCH_MAX_RULES		32

typedef enum MatchKind
{
	MATCH_EXACT,
	MATCH_TEXT,
	MATCH_NAME,
	MATCH_HAN_NAME,
	MATCH_DATE,
	MATCH_NUMBER,
	MATCH_PHONE,
	MATCH_EMAIL
} MatchKind;

#define MATCH_KINDS		(MATCH_EMAIL + 1)

/* Level -1 is null (one side is not known); 0 is different; the last is equal. */
typedef struct MatchColumn
{
	const char *name;
	const char *swap;			/* the other column of a pair that is often exchanged, or NULL */
	MatchKind	kind;
	bool		term_frequency; /* equal rare values weigh more than equal common ones */
	int			nlevels;
	double		m[MATCH_MAX_LEVELS];	/* P(level | one person, both known) */
	double		u[MATCH_MAX_LEVELS];	/* P(level | two persons, both known) */
} MatchColumn;

typedef struct MatchRule
{
	const char *text;
	int64		pairs;			/* that the rule gives */
	int64		new_pairs;		/* of which no earlier rule gave */
} MatchRule;

typedef struct MatchModel
{
	int			ncolumns;
	MatchColumn columns[MATCH_MAX_COLUMNS];
	int			nrules;
	MatchRule	rules[MATCH_MAX_RULES];
	/* options */
	bool		link_only;
	int64		seed;
	int64		sample;
	int			max_iterations;
	/* result of a fit */
	double		lambda;			/* P(one person) of two records taken at random */
	int64		records;
	int64		pairs;
	int			iterations;
	bool		converged;
	const char *note;			/* what is odd about the data, or NULL */
} MatchModel;

/* a distinct value of a kind, ready to be compared */
typedef struct MatchValue
{
	const pg_wchar *chars;		/* canonical form; a date is its eight digits */
	int			nchars;
	uint64		mask;			/* a bit per character and occurrence, see may_be_similar() */
	int			cut;			/* email: place of the @ */
	int			simplified;		/* han_name: number of its simplified form */
	int			nsounds;
	int		   *sounds;			/* han_name: numbers of its readings */
	double		number;
} MatchValue;

/* the distinct values of all columns of one kind; equal values have one number */
typedef struct MatchDict MatchDict;

typedef struct MatchRecords
{
	int			n;
	int64	   *ids;
	int		   *sources;		/* number of the source; NULL unless link_only */
	int			nsources;
	int		   *source_end;		/* first record after each source */
	int			ncolumns;
	int		   *values[MATCH_MAX_COLUMNS];	/* numbers in the dictionary, -1: null */
	int		   *swaps[MATCH_MAX_COLUMNS];	/* the same of the swap column, or NULL */
	int		   *frequency[MATCH_MAX_COLUMNS];	/* records per value, where term_frequency */
	int			known[MATCH_MAX_COLUMNS];	/* records with a value */
	MatchDict  *dicts[MATCH_KINDS];
	/* for the blocking rules: the rows as they came, with number and source */
	TupleDesc	desc;
	Tuplestorestate *rows;
} MatchRecords;

#define MATCH_NUMBER_COLUMN	"cdp_number"
#define MATCH_SOURCE_COLUMN	"cdp_source"

/* identity_match_model.c */
extern MatchModel *match_new_model(Jsonb *comparisons, Jsonb *options);
extern void match_set_rules(MatchModel *model, ArrayType *blocking);
extern MatchModel *match_read_model(Jsonb *jsonb);
extern Jsonb *match_write_model(const MatchModel *model);

/* identity_match_records.c: inside SPI, read-only */
extern MatchRecords *match_load(const char *sql, const MatchModel *model, bool keep_rows);

/* identity_match_value.c: what a kind is */
extern const char *match_kind_name(MatchKind kind);
extern bool match_find_kind(const char *name, int len, MatchKind *kind);
extern const char *match_kind_list(void);
extern bool match_kind_swaps(MatchKind kind);
extern int	match_level_count(const MatchColumn *column);
extern const char *match_level_name(const MatchColumn *column, int level);
extern MatchDict *match_new_dict(MatchKind kind);
extern int	match_dict_size(const MatchDict *dict);
extern int	match_put_text(MatchDict *dict, const char *in, int len);
extern int	match_put_number(MatchDict *dict, double number);
extern int	match_put_date(MatchDict *dict, int year, int month, int day);
extern int	match_compare(const MatchRecords *records, const MatchModel *model, int column, int left, int right);

/* identity_match_block.c: inside SPI, read-only */
typedef struct MatchPairs
{
	int64		n;
	uint64	   *pairs;			/* left << 32 | right, sorted, each once */
} MatchPairs;

#define MATCH_LEFT(pair)	((int) ((pair) >> 32))
#define MATCH_RIGHT(pair)	((int) ((pair) & 0xFFFFFFFF))

extern void match_check_rule_text(const MatchRule *rule);
extern MatchPairs *match_block(MatchRecords *records, MatchModel *model);

/* identity_match_fit.c */
extern uint64 match_pattern(const MatchModel *model, const MatchRecords *records, int left, int right);

/* level of a column in a pattern */
#define MATCH_LEVEL(pattern, column) ((int) (((pattern) >> (4 * (column))) & 15) - 1)

extern void match_fit(MatchModel *model, const MatchRecords *records, const uint64 *patterns, int64 n);
extern double match_level_weight(const MatchColumn *column, int level);
extern double match_frequency_weight(const MatchModel *model, const MatchRecords *records, int column,
									 int level, int left);
extern double match_probability(const MatchModel *model, double weight);
extern ArrayType *match_levels(const MatchModel *model, uint64 pattern);

typedef struct MatchScorer MatchScorer;

extern MatchScorer *match_new_scorer(const MatchModel *model, const MatchRecords *records);
extern void match_score_pair(MatchScorer *scorer, uint64 pattern, int left,
							 double *weight, double *probability, ArrayType **levels);

/* the stages up to the patterns */
typedef struct MatchWork
{
	MatchRecords *records;
	MatchPairs *pairs;
	uint64	   *patterns;		/* one per pair */
} MatchWork;

extern MatchWork *match_run(const char *sql, MatchModel *model, bool fit);

/* identity_review_foresee.c: two customers that are to become one */
typedef struct MatchMerge
{
	int64		a;
	int64		b;
	int64		ord;			/* the caller's */
	bool		refused;
} MatchMerge;

extern void match_foresee_refusals(MatchMerge *merges, int64 n);

#endif							/* CDP_IDENTITY_MATCH_H */
