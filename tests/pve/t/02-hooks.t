# SPDX-License-Identifier: AGPL-3.0-or-later
# What the hooks ask of the library, what they leave in storage.cfg, and what happens when something fails, on the way that
# Proxmox's own create, update and delete take. The library is the fake: here the interaction is the contract.

use strict;
use warnings;
use utf8;

use Test::More;
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;
use JSON::PP ();

binmode($_, ':utf8') for Test::More->builder->output, Test::More->builder->failure_output;

my $other = "dir: local\n\tpath /var/lib/vz\n\tcontent iso\n\tdisable\n\ncifs: nas\n\tpath /mnt/pve/nas\n\tserver 192.0.2.1\n\tshare pub\n\tcontent images\n\tusername x\n\n";

# (replaced by what Proxmox makes of it when it writes the file, with its defaults)
sub world {
    my ($api, %o) = @_;
    my $world = Harness::world(api => $api, inc => ["$Harness::HERE/fake"], cfg => $o{cfg} // $other);
    $world->{env} = { FAKE_SMBGW_LOG => $world->dir() . '/log', FAKE_SMBGW_USAGE => '100,60,40,1,500' };
    $world->write('worker', "#!$^X\nopen(my \$f, '>>', '" . $world->dir() . "/worked'); print {\$f} \"\@ARGV\\n\";");
    chmod(0755, $world->dir() . '/worker');
    my $normal = $world->case('load_stack(); PVE::Storage::lock_storage_config(sub { PVE::Storage::write_config(PVE::Storage::config()) }); return 1;');
    die $normal->{error} if !$normal->{value};
    $other = $world->storage_cfg();
    $world->{env}->{SMBGW_COMMAND} = $world->dir() . '/worker';
    return $world;
}

sub calls {
    my ($world, @names) = @_;
    my %want = map { $_ => 1 } @names;
    return [grep { !@names || $want{ $_->[0] } } map { JSON::PP->new->utf8->decode($_) } split(/\n/, $world->read('log') // '')];
}

# the worker is started without waiting, so its trace may come a moment later
sub worked {
    my ($world) = @_;
    for (1 .. 100) { my $text = $world->read('worked'); return $text if defined($text) && length($text); select(undef, undef, undef, 0.05) }
    return undef;
}

my $add = q[load_stack(); api()->create({ type => 'smbgateway', storage => 'office', path => '/srv/office/', share => "B\x{fc}ro \x{2603}", username => 'anna', password => "p\x{e4}ss\x{2603}", 'smbgw-mode' => 'native', 'smbgw-access' => 'rw:@staff' });];

for my $api (Harness::api_versions()) {
    note("API $api->[0]");
    my $version = Harness::world(api => $api)->case('load_stack(); return PVE::Storage::APIVER() + 0;')->{value};
    my $full = $version >= 13;
    note("storage API $version");

    # --- add
    my $world = world($api);
    my $got = $world->case($add);
    is($got->{error}, undef, 'add works');
    is_deeply([map { $_->[0] . ' ' . ($_->[1] // '') } @{ calls($world, qw(begin secret step query)) }], ['begin share.create', 'secret password', 'step share.create'], 'the share is created by one run');
    my ($begin) = @{ calls($world, 'begin') };
    is_deeply($begin->[2]->{section}, { type => 'smbgateway', path => '/srv/office', share => "Büro ☃", username => 'anna', 'smbgw-mode' => 'native', 'smbgw-access' => 'rw:@staff' }, 'the section is passed as strings, without the password');
    is_deeply([sort keys %{ $begin->[2]->{sections} }], [qw(local nas)], 'with all other sections, of every type');
    is($begin->[2]->{sections}->{nas}->{type}, 'cifs', 'each with its type');
    is($begin->[2]->{actor}, 'root@pam', 'and who asked');
    is($begin->[2]->{defer}, 1, 'what takes long is to be recorded only');
    my ($secret) = @{ calls($world, 'secret') };
    is($secret->[2], unpack('H*', "p\xc3\xa4ss\xe2\x98\x83"), 'the password is passed as UTF-8 octets');
    my $cfg = $world->storage_cfg();
    my ($section) = $cfg =~ m/^(smbgateway: office\n(?:\t.*\n)+)/m;
    is(join('', sort split(/(?<=\n)/, $section // '')), join('', sort split(/(?<=\n)/, "smbgateway: office\n\tpath /srv/office\n\tnodes pve1\n\tshare B\xc3\xbcro \xe2\x98\x83\n\tsmbgw-access rw:\@staff\n\tsmbgw-gateway native\n\tsmbgw-mode native\n\tusername anna\n" . ($section =~ m/(\tcontent none\n)/ ? $1 : ''))), 'storage.cfg has the section with what was decided, in UTF-8');
    unlike($cfg, qr/p\xc3\xa4ss|password/, 'and no password');
    is(worked($world), "reconcile --once office\n", 'the worker is started');

    # --- and what was written can be read, activated and updated
    $got = $world->case('load_stack(); my $i = PVE::Storage::storage_info(PVE::Storage::config()); return $i->{office};');
    is($got->{value}->{active}, 1, 'it is active') or diag(explain($got));
    is($got->{value}->{total}, 100, 'with the figures of the snapshot');
    unlink($world->dir() . '/log');
    $got = $world->case(q[load_stack(); api()->update({ storage => 'office', delete => 'smbgw-access,username', disable => 1, password => 'new' });]);
    is($got->{error}, undef, 'update works');
    ($begin) = @{ calls($world, 'begin') };
    is($begin->[1], 'share.update', 'by one run');
    is($begin->[2]->{section}->{disable}, '1', 'with the change');
    is($begin->[2]->{section}->{share}, 'Büro ☃', 'and what was there, as characters');
    is($begin->[2]->{section}->{'smbgw-access'}, undef, 'without what is deleted') if $full;
    is($begin->[2]->{section}->{'smbgw-access'}, 'rw:@staff', 'deletions are not visible to this hook') if !$full;
    is(scalar(@{ calls($world, 'secret') }), 1, 'and the password as a secret');
    unlike($world->storage_cfg(), qr/smbgw-access|username anna/, 'the deleted properties are gone');
    like($world->storage_cfg(), qr/\tshare B\xc3\xbcro \xe2\x98\x83\n/, 'the name is not encoded twice');
    like($world->storage_cfg(), qr/\A\Q$other\E/, 'the other section is untouched');

    $got = $world->case(q[load_stack(); api()->update({ storage => 'office', 'smbgw-mode' => 'lxc' });]);
    ok(defined($got->{error}), 'a fixed property cannot be changed');

    $world->{env}->{FAKE_SMBGW} = 'fail=share.update';
    my $before = $world->storage_cfg();
    $got = $world->case(q[load_stack(); api()->update({ storage => 'office', disable => 0 });]);
    like($got->{error}, qr/smbd does not answer/, 'a failing update fails');
    is($world->storage_cfg(), $before, 'and changes nothing');

    # --- remove
    $world->{env}->{FAKE_SMBGW} = 'fail=share.delete';
    $got = $world->case(q[load_stack(); api()->delete({ storage => 'office' });]);
    like($got->{error}, qr/smbd does not answer.*start it/s, 'a failing remove fails and says what to do');
    is($world->storage_cfg(), $before, 'the definition stays');
    $world->{env}->{FAKE_SMBGW} = '';
    $got = $world->case(q[load_stack(); api()->delete({ storage => 'office' });]);
    is($got->{error}, undef, 'remove works');
    is($world->storage_cfg(), $other, 'storage.cfg is as before');

    # --- what takes longer than a hook has: recorded, and left to the worker
    $world = world($api);
    $world->{env}->{FAKE_SMBGW} = 'long=share.create;long=share.update;long=share.delete';
    $world->{env}->{FAKE_SMBGW_USAGE} = '100,60,40,1,500';
    mkdir($world->dir() . '/tree/office');
    my $tree = $world->dir() . '/tree/office';
    my $long = $add =~ s!/srv/office/!$tree!r =~ s!'smbgw-mode' => 'native'!'smbgw-memory' => '512', 'smbgw-vmid' => 120, 'smbgw-mode' => 'lxc', content => 'backup', 'content-dirs' => 'backup=dump'!r;
    $got = $world->case($long);
    is($got->{error}, undef, 'an add that provisions works');
    is_deeply([map { "$_->[1] $_->[2]->{defer}" } @{ calls($world, 'begin') }], ['share.create 1'], 'in one deferred run: the activation does not take it back');
    is_deeply([@{ (calls($world, 'begin'))->[0]->[2]->{section} }{qw(smbgw-memory smbgw-vmid)}], ['512', '120'], 'numbers are passed as text');
    like($world->storage_cfg(), qr/^smbgateway: office\n(?:\t.*\n)*\tsmbgw-gateway office\n\tsmbgw-memory 512\n\tsmbgw-mode lxc\n\tsmbgw-vmid 120\n/m, 'what was decided is written') or diag($world->storage_cfg());
    like(join('', @{ $got->{warnings} }), qr/storage 'office': a word\n.*storage 'office': it is being built in the background, see 'pve-smbgateway status office'/s, 'and said');
    is(worked($world), "reconcile --once office\n", 'the worker is started');
    ok(-d "$tree/dump", 'directories of content are made already');
    $got = $world->case('load_stack(); return PVE::Storage::storage_info(PVE::Storage::config())->{office};');
    is($got->{value}->{active}, 1, 'it is active as long as the tree can be reached') or diag(explain($got));
    unlink(map { $world->dir() . "/$_" } 'log', 'worked');
    $got = $world->case(q[load_stack(); api()->update({ storage => 'office', 'smbgw-memory' => 1024, delete => 'smbgw-access' });]);
    is($got->{error}, undef, 'a change that takes long works');
    is_deeply([map { "$_->[1] $_->[2]->{defer}" } @{ calls($world, 'begin') }], ['share.update 1'], 'deferred');
    is(worked($world), "reconcile --once office\n", 'the worker is started');
    like($world->storage_cfg(), qr/^\tsmbgw-memory 1024\n/m, 'the section has it');
    unlink(map { $world->dir() . "/$_" } 'log', 'worked');
    $got = $world->case(q[load_stack(); api()->delete({ storage => 'office' });]);
    is($got->{error}, undef, 'so does a remove');
    is_deeply([map { "$_->[1] $_->[2]->{defer}" } @{ calls($world, 'begin') }], ['share.delete 1'], 'deferred');
    is(worked($world), "reconcile --once office\n", 'the worker is started');
    like(join('', @{ $got->{warnings} }), qr/its removal goes on in the background/, 'which is said');
    is($world->storage_cfg(), $other, 'the section is gone');

    # --- the clean-up after a failing activation drops what waits
    unlink(map { $world->dir() . "/$_" } 'log', 'worked');
    $world->{env}->{FAKE_SMBGW} = 'long=share.create';
    $got = $world->case('require PVE::Storage; { no warnings "redefine"; *PVE::Storage::Custom::SMBGatewayPlugin::check_connection = sub { return 0 }; }' . $long);
    like($got->{error}, qr/is not online/, 'a failing activation fails the add');
    is_deeply([map { $_->[1] } @{ calls($world, 'begin') }], ['share.create', 'share.delete'], 'and the library is told');
    is($world->storage_cfg(), $other, 'nothing is written');
    $got = $world->case(q[load_stack(); my $doc = eval { PVE::SMBGateway::Native::query('status', { id => 'office' }) }; return $doc // "$@";]);
    like($got->{value}, qr/no share 'office'/, 'nothing waits any more');

    # --- a request with a number that is none
    $got = $world->case($long =~ s/'512'/'lots'/r);
    like($got->{error}, qr/^smbgw-memory: .*integer/m, 'a number is a number');

    # --- add fails
    $world = world($api);
    $world->{env}->{FAKE_SMBGW} = 'fail=share.create';
    $got = $world->case($add);
    like($got->{error}, qr/smbd does not answer – sorry.*start it/s, 'a failing add says why and what to do');
    is($world->storage_cfg(), $other, 'nothing is written');
    is_deeply([map { $_->[1] } @{ calls($world, 'begin') }], ['share.create'], 'Proxmox does not call on_delete_hook then');

    $world->{env}->{FAKE_SMBGW} = 'invalid=share.create';
    $got = $world->case($add);
    like($got->{error}, qr/^path: is a system directory$/m, 'complaints are named by property');
    like($got->{error}, qr/^share: has a bracket$/m, 'all of them');
    $got = $world->case(q[load_stack(); PVE::Storage::Custom::SMBGatewayPlugin->on_add_hook('office', { type => 'smbgateway', path => '/etc' });]);
    is_deeply($got->{problems}, { path => 'is a system directory', share => 'has a bracket' }, 'as an exception that the API can show beside the fields');

    $world->{env}->{FAKE_SMBGW} = 'hint=share.create';
    $got = $world->case($add);
    like($got->{error}, qr/^path: is not empty; empty it$/m, 'with what helps');
    $world->{env}->{FAKE_SMBGW} = 'invalid=share.create';

    for my $content ('images', 'iso,rootdir', 'snippets', 'vztmpl', 'none,iso') {
        $got = $world->case(qq[load_stack(); api()->create({ type => 'smbgateway', storage => 'office', path => '/srv/office', content => '$content' });]);
        like($got->{error}, qr/^content: .*(?:SMB users can write|unable to combine)/m, "content $content is refused with a reason");
    }
    $got = $world->case(q[load_stack(); api()->create({ type => 'smbgateway', storage => 'office' });]);
    like($got->{error}, qr/missing value for required option/, 'a missing path is refused');
    is($world->storage_cfg(), $other, 'nothing is written');

    # --- the activation after the hook fails
    unlink($world->dir() . '/log');
    $world->{env}->{FAKE_SMBGW} = '';
    $got = $world->case('require PVE::Storage; { no warnings "redefine"; *PVE::Storage::Custom::SMBGatewayPlugin::check_connection = sub { return 0 }; }' . $add);
    like($got->{error}, qr/is not online/, 'a failing activation fails the add');
    is_deeply([map { $_->[1] } @{ calls($world, 'begin') }], ['share.create', 'share.delete'], 'and on_delete_hook cleans up');
    is($world->storage_cfg(), $other, 'nothing is written');

    # --- our own work fails after the run
    unlink($world->dir() . '/log');
    $got = $world->case('require PVE::Storage; { no warnings "redefine"; *PVE::Storage::Custom::SMBGatewayPlugin::_write_back = sub { die "no room\n" }; }' . $add);
    like($got->{error}, qr/no room/, 'a failure after the run fails the add');
    is_deeply([map { $_->[1] } @{ calls($world, 'begin') }], ['share.create', 'share.delete'], 'and the hook undoes its own work');

    # --- while it is still being provisioned, and on a node that does not serve it
    $world = world($api);
    $world->{env}->{FAKE_SMBGW_USAGE} = '';
    $got = $world->case($add);
    is($got->{error}, undef, 'no snapshot yet: the add is not rolled back');
    $got = $world->case('load_stack(); return PVE::Storage::storage_info(PVE::Storage::config())->{office};');
    is($got->{value}->{active}, 0, 'and the storage inactive');
    like(join('', @{ $got->{warnings} }), qr/storage 'office': no status yet/, 'with a message');

    # --- time
    $world = world($api);
    $world->{env}->{FAKE_SMBGW} = 'slow=share.create';
    $got = $world->case('require PVE::Storage; $PVE::Storage::Custom::SMBGatewayPlugin::HOOK_SECONDS = 1;' . $add);
    like($got->{error}, qr/did not end within 1 s and was undone/, 'a hook that takes too long undoes its work');
    is_deeply([grep { $_ ne 'step' } map { $_->[0] } @{ calls($world) }], [qw(new begin secret unwind)], 'by unwinding the run');
    is($world->storage_cfg(), $other, 'nothing is written');
    unlink($world->dir() . '/log');
    $world->{env}->{FAKE_SMBGW} = 'stuck=share.create';
    $got = $world->case('require PVE::Storage; $PVE::Storage::Custom::SMBGatewayPlugin::HOOK_SECONDS = 1;' . $add);
    like($got->{error}, qr/could not be undone in that time/, 'and says so when that does not end either');
    is_deeply([grep { $_ ne 'step' } map { $_->[0] } @{ calls($world) }], [qw(new begin secret unwind interrupt)], 'the run is left interrupted');
    is(worked($world), "reconcile --once office\n", 'for the worker');

  SKIP: {
        skip 'the lock of the real cluster file system has 60 s', 2 if Harness::real();
        unlink($world->dir() . '/log');
        $world->{env}->{PVE_STANDIN_LOCK_SECONDS} = 1;
        $got = $world->case($add);
        like($got->{error}, qr/locked command timed out/, 'the alarm of the lock gets through');
        is((calls($world))->[-1]->[0], 'interrupt', 'and leaves the run interrupted');
    }
}

done_testing();
