# The demo is what a newcomer sees first: its scripts run, everything is taken, and the last answer is the RFM table.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

$ENV{PGTZ} = 'Asia/Shanghai';
my $node = cdp_server('main');
my @groups = qw(重要价值客户 重要发展客户 重要保持客户 重要挽留客户 一般价值客户 一般发展客户 一般保持客户 一般挽留客户);

# psql runs a script of demo/; answers what it printed, after the title of its last part
sub play
{
	my ($db, $title, $file, $input, @variables) = @_;
	my ($out, $err) = ('', '');
	my $rc = run_log([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', (map { ('-v', $_) } @variables), '-d', $node->connstr($db), '-f', $file ],
		'<', \$input, '>', \$out, '2>', \$err);
	ok($rc, $title) or diag($err);
	unlike($out, qr/ [1-9]\d* queued/, "… and no row is left in the queue");
	return (split /^---.*$/m, $out)[-1];
}

$node->safe_psql('postgres', 'CREATE DATABASE shop');
my $last;
{
	local $ENV{PGCLIENTENCODING} = 'UTF8';
	play('shop', 'the shop', 'demo/shop.sql', '');
	$last = play('shop', 'the tour', 'demo/tour.sql', '');
}
is_deeply([ $last =~ /^([^|\n]+)\|/mg ], \@groups, 'it ends with the eight groups, best first');
is($node->safe_psql('shop', q{
	SELECT sum(monetary) = (SELECT sum(total - refunded) FROM shop.orders WHERE state <> 'closed') FROM cdp.rfm_table()}), 't',
	'the groups have the money of the shop');
is($node->safe_psql('shop', q{
	SELECT count(*) FROM (SELECT cdp.normalize_phone(mobile) FROM shop.members GROUP BY 1
		HAVING count(DISTINCT cdp.resolve('member_id', id::text)) > 1) x}), '0', 'accounts with one phone are one customer');

# a file of purchases
my $csv = "customer_id,ordered_at,quantity,amount\na,1997-01-01,1,10.00\na,1997-02-01,2,5.50\nb,1997-03-01,1,0.00\n";
$node->safe_psql('postgres', 'CREATE DATABASE purchases');
$last = play('purchases', 'a file', 'demo/purchases.sql', $csv, 'awk_customers=2', 'awk_purchases=3', 'awk_sum=15.50');
is_deeply([ $last =~ /^([^|\n]+)\|/mg ], \@groups, 'it ends with the eight groups, too');
$node->safe_psql('postgres', 'CREATE DATABASE wrong');
my ($out, $err) = ('', '');
ok(!run_log([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', 'awk_customers=2', '-v', 'awk_purchases=3', '-v', 'awk_sum=15.51',
	'-d', $node->connstr('wrong'), '-f', 'demo/purchases.sql' ], '<', \$csv, '>', \$out, '2>', \$err), 'it fails when the counts differ');
like($err, qr/does not hold what stands in the file/, '… and says so');
$node->stop;
done_testing();
