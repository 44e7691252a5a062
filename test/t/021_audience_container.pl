# The container engine against a plain array of flags, for each size: test/c/audience_container.c, without a server.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Utils;
use Test::More tests => 3;

my $seed = $ENV{CDP_SEED} // 20260101;
my $dir = PostgreSQL::Test::Utils::tempdir();
chomp(my $headers = `\${PG_CONFIG:-pg_config} --includedir-server`);
note "seed $seed (CDP_SEED chooses another)";
# once as it is built for users, once with the checks that the engine makes of itself
for my $how ([ '-O2', 3000 ], [ '-O1 -DUSE_ASSERT_CHECKING', 600 ])
{
	my ($flags, $rounds) = @$how;
	system("cc $flags -DFRONTEND -Isrc -I$headers test/c/audience_container.c src/audience_container.c -o $dir/containers") == 0
		or BAIL_OUT('the test program does not compile');
	my $said = `$dir/containers $seed $rounds`;
	is($said, "ok $rounds\n", "$rounds random containers, $flags");
}
# bytes are read where they lie: the same under tools that refuse an unaligned or overlong access
SKIP:
{
	skip 'the compiler has no sanitizers', 1
		if system("cc -O1 -fsanitize=address,undefined -fno-sanitize-recover -DFRONTEND -Isrc -I$headers test/c/audience_container.c src/audience_container.c -o $dir/sanitized 2>/dev/null") != 0;
	is(`ASAN_OPTIONS=detect_leaks=0 $dir/sanitized $seed 300`, "ok 300\n", 'with address and undefined behaviour sanitizers');
}
