# Matching of labelled persons without their labels: pairwise F1 at probability 0.5, and the same model from another plan.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = ($ENV{CDP_DATA} // '') . '/identity';
plan skip_all => "no labelled persons: CDP_DATA names a directory with identity/febrl3.csv"
	unless -r "$dir/febrl3.csv" && -r "$dir/febrl4a.csv" && -r "$dir/febrl4b.csv";

my $node = cdp_server('main');
cdp_install($node, 'postgres');
$node->safe_psql('postgres', q{
	CREATE TABLE raw (source text DEFAULT 'a', rec_id text, given_name text, surname text, street_number text, address_1 text, address_2 text,
		suburb text, postcode text, state text, date_of_birth text, soc_sec_id text);
	-- the truth goes where the matcher never looks; ids say nothing about it
	CREATE TABLE person (dataset text, id bigint, truth text, source text, given_name text, surname text, street_number text, address_1 text, address_2 text,
		suburb text, postcode text, state text, date_of_birth text, soc_sec_id text)});
my $columns = 'rec_id, given_name, surname, street_number, address_1, address_2, suburb, postcode, state, date_of_birth, soc_sec_id';
my $take = q{INSERT INTO person SELECT '%s', row_number() OVER (ORDER BY md5(rec_id || source)), split_part(rec_id, '-', 2), source, btrim(given_name), btrim(surname),
	btrim(street_number), btrim(address_1), btrim(address_2), btrim(suburb), btrim(postcode), btrim(state), btrim(date_of_birth), btrim(soc_sec_id) FROM raw; TRUNCATE raw};
$node->safe_psql('postgres', "COPY raw ($columns) FROM '$dir/febrl3.csv' (FORMAT csv, HEADER); " . sprintf($take, 'febrl3'));
$node->safe_psql('postgres', "COPY raw ($columns) FROM '$dir/febrl4a.csv' (FORMAT csv, HEADER); UPDATE raw SET source = 'b';
	COPY raw ($columns) FROM '$dir/febrl4b.csv' (FORMAT csv, HEADER); " . sprintf($take, 'febrl4'));
$node->safe_psql('postgres', 'ANALYZE person');

my @rules = (
	'l.surname = r.surname AND l.given_name = r.given_name',
	'l.surname = r.given_name AND l.given_name = r.surname',
	'l.date_of_birth = r.date_of_birth',
	'l.postcode = r.postcode AND l.street_number = r.street_number',
	'l.suburb = r.suburb AND left(l.surname, 3) = left(r.surname, 3)',
	'l.suburb = r.suburb AND left(l.given_name, 3) = left(r.given_name, 3)',
	'l.address_1 = r.address_1');
my %more = (
	with => ['l.soc_sec_id = r.soc_sec_id'],
	without => [
		'l.given_name = r.given_name AND l.postcode = r.postcode',
		'l.surname = r.surname AND l.postcode = r.postcode',
		'left(l.surname, 3) = left(r.surname, 3) AND left(l.date_of_birth, 4) = left(r.date_of_birth, 4)',
		'left(l.given_name, 3) = left(r.given_name, 3) AND left(l.date_of_birth, 4) = left(r.date_of_birth, 4)',
		'l.address_2 = r.address_2 AND left(l.surname, 2) = left(r.surname, 2)',
		'l.street_number = r.street_number AND left(l.address_1, 4) = left(r.address_1, 4)',
		'right(l.date_of_birth, 4) = right(r.date_of_birth, 4) AND l.state = r.state']);
my @comparisons = (
	'{"column": "given_name", "kind": "name", "swap": "surname"}', '{"column": "surname", "kind": "name", "swap": "given_name"}',
	'{"column": "date_of_birth", "kind": "date"}', '{"column": "street_number", "kind": "text"}',
	(map { qq({"column": "$_", "kind": "text"}) } qw(address_1 address_2 suburb postcode)), '{"column": "state", "kind": "exact"}');

sub quote { my ($s) = @_; $s =~ s/'/''/g; return "'$s'" }

for my $t (['febrl3', 'with', 0.998], ['febrl3', 'without', 0.99], ['febrl4', 'with', 0.9995], ['febrl4', 'without', 0.99])
{
	my ($set, $ssid, $reach) = @$t;
	my $link = $set eq 'febrl4' ? 'true' : 'false';
	my $records = "SELECT id, source, given_name, surname, street_number, address_1, address_2, suburb, postcode, state, date_of_birth"
		. ($ssid eq 'with' ? ', soc_sec_id' : '') . " FROM person WHERE dataset = '$set'";
	my $comparisons = join(', ', @comparisons, $ssid eq 'with' ? '{"column": "soc_sec_id", "kind": "text"}' : ());
	my $blocking = join(', ', map { quote($_) } @rules, @{ $more{$ssid} });
	my $fit = sprintf("cdp.fit_match(%s, '[%s]', ARRAY[%s], '%s')", quote($records), $comparisons, $blocking, $link eq 'true' ? '{"link_only": true}' : '{}');
	my ($f1, $precision, $recall, $converged) = split /\|/, $node->safe_psql('postgres', "
		CREATE TABLE model_${set}_$ssid AS SELECT $fit AS m;
		WITH truth AS (SELECT count(*) AS n FROM person l JOIN person r USING (dataset, truth) WHERE dataset = '$set' AND l.id < r.id AND (NOT $link OR l.source <> r.source)),
		found AS (SELECT count(*) AS n, count(*) FILTER (WHERE l.truth = r.truth) AS hits FROM model_${set}_$ssid, cdp.score_pairs(" . quote($records) . ", m) s
			JOIN person l ON l.dataset = '$set' AND l.id = left_id JOIN person r ON r.dataset = '$set' AND r.id = right_id WHERE probability >= 0.5)
		SELECT round(2.0 * f.hits / (f.n + t.n), 5), round(1.0 * f.hits / f.n, 5), round(1.0 * f.hits / t.n, 5), (SELECT m ->> 'converged' FROM model_${set}_$ssid) FROM truth t, found f");
	note("$set $ssid soc_sec_id: F1 $f1, precision $precision, recall $recall");
	is($converged, 'true', "$set $ssid soc_sec_id: the fit converges");
	cmp_ok($f1, '>=', $reach, "$set $ssid soc_sec_id: F1 $f1 reaches $reach");
	next if $ssid eq 'without';
	my $other = $fit;
	$other =~ s/FROM person WHERE/FROM (SELECT * FROM person ORDER BY md5(id::text)) p WHERE/;
	is($node->safe_psql('postgres', "SET enable_hashjoin = off; SET max_parallel_workers_per_gather = 0; SELECT $other = m FROM model_${set}_$ssid"), 't',
		"$set: rows in another order and merge joins give the same model");
}

# the same persons as customers: what match_profiles makes one, against the truth
$node->safe_psql('postgres', q{
	SELECT count(*) FROM cdp.identify_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('customer_no', id::text),
		'traits', jsonb_strip_nulls(to_jsonb(p) - '{dataset,id,truth,source}'::text[])) ORDER BY id) FROM person p WHERE dataset = 'febrl3'))});
