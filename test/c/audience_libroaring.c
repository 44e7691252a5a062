/*
 * Roaring bytes by the library that defines them, for test/t/021_audience_libroaring.pl.
 *
 *	 audience_libroaring write SEED N	N random sets, a line each: form, bytes in hex, content as {1-5,9}
 *	 audience_libroaring read			the same lines back; says "ok N" when bytes and content agree
 *
 * form is 32 or 64.  The 64-bit format is put together here from 32-bit
 * bitmaps, as its specification says: the C interface has none.
 */
#include <roaring/roaring.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES	(16 * 1024 * 1024)

static uint64_t state;

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t
draw(uint64_t below)
{
	uint64_t	z = (state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (z ^ (z >> 31)) % below;
}

/* a text in the making: runs are joined across bitmaps */
typedef struct Text
{
	char	   *at;
	uint64_t	high;
	uint64_t	first;
	uint64_t	last;
	bool		open;
} Text;

static void
close_run(Text *t)
{
	if (!t->open)
		return;
	t->at += sprintf(t->at, "%s%" PRIu64, t->at[-1] == '{' ? "" : ",", t->first);
	if (t->last > t->first)
		t->at += sprintf(t->at, "%c%" PRIu64, t->last == t->first + 1 ? ',' : '-', t->last);
	t->open = false;
}

static bool
put_value(uint32_t value, void *arg)
{
	Text	   *t = arg;
	uint64_t	id = t->high << 32 | value;

	if (t->open && id == t->last + 1)
	{
		t->last = id;
		return true;
	}
	close_run(t);
	t->first = t->last = id;
	t->open = true;
	return true;
}

static roaring_bitmap_t *
random_bitmap(void)
{
	roaring_bitmap_t *r = roaring_bitmap_create();

	for (int part = (int) draw(6); part > 0; part--)
	{
		uint32_t	base = (uint32_t) (draw(5) ? draw(20) << 16 : UINT64_C(0xFFFF0000));

		switch (draw(4))
		{
			case 0:
				for (int i = (int) draw(300); i > 0; i--)
					roaring_bitmap_add(r, base + (uint32_t) draw(65536));
				break;
			case 1:				/* around the most of an array */
				for (uint32_t i = 0, n = 4090 + (uint32_t) draw(12); i < n; i++)
					roaring_bitmap_add(r, base + 16 * i % 65521);
				break;
			case 2:
				for (int i = (int) draw(40000); i > 0; i--)
					roaring_bitmap_add(r, base + (uint32_t) draw(65536));
				break;
			case 3:
				for (int i = (int) draw(20); i > 0; i--)
				{
					uint32_t	first = base + (uint32_t) draw(65536);
					uint64_t	last = first + draw(30000);

					roaring_bitmap_add_range_closed(r, first, last > UINT32_MAX ? UINT32_MAX : (uint32_t) last);
				}
				break;
		}
	}
	if (draw(2))
		roaring_bitmap_run_optimize(r);
	return r;
}

static void
put_hex(const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		printf("%02x", (unsigned char) bytes[i]);
}

static void
write_line(void)
{
	static char text[LINE_MAX_BYTES],
				bytes[LINE_MAX_BYTES];
	Text		t = {text, 0, 0, 0, false};
	size_t		size = 0;
	uint64_t	parts = draw(3);
	bool		wide = draw(2);

	*t.at++ = '{';
	if (wide)
	{
		memcpy(bytes, &parts, 8);
		size = 8;
	}
	else
		parts = 1;
	for (uint64_t i = 0; i < parts; i++)
	{
		roaring_bitmap_t *r = random_bitmap();
		uint32_t	high = (uint32_t) t.high;

		if (wide)
		{
			/* neighbours, far away, the end of what an audience holds */
			high = i == 0 ? (uint32_t) draw(2) : draw(2) ? high + 1 : INT32_MAX;
			t.high = high;
			memcpy(bytes + size, &high, 4);
			size += 4;
		}
		size += roaring_bitmap_portable_serialize(r, bytes + size);
		roaring_iterate(r, put_value, &t);
		roaring_bitmap_free(r);
	}
	close_run(&t);
	strcpy(t.at, "}");
	printf("%s\t", wide ? "64" : "32");
	put_hex(bytes, size);
	printf("\t%s\n", text);
}

static size_t
from_hex(char *bytes, const char *hex)
{
	size_t		n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++)
	{
		unsigned int v;

		sscanf(hex + 2 * i, "%2x", &v);
		bytes[i] = (char) v;
	}
	return n;
}

/* what the library reads from bytes of a line, as text */
static bool
read_line(bool wide, const char *bytes, size_t size, char *text)
{
	Text		t = {text, 0, 0, 0, false};
	uint64_t	parts = 1;
	size_t		at = 0;

	*t.at++ = '{';
	if (wide)
	{
		memcpy(&parts, bytes, 8);
		at = 8;
	}
	for (uint64_t i = 0; i < parts; i++)
	{
		roaring_bitmap_t *r;
		uint32_t	high = 0;

		if (wide)
		{
			memcpy(&high, bytes + at, 4);
			at += 4;
		}
		t.high = high;
		r = roaring_bitmap_portable_deserialize_safe(bytes + at, size - at);
		if (r == NULL)
			return false;
		at += roaring_bitmap_portable_deserialize_size(bytes + at, size - at);
		roaring_iterate(r, put_value, &t);
		roaring_bitmap_free(r);
	}
	close_run(&t);
	strcpy(t.at, "}");
	return at == size;
}

int
main(int argc, char **argv)
{
	static char line[LINE_MAX_BYTES],
				bytes[LINE_MAX_BYTES],
				text[LINE_MAX_BYTES];
	int			n = 0;

	if (argc == 4 && strcmp(argv[1], "write") == 0)
	{
		state = strtoull(argv[2], NULL, 10);
		for (int i = atoi(argv[3]); i > 0; i--)
			write_line();
		return 0;
	}
	while (fgets(line, sizeof(line), stdin))
	{
		char	   *form = strtok(line, "\t");
		char	   *hex = strtok(NULL, "\t");
		char	   *content = strtok(NULL, "\n");

		n++;
		if (!form || !hex || !content ||
			!read_line(strcmp(form, "64") == 0, bytes, from_hex(bytes, hex), text) || strcmp(text, content) != 0)
		{
			printf("line %d: other bytes or other content\n", n);
			return 1;
		}
	}
	printf("ok %d\n", n);
	return 0;
}
