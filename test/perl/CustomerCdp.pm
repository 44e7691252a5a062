# What the TAP tests share: a server with the extension, a small shop's worth of rows that came through the verbs, and
# a checksum of every table.
package CustomerCdp;
use strict;
use warnings FATAL => 'all';
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(cdp_server cdp_install cdp_has cdp_fill cdp_shop cdp_sums cdp_same cdp_works cdp_fails $UPDATE);

# the one way to update, as hints and pages show it
our $UPDATE = 'BEGIN; ALTER EXTENSION customer_cdp UPDATE; CALL cdp.migrate(); COMMIT;';

# a running server; options go to init
sub cdp_server
{
	my ($name, %init) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '--locale=C.UTF-8', '--encoding=UTF8' ], %init);
	$node->append_conf('postgresql.conf', "timezone = 'UTC'\nmax_prepared_transactions = 0\n");
	$node->start;
	return $node;
}

sub cdp_install
{
	my ($node, $db) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db") unless $db eq 'postgres';
	$node->safe_psql($db, 'CREATE EXTENSION customer_cdp; CALL cdp.migrate()');
}

# does the function, procedure or table of schema cdp exist?  Tests grow when more of them are there.
sub cdp_has
{
	my ($node, $db, $name) = @_;
	return $node->safe_psql($db, qq{SELECT to_regclass('cdp.$name') IS NOT NULL OR EXISTS (
		SELECT FROM pg_proc WHERE proname = '$name' AND pronamespace = to_regnamespace('cdp'))}) eq 't';
}

# Customers, merges, traits, events of three months, orders, refunds: whatever verbs are there.  $who is prepended to
# every key, so that a second call makes new rows; options are psql's.
sub cdp_fill
{
	my ($node, $db, $who, @options) = @_;
	my $sql = qq{
		SELECT count(cdp.identify(jsonb_build_object('anonymous_id', '$who-c' || i),
			jsonb_build_object('name', '客户 ' || i), 'web')) FROM generate_series(1, 20) i;
		SELECT count(cdp.identify(jsonb_build_object('anonymous_id', '$who-c' || i, 'member_id', '$who-m' || i), '{"level": 1}', 'shop'))
			FROM generate_series(5, 20, 5) i;
		SELECT count(cdp.track('{"member_id": "$who-m5"}', 'Store Visited', '{"store_id": "s1"}', cdp.now() - interval '1 hour', '$who-v' || i))
			FROM generate_series(1, 5) i;
		SELECT cdp.track_many((SELECT jsonb_agg(jsonb_build_object('identifiers', jsonb_build_object('anonymous_id', '$who-c' || i % 20 + 1),
			'name', 'Page Viewed', 'message_id', '$who-p' || i, 'occurred_at', cdp.now() - i * interval '1 day', 'source', 'web'))
			FROM generate_series(1, 60) i));
		-- one that the plan keeps out
		SELECT cdp.track_many('[{"identifiers": {"anonymous_id": "$who-c1"}, "name": ""}]', 'reject');
	};
	$sql .= qq{
		SELECT count(cdp.record_order(jsonb_build_object('member_id', '$who-m' || i % 4 * 5 + 5),
			jsonb_build_object('order_id', '$who-o' || i, 'ordered_at', cdp.now() - i * interval '3 days', 'amount', 100 + i,
				'status', 'paid', 'currency', 'CNY',
				'lines', jsonb_build_array(jsonb_build_object('line_no', 1, 'product_id', 'p' || i % 3, 'quantity', 1, 'unit_price', 100 + i)))))
			FROM generate_series(1, 12) i;
	} if cdp_has($node, $db, 'record_order');
	$sql .= qq{SELECT cdp.refund_order('$who-o1', 10, 'damaged', '$who-r1');} if cdp_has($node, $db, 'refund_order');
	$sql .= qq{SELECT cdp.set_traits(cdp.resolve('member_id', '$who-m10'), '{"city": "上海"}');} if cdp_has($node, $db, 'set_traits');
	$node->safe_psql($db, $sql, extra_params => \@options);
}

