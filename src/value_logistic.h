/*
 * value_logistic.h
 *	  Logistic regression: the state that collects rows, and the fit over it.
 *
 * A fit passes over its rows some ten times, so the state holds them.  One
 * row is 1 + nfeatures float8: the weight, with a minus when y is false, and
 * the features.  While an aggregate runs the state is an expanded object
 * with room to grow; where it leaves it (a parallel worker, a table) it is
 * the flat value below, and both say the same.
 *
 *		value_logistic.c		the aggregate
 *		value_logistic_state.c	text and binary form of cdp.logistic_state
 *		value_logistic_rows.c	sorted, equal ones added up, standardised
 *		value_logistic_fit.c	iterations, standard errors, AUC
 *		value_logistic_model.c	the row of the result, prediction
 */
#ifndef CDP_VALUE_LOGISTIC_H
#define CDP_VALUE_LOGISTIC_H

#include "cdp.h"

#include "utils/array.h"
#include "utils/expandeddatum.h"

#define LOGISTIC_MAX_FEATURES	200
/* a weight is 0 or lies between these */
#define LOGISTIC_MIN_WEIGHT		1e-9
#define LOGISTIC_MAX_WEIGHT		1e15
#define LOGISTIC_MAX_RIDGE		1e15

typedef struct LogisticFlat
{
	int32		vl_len_;		/* varlena header, do not touch directly */
	int32		nfeatures;		/* -1: no row yet */
	double		ridge;
	int64		nrows;
	double		rows[FLEXIBLE_ARRAY_MEMBER];
} LogisticFlat;

typedef struct LogisticState
{
	ExpandedObjectHeader hdr;
	int			magic;
	int			nfeatures;		/* -1: no row yet */
	double		ridge;			/* of the first row */
	int64		nrows;
	int64		room;			/* for rows */
	double	   *rows;
} LogisticState;

/* value_logistic.c */
extern LogisticState *cdp_logistic_state_new(MemoryContext parent);
extern LogisticState *cdp_logistic_state_get(Datum value, MemoryContext parent);
extern double *cdp_logistic_new_row(LogisticState *state, int nfeatures, double ridge);
extern int	cdp_logistic_read_features(ArrayType *array, double *features);

/*
 * A fit at work
 */

/* rows with equal features as one */
typedef struct LogisticGroup
{
	const double *x;
	double		pos;			/* weight with y true */
	double		neg;			/* and false */
} LogisticGroup;

typedef struct LogisticWork
{
	int			p;				/* features */
	int			q;				/* of them in the model */
	int		   *kept;			/* their numbers */
	double	   *scale;			/* of each feature, a power of two */
	double	   *mean;			/* of x * scale */
	double	   *sd;
	int64		n;
	LogisticGroup *groups;
	double		pos;			/* weight with y true */
	double		neg;
	double		total;
	double		least;			/* smallest weight of a group and outcome, at most 1 */
	double		plain;			/* information of a feature when p is the same for all */
	double		ridge;
	/* of one evaluation, 1 + q of each */
	double	   *gradient;
	double	   *hessian;		/* lower triangle by rows */
	double		log_likelihood;
	double		largest;		/* |eta| */
} LogisticWork;

/* a symmetric matrix, the lower triangle by rows */
#define TRIANGLE(n)		((Size) (n) * ((n) + 1) / 2)
#define LOWER(m, i, j)	((m)[TRIANGLE(i) + (j)])

/* The standardised features of a row that are in the model, behind a 1 for the intercept. */
static inline void
logistic_z(const LogisticWork *w, const double *x, double *z)
{
	z[0] = 1;
	for (int k = 0; k < w->q; k++)
	{
		int			j = w->kept[k];

		z[1 + k] = (x[j] * w->scale[j] - w->mean[j]) / w->sd[j];
	}
}

/* value_logistic_rows.c */
extern void cdp_logistic_group(const LogisticState *state, LogisticWork *w);
extern void cdp_logistic_standardise(LogisticWork *w);
extern void cdp_logistic_choose(LogisticWork *w);

/* value_logistic_fit.c */
typedef struct LogisticFit
{
	int			ncoefficients;	/* 1 + features */
	double	   *coefficients;	/* the intercept first, in units of the features */
	double	   *se;
	bool	   *se_null;
	double		log_likelihood;
	double		null_log_likelihood;
	double		customers;
	double		positives;
	int			iterations;
	bool		converged;
	bool		separated;
	const char *reason;
	double		auc;			/* NaN: one outcome only */
} LogisticFit;

extern void cdp_logistic_fit(const LogisticState *state, LogisticFit *fit);

/* the linear predictor, always summed in this order */
static inline double
logistic_eta(const double *coefficients, const double *features, int nfeatures)
{
	double		eta = coefficients[0];

	for (int j = 0; j < nfeatures; j++)
		eta += coefficients[1 + j] * features[j];
	return eta;
}

#endif							/* CDP_VALUE_LOGISTIC_H */
