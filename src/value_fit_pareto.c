/*
 * value_fit_pareto.c
 *	  ln L and its gradient over all rows: Pareto/NBD.
 *
 * Each row needs an integral from t_x to T of g(y) = (alpha+y)^-m
 * (beta+y)^-(s+1), m = r + x, and by its own quadrature (value_likelihood_
 * pareto.c) that is 256 points: a million customers would take minutes.  But
 * customers with the same x integrate the same g, and between the same times.
 * So per x the integral is taken once, backwards over the grid of times,
 *
 *		t0    t1    t2        ...                 last
 *		|-----|-----|-----|                  -----|		8 Gauss-Legendre nodes per cell
 *		H0 <- H1 <- H2 <- ...				   <- 0		H(t) = integral from t on, over g(t)
 *
 * and a row is one subtraction: integral / g(t_x) = H(t_x) - H(T) g(T)/g(t_x).
 * Everything is relative to g at its own left end, so nothing overflows at
 * any x, and logarithms at the nodes serve all x.  The four derivatives are
 * integrals of g times something and are carried along.
 *
 * The grid is the distinct times when they are whole days or weeks; when
 * there are too many it is a choice of them, and a row integrates from its
 * own time to the next grid point.  Where the difference would cancel (t_x
 * just before T) the short piece is integrated itself.  Where g falls by more
 * than e^-4 in a cell, cells are halved for that x, and when that would cost
 * more than the rows do by themselves, the rows do it by themselves.
 *
 * Tests: test/sql/value_fit.sql compares with the sum of log_likelihood().
 */
#include "value_fit.h"

#include <math.h>

#include "miscadmin.h"

#include "value_likelihood.h"
#include "value_math.h"

#define COL_X			0
#define COL_T_X			1
#define COL_T_CAL		2

#define GRID_MAX		1500	/* times; more are thinned out */
#define NODES_MAX		200000	/* of all cells */
#define NODES			8		/* per cell */
#define FALL_MAX		4.0		/* of ln g in a cell, for 13 digits of its integral */
#define LEVELS			6		/* cells are halved up to 5 times */
#define ROW_COST		200		/* a row by itself, in nodes */
#define CANCELS			1e-3	/* a difference smaller than that is integrated itself */

/* Gauss-Legendre on (0, 1) */
static const double node_at[NODES] = {
	0.01985507175123188416, 0.10166676129318663020, 0.23723379504183550709, 0.40828267875217509753,
	0.59171732124782490247, 0.76276620495816449291, 0.89833323870681336980, 0.98014492824876811584
};
static const double node_weight[NODES] = {
	0.05061426814518812958, 0.11119051722668723527, 0.15685332293894364367, 0.18134189168918099148,
	0.18134189168918099148, 0.15685332293894364367, 0.11119051722668723527, 0.05061426814518812958
};

/*
 * What g and its derivatives need at one time: ln(1 + y/alpha) and its
 * derivative by alpha, but for the sign; the same of beta.  Against
 * ln(alpha+y) they keep their digits when alpha runs off to infinity.
 */
typedef struct TimePoint
{
	double		log_a;
	double		log_b;
	double		slope_a;
	double		slope_b;
} TimePoint;

/* integrals of g, and of g times those four, over g at the left end */
typedef struct Integrals
{
	double		g;
	double		log_a;
	double		slope_a;
	double		log_b;
	double		slope_b;
} Integrals;

typedef struct GridNode
{
	double		weight;			/* times the width of its cell */
	double		fall_a;			/* ln(alpha+y) - ln(alpha+left end) */
	double		fall_b;			/* (s+1) times the same of beta */
	TimePoint	at;
} GridNode;

/* halved so many times: 2^level cells between two grid points */
typedef struct GridLevel
{
	int			filled;			/* evaluation that it is of */
	GridNode   *node;
} GridLevel;

typedef struct Tables
{
	uint32		ngrid;
	double	   *grid;			/* ascending; the last is the latest time */
	uint32	   *t_x_grid;		/* per distinct t_x: the first grid point not before it */
	uint32	   *t_cal_grid;
	TimePoint  *grid_at;
	TimePoint  *t_x_at;			/* NULL: of so many times that a table would be no gain */
	TimePoint  *t_cal_at;
	Integrals  *from;			/* H of this x, by grid point */
	GridLevel	level[LEVELS];
	double		width_a;		/* largest of width / (alpha + left end) */
	double		width_b;
	const double *par;
	int			evaluation;
} Tables;

static inline TimePoint
point(const double *par, double y)
{
	TimePoint	p;

	p.log_a = log1p(y / par[1]);
	p.log_b = log1p(y / par[3]);
	p.slope_a = y / par[1] / (par[1] + y);
	p.slope_b = y / par[3] / (par[3] + y);
	return p;
}

