/*
 * value_model.h
 *	  The models of purchases, money and renewals: their names and parameters.
 *
 * A model is a row of a named composite type that begins with its parameters
 * and goes on with how the fit went, the same for all (sql/value_model.sql):
 *
 *		cdp.bgnbd_model (r, alpha, a, b | log_likelihood, customers, ...)
 *
 * Whoever predicts reads the parameters alone: cdp_model_read.
 */
#ifndef CDP_VALUE_MODEL_H
#define CDP_VALUE_MODEL_H

#include "cdp.h"

#include "access/htup_details.h"

typedef enum ModelKind
{
	MODEL_BGNBD,
	MODEL_MBGNBD,
	MODEL_PARETONBD,
	MODEL_NBD,
	MODEL_MBGCNBD,
	MODEL_GAMMAGAMMA,
	MODEL_BGBB,
	MODEL_SBG
} ModelKind;

#define MODEL_MAX_PARAMETERS	4
/* most phases between two purchases; a fit tries 1 to 8 */
#define MODEL_MAX_K				100

typedef struct ModelParameters
{
	int			k;				/* mbgcnbd only, else 1 */
	double		par[MODEL_MAX_PARAMETERS];	/* in the order of the type, positive and finite */
} ModelParameters;

/* how many parameters of type float8 a kind has */
extern int	cdp_model_nparameters(ModelKind kind);

/* the parameters of a row of the type of that kind; 22023 unless they are positive and finite */
extern void cdp_model_read(HeapTupleHeader row, ModelKind kind, ModelParameters *model);

/* covariance of a row, nparameters * nparameters by rows; false when it is NULL */
extern bool cdp_model_covariance(HeapTupleHeader row, ModelKind kind, double *covariance);

/*
 * What a row of data must be: 22023 with the rule that is broken, and as hint
 * the WHERE clause that leaves such rows out.  A fit checks each row that it
 * takes, a prediction each that it is asked about.
 */
extern void cdp_check_transactions(double x, double t_x, double t_cal);
extern void cdp_check_counts(double x, double t_cal);
extern void cdp_check_gaps(double x, double log_gaps);
extern void cdp_check_amount(double x, double mean_amount);
extern void cdp_check_occasions(double x, double t_x, double n);
extern void cdp_check_period(double period);

#endif							/* CDP_VALUE_MODEL_H */
