# SPDX-License-Identifier: AGPL-3.0-or-later
# The same contracts on the real library, staged by `make stage` (SMBGW_STAGE names the stage): the generated schema is the library's, its
# complaints arrive by property, and nothing of this machine outside a temporary directory is touched. What needs a real Samba is
# in tests/lab.

use strict;
use warnings;
use utf8;

use JSON::PP ();
use Test::More;
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;

my ($inc, $libdir) = Harness::staged();
if (!$inc) {
    BAIL_OUT('no staged library: SMBGW_STAGE must name the result of `make stage`') if $ENV{CI};
    plan(skip_all => 'NOT RUN: no staged library (SMBGW_STAGE must name the result of `make stage`)');
}

binmode($_, ':utf8') for Test::More->builder->output, Test::More->builder->failure_output;

sub world {
    my ($api) = @_;
    my $world = Harness::world(api => $api, inc => $inc, env => { LD_LIBRARY_PATH => $libdir });
    my $dir = $world->dir();
    mkdir("$dir/samba");
    $world->write('options.json', JSON::PP->new->utf8->encode({
        'state-dir' => "$dir/state", 'run-dir' => "$dir/run", 'record-dir' => "$dir/state/gateways", node => 'pve1',
        'smb-conf' => "$dir/samba/smb.conf", 'own-conf' => "$dir/samba/smbgw.conf",
    }));
    return $world;
}

# --- drift: Schema.pm is what the generator makes of the library's table
my $world = world((Harness::api_versions())[0]);
my $got = $world->command([$^X, map({ "-I$_" } $world->inc()), "$Harness::TOP/PVE/gen-schema", '--library']);
is($got->{status}, 0, 'the generator runs') or diag($got->{err});
my $have = do { open(my $fh, '<:raw', "$Harness::TOP/PVE/SMBGateway/Schema.pm") or die; local $/; <$fh> };
ok($got->{out} eq $have, 'PVE/SMBGateway/Schema.pm is up to date') or diag('run: PVE/gen-schema --library > PVE/SMBGateway/Schema.pm');