/* ln of g(right) / g(left) */
static inline double
log_fall(const double *par, double m, const TimePoint *left, const TimePoint *right)
{
	return -m * (right->log_a - left->log_a) - (par[2] + 1) * (right->log_b - left->log_b);
}

static inline void
add_node(Integrals *sum, double value, const TimePoint *at)
{
	sum->g += value;
	sum->log_a += value * at->log_a;
	sum->slope_a += value * at->slope_a;
	sum->log_b += value * at->log_b;
	sum->slope_b += value * at->slope_b;
}

/* sum + factor * more */
static inline Integrals
plus(const Integrals *sum, double factor, const Integrals *more)
{
	Integrals	result;

	result.g = sum->g + factor * more->g;
	result.log_a = sum->log_a + factor * more->log_a;
	result.slope_a = sum->slope_a + factor * more->slope_a;
	result.log_b = sum->log_b + factor * more->log_b;
	result.slope_b = sum->slope_b + factor * more->slope_b;
	return result;
}

/* The integral between two times, not far from each other, over g(left). */
static Integrals
integrate(const double *par, double m, double left, double right, int cells)
{
	Integrals	sum = {0};
	TimePoint	start = point(par, left);
	double		width = (right - left) / cells;

	for (int c = 0; c < cells; c++)
		for (int i = 0; i < NODES; i++)
		{
			TimePoint	at = point(par, left + (c + node_at[i]) * width);

			add_node(&sum, width * node_weight[i] * exp(log_fall(par, m, &start, &at)), &at);
		}
	return sum;
}

/* Points of the distinct times under new parameters. */
static void
fill_points(Tables *t, const FitRows *rows)
{
	const double *par = t->par;

	for (uint32 i = 0; t->t_x_at && i < rows->column[COL_T_X].ndistinct; i++)
		t->t_x_at[i] = point(par, rows->column[COL_T_X].value[i]);
	for (uint32 i = 0; t->t_cal_at && i < rows->column[COL_T_CAL].ndistinct; i++)
		t->t_cal_at[i] = point(par, rows->column[COL_T_CAL].value[i]);
	t->width_a = t->width_b = 0;
	for (uint32 i = 0; i < t->ngrid; i++)
	{
		t->grid_at[i] = point(par, t->grid[i]);
		if (i + 1 < t->ngrid)
		{
			double		width = t->grid[i + 1] - t->grid[i];

			t->width_a = Max(t->width_a, width / (par[1] + t->grid[i]));
			t->width_b = Max(t->width_b, width / (par[3] + t->grid[i]));
		}
	}
	t->evaluation++;
}

/* The nodes of all cells at a level. */
static const GridNode *
level_nodes(Tables *t, int level)
{
	int			cells = 1 << level;
	const double *par = t->par;
	GridNode   *node;

	if (t->level[level].filled == t->evaluation)
		return t->level[level].node;
	if (t->level[level].node == NULL)
		t->level[level].node = palloc((Size) (t->ngrid - 1) * cells * NODES * sizeof(GridNode));
	node = t->level[level].node;
	for (uint32 i = 0; i + 1 < t->ngrid; i++)
	{
		double		width = (t->grid[i + 1] - t->grid[i]) / cells;

		CHECK_FOR_INTERRUPTS();
		for (int c = 0; c < cells; c++)
			for (int k = 0; k < NODES; k++, node++)
			{
				node->at = point(par, t->grid[i] + (c + node_at[k]) * width);
				node->weight = width * node_weight[k];
				node->fall_a = node->at.log_a - t->grid_at[i].log_a;
				node->fall_b = (par[2] + 1) * (node->at.log_b - t->grid_at[i].log_b);
			}
	}
	t->level[level].filled = t->evaluation;
	return t->level[level].node;
}

/* H of one x at all grid points, backwards. */
static void
fill_from(Tables *t, double m, int level)
{
	int			nodes = NODES << level;
	const GridNode *all = level_nodes(t, level);

	memset(&t->from[t->ngrid - 1], 0, sizeof(Integrals));
	for (int64 i = (int64) t->ngrid - 2; i >= 0; i--)
	{
		const GridNode *node = all + i * nodes;
		Integrals	cell = {0};

		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < nodes; k++, node++)
			add_node(&cell, node->weight * exp(-m * node->fall_a - node->fall_b), &node->at);
		t->from[i] = plus(&cell, exp(log_fall(t->par, m, &t->grid_at[i], &t->grid_at[i + 1])), &t->from[i + 1]);
	}
}

