# SPDX-License-Identifier: MIT OR Apache-2.0
# How the module is linked: bound when it is loaded, by SONAME, without a path of the build, and with no function that the library lacks.
use strict;
use warnings;

use Test::More;

use SMBGW;

sub output {
    open(my $out, '-|', @_) or return;
    my $text = do { local $/; <$out> };
    return close($out) ? $text : undef;
}

my ($module) = grep { m{/auto/SMBGW/SMBGW\.so$} } @DynaLoader::dl_shared_objects;
ok($module, 'the module was loaded from a file') or BAIL_OUT('no module');
open(my $maps, '<', '/proc/self/maps') or die "maps: $!";
my ($library) = map { m{\s(/\S*/libsmbgw\.so\S*)$} ? $1 : () } <$maps>;
ok($library, 'and the library too') or BAIL_OUT('no library');

my $dynamic = output('readelf', '-d', '-W', $module);
plan(skip_all => 'NO BINUTILS HERE: the linking is not looked at') if !defined $dynamic;
like($dynamic,   qr/NEEDED.*\[libsmbgw\.so\.0\]/, 'it needs libsmbgw.so.0');
like($dynamic,   qr/BIND_NOW|Flags:.*\bNOW\b/,    'it is bound when it is loaded');
unlike($dynamic, qr/R(?:UN)?PATH/,                'it has no run path');

my %exported = map  { $_ => 1 } output('nm', '-D', '--defined-only', $library) =~ /\b(smbgw_\w+)/g;
my @used     = output('nm', '-D', '--undefined-only', $module) =~ /\b(smbgw_\w+)/g;
cmp_ok(scalar(@used), '>', 10, 'it uses the library');
is_deeply([grep { !$exported{$_} } @used], [], 'and nothing that the library lacks');

done_testing();
