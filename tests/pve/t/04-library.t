# SPDX-License-Identifier: AGPL-3.0-or-later
# A library that is missing, broken, of another ABI or lacks a symbol: the plugin loads, registers and says what is wrong.
# The shared objects are made here; with SMBGW_STAGE the same is done to the real XS module.

use strict;
use warnings;

use File::Path ();
use Test::More;
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;

my $cfg = "dir: local\n\tpath /nonexistent\n\tdisable\n\nsmbgateway: office\n\tpath /srv/office\n\tcontent none\n\tnodes pve1\n\tsmbgw-mode native\n\n";
my $code = 'load_stack(); my ($cfg, $w); PVE::Storage::lock_storage_config(sub { $cfg = PVE::Storage::config(); PVE::Storage::write_config($cfg) }); my $i = PVE::Storage::storage_info($cfg); my $alive = eval { api()->delete({ storage => "office" }); 1 } ? "removed" : "$@"; return { active => $i->{office}->{active}, remove => $alive, type => $cfg->{ids}->{office}->{type} };';

sub check {
    my ($name, $world, $reason) = @_;
    my $got = $world->case($code);
    is($got->{error}, undef, "$name: the stack works") or diag(explain($got)), return;
    is($got->{value}->{type}, 'smbgateway', 'the type is registered');
    is($got->{value}->{active}, 0, 'the storage is inactive');
    like(join('', @{ $got->{warnings} }), qr/storage 'office': the SMB gateway library cannot be used: .*$reason/, 'and says why');
    like($got->{value}->{remove}, qr/cannot be used: .*$reason/, 'so does a hook');
    like($world->storage_cfg(), qr/^smbgateway: office\n\tpath/m, 'the section is still there');
    return;
}

sub with_module {
    my ($api, $text) = @_;
    my $world = Harness::world(api => $api, cfg => $cfg);
    File::Path::make_path($world->dir() . '/xs/auto/SMBGW');
    $world->write('xs/SMBGW.pm', $text);
    $world->{inc} = [$world->dir() . '/xs'];
    return $world;
}

my $loader = 'package SMBGW; our $VERSION = "0.1.0"; require XSLoader; XSLoader::load("SMBGW", $VERSION); 1;';
my ($api) = Harness::api_versions();

check('absent', Harness::world(api => $api, cfg => $cfg), qr/SMBGW/);
check('no Perl', with_module($api, 'this is no perl {'), qr/not allowed in expression|syntax error/);
check('another ABI', with_module($api, 'package SMBGW; die "libsmbgw has ABI 9, this module needs ABI 1\n";'), qr/has ABI 9, this module needs ABI 1/);
check('half a module', with_module($api, 'package SMBGW; sub version {1} 1;'), qr/incomplete/);

my $world = with_module($api, $loader);
$world->write('xs/auto/SMBGW/SMBGW.so', "\x7fELF this is no library" x 10);
check('a truncated module', $world, qr/Can't load/);

SKIP: {
    skip 'no C compiler (cc)', 12 if system('cc --version >/dev/null 2>&1') != 0;
    my $build = sub {
        my ($world, @libs) = @_;
        my $c = $world->write('x.c', 'extern int smbgw_one(void); extern int smbgw_two(void); void boot_SMBGW(void *p, void *cv) { smbgw_one(); smbgw_two(); }');
        system('cc', '-shared', '-fPIC', '-o', $world->dir() . '/xs/auto/SMBGW/SMBGW.so', $c, '-L' . $world->dir(), '-lx', '-Wl,-rpath,' . $world->dir(), '-Wl,-z,now') == 0 or die 'cc';
    };
    my $lib = sub {
        my ($world, $text) = @_;
        my $c = $world->write('lib.c', $text);
        system('cc', '-shared', '-fPIC', '-o', $world->dir() . '/libx.so', $c, '-Wl,-soname,libx.so') == 0 or die 'cc';
    };
    $world = with_module($api, $loader);
    $lib->($world, 'int smbgw_one(void) { return 0; } int smbgw_two(void) { return 0; }');
    $build->($world);
    $lib->($world, 'int smbgw_one(void) { return 0; }');
    check('a library that lacks a symbol', $world, qr/undefined symbol: smbgw_two/);
    unlink($world->dir() . '/libx.so');
    check('a library that is gone', $world, qr/libx\.so/);
}

SKIP: {
    my ($inc, $libdir) = Harness::staged();
    skip 'no staged library (SMBGW_STAGE)', 12 if !$inc;
    for my $how ('gone', 'garbage', 'without its symbols') {
        my $world = Harness::world(api => $api, cfg => $cfg, inc => $inc);
        mkdir($world->dir() . '/lib');
        my $so = $world->dir() . '/lib/libsmbgw.so.0';
        if ($how eq 'garbage') { $world->write('lib/libsmbgw.so.0', 'garbage' x 1000) }
        elsif ($how eq 'gone') { symlink('/nonexistent', $so) }
        else {
            my $c = $world->write('empty.c', 'unsigned smbgw_abi_version(void) { return 1; }');
            system('cc', '-shared', '-fPIC', '-o', $so, $c, '-Wl,-soname,libsmbgw.so.0') == 0 or next;
        }
        next if $how eq 'gone' && system("ldconfig -p | grep -q libsmbgw") == 0;
        $world->{env}->{LD_LIBRARY_PATH} = $world->dir() . '/lib';
        check("the real module, its library $how", $world, $how eq 'without its symbols' ? qr/undefined symbol|version/ : qr/libsmbgw\.so/);
    }
}

done_testing();
