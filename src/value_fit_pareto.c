#include "value_fit.h"
#include <math.h>
#include "miscadmin.h"
#include "value_likelihood.h"
static double
evaluate(FitProblem *problem, const double *par, double *gradient)
{
	const FitRows *rows = problem->rows;
	double		value = 0;

	memset(gradient, 0, 4 * sizeof(double));
	for (int64 i = 0; i < rows->nrows; i++)
	{
		double		own[4];

		if ((i & 0xff) == 0)
			CHECK_FOR_INTERRUPTS();
		value += rows->weight[i] * cdp_paretonbd_log_likelihood(par, fit_value(rows, 0, i), fit_value(rows, 1, i), fit_value(rows, 2, i), own);
		for (int p = 0; p < 4; p++)
			gradient[p] += rows->weight[i] * own[p];
	}
	return value;
}
void
cdp_prepare_pareto(FitProblem *problem)
{
	problem->evaluate = evaluate;
}
