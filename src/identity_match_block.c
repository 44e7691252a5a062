/*
 * identity_match_block.c
 *	  Blocking: which of the n * (n - 1) / 2 pairs are worth comparing.
 *
 * A rule is a boolean expression over two records l and r of the user's,
 *
 *		l.postcode = r.postcode AND l.birthday = r.birthday
 *
 * and each rule is a join of its own, which the planner does by hash or by
 * merge.  A rule without an equality between l and r has no such join: it
 * asks every pair, and is refused when there are too many of them; a rule
 * that finds too many stops at the one above the limit.  Pairs that several
 * rules find count once, for the first.
 *
 * The rows are already here, in a tuplestore that the statement sees as a
 * relation, so that what records computes is computed once.
 *
 * SQL: sql/identity_match.sql.  Tests: test/sql/identity_match.sql.
 */
#include "identity_match.h"

#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "tcop/dest.h"
#include "user_query.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"

#define RECORDS_NAME	"cdp_match_record"

#define RULE_HINT	"A blocking rule is one boolean expression over two records l and r, such as 'l.postcode = r.postcode'."
#define LIMIT_HINT	"Ask for more agreement in the rule, or raise cdp.max_block_pairs."

int			cdp_max_block_pairs;

#define ST_SORT			sort_pairs
#define ST_ELEMENT_TYPE uint64
#define ST_COMPARE(a, b)	(*(a) < *(b) ? -1 : *(a) > *(b))
#define ST_SCOPE		static
#define ST_DEFINE
#define ST_CHECK_FOR_INTERRUPTS
#include "lib/sort_template.h"

void
cdp_identity_match_init(void)
{
	DefineCustomIntVariable("cdp.max_block_pairs",
							"How many pairs of records the blocking rules of one matching may give.",
							"More ends in 54000 with the rule's text; a pair takes about 50 bytes of memory.",
							&cdp_max_block_pairs, 5000000, 1, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
}

static void
refuse_rule(const MatchRule *rule, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("blocking rule \"%s\" %s", rule->text, why),
			 errhint(RULE_HINT)));
}

static void
too_many(const MatchRule *rule, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("blocking rule \"%s\" %s more than %d pairs", rule->text, what, cdp_max_block_pairs),
			 errhint(LIMIT_HINT)));
}

/* how the planner can join by a rule */
typedef enum JoinKind
{
	JOIN_NOT,					/* it has to ask every pair */
	JOIN_BY_SORTING,
	JOIN_BY_HASHING
} JoinKind;

/* an equality of something of l with something of r */
static JoinKind
join_by_equality(Node *qual)
{
	OpExpr	   *op = (OpExpr *) qual;
	Bitmapset  *left,
			   *right;
	Oid			type;

	if (!IsA(qual, OpExpr) || list_length(op->args) != 2)
		return JOIN_NOT;
	left = pull_varnos(NULL, linitial(op->args));
	right = pull_varnos(NULL, lsecond(op->args));
	if (bms_membership(left) != BMS_SINGLETON || bms_membership(right) != BMS_SINGLETON || bms_overlap(left, right))
		return JOIN_NOT;
	type = exprType(linitial(op->args));
	return op_hashjoinable(op->opno, type) ? JOIN_BY_HASHING : op_mergejoinable(op->opno, type) ? JOIN_BY_SORTING : JOIN_NOT;
}

static JoinKind
find_join(Node *qual)
{
	JoinKind	result = JOIN_NOT;
	ListCell   *lc;

	if (qual == NULL)
		return JOIN_NOT;
	if (!is_andclause(qual))
		return join_by_equality(qual);
	foreach(lc, ((BoolExpr *) qual)->args)
		result = Max(result, find_join(lfirst(lc)));
	return result;
}

