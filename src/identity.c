/*
 * identity.c
 *	  From the identifiers an application has to one stable customer id.
 */
#include "cdp.h"

void
cdp_identity_init(void)
{
}
