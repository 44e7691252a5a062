/*
 * identity_kind.h
 *	  The rules of identity as C sees them: a cache of cdp.identifier_kind.
 */
#ifndef CDP_IDENTITY_KIND_H
#define CDP_IDENTITY_KIND_H

#include "cdp.h"
#include "identity_normalize.h"

typedef struct CdpKind
{
	char	   *kind;
	int			priority;		/* 1 = strongest */
	bool		own_profile;	/* facts that arrive under it get a profile of their own */
	CdpNormalizer soft;			/* normaliser of ours, which refuses without raising */
	Oid			function;		/* normaliser of the user's; none: blanks at both ends go */
	bool		broken;			/* there is none of that name, or it is of another form */
	char	   *policy;			/* text in brackets after the normaliser's name, or NULL */
} CdpKind;

#define CDP_MAX_VALUE_BYTES		512
#define CDP_MAX_IDENTIFIERS		32

/* NULL when there is no such kind; valid until the next call */
extern const CdpKind *cdp_find_kind(const char *kind, int len);

/* "customer_no, member_id, …", palloc'ed, for hints */
extern char *cdp_list_kinds(void);

/*
 * The comparable form of a raw value, palloc'ed; NULL when the normaliser
 * refuses it or nothing is left of it.
 */
extern char *cdp_normalize_value(const CdpKind *kind, const char *raw, int len);

#endif							/* CDP_IDENTITY_KIND_H */
