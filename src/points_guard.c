/*
 * points_guard.c
 *	  Nobody but the engine writes the ledger.
 *
 * The engine writes below the executor, where no trigger fires.  So these
 * triggers have no exception for it; they refuse everybody, superusers and
 * session_replication_role = replica too (they are ENABLE ALWAYS), but for
 * who applies a subscription: what comes over there was posted elsewhere.
 *
 * Rows of the journal can be inserted, through the table and not through a
 * partition, and only where the triggers fire that post them.
 *
 * SQL: sql/points.sql.  Page: doc/points_insert.md, "Who can do what".
 */
#include "points.h"

#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "replication/logicalworker.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(cdp_guard_points);

Datum
cdp_guard_points(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cdp._guard_points() must be called as a trigger")));
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event) && trigger->tg_relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE &&
		SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		PG_RETURN_POINTER(NULL);
	if (!IsLogicalWorker())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table cdp.%s is written by the ledger only", RelationGetRelationName(trigger->tg_relation)),
				 errhint("cdp.earn_points(), cdp.spend_points(), cdp.adjust_points() and their like change points; rows can be inserted into cdp.points_entry, not into a partition. A dump's data is restored with --disable-triggers.")));
	PG_RETURN_POINTER(NULL);
}
