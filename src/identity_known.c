/*
 * identity_known.c
 *	  The usual call: whoever is seen is known, and so is that they are one.
 *
 *		{"member_id": "m-7", "device_id": "d-9"}, seen together yesterday, too
 *
 * Such a sighting writes nothing, and to find that out takes one index probe
 * per identifier, profile and pair.  No statement is run, hence there is
 * nobody to become and no setting to pin: three quarters of the price of the same
 * sighting as a batch of one.
 *
 * The questions are those of is_settled() and see() in identity_simulate.c.
 * Whenever the answer is not a plain yes (something is new, refused, late,
 * to be remembered, or a rule would have to be read first) there is none
 * from here, and identity.c begins from the start.
 *
 * Page: doc/identity.md.  Tests: test/sql/identity_known.sql,
 * test/t/016_identity_many.pl, which compares with batches.
 */
#include "identity_batch.h"

#include "access/xact.h"
#include "probe.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* the pairs of more are a batch's work */
#define MANY	6

/* One value under its kind; false: not for us. */
static bool
read_value(IdNode *node, const CdpKind *kind, const char *raw, int len)
{
	char	   *value;

	/* a normaliser of the user's needs the frame of a verb */
	if (kind->broken || (kind->soft == NULL && OidIsValid(kind->function)))
		return false;
	value = cdp_normalize_value(kind, raw, len);
	if (value == NULL || strlen(value) > CDP_MAX_VALUE_BYTES || cdp_is_blocked(kind, raw, len, value))
		return false;
	node->kind = kind->kind;
	node->value = value;
	node->priority = kind->priority;
	return true;
}

/* {"kind": "value", …} into nodes; how many, 0: not for us. */
static int
read_identifiers(const CdpSighting *item, IdNode *nodes)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	const CdpKind *kind = NULL;
	int			n = 0;

	if (item->identifiers == NULL || !JB_ROOT_IS_OBJECT(item->identifiers) || JB_ROOT_COUNT(item->identifiers) > MANY)
		return 0;
	it = JsonbIteratorInit(&item->identifiers->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			kind = cdp_find_loaded_kind(v.val.string.val, v.val.string.len);
			if (kind == NULL)
				return 0;
		}
		else if (token == WJB_VALUE &&
				 (kind == NULL || v.type != jbvString || !read_value(&nodes[n++], kind, v.val.string.val, v.val.string.len)))
			return 0;
	}
	return n;
}

/* Are all of them there, mean somebody, and was all this seen of them a while ago or not at all? */
static bool
find_identifiers(IdNode *nodes, int n, TimestampTz at)
{
	CdpProbe   *rows = cdp_probe_open("identifier", "identifier_live");
	int			id_column = cdp_probe_column(rows, "identifier_id"),
				profile_column = cdp_probe_column(rows, "profile_id"),
				first_column = cdp_probe_column(rows, "first_seen"),
				seen_column = cdp_probe_column(rows, "last_seen"),
				generic_column = cdp_probe_column(rows, "generic_since");
	int64		resolution = (int64) cdp_last_seen_resolution * USECS_PER_SEC;
	bool		known = true;

	for (int i = 0; known && i < n; i++)
	{
		TupleTableSlot *row = cdp_probe_text2(rows, CStringGetTextDatum(nodes[i].kind), CStringGetTextDatum(nodes[i].value));
		bool		isnull;

		if (row == NULL)
		{
			known = false;
			break;
		}
		nodes[i].identifier_id = DatumGetInt64(slot_getattr(row, id_column, &isnull));
		nodes[i].profile_id = DatumGetInt64(slot_getattr(row, profile_column, &isnull));
		(void) slot_getattr(row, generic_column, &isnull);
		known = isnull &&
			at >= DatumGetTimestampTz(slot_getattr(row, first_column, &isnull)) &&
			at <= DatumGetTimestampTz(slot_getattr(row, seen_column, &isnull)) + resolution;
	}
	cdp_probe_close(rows);
	return known;
}

/* Their customer, when they have one; 0: they have several. */
static int64
find_customer(IdNode *nodes, int n)
{
	CdpProbe   *rows = cdp_probe_open("profile_alias", "profile_alias_pkey");
	int			column = cdp_probe_column(rows, "customer_id");

	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *row;
		bool		isnull;

		if (i > 0 && nodes[i].profile_id == nodes[i - 1].profile_id)
		{
			nodes[i].alias_id = nodes[i - 1].alias_id;
			continue;
		}
		row = cdp_probe_int8(rows, nodes[i].profile_id);
		nodes[i].alias_id = row ? DatumGetInt64(slot_getattr(row, column, &isnull)) : nodes[i].profile_id;
	}
	cdp_probe_close(rows);
	for (int i = 1; i < n; i++)
	{
		if (nodes[i].alias_id != nodes[0].alias_id)
			return 0;
	}
	return nodes[0].alias_id;
}

/* Is every pair of them evidence that is followed, and not younger than this sighting? */
static bool
find_pairs(const IdNode *nodes, int n, TimestampTz at)
{
	CdpProbe   *rows;
	int			column;
	bool		known = true;

	if (n == 1)
		return true;
	rows = cdp_probe_open("identity_link", "identity_link_live");
	column = cdp_probe_column(rows, "occurred_at");
	for (int i = 0; i < n; i++)
	{
		for (int k = i + 1; known && k < n; k++)
		{
			TupleTableSlot *row = cdp_probe_pair(rows, Min(nodes[i].identifier_id, nodes[k].identifier_id),
												 Max(nodes[i].identifier_id, nodes[k].identifier_id), "same");
			bool		isnull;

			known = row != NULL && at >= DatumGetTimestampTz(slot_getattr(row, column, &isnull));
		}
	}
	cdp_probe_close(rows);
	return known;
}

bool
cdp_identify_known(CdpSighting *item)
{
	IdNode		nodes[MANY];
	const IdNode *strongest = &nodes[0];
	int64		customer_id = 0;
	int			n;

	if (item->sqlstate != 0 ||
		(item->traits != NULL && (!JB_ROOT_IS_OBJECT(item->traits) || JB_ROOT_COUNT(item->traits) > 0)) ||
		TIMESTAMP_NOT_FINITE(item->occurred_at) ||
		item->occurred_at > cdp_now_value() + (int64) cdp_max_future * USECS_PER_SEC ||
		!cdp_no_tombstones())
		return false;
	n = read_identifiers(item, nodes);
	if (n == 0)
		return false;

	cdp_push_fresh_snapshot();
	if (find_identifiers(nodes, n, item->occurred_at))
		customer_id = find_customer(nodes, n);
	if (customer_id != 0 && !find_pairs(nodes, n, item->occurred_at))
		customer_id = 0;
	PopActiveSnapshot();
	if (customer_id == 0)
		return false;

	for (int i = 1; i < n; i++)
	{
		if (cdp_is_stronger(&nodes[i], strongest))
			strongest = &nodes[i];
	}
	item->profile_id = strongest->profile_id;
	item->customer_id = customer_id;
	return true;
}
