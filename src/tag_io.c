/*
 * tag_io.c
 *	  Type cdp.tagset: its text form and its binary form.
 *
 *		vip, region.华东.上海, aov=1280.5, churn_risk=0.83@2026-12-31
 *
 * The words of the text are read by tag_scan.c, the bytes in memory are
 * tag_set.c's.  The binary form is independent of both, so that a client can
 * write it:
 *
 *		byte 1 | int32 count | entries
 *		entry: byte kind | text name | value | int64 valid until, in microseconds since 2000-01-01 UTC
 *		kind: 0 no value, 1 float8, 2 int32 days since 2000-01-01, 3 text; + 4: it expires
 *		text: int32 length | bytes in client_encoding
 *
 * SQL: sql/tag.sql.  Tests: test/sql/tag.sql, test/pgtap/tag.sql, test/fuzz/tag.sql.  Page: doc/tag.md.
 */
#include "tag.h"

#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(cdp_tagset_in);
PG_FUNCTION_INFO_V1(cdp_tagset_out);
PG_FUNCTION_INFO_V1(cdp_tagset_recv);
PG_FUNCTION_INFO_V1(cdp_tagset_send);

#define ENTRY_HINT	"Entries are written name, name=value or name=value@2026-12-31, with commas between them."

/* One entry; its name and text go to *room, which moves on. */
static void
scan_entry(TagScan *scan, TagEntry *entry, char **room)
{
	entry->name = *room;
	entry->name_len = cdp_tag_scan_name(scan, *room, NULL);
	*room += entry->name_len;
	entry->value.type = TAG_NONE;
	entry->valid_until = DT_NOEND;
	if (scan->end - scan->at > 1 && scan->at[0] == '.')
		cdp_tag_scan_error(scan, scan->at + 1, "a level of a name is *",
						   "A tag has a full name, such as region.华东.上海; only a query asks for everything below one.");
	cdp_tag_skip_space(scan);
	if (scan->at < scan->end && *scan->at == '=')
	{
		scan->at++;
		cdp_tag_skip_space(scan);
		cdp_tag_scan_value(scan, &entry->value, *room);
		if (entry->value.type == TAG_TEXT)
			*room += entry->value.text_len;
		cdp_tag_skip_space(scan);
	}
	if (scan->at < scan->end && *scan->at == '@')
	{
		scan->at++;
		cdp_tag_skip_space(scan);
		entry->valid_until = cdp_tag_scan_instant(scan);
		cdp_tag_skip_space(scan);
	}
}

/* cdp.tagset from text */
Datum
cdp_tagset_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);
	TagScan		scan = {"tagset", text, text, text + strlen(text)};
	TagEntry   *entries;
	char	   *room;
	int			count = 0;
	int			size = 16;

	cdp_tag_skip_space(&scan);
	if (scan.at == scan.end)
		PG_RETURN_POINTER(cdp_tagset_build(NULL, 0));
	entries = palloc(size * sizeof(TagEntry));
	/* names and texts are no longer than the text that they are read from */
	room = palloc(scan.end - scan.start + TAG_MAX_NAME);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		/* a text that repeats itself takes no more memory than one that does not */
		if (count == 2 * TAGSET_MAX_ENTRIES)
			count = cdp_tagset_settle(entries, count);
		if (count == size)
		{
			size *= 2;
			entries = repalloc(entries, size * sizeof(TagEntry));
		}
		cdp_tag_skip_space(&scan);
		scan_entry(&scan, &entries[count++], &room);
		if (scan.at == scan.end)
			break;
		if (*scan.at != ',')
			cdp_tag_scan_error(&scan, scan.at, "a comma is expected", ENTRY_HINT);
		scan.at++;
	}
	PG_RETURN_POINTER(cdp_tagset_build(entries, count));
}

/* cdp.tagset to text */
Datum
cdp_tagset_out(PG_FUNCTION_ARGS)
{
	TagSet		set;
	TagEntry	entry;
	StringInfoData out;

	PG_GETARG_TAGSET(0, &set);
	initStringInfo(&out);
	for (TagCursor c = {0}; cdp_tagset_next(&set, &c, &entry);)
	{
		if (out.len > 0)
			appendStringInfoString(&out, ", ");
		cdp_tag_put_name(&out, entry.name, entry.name_len);
		if (entry.value.type != TAG_NONE)
		{
			appendStringInfoChar(&out, '=');
			cdp_tag_put_value(&out, &entry.value);
		}
		if (entry.valid_until != DT_NOEND)
		{
			appendStringInfoChar(&out, '@');
			cdp_tag_put_instant(&out, entry.valid_until);
		}
	}
	PG_RETURN_CSTRING(out.data);
}

/* What came in is no tagset. */
pg_noreturn static void
refuse_bytes(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("invalid binary value of type cdp.tagset"),
			 errdetail_internal("%s", why),
			 errhint("Its form is described in doc/tag.md; the text form always works.")));
}

