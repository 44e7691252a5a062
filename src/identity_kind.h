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
	int			max_per_customer;	/* 0: no limit */
	int64		max_window;		/* microseconds; 0: ever */
	int64		ttl;			/* microseconds; 0: never recycled */
	text	   *blocked_pattern;	/* or NULL */
	bool		blocks_zeros;	/* the pattern is the preset, which needs no regular expression */
	char	  **blocked_values;
	int			nblocked;
	CdpNormalizer soft;			/* normaliser of ours, which refuses without raising */
	Oid			function;		/* normaliser of the user's; none: blanks at both ends go */
	Oid			owner;			/* it runs as this role, who wrote the rule */
	bool		broken;			/* there is none of that name, or it is of another form */
	char	   *policy;			/* text in brackets after the normaliser's name, or NULL */
} CdpKind;

#define CDP_MAX_VALUE_BYTES		512
/* sql/identity.sql has it as the default of blocked_pattern */
#define CDP_ZEROS_PATTERN		"^[-:. ]*0[-:. ]*0[-:. 0]*$"
#define CDP_MAX_IDENTIFIERS		32
/* sql/identity_trait.sql has it too, for what is set by hand */
#define CDP_MAX_TRAIT_NAME_BYTES	200

/* NULL when there is no such kind; valid until the next call */
extern const CdpKind *cdp_find_kind(const char *kind, int len);

/* the same without reading anything: NULL also when the rules would have to be read */
extern const CdpKind *cdp_find_loaded_kind(const char *kind, int len);

/* all kinds, in the order of their names; valid until the next call */
extern const CdpKind *cdp_all_kinds(int *n);

/*
 * That there is no kind of this name, palloc'ed.  Who swaps kind and value
 * must not find the value in a message: only a name of letters is repeated.
 */
extern char *cdp_unknown_kind(const char *name, int len);

/* "customer_no, member_id, …", palloc'ed, for hints */
extern char *cdp_list_kinds(void);

/*
 * The comparable form of a raw value, palloc'ed; NULL when the normaliser
 * refuses it or nothing is left of it.
 */
extern char *cdp_normalize_value(const CdpKind *kind, const char *raw, int len);

/* does the kind's rule say that this value means nothing? */
extern bool cdp_is_blocked(const CdpKind *kind, const char *raw, int len, const char *value);

/* was this identifier erased for ever? */
extern bool cdp_is_tombstone(const char *kind, const char *value);

/* is it certain, without reading anything, that none was? */
extern bool cdp_no_tombstones(void);

#endif							/* CDP_IDENTITY_KIND_H */