# A shop's own tables, attached when there is attach_source: role $role must be able to create in schema public.
sub cdp_shop
{
	my ($node, $db, @options) = @_;
	$node->safe_psql($db, q{
		CREATE TABLE shop_member (id text PRIMARY KEY, mobile text, full_name text, created_at timestamptz);
		CREATE TABLE shop_order (id bigint PRIMARY KEY, member_id text, paid_at timestamptz, state text, total numeric);
		INSERT INTO shop_member SELECT 's' || i, '+8613800' || 100000 + i, '会员 ' || i, '2026-01-01Z' FROM generate_series(1, 10) i;
		INSERT INTO shop_order SELECT i, 's' || i % 10 + 1, '2026-02-01Z'::timestamptz + i * interval '1 hour', 'completed', i FROM generate_series(1, 30) i;
	}, extra_params => \@options);
	return 0 unless cdp_has($node, $db, 'attach_source');
	$node->safe_psql($db, q{
		SELECT cdp.attach_source('shop_member', 'customer', '{"identifiers": {"member_id": "id", "phone": "mobile"}, "traits": {"name": "full_name"}, "occurred_at": "created_at"}');
		SELECT cdp.attach_source('shop_order', 'order', '{"order_id": "id", "identifiers": {"member_id": "member_id"}, "ordered_at": "paid_at", "status": "state", "amount": "total", "currency": "''CNY''"}');
	}, extra_params => \@options);
	return 1;
}

# "table rows checksum" of every table of schema cdp, partitions one by one, and the last value of every sequence.
# Rows are compared by column name, in the order of the primary key.  $but: names that are not compared.
sub cdp_sums
{
	my ($node, $db, @but) = @_;
	my $but = join ',', '', @but;
	my $sql = $node->safe_psql($db, qq{
		SELECT format('SELECT %L, count(*), md5(coalesce(string_agg(md5(to_jsonb(t)::text), '''' ORDER BY %s), '''')) FROM ONLY cdp.%I t;',
			c.relname, coalesce((SELECT string_agg(format('t.%I::text COLLATE "C"', a.attname), ', ' ORDER BY k.n)
				FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, n)
				JOIN pg_attribute a ON a.attnum = k.attnum AND a.attrelid = c.oid
				WHERE i.indrelid = c.oid AND i.indisprimary), 't::text'), c.relname)
		FROM pg_class c WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind = 'r'
		  AND c.relname <> ALL (string_to_array('$but', ','))
		UNION ALL
		SELECT format('SELECT %L, last_value, is_called FROM cdp.%I;', c.relname, c.relname)
		FROM pg_class c WHERE c.relnamespace = 'cdp'::regnamespace AND c.relkind = 'S'
		  AND c.relname <> ALL (string_to_array('$but', ','))
		ORDER BY 1});
	return $node->safe_psql($db, "SET timezone = 'UTC'; SET extra_float_digits = 1;\n$sql");
}

# the sums are equal and not empty; a difference is shown table by table
sub cdp_same
{
	my ($got, $wanted, $title) = @_;
	my %g = map { (split /\|/, $_, 2) } split /\n/, $got;
	my %w = map { (split /\|/, $_, 2) } split /\n/, $wanted;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @diff = map { "$_: got " . ($g{$_} // 'nothing') . ', wanted ' . ($w{$_} // 'nothing') }
	  grep { ($g{$_} // '') ne ($w{$_} // '') } sort keys %{ { %g, %w } };
	ok(keys(%w) > 10 && ($w{profile} // '0|') !~ /^0\|/ && !@diff, $title) or diag(join "\n", @diff, scalar(keys %w) . ' tables and sequences');
}

# a statement that must work; answers what it prints
sub cdp_works
{
	my ($node, $db, $sql, $title, @options) = @_;
	my ($rc, $out, $err) = $node->psql($db, $sql, extra_params => \@options, on_error_stop => 1);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($rc == 0, $title) or diag("$sql\n$err");
	return $out;
}

# a statement that must fail with this SQLSTATE; answers the whole message
sub cdp_fails
{
	my ($node, $db, $sql, $state, $title, @options) = @_;
	my ($rc, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\n$sql", extra_params => \@options, on_error_stop => 1);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($rc != 0 && $err =~ /ERROR:\s+$state:/, $title) or diag("$sql\nwanted $state, got rc $rc: $out $err");
	return $err;
}

1;
