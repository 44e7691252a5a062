# A fit that is told to stop stops within 100 ms, wherever it is: counting, sorting, ranking, searching.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "jit = off\nshared_buffers = 256MB\nfsync = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION customer_cdp');
# no row twice, and so many times that nothing is tabulated
$node->safe_psql('postgres', q(SELECT setseed(0.5); CREATE TABLE big AS
	SELECT x, CASE WHEN x > 0 THEN t_cal * sqrt(random()) ELSE 0 END AS t_x, t_cal, x * ln(t_cal / (x + 1)) AS log_gaps, 10 + random() * 90 AS amount
	FROM (SELECT floor(-ln(1 - random()) * 3) AS x, 50 + 50 * random() AS t_cal FROM generate_series(1, 600000)) s));
my $late = 0;
for my $fit ('fit_bgnbd(x, t_x, t_cal)', 'fit_paretonbd(x, t_x, t_cal)', 'fit_mbgcnbd(x, t_x, t_cal, log_gaps)', 'fit_gammagamma(x, amount)')
{
	my @after = map { $_ * 83 } 1 .. 24;
	my $script = "\\timing on\n" . join('', map { "SET statement_timeout = $_; SELECT cdp.$fit IS NULL FROM big;\n" } @after);
	my ($ret, $out, $err) = $node->psql('postgres', $script, on_error_stop => 0);
	my @took = grep { $_ > 20 } $out =~ /Time: ([\d.]+) ms/g;
	my $stopped = () = $err =~ /statement timeout/g;
	cmp_ok($stopped, '>', 8, "$fit was stopped $stopped times");
	# one late answer may be the machine's
	my @late = grep { $took[$_] > $after[$_] + 100 } 0 .. $stopped - 1;
	cmp_ok(scalar @late, '<=', 1, "$fit stops within 100 ms") or diag(join(' ', map { "$after[$_]:$took[$_]" } @late));
	unlike($err, qr/ERROR:  (?!canceling)/, "$fit: no other error");
}
is($node->safe_psql('postgres', 'SELECT (cdp.fit_nbd(x, t_cal)).reason FROM big'), 'ok', 'and the next fit runs to its end');
$node->stop;
done_testing();
