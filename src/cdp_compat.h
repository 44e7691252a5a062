/*
 * cdp_compat.h
 *	  The one place that knows PostgreSQL 15 from 16, 17 and 18.
 */
#ifndef CDP_COMPAT_H
#define CDP_COMPAT_H

#include "postgres.h"

#include "utils/datetime.h"
#include "utils/guc.h"

#if PG_VERSION_NUM < 150000
#error "customer_cdp needs PostgreSQL 15 or newer"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#else
/* settings own malloc'ed memory; 16 gave the allocator a name */
#define guc_malloc(elevel, size)	malloc(size)
#define guc_free(ptr)				free(ptr)
#endif

/* 16 tells more about what is wrong with a date; we only ask whether it is right */
static inline int
cdp_decode_datetime(char **field, int *ftype, int nf, int *dtype,
					struct pg_tm *tm, fsec_t *fsec, int *tz)
{
#if PG_VERSION_NUM >= 160000
	DateTimeErrorExtra extra;

	return DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tz, &extra);
#else
	return DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tz);
#endif
}

#endif							/* CDP_COMPAT_H */
