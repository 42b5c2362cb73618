# SPDX-License-Identifier: AGPL-3.0-or-later
# The plugin loads and registers on each release, and what makes other plugins fail (or the whole stack) is what it should be.

use strict;
use warnings;

use Test::More;
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;

for my $api (Harness::api_versions()) {
    my $world = Harness::world(api => $api);
    my $got = $world->case(<<'CODE');
    load_stack();
    my $p = PVE::Storage::Plugin->lookup('smbgateway');
    my $private = PVE::Storage::Plugin->private();
    return {
        class => $p, api => $p->api(), apiver => PVE::Storage::APIVER(), xs => $INC{'SMBGW.pm'} ? 1 : 0,
        options => $private->{options}->{smbgateway}, declared => [sort keys %{ $p->properties() }],
        integers => [sort grep { $private->{propertyList}->{$_}->{type} eq 'integer' } grep { m/\Asmbgw-/ } keys %{ $private->{propertyList} }],
        memory => $private->{propertyList}->{'smbgw-memory'}, modes => $private->{propertyList}->{'smbgw-mode'},
        sensitive => PVE::Storage::Plugin::sensitive_properties('smbgateway'),
        content => $p->plugindata()->{content},
    };
CODE
    is($got->{error}, undef, "API $api->[0]: the stack loads") or next;
    my $v = $got->{value};
    is($v->{class}, 'PVE::Storage::Custom::SMBGatewayPlugin', 'the type is registered');
    is($v->{api}, $v->{apiver}, 'api() is the running version');
    is_deeply([grep { m/older storage API|Error loading/ } @{ $got->{warnings} }], [], 'nothing is said about it at start');
    is($v->{xs}, 0, 'the library is not loaded');
    is_deeply([grep { !m/\Asmbgw-/ } @{ $v->{declared} }], [], 'only prefixed names are declared');
    ok($v->{options}->{path}->{fixed} && !$v->{options}->{path}->{optional}, 'path is required and fixed');
    ok($v->{options}->{'smbgw-mode'}->{fixed} && $v->{options}->{'smbgw-gateway'}->{fixed}, 'mode and gateway are fixed');
    is_deeply($v->{integers}, [map { "smbgw-$_" } qw(cores memory processes swap vmid)], 'numbers are integers');
    is($v->{memory}->{default}, 256, 'with a number as default');
    ok(!exists($v->{memory}->{maxLength}), 'and no length');
    is($v->{modes}->{default}, 'lxc', 'the default mode is lxc');
    ok(!(grep { $v->{options}->{$_}->{fixed} || !$v->{options}->{$_}->{optional} } @{ $v->{integers} }), 'properties of the container are optional and can be changed');
    ok((grep { $_ eq 'password' } @{ $v->{sensitive} }), 'password is sensitive');
    is_deeply($v->{content}, [{ none => 1, iso => 1, backup => 1 }, { none => 1 }], 'content: none, iso and backup; default none');
}

SKIP: {
    skip 'on real modules the rules need no proof', 8 if Harness::real();

    # the stand-ins enforce the rules of the loader, or the tests above prove nothing
    my $custom = sub {
        my ($text, %o) = @_;
        my $world = Harness::world(api => [15, 6]);
        my $dir = $world->dir() . '/custom/PVE/Storage/Custom';
        require File::Path;
        File::Path::make_path($dir);
        $world->write('custom/PVE/Storage/Custom/OtherPlugin.pm', "package PVE::Storage::Custom::OtherPlugin; use base 'PVE::Storage::Plugin'; sub type {'other'} sub api {15} $text 1;");
        $world->{inc} = [$world->dir() . '/custom'];
        return $world->case('load_stack(); return PVE::Storage::Plugin->lookup_types();');
    };
    my $got = $custom->('');
    is_deeply($got->{value}, [qw(cifs dir nfs other rbd smbgateway)], 'two third-party types live side by side');
    $got = $custom->('sub properties { { path => { type => "string" } } }');
    like($got->{error}, qr/duplicate property 'path'/, 'a property declared twice stops the stack');
    $got = $custom->('sub properties { { "smbgw-mode" => { type => "string" } } }');
    like($got->{error}, qr/duplicate property 'smbgw-mode'/, 'ours as well');
    $got = $custom->('sub options { { nonsense => { optional => 1 } } }');
    like($got->{error}, qr/undefined property 'nonsense'/, 'an option without a declaration stops the stack');
    $got = $custom->('sub plugindata { die "no data\n" }');
    is_deeply($got->{value}, [qw(cifs dir nfs rbd smbgateway)], 'a die in plugindata() costs that type only');
    $got = $custom->('no warnings "redefine"; sub api {16}');
    like(join('', @{ $got->{warnings} }), qr/newer than current \(16 > 15\)/, 'too new an API is refused');
    $got = $custom->('no warnings "redefine"; sub api {8}');
    like(join('', @{ $got->{warnings} }), qr/too old/, 'too old an API is refused');
    $got = $custom->('no warnings "redefine"; sub api {12}');
    like(join('', @{ $got->{warnings} }), qr/older storage API/, 'an older API within the range gets a remark');
}

# taint mode is what pvedaemon and pveproxy run in
my $world = Harness::world(api => (Harness::api_versions())[0]);
my $got = $world->perl('require PVE::Storage; require PVE::SMBGateway::Worker; require PVE::SMBGateway::Config; print PVE::Storage::Plugin->lookup("smbgateway")->type();', switches => ['-T']);
is($got->{out}, 'smbgateway', 'loads in taint mode') or diag($got->{err});

for my $file (qw(PVE/Storage/Custom/SMBGatewayPlugin.pm PVE/CLI/pve_smbgateway.pm PVE/SMBGateway/Native.pm PVE/SMBGateway/Config.pm PVE/SMBGateway/Worker.pm PVE/SMBGateway/Schema.pm PVE/SMBGateway/Error.pm)) {
    my @inc = $file =~ m/Storage/ ? $world->inc() : ($Harness::TOP);
    my $check = $world->command([$^X, '-T', '-c', '-w', map({ "-I$_" } @inc), ($file =~ m/Storage/ ? '-MPVE::Storage' : ()), "$Harness::TOP/$file"], env => { PERL5LIB => '' });
    is($check->{status}, 0, "perl -T -c $file") or diag($check->{err});
}

done_testing();
