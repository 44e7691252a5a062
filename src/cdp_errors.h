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

/* points: what is to be taken is not there */
#define ERRCODE_CDP_NOT_ENOUGH_POINTS	MAKE_SQLSTATE('L', 'C', '3', '0', '1')
/* points: the idempotency key was used for something else */
#define ERRCODE_CDP_KEY_REUSED		MAKE_SQLSTATE('L', 'C', '3', '0', '2')
/* points: the hold was captured or released otherwise */
#define ERRCODE_CDP_HOLD_RESOLVED	MAKE_SQLSTATE('L', 'C', '3', '0', '3')
/* points: a cap, a budget or a limit of the balance is reached */
#define ERRCODE_CDP_LIMIT_REACHED	MAKE_SQLSTATE('L', 'C', '3', '0', '4')

#endif							/* CDP_ERRORS_H */
