# statement_timeout and cancel in the middle of fits, tables and scoring: they end soon, write nothing, and the session goes on.
use strict;
use warnings FATAL => 'all';
use CustomerCdp;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = cdp_server('value_cancel');
cdp_install($node, 'postgres');
$node->safe_psql('postgres', q{
	CREATE TABLE public.o AS SELECT (hashint8(g) & 262143)::bigint AS customer_id, timestamptz '2024-01-01' + (hashint8(g * 7) & 1023) * interval '1 day' AS at,
		((hashint8(g * 13) & 65535) / 100.0)::numeric AS amount FROM generate_series(1, 500000) g;
	CREATE TABLE public.b AS SELECT x::float8, t_x, t_cal, mean_amount, log_gaps FROM cdp.btyd_table('2027-01-01', 'SELECT * FROM public.o');
	CREATE TABLE public.y AS SELECT g % 3 = 0 AS y, ARRAY[sin(g), cos(g * 2.0), sin(g * 3.0), cos(g * 5.0), sin(g * 7.0)] AS f FROM generate_series(1, 300000) g});
my %work = (
	rfm_table => q{SELECT count(*) FROM cdp.rfm_table('2027-01-01', 'SELECT * FROM public.o')},
	btyd_table => q{SELECT count(*) FROM cdp.btyd_table('2027-01-01', 'SELECT * FROM public.o')},
	fit_mbgnbd => q{SELECT cdp.fit_mbgnbd(x, t_x, t_cal) FROM public.b},
	fit_paretonbd => q{SELECT cdp.fit_paretonbd(x, t_x, t_cal) FROM public.b},
	fit_mbgcnbd => q{SELECT cdp.fit_mbgcnbd(x, t_x, t_cal, log_gaps) FROM public.b},
	fit_logistic => q{SELECT cdp.fit_logistic(y, f) FROM public.y},
	fit_value_models => q{CALL cdp.fit_value_models('2027-01-01', 'SELECT * FROM public.o')});
for my $what (sort keys %work) {
	my $late = 0;
	my $stopped = 0;
	# at several moments of the work
	for my $ms (30, 200) {
		my $began = time;
		my ($rc, $out, $err) = $node->psql('postgres', "SET statement_timeout = '$ms ms'; $work{$what}; RESET statement_timeout; SELECT 'on'");
		my $took = (time - $began) * 1000;
		$stopped++ if $err =~ /canceling statement due to statement timeout/;
		# a connection and a loaded machine have their share; what would be a defect is seconds
		$late++ if $took > $ms + 3000;
	}
	cmp_ok($stopped, '>', 0, "$what was stopped");
	is($late, 0, '… and soon');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM cdp.value_model'), '0', 'nothing was written');
is($node->safe_psql('postgres', q{SET statement_timeout = '100 ms'; DO $$ BEGIN PERFORM cdp.fit_paretonbd(x, t_x, t_cal) FROM public.b; EXCEPTION WHEN query_canceled THEN NULL; END $$;
	RESET statement_timeout; SELECT converged FROM (SELECT cdp.fit_nbd(x, t_cal) AS m FROM public.b) f, LATERAL (SELECT (f.m).converged) c}), 't', 'the session goes on');
$node->stop;
done_testing();