/* So many bytes must still be there. */
static inline void
need_bytes(StringInfo buf, int64 n)
{
	if (buf->len - buf->cursor < n)
		refuse_bytes("It ends too early.");
}

/* A length and so many bytes of text, in the server's encoding. */
static const char *
receive_text(StringInfo buf, int *len)
{
	int32		n;

	need_bytes(buf, sizeof(int32));
	n = pq_getmsgint(buf, sizeof(int32));
	if (n < 0)
		refuse_bytes("A length is negative.");
	need_bytes(buf, n);
	if (!pg_verify_mbstr(pg_get_client_encoding(), buf->data + buf->cursor, n, true))
		refuse_bytes("A text is none in client_encoding.");
	return pq_getmsgtext(buf, n, len);
}

/* cdp.tagset from its binary form */
Datum
cdp_tagset_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	TagEntry   *entries;
	int32		count;

	need_bytes(buf, 1 + sizeof(int32));
	if (pq_getmsgbyte(buf) != 1)
		refuse_bytes("Its version is not known.");
	count = pq_getmsgint(buf, sizeof(int32));
	if (count < 0 || count > TAGSET_MAX_ENTRIES)
		refuse_bytes("The number of entries is out of range.");
	/* no memory for entries that cannot be there: kind, length and one byte of name each */
	need_bytes(buf, (int64) count * (1 + sizeof(int32) + 1));
	entries = palloc(count * sizeof(TagEntry));
	for (int i = 0; i < count; i++)
	{
		TagEntry   *e = &entries[i];
		const char *problem;
		int			kind;

		need_bytes(buf, 1);
		kind = pq_getmsgbyte(buf);
		if (kind > 7)
			refuse_bytes("The kind of an entry is not known.");
		e->name = receive_text(buf, &e->name_len);
		problem = cdp_tag_name_problem(e->name, e->name_len);
		if (problem != NULL)
			refuse_bytes(problem);
		e->value.type = kind & 3;
		switch (e->value.type)
		{
			case TAG_NONE:
				break;
			case TAG_NUMBER:
				need_bytes(buf, sizeof(double));
				e->value.number = pq_getmsgfloat8(buf);
				if (!cdp_tag_is_number(e->value.number))
					refuse_bytes("A number is not finite, is -0 or has more than 15 significant digits.");
				break;
			case TAG_DATE:
				need_bytes(buf, sizeof(int32));
				e->value.date = (int32) pq_getmsgint(buf, sizeof(int32));
				if (!cdp_tag_is_date(e->value.date))
					refuse_bytes("A date is out of range.");
				break;
			case TAG_TEXT:
				e->value.text = receive_text(buf, &e->value.text_len);
				if (e->value.text_len > TAG_MAX_NAME)
					refuse_bytes("A text is longer than 255 bytes.");
				break;
		}
		e->valid_until = DT_NOEND;
		if (kind & 4)
		{
			need_bytes(buf, sizeof(int64));
			e->valid_until = pq_getmsgint64(buf);
			if (!cdp_tag_is_instant(e->valid_until))
				refuse_bytes("A valid-until is out of range.");
		}
	}
	if (buf->cursor != buf->len)
		refuse_bytes("There are bytes behind its end.");
	if (cdp_tagset_settle(entries, count) != count)
		refuse_bytes("A name is there twice.");
	PG_RETURN_POINTER(cdp_tagset_build(entries, count));
}

/* What receive_text reads. */
static void
send_text(StringInfo buf, const char *text, int len)
{
	char	   *converted = pg_server_to_client(text, len);

	if (converted != text)
		len = strlen(converted);
	pq_sendint32(buf, len);
	pq_sendbytes(buf, converted, len);
}

/* cdp.tagset to its binary form */
Datum
cdp_tagset_send(PG_FUNCTION_ARGS)
{
	TagSet		set;
	TagEntry	entry;
	StringInfoData buf;

	PG_GETARG_TAGSET(0, &set);
	pq_begintypsend(&buf);
	pq_sendbyte(&buf, 1);
	pq_sendint32(&buf, set.count);
	for (TagCursor c = {0}; cdp_tagset_next(&set, &c, &entry);)
	{
		pq_sendbyte(&buf, entry.value.type | (entry.valid_until != DT_NOEND ? 4 : 0));
		send_text(&buf, entry.name, entry.name_len);
		switch (entry.value.type)
		{
			case TAG_NONE:
				break;
			case TAG_NUMBER:
				pq_sendfloat8(&buf, entry.value.number);
				break;
			case TAG_DATE:
				pq_sendint32(&buf, entry.value.date);
				break;
			case TAG_TEXT:
				send_text(&buf, entry.value.text, entry.value.text_len);
				break;
		}
		if (entry.valid_until != DT_NOEND)
			pq_sendint64(&buf, entry.valid_until);
	}
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
