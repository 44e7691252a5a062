/*
 * value_likelihood.h
 *	  The likelihood of one customer under each model.
 *
 * Fits and predictions stand on the same terms: a customer with x repeat
 * purchases, the last at t_x, seen until t_cal = T, is either still active or
 * left somewhere after t_x, and the probability of the data is the sum of the
 * two.  What predictions need is their proportion:
 *
 *		P(alive) = e^alive / (e^alive + e^gone)
 *
 * Parameters come in the order of the model's type and are positive and
 * finite, data keep the rules of cdp_check_...(); both are checked before.
 */
#ifndef CDP_VALUE_LIKELIHOOD_H
#define CDP_VALUE_LIKELIHOOD_H

#include "value_model.h"

/* logarithms of the two parts, up to a factor that both have in common */
typedef struct AliveTerms
{
	double		alive;
	double		gone;			/* -infinity: nobody leaves before T */
} AliveTerms;

extern void cdp_bgnbd_terms(const double *par, double x, double t_x, double t_cal, AliveTerms *terms);

/*
 * MBG/CNBD-k, k = 1 is MBG/NBD.  phase[j] with j < k is the part of those who
 * are alive and j phases into their next purchase; NULL when not wanted.
 */
extern void cdp_mbgcnbd_terms(int k, const double *par, double x, double t_x, double t_cal,
							  AliveTerms *terms, double *phase);

/* gradient, when not NULL: of terms->gone by r, alpha, s, beta */
extern void cdp_paretonbd_terms(const double *par, double x, double t_x, double t_cal,
								AliveTerms *terms, double *gradient);

/* ln L of one customer; gradient, when not NULL, by the parameters */
extern double cdp_bgnbd_log_likelihood(const double *par, double x, double t_x, double t_cal);
extern double cdp_mbgcnbd_log_likelihood(int k, const double *par, double x, double t_x, double t_cal, double log_gaps);
extern double cdp_paretonbd_log_likelihood(const double *par, double x, double t_x, double t_cal);
extern double cdp_nbd_log_likelihood(const double *par, double x, double t_cal);
extern double cdp_gammagamma_log_likelihood(const double *par, double x, double mean_amount);
extern double cdp_bgbb_log_likelihood(const double *par, double x, double t_x, double n, double *gradient);
extern double cdp_sbg_log_likelihood(const double *par, double period, bool churned, double *gradient);

#endif							/* CDP_VALUE_LIKELIHOOD_H */
