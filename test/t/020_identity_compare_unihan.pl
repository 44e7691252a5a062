# The committed tables of Han characters are what the generator makes of the Unihan database.
use strict;
use warnings;
use File::Temp 'tempdir';
use Test::More;

my $unihan = '/usr/share/unicode';
my $readings = "$unihan/Unihan_Readings.txt";
plan skip_all => 'the package unicode-data is not installed' unless -e $readings || -e "$readings.bz2";
plan skip_all => 'bzcat is missing' unless -e $readings || `which bzcat`;
my ($version) = (-e $readings ? `head -20 $readings` : `bzcat $readings.bz2 | head -20`) =~ /^# Unicode version: (\S+)/m;
plan skip_all => "unicode-data is $version, the tables are 15.0.0" unless $version eq '15.0.0';

my @tables = map { "identity_unihan_$_.c" } 'pinyin', 'rare', 'simplified';
plan tests => 1 + @tables;
my $dir = tempdir(CLEANUP => 1);
is(system("perl src/gen/unihan.pl $dir 2>/dev/null"), 0, 'the generator runs');
for my $table (@tables)
{
	is(system('cmp', "$dir/$table", "src/$table"), 0, "$table is what it makes");
}
