# META.json against the PGXN Meta Spec 1.0.0 (required keys and their shapes) and against the control file.
# Says nothing when all is well.
use strict;
use warnings;
use JSON::PP;

sub slurp { open my $f, '<:raw', $_[0] or die "$_[0]: $!\n"; local $/; return <$f> }
my $meta = eval { JSON::PP->new->utf8->decode(slurp('META.json')) } or do { print "META.json: $@"; exit 1 };
my $semver = qr/^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z][0-9A-Za-z-]*)?$/;
my @wrong;

for (qw(name version abstract maintainer license provides meta-spec)) {
	push @wrong, "key \"$_\" is missing" unless defined $meta->{$_};
}
push @wrong, 'name: at least two characters, no slash or blank' unless ($meta->{name} // '') =~ m{^[^\s/\\]{2,}$};
push @wrong, 'version: not a semantic version' unless ($meta->{version} // '') =~ $semver;
push @wrong, 'meta-spec.version: 1.x.y is asked for' unless (($meta->{'meta-spec'} // {})->{version} // '') =~ /^1\.\d+\.\d+$/;
push @wrong, 'license: one of the names of the PGXN Meta Spec'
	unless grep { $_ eq ($meta->{license} // '') } qw(postgresql bsd mit apache_2_0 gpl_2 gpl_3 lgpl_2_1 lgpl_3_0 mozilla_1_1);
push @wrong, 'release_status: stable, testing or unstable'
	if exists $meta->{release_status} && $meta->{release_status} !~ /^(stable|testing|unstable)$/;
push @wrong, 'release_status: a version with a suffix is not stable'
	if ($meta->{version} // '') =~ /-/ && ($meta->{release_status} // 'stable') eq 'stable';

my $control = slurp('customer_cdp.control');
my ($version) = $control =~ /^default_version\s*=\s*'([^']*)'/m;
push @wrong, 'provides: nothing' unless ref $meta->{provides} eq 'HASH' && %{ $meta->{provides} };
for my $ext (sort keys %{ $meta->{provides} // {} }) {
	my $p = $meta->{provides}{$ext};
	for (qw(file version)) { push @wrong, "provides.$ext.$_ is missing" unless defined $p->{$_} }
	push @wrong, "provides.$ext.version: not a semantic version" unless ($p->{version} // '') =~ $semver;
	push @wrong, "provides.$ext.version is not the control file's $version" if ($p->{version} // '') ne $version;
	push @wrong, "provides.$ext.docfile does not exist" if defined $p->{docfile} && !-f $p->{docfile};
}
push @wrong, "version is not the control file's $version" if ($meta->{version} // '') ne $version;
print map { "META.json: $_\n" } @wrong;
exit !!@wrong;
