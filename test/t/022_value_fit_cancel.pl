# A fit that is told to stop stops within 100 ms, wherever it is: counting, sorting, ranking, searching.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = cdp_server('fit');
cdp_install($node, 'crm');
# no row twice, and so many times that nothing is tabulated
$node->safe_psql('crm', q{SELECT setseed(0.5); CREATE TABLE big AS
	SELECT x, CASE WHEN x > 0 THEN t_cal * sqrt(random()) ELSE 0 END AS t_x, t_cal, x * ln(t_cal / (x + 1)) AS log_gaps, 10 + random() * 90 AS amount
	FROM (SELECT floor(-ln(1 - random()) * 3) AS x, 50 + 50 * random() AS t_cal FROM generate_series(1, 300000)) s});
for my $fit ('fit_bgnbd(x, t_x, t_cal)', 'fit_paretonbd(x, t_x, t_cal)', 'fit_mbgcnbd(x, t_x, t_cal, log_gaps)')
{
	my @after = map { $_ * 97 } 1 .. 10;
	my ($ret, $out, $err) = $node->psql('crm', "\\timing on\n" . join('', map { "SET statement_timeout = $_; SELECT cdp.$fit IS NULL FROM big;\n" } @after), on_error_stop => 0);
	# the answers of SET take no time
	my @took = grep { $_ > 20 } $out =~ /Time: ([\d.]+) ms/g;
	my $stopped = () = $err =~ /statement timeout/g;
	cmp_ok($stopped, '>', 5, "$fit was stopped $stopped times");
	# one late answer may be the machine's
	my @late = grep { $took[$_] > $after[$_] + 100 } 0 .. $stopped - 1;
	cmp_ok(scalar @late, '<=', 1, "$fit stops within 100 ms") or diag(join(' ', map { "$after[$_]:$took[$_]" } @late));
	unlike($err, qr/ERROR:  (?!canceling)/, "$fit: no other error");
}
is($node->safe_psql('crm', 'SELECT (cdp.fit_nbd(x, t_cal)).reason FROM big'), 'ok', 'and the next fit runs to its end');
$node->stop;
done_testing();
