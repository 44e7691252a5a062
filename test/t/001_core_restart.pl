# What was committed is there after a crash.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION customer_cdp; CALL cdp.migrate()');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q{SELECT value = cdp.version() FROM cdp.meta WHERE key = 'version'}), 't', 'the tables survive a crash');
$node->stop;
done_testing();
