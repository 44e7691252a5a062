/*
 * cdp_errors.h
 *	  The SQLSTATEs of our own: class LC, one digit for the module, two more.
 *
 * A standard code is used wherever one fits; a code stands here only when an
 * application has to branch on it.  doc/errors.md is the user's page.
 *
 *	  0 core			1 identity		2 tag, segment		3 points
 *	  4 member			5 event, commerce					6 journey, message
 *	  7 value, analytics				8 jobs				9, A-Z wave 2
 */
#ifndef CDP_ERRORS_H
#define CDP_ERRORS_H

/* identify: no usable identifier is left after normalising and blocking */
#define ERRCODE_CDP_NO_IDENTIFIER	MAKE_SQLSTATE('L', 'C', '1', '0', '1')
/* merge_customers: a limit or an apart forbids that these two become one */
#define ERRCODE_CDP_MERGE_REFUSED	MAKE_SQLSTATE('L', 'C', '1', '0', '2')

#endif							/* CDP_ERRORS_H */
