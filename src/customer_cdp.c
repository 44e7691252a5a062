/*
 * customer_cdp.c
 *	  Module magic and start-up: nothing else lives here.
 */
#include "cdp.h"

#include "utils/guc.h"

#if PG_VERSION_NUM >= 180000
PG_MODULE_MAGIC_EXT(.name = "customer_cdp", .version = CDP_VERSION);
#else
PG_MODULE_MAGIC;
#endif

PGDLLEXPORT void _PG_init(void);

/*
 * _PG_init: one init function per module that has settings or caches, in
 * the order of CDP_MODULES.  The prefix is reserved last, so that a setting
 * nobody defined ("cdp.timezome") is refused instead of silently kept.
 */
void
_PG_init(void)
{
	cdp_core_init();
	cdp_identity_customer_init();
	cdp_event_log_init();
	cdp_identity_match_init();
	cdp_identity_components_init();
	cdp_segment_init();
	cdp_value_score_init();
	cdp_points_init();
	MarkGUCPrefixReserved("cdp");
}
