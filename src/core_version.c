/*
 * core_version.c
 *	  Do library, extension and tables fit together?
 *
 * Three versions are in play: L of the library that this session has loaded,
 * E of the extension in the catalog, T of the tables.  An update goes
 *
 *		files are installed     new sessions load the new library: L > E
 *		ALTER EXTENSION UPDATE  E moves                        \  one
 *		CALL cdp.migrate()      T follows                      /  transaction
 *
 * and sessions that are connected keep the library they have, L < E, until
 * they leave (with shared_preload_libraries: until the server restarts).
 *
 *		T <> E		55000: somebody updated without migrate()
 *		L > E		55000: the library may ask for columns that are not there;
 *					but while an update is under way the session waits for it
 *		L < E		goes on.  A released C symbol never disappears and tables
 *					only grow; a release that breaks this writes 'min_library'
 *					into cdp.meta, and sessions below it are told to connect anew
 *
 * A verb holds ACCESS SHARE on cdp.meta to the end of its transaction, and
 * migrate() begins with ACCESS EXCLUSIVE on it.  So a migration never meets a
 * verb that is half-way through its tables, and verbs only wait.
 *
 * SQL: sql/core.sql.  Tests: test/t/008_core_upgrade_under_load.pl.
 * Page: doc/upgrade.md.
 */
#include "cdp.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#define UPDATE_HINT \
	"BEGIN; ALTER EXTENSION customer_cdp UPDATE; CALL cdp.migrate(); COMMIT;"

/* true while nothing has happened that could have changed the answer */
static bool version_checked = false;

PG_FUNCTION_INFO_V1(cdp_version);
PG_FUNCTION_INFO_V1(cdp_require_version);

/* cdp.version() -> text: of the library that is loaded */
Datum
cdp_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(CDP_VERSION));
}

void
cdp_forget_version(void)
{
	version_checked = false;
}

/* "0.9.0" < "0.10.0-dev" < "0.10.0" */
static int
compare_versions(const char *a, const char *b)
{
	for (;;)
	{
		char	   *a_end,
				   *b_end;
		long		m = strtol(a, &a_end, 10),
					n = strtol(b, &b_end, 10);

		if (m != n)
			return m < n ? -1 : 1;
		if (*a_end != '.' || *b_end != '.')
		{
			a = a_end;
			b = b_end;
			break;
		}
		a = a_end + 1;
		b = b_end + 1;
	}
	if (strcmp(a, b) == 0)
		return 0;
	/* what is longer by a number is later, by a word is earlier */
	if (*a == '\0' || *b == '\0')
		return ((*a == '\0') == (*a == '.' || *b == '.')) ? -1 : 1;
	return strcmp(a, b) < 0 ? -1 : 1;
}

/*
 * Wait for the transaction that is changing the row of the extension.  False
 * when there is none, or when it is our own.
 */
static bool
wait_for_update(void)
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	SnapshotData dirty;
	TransactionId busy = InvalidTransactionId;

	if (RecoveryInProgress() || IsInParallelMode())
		return false;
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("customer_cdp"));
	InitDirtySnapshot(dirty);
	rel = table_open(ExtensionRelationId, AccessShareLock);
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, &dirty, 1, &key);
	while (!TransactionIdIsValid(busy) && HeapTupleIsValid(systable_getnext(scan)))
		busy = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (!TransactionIdIsValid(busy) || TransactionIdIsCurrentTransactionId(busy))
		return false;
	XactLockTableWait(busy, NULL, NULL, XLTW_None);
	return true;
}

/* one row as it is committed now, whatever the age of the caller's snapshot */
static void
read_versions(char **tables, char **installed, char **min_library)
{
	static SPIPlanPtr plan = NULL;
	bool		latest = !IsInParallelMode();
	int			rc;

	if (latest)
		PushActiveSnapshot(GetLatestSnapshot());
	rc = SPI_execute_plan(cdp_plan(&plan,
								   "SELECT m.value, e.extversion, l.value"
								   " FROM pg_extension e"
								   " LEFT JOIN cdp.meta m ON m.key = 'version'"
								   " LEFT JOIN cdp.meta l ON l.key = 'min_library'"
								   " WHERE e.extname = 'customer_cdp'",
								   0, NULL),
						  NULL, NULL, true, 1);
	if (latest)
		PopActiveSnapshot();
	if (rc != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "extension customer_cdp is not installed");
	*tables = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	*installed = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	*min_library = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3);
}

void
cdp_check_version(void)
{
	Oid			meta = cdp_relation("meta");
	CdpVerb		verb;
	char	   *tables,
			   *installed,
			   *min_library;

	/* the gate; as it takes in what other sessions did, it comes first */
	if (OidIsValid(meta))
		LockRelationOid(meta, AccessShareLock);
	if (version_checked && OidIsValid(meta))
		return;

	cdp_begin_unchecked(&verb); /* complains when there is no table */
	read_versions(&tables, &installed, &min_library);
	if (compare_versions(CDP_VERSION, installed) > 0 && wait_for_update())
		read_versions(&tables, &installed, &min_library);

	if (compare_versions(CDP_VERSION, installed) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this session runs version %s of customer_cdp, the database has version %s",
						CDP_VERSION, installed),
				 errhint(UPDATE_HINT)));
	if (tables == NULL || strcmp(tables, installed) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the tables of customer_cdp have version %s, the code has version %s",
						tables ? tables : "none", installed),
				 errhint("CALL cdp.migrate(); next time update in one step: " UPDATE_HINT)));
	if (min_library != NULL && compare_versions(CDP_VERSION, min_library) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this session runs version %s of customer_cdp, the database needs version %s or newer",
						CDP_VERSION, min_library),
				 errhint("Connect anew; when the library is in shared_preload_libraries, restart the server.")));
	cdp_end(&verb);
	version_checked = true;
}

/* cdp._require_version(): the guard for verbs that are not written in C */
Datum
cdp_require_version(PG_FUNCTION_ARGS)
{
	cdp_check_version();
	PG_RETURN_VOID();
}