# --- the numbers of the kinds
$got = $world->case('require PVE::SMBGateway::Native; my %k; for my $try (sub { PVE::SMBGateway::Native::query("status", { id => "nosuch1" }) }, sub { PVE::SMBGateway::Native::query("nonsense", {}) }) { eval { $try->() }; my $e = $@; $k{ $e->kind() } = [$e->code(), PVE::SMBGateway::Error->new($e->kind(), "x")->code()] } return \%k;');
is($got->{error}, undef, 'errors are objects') or diag(explain($got));
is($_->[0], $_->[1], 'a number is the same on both sides') for values %{ $got->{value} // {} };
is_deeply($got->{value}->{'not-found'}, [2, 2], 'not found is 2');

for my $api (Harness::api_versions()) {
    note("API $api->[0]");
    my $world = world($api);
    my $tree = $world->dir() . '/tree';
    my $before = $world->storage_cfg();

    # --- complaints by property, all at once
    my $got = $world->case(q[load_stack(); api()->create({ type => 'smbgateway', storage => 'office', path => '/etc', share => 'a/b', 'smbgw-mode' => 'native', 'smbgw-access' => 'nonsense', content => 'images' });]);
    for my $property (qw(path share smbgw-access content)) {
        like($got->{error}, qr/^\Q$property\E: \S/m, "$property is complained of");
    }
    is($world->storage_cfg(), $before, 'nothing is written');
    $got = $world->case(qq[load_stack(); api()->create({ type => 'smbgateway', storage => 'office', path => '/srv/smbgw-office', 'smbgw-mode' => 'vm' });]);
    like($got->{error}, qr/^smbgw-mode: .*use lxc or native/m, 'mode vm is refused by this build');
    $got = $world->case(q[load_stack(); api()->create({ type => 'smbgateway', storage => 'office', path => '/srv/smbgw-office', 'smbgw-memory' => 64, 'smbgw-net' => 'ip=none,ip6=none', 'smbgw-vmid' => 7 });]);
    like($got->{error}, qr/^\Q$_\E: \S/m, "$_ is complained of") for qw(smbgw-memory smbgw-net smbgw-vmid);
    $got = $world->case(q[load_stack(); api()->create({ type => 'smbgateway', storage => 'office', path => '/srv/smbgw-office', 'smbgw-mode' => 'native', 'smbgw-memory' => 512 });]);
    like($got->{error}, qr/^smbgw-memory: .*mode lxc/m, 'a native share has no container');
  SKIP: {
        skip 'pct is here', 3 if -e '/usr/sbin/pct' || -e '/usr/bin/pct';
        for my $mode ('', ", 'smbgw-mode' => 'lxc'") {
            $got = $world->case(qq[load_stack(); api()->create({ type => 'smbgateway', storage => 'office', path => '/srv/smbgw-office'$mode });]);
            like($got->{error}, qr/pct is not installed.*--smbgw-mode native/s, 'without pct a container is refused, with the way out');
        }
        is($world->storage_cfg(), $before, 'nothing is written');
    }
    $got = $world->case(q[load_stack(); PVE::Storage::Custom::SMBGatewayPlugin->on_add_hook('office', { type => 'smbgateway', path => '/etc', 'smbgw-mode' => 'native' });]);
    ok($got->{problems} && $got->{problems}->{path}, 'as an exception of the API') or diag(explain($got));

    # --- a section by hand that never became a share: inactive with a message, and it can be removed
    $world->write('pve/storage.cfg', "smbgateway: hand\n\tpath $tree\n\tcontent none\n\tsmbgw-mode native\n\n");
    $got = $world->case('load_stack(); return PVE::Storage::storage_info(PVE::Storage::config())->{hand};');
    is($got->{value}->{active}, 0, 'a share that was never made is inactive') or diag(explain($got));
    like(join('', @{ $got->{warnings} }), qr/storage 'hand': no status yet/, 'with a message');
    $got = $world->case(q[load_stack(); api()->delete({ storage => 'hand' });]);
    is($got->{error}, undef, 'its section can be removed');
    unlike($world->storage_cfg(), qr/hand/, 'and is gone');

    # --- of another node: recorded, no activation, and removed again
    $got = $world->case(qq[load_stack(); api()->create({ type => 'smbgateway', storage => 'far', path => '/srv/smbgw-far', nodes => 'pve2', 'smbgw-mode' => 'native' });]);
    is($got->{error}, undef, "a share of another node is recorded");
    like($world->storage_cfg(), qr/^smbgateway: far\n(?:\t.*\n)*\tnodes pve2\n/m, 'its section says where it is');
    like($world->storage_cfg(), qr/^\tsmbgw-gateway native$/m, 'and what was decided');
    $got = $world->case(qq[load_stack(); api()->create({ type => 'smbgateway', storage => 'far2', path => '/srv/smbgw-far2', nodes => 'pve2', 'smbgw-mode' => 'native', username => 'anna', password => 'geheim' });]);
    like($got->{error}, qr/add the storage on node pve2 itself/, 'a password that would have to travel is refused');
    unlike($got->{error}, qr/geheim/, 'and not repeated');
    $got = $world->case(qq[load_stack(); api()->create({ type => 'smbgateway', storage => 'far3', path => '/srv/smbgw-far3', nodes => 'pve2', 'smbgw-memory' => 300 });]);
    is($got->{error}, undef, 'a container of another node is recorded');
    like($world->storage_cfg(), qr/^smbgateway: far3\n(?:\t.*\n)*\tsmbgw-gateway far3\n\tsmbgw-memory 300\n\tsmbgw-mode lxc\n/m, 'with what was decided');
    $got = $world->case(q[load_stack(); api()->delete({ storage => 'far3' });]);
    is($got->{error}, undef, 'and removed again');
}

# --- the command
my $own = world([15, 6]);
my @tool = ($^X, map({ "-I$_" } @$inc, $Harness::TOP), "$Harness::TOP/PVE/bin/pve-smbgateway");
for my $case ([['list'], 0], [['schema'], 0], [['version'], 0], [['users'], 64], [['show'], 0], [['render'], 0], [['names', 'shares'], 0], [['names', 'users'], 0], [['check', 'new1', '--path', '/srv', '--smbgw-mode', 'vm'], 1], [['apply', '--file', '/dev/null'], 1], [['user', 'list'], 0], [['group', 'list'], 0], [['gateway', 'list'], 0], [['template', 'list'], 0], [['gateway', 'start', 'nosuch1'], 2], [['gateway', 'adopt', 'nosuch1', '100'], 2], [['shift', 'nowhere'], 1], [['audit'], 0], [['status'], 0], [['status', 'nosuch1'], 2], [['resume', 'nosuch1'], 2]) {
    for my $format (qw(text json)) {
        my $got = $own->command([@tool, @{ $case->[0] }, '--output-format', $format, '--config', $own->dir() . '/own.cfg']);
        is($got->{status} >> 8, $case->[1], "@{ $case->[0] } ($format)") or diag($got->{err});
        ok(eval { JSON::PP->new->utf8->decode($got->{out}) }, 'is JSON') if $format eq 'json';
    }
}

done_testing();