/* does something that a pair has to fulfil look at both records? */
static bool
compares_both(Node *qual)
{
	ListCell   *lc;

	if (qual == NULL || !is_andclause(qual))
		return bms_membership(pull_varnos(NULL, qual)) == BMS_MULTIPLE;
	foreach(lc, ((BoolExpr *) qual)->args)
	{
		if (compares_both(lfirst(lc)))
			return true;
	}
	return false;
}

/* "l.city = r.city OR true", as the planner sees it */
static bool
is_always_true(Node *qual)
{
	Node	   *simplified = eval_const_expressions(NULL, copyObject(qual));

	return IsA(simplified, Const) && !((Const *) simplified)->constisnull && DatumGetBool(((Const *) simplified)->constvalue);
}

/* of two records only one order is asked; of two sources the first is l */
static char *
rule_statement(const MatchRule *rule, bool link_only, bool explain_only)
{
	const char *column = link_only ? MATCH_SOURCE_COLUMN : MATCH_NUMBER_COLUMN;

	/* the rule was parsed alone: brackets, and a line end after its last comment, keep it whole */
	return psprintf("SELECT l." MATCH_NUMBER_COLUMN ", r." MATCH_NUMBER_COLUMN
					" FROM " RECORDS_NAME " l, " RECORDS_NAME " r WHERE (%s\n)%s%s%s%s",
					rule->text,
					explain_only ? "" : " AND l.", explain_only ? "" : column,
					explain_only ? "" : " OPERATOR(pg_catalog.<) r.", explain_only ? "" : column);
}

/* one expression, whatever it means */
void
match_check_rule_text(const MatchRule *rule)
{
	if (rule->text[strspn(rule->text, " \t\r\n")] == '\0')
		refuse_rule(rule, "is empty");
	if (cdp_user_expression(rule->text, RULE_HINT) == NULL)
		refuse_rule(rule, "is not one expression");
}

/* look at a rule before it runs */
static JoinKind
check_rule(const MatchRule *rule, EphemeralNamedRelation enr, bool link_only)
{
	QueryEnvironment *env = create_queryEnv();
	Query	   *query;

	match_check_rule_text(rule);
	register_ENR(env, enr);
	query = cdp_user_condition(rule_statement(rule, link_only, true), env, RULE_HINT);
	if (contain_volatile_functions(query->jointree->quals))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("blocking rule \"%s\" calls a volatile function", rule->text),
				 errhint("The same records have to give the same pairs: functions in a rule are IMMUTABLE or STABLE.")));
	if (!compares_both(query->jointree->quals) || is_always_true(query->jointree->quals))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("blocking rule \"%s\" does not compare l with r, it gives the cross product", rule->text),
				 errhint(RULE_HINT)));
	return find_join(query->jointree->quals);
}

/* --- pairs from the executor --- */

typedef struct PairReceiver
{
	DestReceiver pub;
	MemoryContext context;
	uint64	   *pairs;
	int64		n;
	int64		room;
} PairReceiver;

static bool
pair_receive(TupleTableSlot *slot, DestReceiver *self)
{
	PairReceiver *r = (PairReceiver *) self;

	slot_getallattrs(slot);
	if (r->n == r->room)
	{
		r->room *= 2;
		r->pairs = repalloc_huge(r->pairs, r->room * sizeof(uint64));
	}
	r->pairs[r->n++] = ((uint64) DatumGetInt32(slot->tts_values[0]) << 32) | DatumGetInt32(slot->tts_values[1]);
	return true;
}

static void
pair_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
pair_nothing(DestReceiver *self)
{
}

