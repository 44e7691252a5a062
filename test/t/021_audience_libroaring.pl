# Roaring bytes, both ways, against the library of those who made the format (Debian: libroaring-dev).
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{CDP_SEED} // 20260101;
my $dir = PostgreSQL::Test::Utils::tempdir();
my $tool = "$dir/roaring";
plan skip_all => 'no libroaring: the package libroaring-dev is not installed'
	if system("cc -O1 -w test/c/audience_libroaring.c -lroaring -o $tool 2>$dir/cc.log") != 0;
plan tests => 7;
note "seed $seed (CDP_SEED chooses another)";

my $node = cdp_server('main');
$node->safe_psql('postgres', 'CREATE EXTENSION customer_cdp');
$node->safe_psql('postgres', q{
	CREATE TABLE theirs (form text, bytes text, content text);
	CREATE VIEW read AS SELECT *, CASE form WHEN '64' THEN cdp.audience_from_roaring64(decode(bytes, 'hex')) ELSE decode(bytes, 'hex')::cdp.audience END AS audience FROM theirs;
	CREATE TABLE ours (form text, audience cdp.audience)});

# theirs read by us
is(system("$tool write $seed 300 > $dir/theirs"), 0, 'the library writes');
$node->safe_psql('postgres', "\\copy theirs FROM '$dir/theirs'");
is($node->safe_psql('postgres', q{SELECT count(*) > 50, count(*) FILTER (WHERE form = '64') > 50, count(*) FILTER (WHERE left(bytes, 4) = '3b30') > 20,
	count(*) FILTER (WHERE left(bytes, 4) = '3a30') > 20 FROM theirs}), 't|t|t|t', 'bytes of both formats, with and without runs');
is($node->safe_psql('postgres', 'SELECT count(*) FROM read WHERE audience::text IS DISTINCT FROM content'), '0', 'their bytes are read with equal content');

# ours read by them
$node->safe_psql('postgres', qq{
	SELECT setseed(($seed % 1000) / 1000.0);
	INSERT INTO ours SELECT form, audience FROM read;
	INSERT INTO ours SELECT '32', t::cdp.audience FROM unnest(ARRAY['{}', '{0}', '{4294967295}', '{0-20000000}', '{0-65535}', '{65535,65536}', '{1-5,70000,140000,210000-220000}']) t;
	INSERT INTO ours SELECT '64', t::cdp.audience FROM unnest(ARRAY['{}', '{4294967295,4294967296}', '{9223372036854775807}', '{4290000000-4300000000}']) t;
	-- around the sizes where the form changes
	INSERT INTO ours SELECT '32', cdp.audience_agg(i * 16) FROM generate_series(4090, 4100) n, generate_series(1, n) i GROUP BY n;
	INSERT INTO ours SELECT '32', cdp.audience_agg(i) FROM generate_series(2040, 2056) n, generate_series(0, 65535) i WHERE i / 30 < n AND i % 30 < 20 GROUP BY n;
	INSERT INTO ours SELECT '32', cdp.audience_agg(floor(random() * 1000000)::bigint) FROM generate_series(1, 40) n, generate_series(1, n * n * 20) i GROUP BY n});
$node->safe_psql('postgres', qq{\\copy (SELECT form, encode(CASE form WHEN '64' THEN cdp.audience_to_roaring64(audience) ELSE audience::bytea END, 'hex'), audience FROM ours) TO '$dir/ours'});
my $n = $node->safe_psql('postgres', 'SELECT count(*) FROM ours');
is(`$tool read < $dir/ours`, "ok $n\n", 'our bytes are read by the library with equal content');
# what both write without choice is the same to the byte: their containers are our containers
is($node->safe_psql('postgres', q{SELECT count(*) FROM read WHERE form = '32' AND left(bytes, 4) = '3a30' AND left(encode(audience::bytea, 'hex'), 4) = '3a30' AND encode(audience::bytea, 'hex') <> bytes}),
	'0', 'where no runs are shorter the bytes are the same');
is($node->safe_psql('postgres', q{SELECT count(*) FROM read WHERE form = '32' AND length(audience::bytea) > length(bytes) / 2}), '0', 'ours are never longer');
# the test can fail
$node->safe_psql('postgres', qq{\\copy (SELECT '32', encode('{1-5,9}'::cdp.audience::bytea, 'hex'), '{1-5,10}') TO '$dir/wrong'});
is(`$tool read < $dir/wrong`, "line 1: other bytes or other content\n", 'another content is noticed');
$node->stop;
