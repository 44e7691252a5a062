/*
 * value_fit.h
 *	  Fitting models: the state of the fit aggregates, and what becomes of it.
 *
 *		rows --add--> FitState --sort--> FitRows --optimise--> a row of the model's type
 *		             (distinct row -> weight)
 *
 * One state serves all models: a set of distinct rows of a few float8, each
 * with the number of customers that have it.  It is of type cdp.fit_state, so
 * parallel workers and distributed engines send it; while an aggregate runs
 * it is an expanded object, changed in place.
 */
#ifndef CDP_VALUE_FIT_H
#define CDP_VALUE_FIT_H

#include "value_model.h"

#include "utils/expandeddatum.h"

#define FIT_MAX_COLUMNS		4

/*
 * A weight is kept in two parts: what the sum of float8 has, and what it
 * lost.  Their total is the same in whatever order weights came.
 */
typedef struct FitWeight
{
	double		high;
	double		low;
} FitWeight;

/* value of type cdp.fit_state outside a running aggregate: rows ascend, each once */
typedef struct FitValue
{
	int32		vl_len_;		/* varlena header, do not touch directly */
	int32		ncolumns;		/* 0: no row yet */
	int64		nrows;
	double		data[FLEXIBLE_ARRAY_MEMBER];	/* per row: columns, weight high, weight low */
} FitValue;

typedef struct FitState
{
	ExpandedObjectHeader hdr;
	int			magic;
	int			ncolumns;
	int			width;			/* float8 per row: ncolumns + 2 */
	int64		nrows;
	int64		room;			/* rows */
	double	   *data;			/* as in FitValue, in order of arrival until sorted */
	bool		sorted;
	uint32		mask;			/* slots - 1 */
	struct FitSlot *slots;		/* hash of data; NULL after a sort */
} FitState;

/* value_fit_state.c */
extern void cdp_fit_state_sort(FitState *state);
extern FitState *cdp_fit_state_get(Datum value, MemoryContext context);

/*
 * value_fit_rows.c: what a fit reads.  Of each column the distinct values,
 * ascending, and for each row which of them it has: whatever depends on one
 * column is computed once per value.  Rows ascend, so those of one x are
 * neighbours.
 */
typedef struct FitColumn
{
	uint32		ndistinct;
	double	   *value;
	uint32	   *rank;			/* by row */
} FitColumn;

typedef struct FitRows
{
	int64		nrows;
	int			ncolumns;
	FitColumn	column[FIT_MAX_COLUMNS];
	double	   *weight;
	double		total;			/* of weights */
} FitRows;

extern FitRows *cdp_fit_rows(const FitState *state, int ncolumns, bool positive, uint32 scaled, int exponent);
extern FitRows *cdp_fit_rows_sample(const FitRows *all, int64 n);

static inline double
fit_value(const FitRows *rows, int column, int64 row)
{
	return rows->column[column].value[rows->column[column].rank[row]];
}

/*
 * A problem for the optimiser: ln L of all rows and its gradient by the
 * parameters.  Parameters are searched as theta = ln(par - lower).
 */
typedef struct FitProblem FitProblem;
struct FitProblem
{
	ModelKind	kind;
	int			npar;
	int			k;				/* phases, mbgcnbd */
	double		lower[MODEL_MAX_PARAMETERS];
	double		(*evaluate) (FitProblem *problem, const double *par, double *gradient);
	const FitRows *rows;
	void	   *tables;			/* what evaluate keeps from call to call */
	int			evaluations;
};

/* where the search ended */
typedef struct FitResult
{
	double		theta[MODEL_MAX_PARAMETERS];
	double		f;				/* - ln L */
	double		gradient[MODEL_MAX_PARAMETERS]; /* of f by theta */
	double		hessian[MODEL_MAX_PARAMETERS * MODEL_MAX_PARAMETERS];	/* of f by theta */
	double		covariance[MODEL_MAX_PARAMETERS * MODEL_MAX_PARAMETERS];	/* of theta */
	bool		converged;
	bool		curved;			/* covariance is there: the optimum is a point, not a ridge */
} FitResult;

/* bounds of theta: a parameter from 4e-7 to 2.6e6, in units of the scaled data */
#define FIT_THETA_MAX	14.75

/* value_fit_optimize.c */
extern void cdp_fit_parameters(const FitProblem *problem, const double *theta, double *par);
extern double cdp_fit_evaluate(FitProblem *problem, const double *theta, double *gradient);
extern void cdp_fit_search(FitProblem *problem, FitResult *at, const double *covariance, int max_iterations);
extern void cdp_fit_polish(FitProblem *problem, FitResult *at);

/* value_fit_geometric.c, value_fit_pareto.c, value_fit_other.c: evaluate and its tables for these rows */
extern void cdp_prepare_geometric(FitProblem *problem);
extern void cdp_prepare_pareto(FitProblem *problem);
extern void cdp_prepare_nbd(FitProblem *problem);
extern void cdp_prepare_gammagamma(FitProblem *problem);
extern void cdp_prepare_bgbb(FitProblem *problem);
extern void cdp_prepare_sbg(FitProblem *problem);

#endif							/* CDP_VALUE_FIT_H */