/* all pairs of one rule, at most one more than allowed, sorted */
static MatchPairs *
run_rule(const MatchRule *rule, bool link_only, JoinKind join)
{
	PairReceiver *r = palloc0(sizeof(PairReceiver));
	MatchPairs *result = palloc(sizeof(MatchPairs));
	SPIExecuteOptions options = {.read_only = true};
	MemoryContext context = CurrentMemoryContext;
	int			guc_level = NewGUCNestLevel();
	int			rc;

	/* a tuplestore has no statistics that would tell what a nested loop costs, or that hashing beats sorting text */
	if (join != JOIN_NOT)
		(void) set_config_option("enable_nestloop", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (join == JOIN_BY_HASHING && enable_hashjoin)
		(void) set_config_option("enable_mergejoin", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	r->pub.receiveSlot = pair_receive;
	r->pub.rStartup = pair_startup;
	r->pub.rShutdown = pair_nothing;
	r->pub.rDestroy = pair_nothing;
	r->pub.mydest = DestTuplestore;
	r->room = 1024;
	r->pairs = palloc(r->room * sizeof(uint64));
	options.dest = &r->pub;
	options.tcount = (uint64) cdp_max_block_pairs + 1;
	rc = SPI_execute_extended(rule_statement(rule, link_only, false), &options);
	MemoryContextSwitchTo(context); /* SPI leaves its own behind */
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "blocking rule did not run: %s", SPI_result_code_string(rc));
	AtEOXact_GUC(true, guc_level);
	if (r->n > cdp_max_block_pairs)
		too_many(rule, "gives");
	sort_pairs(r->pairs, r->n);
	result->n = r->n;
	result->pairs = r->pairs;
	pfree(r);
	return result;
}

/* both sorted: what is in either, and how many of more are new */
static MatchPairs *
merge_pairs(MatchPairs *known, MatchPairs *more, int64 *new_pairs)
{
	MatchPairs *result = palloc(sizeof(MatchPairs));
	int64		i = 0;
	int64		j = 0;

	result->n = 0;
	result->pairs = MemoryContextAllocHuge(CurrentMemoryContext, Max(known->n + more->n, 1) * sizeof(uint64));
	*new_pairs = 0;
	while (i < known->n || j < more->n)
	{
		if (i < known->n && (j == more->n || known->pairs[i] <= more->pairs[j]))
		{
			if (j < more->n && known->pairs[i] == more->pairs[j])
				j++;
			result->pairs[result->n++] = known->pairs[i++];
		}
		else
		{
			result->pairs[result->n++] = more->pairs[j++];
			(*new_pairs)++;
		}
	}
	pfree(known->pairs);
	pfree(known);
	pfree(more->pairs);
	pfree(more);
	return result;
}

/* The candidate pairs of all rules; fills in the counts of the model's rules. */
MatchPairs *
match_block(MatchRecords *records, MatchModel *model)
{
	EphemeralNamedRelationData enr = {0};
	MatchPairs *all = palloc0(sizeof(MatchPairs));
	JoinKind	joins[MATCH_MAX_RULES] = {JOIN_NOT};
	double		cross = (double) records->n * (records->n - 1) / 2;

	all->pairs = palloc(sizeof(uint64));
	enr.md.name = RECORDS_NAME;
	enr.md.reliddesc = InvalidOid;
	enr.md.tupdesc = records->desc;
	enr.md.enrtype = ENR_NAMED_TUPLESTORE;
	enr.md.enrtuples = records->n;
	enr.reldata = records->rows;

	/* all are looked at before the first one runs */
	for (int i = 0; i < model->nrules; i++)
	{
		joins[i] = check_rule(&model->rules[i], &enr, model->link_only);
		if (joins[i] == JOIN_NOT && cross > cdp_max_block_pairs)
			too_many(&model->rules[i], "has no equality between l and r and would compare");
	}
	if (SPI_register_relation(&enr) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register records");
	for (int i = 0; i < model->nrules; i++)
	{
		MatchRule  *rule = &model->rules[i];
		MatchPairs *more = run_rule(rule, model->link_only, joins[i]);

		rule->pairs = more->n;
		all = merge_pairs(all, more, &rule->new_pairs);
		if (all->n > cdp_max_block_pairs)
			too_many(rule, "brings the rules to");
	}
	(void) SPI_unregister_relation(RECORDS_NAME);
	model->pairs = all->n;
	return all;
}