/* H at a time that may lie before its grid point. */
static inline Integrals
from_time(const Tables *t, double m, double time, const TimePoint *at, uint32 grid, int cells)
{
	Integrals	piece;

	if (t->grid[grid] == time)
		return t->from[grid];
	piece = integrate(t->par, m, time, t->grid[grid], cells);
	return plus(&piece, exp(log_fall(t->par, m, at, &t->grid_at[grid])), &t->from[grid]);
}

/* Cells are halved so often for this x; -1: rows do better by themselves. */
static int
choose_level(const Tables *t, double m, int64 nrows)
{
	double		fall = m * t->width_a + (t->par[2] + 1) * t->width_b;
	int			level = 0;
	int64		cost = (int64) (t->ngrid - 1) * NODES;

	while (fall > FALL_MAX)
	{
		if (++level == LEVELS)
			return -1;
		fall /= 2;
		cost *= 2;
	}
	return cost > NODES_MAX || cost > nrows * ROW_COST ? -1 : level;
}

/*
 * What the rows of one x sum up to: weights times ln L, and its derivatives,
 * without what x alone gives; alpha^m beta^s is in the brackets.
 */
typedef struct Sums
{
	double		weight;
	double		value;
	double		by[4];
} Sums;

/* One row, given the integral over g(t_x). */
static inline void
add_row(const double *par, double m, double weight, const Integrals *integral, double log_ratio,
		double beta_cal, const TimePoint *t_cal, Sums *sums)
{
	double		s = par[2];
	double		log_alive = -m * t_cal->log_a - s * t_cal->log_b;
	double		gone = 0;		/* share of those who left */
	double		odds = 0;		/* of gone to alive */

	if (integral->g > 0)
	{
		/* alive is g(T) (beta+T), gone is s g(t_x) times the integral */
		if (log_ratio > -650)
			odds = s * integral->g / (beta_cal * exp(log_ratio));
		if (log_ratio > -650 && odds < 1e280)
		{
			gone = odds / (1 + odds);
			sums->value += weight * (log_alive + log1p(odds));
		}
		else
		{
			gone = 1;
			sums->value += weight * (log_alive + log(s * integral->g / beta_cal) - log_ratio);
		}
	}
	else
		sums->value += weight * log_alive;
	sums->weight += weight;
	sums->by[0] -= weight * (1 - gone) * t_cal->log_a;
	sums->by[1] += weight * (1 - gone) * m * t_cal->slope_a;
	sums->by[2] -= weight * (1 - gone) * t_cal->log_b;
	sums->by[3] += weight * (1 - gone) * s * t_cal->slope_b;
	if (gone > 0)
	{
		double		share = weight * gone / integral->g;

		sums->by[0] -= share * integral->log_a;
		sums->by[1] += share * m * integral->slope_a;
		sums->by[2] += weight * gone / s - share * integral->log_b;
		sums->by[3] += share * (s + 1) * integral->slope_b - weight * gone / par[3];
	}
}

/* The rows first..end-1, all of one x. */
static void
x_rows(const FitRows *rows, Tables *t, double x, int64 first, int64 end, Sums *sums)
{
	const double *par = t->par;
	double		m = par[0] + x;
	int			level = choose_level(t, m, end - first);

	memset(sums, 0, sizeof(Sums));
	if (level >= 0)
		fill_from(t, m, level);
	for (int64 i = first; i < end; i++)
	{
		uint32		a = rows->column[COL_T_X].rank[i];
		uint32		b = rows->column[COL_T_CAL].rank[i];
		double		t_x = rows->column[COL_T_X].value[a];
		double		t_cal = rows->column[COL_T_CAL].value[b];
		TimePoint	at_x = t->t_x_at ? t->t_x_at[a] : point(par, t_x);
		TimePoint	at_cal = t->t_cal_at ? t->t_cal_at[b] : point(par, t_cal);
		double		log_ratio;
		Integrals	integral;

		if ((i & 0xfff) == 0 || level < 0)
			CHECK_FOR_INTERRUPTS();
		if (level < 0)
		{
			double		by[4];
			AliveTerms	terms;
			double		gone;

			cdp_paretonbd_terms(par, x, t_x, t_cal, &terms, by);
			gone = 1.0 / (1.0 + exp(terms.alive - terms.gone));
			sums->weight += rows->weight[i];
			sums->value += rows->weight[i] * (cdp_log_add(terms.alive, terms.gone) + m * log(par[1]) + par[2] * log(par[3]));
			sums->by[0] += rows->weight[i] * (gone * (by[0] + log(par[1])) - (1 - gone) * at_cal.log_a);
			sums->by[1] += rows->weight[i] * (gone * (by[1] + m / par[1]) + (1 - gone) * m * at_cal.slope_a);
			sums->by[2] += rows->weight[i] * (gone * (by[2] + log(par[3])) - (1 - gone) * at_cal.log_b);
			sums->by[3] += rows->weight[i] * (gone * (by[3] + par[2] / par[3]) + (1 - gone) * par[2] * at_cal.slope_b);
			continue;
		}
		log_ratio = log_fall(par, m, &at_x, &at_cal);
		/* in one cell: the piece alone */
		if (t->t_x_grid[a] == t->t_cal_grid[b])
			integral = integrate(par, m, t_x, t_cal, 1 << level);
		else
		{
			Integrals	from_x = from_time(t, m, t_x, &at_x, t->t_x_grid[a], 1 << level);
			Integrals	from_cal = from_time(t, m, t_cal, &at_cal, t->t_cal_grid[b], 1 << level);

			integral = plus(&from_x, -exp(log_ratio), &from_cal);
			if (integral.g < CANCELS * from_x.g)
				integral = integrate(par, m, t_x, t_cal, 1 << level);
		}
		add_row(par, m, rows->weight[i], &integral, log_ratio, par[3] + t_cal, &at_cal, sums);
	}
}