my $list = join(', ', map { "traits ->> ''$_'' AS $_" } qw(given_name surname street_number address_1 address_2 suburb postcode state date_of_birth soc_sec_id));
$node->safe_psql('postgres', "INSERT INTO cdp.match_model (name, records, comparisons, blocking) VALUES ('febrl', 'SELECT customer_id AS id, $list FROM cdp.customer', '["
	. join(', ', @comparisons, '{"column": "soc_sec_id", "kind": "text"}') . "]', ARRAY[" . join(', ', map { quote($_) } @rules, @{ $more{with} }) . ']);'
	. q{SELECT count(*) FROM cdp.match_profiles('febrl', dry_run => false)});
my ($made, $cf1) = split /\|/, $node->safe_psql('postgres', q{
	WITH who AS (SELECT cdp.customer_id(i.profile_id) AS customer, p.truth FROM cdp.identifier i JOIN person p ON p.dataset = 'febrl3' AND p.id::text = i.value),
	pairs AS (SELECT (SELECT sum(n * (n - 1) / 2) FROM (SELECT count(*) AS n FROM who GROUP BY customer) x) AS found,
		(SELECT sum(n * (n - 1) / 2) FROM (SELECT count(*) AS n FROM who GROUP BY truth) x) AS true,
		(SELECT sum(n * (n - 1) / 2) FROM (SELECT count(*) AS n FROM who GROUP BY customer, truth) x) AS hits)
	SELECT (SELECT count(DISTINCT customer) FROM who), round(2.0 * hits / (found + pairs.true), 5) FROM pairs});
note("5000 records of 2000 persons became $made customers, F1 of pairs $cf1");
cmp_ok($cf1, '>=', 0.998, "match_profiles makes customers of the records: F1 $cf1 reaches 0.998");

# a column that holds nothing changes nothing else
is($node->safe_psql('postgres', q{SELECT cdp.fit_match('SELECT *, NULL::text AS nothing FROM person WHERE dataset = ''febrl3''',
	'[{"column": "surname", "kind": "name"}, {"column": "nothing", "kind": "text"}, {"column": "date_of_birth", "kind": "date"}]', '{l.date_of_birth = r.date_of_birth}') ->> 'lambda'
	= (cdp.fit_match('SELECT * FROM person WHERE dataset = ''febrl3''', '[{"column": "surname", "kind": "name"}, {"column": "date_of_birth", "kind": "date"}]', '{l.date_of_birth = r.date_of_birth}') ->> 'lambda')}),
	't', 'a column of NULLs says nothing');
$node->stop;
done_testing();
