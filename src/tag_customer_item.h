/*
 * tag_customer_item.h
 *	  One thing to do to the tags of one customer: what is meant by it.
 */
#ifndef CDP_TAG_CUSTOMER_ITEM_H
#define CDP_TAG_CUSTOMER_ITEM_H

#include "tag_customer.h"

/* one thing to do */
typedef struct TagItem
{
	int			ord;			/* its number for the user, from 1; 0: there is only one */
	int64		given;			/* any id of the customer */
	int64		customer_id;
	bool		remove;
	bool		below;			/* name.* */
	const char *name;
	int			name_len;
	const char *text;			/* the value as given, or NULL */
	int			text_len;
	TagValue	value;
	TimestampTz valid_until;	/* DT_NOEND: not given */
} TagItem;

/* error context: which of many it was; of a value also what to do with a number that is none */
extern void cdp_tag_about_item(void *item);
extern void cdp_tag_about_value(void *item);

/* 22004 */
pg_noreturn extern void cdp_tag_refuse_null(const char *what, const char *hint);

/* name, value and validity as cdp.tag wants them; SPI is connected */
extern void cdp_tag_check_item(TagItem *item);

/* element number ord of a list of cdp.add_tag_many() */
extern void cdp_tag_read_item(TagItem *item, const JsonbValue *element, int ord);

#endif							/* CDP_TAG_CUSTOMER_ITEM_H */
