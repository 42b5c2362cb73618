# SPDX-License-Identifier: AGPL-3.0-or-later
# /nodes/{node}/smbgateway: what is registered, what is asked of whoever calls, what reaches the library and what its answers become.

use strict;
use warnings;

use JSON::PP ();
use Test::More;
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;

my $AT = '/nodes/pve1/smbgateway';
my $world = Harness::world(api => [15, 6], inc => ["$Harness::HERE/fake"]);
my $dir = $world->dir();
$world->{env} = { FAKE_SMBGW_LOG => "$dir/log" };

# A request; options: as => user, acl => "USER PATH PRIVILEGES;…", stdin, follow.
sub api {
    my ($verb, $path, $param, %o) = @_;
    unlink("$dir/log");
    my @words = ($verb, "$AT$path", map { ("--$_", $param->{$_}) } sort keys %{ $param // {} });
    my $r = $world->command(
        [$^X, "$Harness::HERE/pvesh", @words, ($o{as} ? ('--as', $o{as}) : ()), ($o{follow} ? '--follow' : ())],
        stdin => $o{stdin} // '', env => { PVE_STANDIN_ACL => $o{acl} // '', %{ $o{env} // {} } },
    );
    return { %$r, doc => scalar(eval { JSON::PP->new->utf8->allow_nonref->decode($r->{out}) }), log => $world->calls() };
}

# --- what is registered

my $case = $world->case(<<'CODE');
load_stack(); require PVE::API2::Nodes; require PVE::SMBGateway::Schema;
my %methods = map { ($_->{name} => { path => $_->{path}, method => $_->{method}, protected => $_->{protected}, proxyto => $_->{proxyto}, closed => $_->{parameters}->{additionalProperties},
    described => (grep { !length($_->{description} // '') } values %{ $_->{parameters}->{properties} }) ? 0 : 1, permissions => $_->{permissions} ? 1 : 0, returns => $_->{returns}->{type} }) } @{ PVE::API2::SMBGateway->method_attributes() };
return { methods => \%methods, operations => [map { $_->{name} =~ tr/.-/__/r } grep { $_->{api} } @PVE::SMBGateway::Schema::OPERATIONS] };
CODE
my %method = %{ $case->{value}->{methods} // {} };
ok(%method, 'the API is registered with the plugin') or BAIL_OUT($case->{error} // 'no answer');
is_deeply([grep { !$method{$_} } @{ $case->{value}->{operations} }], [], 'every operation with a route is a method');
is_deeply([grep { !$method{$_}->{protected} || ($method{$_}->{proxyto} // '') ne 'node' } sort keys %method], [], 'all run as root, on the node that is named');
is_deeply([grep { $method{$_}->{closed} // 1 } sort keys %method], [], 'all know their parameters');
is_deeply([grep { !$method{$_}->{described} || !$method{$_}->{permissions} || !$method{$_}->{returns} } sort keys %method], [], '... describe them, and say who may and what comes');

my $none = Harness::world(api => [15, 6])->case('load_stack(); require PVE::API2::Nodes; my ($c) = PVE::API2::Nodes->find_handler("GET", "/pve1/smbgateway/shares", {}); return $c');
is($none->{value}, 'PVE::API2::SMBGateway', 'without the library it is there as well');

# --- who may

my %two = (FAKE_SMBGW_LIST => '{"shares":[{"id":"one"},{"id":"two"}]}');
# what the schema asks for is not in these
like(api('get', '/shares', {}, env => \%two)->{err}, qr/result\[0\]\.access is missing/, 'answers are held against their schema');
my $r;

for my $case (
    ['get', '/gateways', {}, 'joe@pve /storage Datastore.Audit'],
    ['get', '/quota', {}, 'joe@pve /storage Datastore.Audit'],
    ['get', '/audit', {}, 'joe@pve /nodes/pve1 Sys.Audit'],
    ['get', '/metrics', {}, 'joe@pve /storage Datastore.Audit'],
    ['get', '/shares/one/metrics', {}, 'joe@pve /storage Datastore.Audit'],
    ['get', '/openmetrics', {}, 'joe@pve /nodes/pve1 Sys.Audit'],
    ['get', '/report', {}, 'joe@pve /nodes/pve1 Sys.Audit'],
    ['get', '/metrics/retention', {}, 'joe@pve /nodes/pve1 Sys.Audit'],
    ['set', '/metrics/retention', { raw => '1d' }, 'joe@pve /nodes/pve1 Sys.Modify'],
    ['delete', '/metrics/retention', {}, 'joe@pve /nodes/pve1 Sys.Modify'],
    ['get', '/alerts', {}, 'joe@pve /nodes/pve1 Sys.Audit'],
    ['create', '/alerts/silences', { until => '2h' }, 'joe@pve /nodes/pve1 Sys.Modify'],
    ['create', '/gateways/files/users', { name => 'ben', password => 'x' }, 'joe@pve /storage Datastore.Allocate'],
    ['delete', '/shares/one', {}, 'joe@pve /storage Datastore.Allocate'],
    ['create', '/templates', {}, 'joe@pve /nodes/pve1 Sys.Modify'],
    ['create', '/reconcile', {}, 'joe@pve /nodes/pve1 Sys.Modify'],
    ['create', '/operations/01-02/resume', {}, 'joe@pve /storage Datastore.Allocate'],
) {
    my ($verb, $path, $param, $acl) = @$case;
    my $name = "$verb $path";
    like(api($verb, $path, $param, as => 'joe@pve')->{err}, qr/^403 Permission check failed/, "$name: refused");
    my ($wrong) = $acl =~ m/(\w+)\.\w+\z/;
    my $other = $acl =~ s/\Q$wrong\E\.\w+\z/VM.Audit/r;
    like(api($verb, $path, $param, as => 'joe@pve', acl => $other)->{err}, qr/^403 /, '... with another privilege too');
    unlike(api($verb, $path, $param, as => 'joe@pve', acl => $acl)->{err}, qr/^403 /, "... not with that of the table");
}
like(api('get', '/gateways', {}, as => 'joe@pve', acl => 'joe@pve /storage/one Datastore.Audit')->{err}, qr/^403 /, 'one storage is not all');
unlike(api('get', '/shares/one', {}, as => 'joe@pve', acl => 'joe@pve /storage/one Datastore.Audit')->{err}, qr/^403 /, 'but itself');
like(api('get', '/shares/two', {}, as => 'joe@pve', acl => 'joe@pve /storage/one Datastore.Audit')->{err}, qr/^403 /, '... and no other');
unlike(api('get', '/gateways', {}, as => 'joe@pve', acl => 'joe@pve /storage Datastore.Allocate')->{err}, qr/^403 /, 'who may change may look');
like(api('create', '/reconcile', {}, as => 'joe@pve', acl => 'joe@pve /storage Datastore.Allocate;joe@pve /nodes/pve1 Sys.Audit')->{err}, qr!^403 .*/nodes/pve1!, 'who may change shares may not set the node to work on all of them');

my %lxc = (id => 'one', path => '/srv/one', 'smbgw-net' => 'bridge=vmbr7,tag=5,ip=dhcp', 'smbgw-rootfs' => 'fast:4');
my $acl = 'joe@pve /storage Datastore.Allocate';
for my $more ('joe@pve /vms VM.Allocate', 'joe@pve /storage/fast Datastore.AllocateSpace', 'joe@pve /sdn/zones/localnetwork/vmbr7/5 SDN.Use') {
    like(api('create', '/shares', \%lxc, as => 'joe@pve', acl => $acl)->{err}, qr/^403 /, 'a container needs more: ' . (split(' ', $more))[2]);
    $acl .= ";$more";
}
like(api('create', '/shares', \%lxc, as => 'joe@pve', acl => $acl)->{out}, qr/\A"UPID:pve1:/, '... and with all of that it is a task');
$world->write('pve/storage.cfg', '');
like(api('create', '/gateways/files/stop', {}, as => 'joe@pve', acl => 'joe@pve /storage Datastore.Allocate')->{err}, qr!^403 .*/vms!, 'whoever stops a container needs VM.PowerMgmt');

# --- Prometheus gets text, not JSON

$r = api('get', '/openmetrics', {}, as => 'joe@pve', acl => 'joe@pve /nodes/pve1 Sys.Audit', env => {
    FAKE_SMBGW_OPENMETRICS => JSON::PP->new->utf8->encode({ 'content-type' => 'text/plain', text => "smbgw_share_ready{share=\"b\x{fc}ro\"} 1\n# EOF\n" }),
});
is($r->{out}, "smbgw_share_ready{share=\"b\xc3\xbcro\"} 1\n# EOF\n", 'figures are handed out as a file, in UTF-8') or diag($r->{err});

# --- what reaches the library, and what comes of it

$r = api('create', '/gateways/files/users', { name => 'ben', password => '-' }, stdin => "geh\xc3\xb6rt niemand\n", follow => 1);
like($r->{out}, qr/^TASK OK$/m, 'a task') or diag($r->{out} . $r->{err});
my ($begin) = grep { $_->[0] eq 'begin' } @{ $r->{log} };
is_deeply($begin->[2], { actor => 'root@pam', gateway => 'files', name => 'ben' }, 'the operation has its parameters, and who asked');
my ($secret) = grep { $_->[0] eq 'secret' } @{ $r->{log} };
is(pack('H*', $secret->[2] // ''), "geh\xc3\xb6rt niemand", 'the password comes as a secret, in UTF-8');
is(JSON::PP->new->encode($begin) =~ m/niemand/ ? 1 : 0, 0, '... and as nothing else');

$r = api('create', '/reconcile', { ids => 'one, two' }, follow => 1);
($begin) = grep { $_->[0] eq 'begin' } @{ $r->{log} };
is_deeply([$begin->[1], $begin->[2]->{ids}], ['reconcile', ['one', 'two']], 'a reconcile is of the shares that are named');

# a stop that comes when the hook has recorded a share: the task ends, and begins nothing more
$r = api('create', '/shares', { id => 'three', path => '/srv/three' }, follow => 1, env => { FAKE_SMBGW => 'long=share.create;term=share.create' });
like($r->{out}, qr/^TASK ERROR: received interrupt$/m, 'a task that is stopped when the work is recorded') or diag($r->{out} . $r->{err});
is_deeply([map { $_->[1] } grep { $_->[0] eq 'begin' } @{ $r->{log} }], ['share.create'], '... goes no further');
like($world->storage_cfg(), qr/^smbgateway: three$/m, '... and what is recorded is the worker\'s');
unlink("$dir/log.states");
$world->write('pve/storage.cfg', '');

for my $case ([0 => 'false'], [no => 'false'], [1 => 'true'], [yes => 'true']) {
    $r = api('create', '/gateways/files/ad/fallback', { on => $case->[0] }, follow => 1);
    ($begin) = grep { $_->[0] eq 'begin' } @{ $r->{log} };
    is(ref($begin->[2]->{on}) ? $begin->[2]->{on} ? 'true' : 'false' : 'no boolean', $case->[1], "a boolean is one: $case->[0]");
}
$r = api('create', '/gateways/files/ad/leave', { username => 'joiner', by => 'ticket', ticket => 'AAEC' }, follow => 1);
($secret) = grep { $_->[0] eq 'secret' } @{ $r->{log} };
is_deeply([@$secret[1, 2]], ['ticket', '000102'], 'a ticket comes in base64');

$r = api('create', '/gateways/files/users', { name => 'ben', password => 'x', color => 'red' });
like($r->{err}, qr/^400 .*\ncolor: /s, 'an unknown parameter');
like(api('create', '/gateways/files/users', { password => 'x' })->{err}, qr/^name: .*missing/m, 'a missing one');
is_deeply($r->{log}, [], '... do not reach the library');

$r = api('create', '/gateways/files/users', { name => 'ben', password => 'x' }, follow => 1, env => { FAKE_SMBGW => 'fail=user.create' });
like($r->{out}, qr/^what helps: start it\nTASK ERROR: smbd does not answer/m, 'a failure is the last line of the log, and before it what helps') or diag($r->{out});
isnt($r->{status}, 0, '... of a task that failed');
$r = api('create', '/gateways/files/users', { name => 'ben', password => 'x' }, follow => 1, env => { FAKE_SMBGW => 'invalid=user.create' });
like($r->{out}, qr/^\w[\w-]*: .+\n(?:.*\n)*TASK ERROR: /m, 'bad values are named in the log') or diag($r->{out});
like(api('get', '/shares/nothing')->{err}, qr/^404 no share 'nothing'/, 'what is not there is 404');

done_testing();