/* ln L of all rows; parameters r, alpha, s, beta. */
static double
evaluate(FitProblem *problem, const double *par, double *gradient)
{
	const FitRows *rows = problem->rows;
	const uint32 *x_rank = rows->column[COL_X].rank;
	Tables	   *t = problem->tables;
	double		digamma_r = cdp_digamma(par[0]);
	double		value = 0;
	int64		end;

	t->par = par;
	fill_points(t, rows);
	memset(gradient, 0, 4 * sizeof(double));
	for (int64 first = 0; first < rows->nrows; first = end)
	{
		double		x = fit_value(rows, COL_X, first);
		Sums		sums;

		for (end = first + 1; end < rows->nrows && x_rank[end] == x_rank[first]; end++)
			;
		x_rows(rows, t, x, first, end, &sums);
		value += sums.value + sums.weight * (cdp_log_rising(par[0], x) - x * log(par[1]));
		gradient[0] += sums.by[0] + sums.weight * (cdp_digamma(par[0] + x) - digamma_r);
		gradient[1] += sums.by[1] - sums.weight * x / par[1];
		gradient[2] += sums.by[2];
		gradient[3] += sums.by[3];
	}
	return value;
}

/* For each distinct time the first grid point that is not before it. */
static uint32 *
places(const Tables *t, const FitColumn *column)
{
	uint32	   *place = palloc_extended(column->ndistinct * sizeof(uint32), MCXT_ALLOC_HUGE);
	uint32		at = 0;

	for (uint32 i = 0; i < column->ndistinct; i++)
	{
		while (t->grid[at] < column->value[i])
			at++;
		place[i] = at;
	}
	return place;
}

void
cdp_prepare_pareto(FitProblem *problem)
{
	const FitColumn *t_x = &problem->rows->column[COL_T_X];
	const FitColumn *t_cal = &problem->rows->column[COL_T_CAL];
	Tables	   *t = palloc0(sizeof(Tables));
	uint32		all = t_x->ndistinct + t_cal->ndistinct;
	uint32		a = 0;
	uint32		b = 0;

	/* both lists merged; then evenly chosen ones, the last one always */
	t->grid = palloc_extended(all * sizeof(double), MCXT_ALLOC_HUGE);
	while (a < t_x->ndistinct || b < t_cal->ndistinct)
	{
		double		time;

		if (b == t_cal->ndistinct || (a < t_x->ndistinct && t_x->value[a] <= t_cal->value[b]))
			time = t_x->value[a++];
		else
			time = t_cal->value[b++];
		if (t->ngrid == 0 || time > t->grid[t->ngrid - 1])
			t->grid[t->ngrid++] = time;
	}
	if (t->ngrid > GRID_MAX)
	{
		for (uint32 i = 0; i < GRID_MAX; i++)
			t->grid[i] = t->grid[(uint64) i * (t->ngrid - 1) / (GRID_MAX - 1)];
		t->ngrid = GRID_MAX;
	}
	t->t_x_grid = places(t, t_x);
	t->t_cal_grid = places(t, t_cal);
	t->grid_at = palloc(t->ngrid * sizeof(TimePoint));
	t->from = palloc(t->ngrid * sizeof(Integrals));
	if (t_x->ndistinct <= FIT_TABLE_MAX)
		t->t_x_at = palloc(t_x->ndistinct * sizeof(TimePoint));
	if (t_cal->ndistinct <= FIT_TABLE_MAX)
		t->t_cal_at = palloc(t_cal->ndistinct * sizeof(TimePoint));
	problem->tables = t;
	problem->evaluate = evaluate;
}
