# SPDX-License-Identifier: MIT OR Apache-2.0

# Mode lxc from end to end: Proxmox's storage command -> plugin hooks -> worker -> a real unprivileged container with a real smbd,
# and clients from outside. Proxmox's modules and `pct` are stand-ins (SMBGW_PCT names a real one); the containers are real.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use JSON::PP ();
use Test::More;

use Lab::Box;
use Lab::Disks;
use Lab::Guests;
use Lab::Product;
use Lab::Smb;

Lab::Product::enter_node();
END {
    Lab::Guests::stop_all() if defined($ENV{SMBGW_LAB_BOX});
    Lab::Disks::detach();
}

my $PASSWORD = 'in a container 1';
my $ADDRESS = '192.0.2.20';
my $NET = "ip=$ADDRESS/24,gw=$Lab::Guests::HOST,ip6=none";
my $FOREIGN = 100;

sub pvesm_ok {
    my ($name, @call) = @_;
    my $r = Lab::Product::pvesm(@call);
    ok(defined($r->{rc}) && $r->{rc} == 0, $name) or diag($r->{all});
    return $r;
}

sub state { my ($id) = @_; return Lab::Product::status($id)->{state} // 'none' }

# Waits until the worker, which the hook started, is done with a share.
sub becomes {
    my ($id, $state, $seconds) = @_;
    my $now = '';
    Lab::Box::until_true(sub { ($now = main::state($id)) eq $state }, $seconds // 60);
    is($now, $state, "$id is $state") or diag(Lab::Product::call(['status', $id], text => 1)->{all});
    return;
}

sub reconcile { my (@more) = @_; return Lab::Product::call(['reconcile', '--once', @more], timeout => 120) }

sub client {
    my ($user, $share, $commands) = @_;
    my $r = Lab::Box::run(['smbclient', "//$ADDRESS/$share", '-U', "$user%$PASSWORD", '-m', 'SMB3_11', '-t', '10', '-c', $commands], timeout => 30);
    return $r->{all} =~ m/(NT_STATUS_\w+)/ ? $1 : 'OK';
}

# A file through the share and back, from the network.
sub works { my ($user, $share) = @_; return client($user, $share, 'put /etc/hostname round.txt; get round.txt /tmp/round.txt; del round.txt') }

sub works_again { my ($user, $share) = @_; my $got = ''; Lab::Box::until_true(sub { ($got = works($user, $share)) eq 'OK' }, 15); return $got }

sub gateway { my ($name) = @_; my ($g) = grep { $_->{gateway} eq $name } @{ Lab::Product::call(['gateway', 'list'])->{data}->{gateways} // [] }; return $g // {} }

sub vmid { return gateway('files')->{container}->{vmid} }

mkdir("/srv/$_") for qw(office lab old);
Lab::Box::spew('/srv/old/here before.txt', "before\n");

# A container of somebody else, with the host name and the address book entry that ours will have. It must be as it is now to the end.
my $r = Lab::Guests::create($FOREIGN, hostname => 'files', tags => 'smbgw');
is($r->{rc}, 0, 'a foreign container') or BAIL_OUT($r->{all});
is(Lab::Guests::pct(['start', $FOREIGN])->{rc}, 0, 'which runs');
my $foreign = Lab::Guests::config($FOREIGN);
my $foreign_init = Lab::Guests::init_pid($FOREIGN);
my $sections = Lab::Box::slurp('/etc/pve/storage.cfg');

subtest 'without a template nothing is begun, and the error says what to run' => sub {
    my @there = glob('/var/lib/vz/template/cache/*');
    rename($_, $_ . '.away') for @there;
    my $r = Lab::Product::pvesm(['add', 'smbgateway', 'office', '--path', '/srv/office', '--smbgw-gateway', 'files', '--username', 'anna'], password => $PASSWORD);
    rename($_ . '.away', $_) for @there;
    isnt($r->{rc}, 0, 'refused');
    like($r->{all}, qr/pve-smbgateway template build/, 'with the command') or diag($r->{all});
    is(Lab::Box::slurp('/etc/pve/storage.cfg'), $sections, 'no section');
    is_deeply([glob('/etc/pve/nodes/box/lxc/*.conf')], ["/etc/pve/nodes/box/lxc/$FOREIGN.conf"], 'no container');
    is(-e '/run/smbgw/pending/office' ? 1 : 0, 0, 'no password waits');
};

subtest 'the first share makes the container' => sub {
    pvesm_ok('pvesm add', ['add', 'smbgateway', 'office', '--path', '/srv/office', '--smbgw-gateway', 'files', '--username', 'anna', '--smbgw-net', $NET], password => $PASSWORD);
    my %seen;
    Lab::Box::until_true(sub {
        my $s = Lab::Product::status('office');
        $seen{ $s->{state} // 'none' } //= 1;
        $seen{step} //= $s->{operation}->{step};
        ($s->{state} // '') eq 'ready';
    }, 60);
    becomes('office', 'ready');
    ok($seen{provisioning}, 'it was seen provisioning') or diag(join(' ', %seen));
    ok(length($seen{step} // ''), 'with the step it was at') or diag(join(' ', map { $_ // '' } %seen));
    is(works_again('anna', 'office'), 'OK', 'a client logs in, writes and reads');
    is(client('anna', 'office', 'put /etc/hostname kept.txt'), 'OK', 'and leaves a file');
    is(-e '/run/smbgw/pending/office' ? 1 : 0, 0, 'the password does not wait any more');

    my $vmid = vmid();
    isnt($vmid, $FOREIGN, 'its number is its own');
    my $config = Lab::Guests::config($vmid);
    like($config, $_, "configuration: $_") for qr/^unprivileged: 1$/m, qr/^onboot: 0$/m, qr/^memory: 256$/m, qr/^cores: 1$/m, qr/^hostname: files$/m, qr/^tags: smbgw;smbgw-[0-9a-f-]{36}$/m,
        qr/^lxc\.cgroup2\.pids\.max: 1000$/m, qr!^mp0: /srv/office,mp=/srv/smbgw/office,.*idmap=passthrough.*nodev;nosuid!m;
    my ($init) = Lab::Guests::init_pid($vmid);
    like(Lab::Box::slurp("/proc/$init/uid_map"), qr/^\s*0\s+100000\s+65536$/m, 'its root is nobody on the node');
    is(Lab::Guests::limit($vmid, 'memory.limit_in_bytes') // Lab::Guests::limit($vmid, 'memory.max'), 256 << 20, 'the kernel limits its memory');
    is(Lab::Guests::limit($vmid, 'pids.max'), 1000, 'and its processes');
    my $gid = (stat('/srv/office'))[5];
    cmp_ok($gid, '>=', 8000, 'the tree belongs to a group of the gateway');
    is(Lab::Guests::host_owner('/srv/office/kept.txt'), "0:$gid", 'a file belongs to the owner of the tree and that group, also on the node');
    unlike(Lab::Box::slurp('/etc/passwd'), qr/^anna:/m, 'the node has no such account');
    is((Lab::Box::files_with($PASSWORD, grep { !m!/$FOREIGN/! } glob('/var/lib/vz/images/*/*')))[0], undef, 'the password is nowhere in the container');
    is((Lab::Box::files_with($PASSWORD, '/etc', '/run/smbgw', '/var/lib/smbgw', '/var/log'))[0], undef, 'the password is nowhere on the node');
};

my $first = vmid() or BAIL_OUT('no container to go on with');

subtest 'a second share lives in the same container' => sub {
    pvesm_ok('pvesm add', ['add', 'smbgateway', 'lab', '--path', '/srv/lab', '--smbgw-gateway', 'files', '--smbgw-access', 'full:anna']);
    becomes('lab', 'ready');
    is(vmid(), $first, 'the container is the same');
    is(works_again('anna', 'lab'), 'OK', 'it works');
    is(works('anna', 'office'), 'OK', 'and so does the first');

    is(client('anna', 'lab', 'put /etc/hostname acl.txt'), 'OK', 'a file');
    my @smbcacls = ('smbcacls', "//$ADDRESS/lab", 'acl.txt', '-U', "anna%$PASSWORD", '-m', 'SMB3_11');
    is(Lab::Box::run([@smbcacls, '-a', 'ACL:S-1-5-11:ALLOWED/0x0/READ'])->{rc}, 0, 'a Windows ACL is set');
    like(Lab::Box::run([@smbcacls, '--numeric'])->{out}, qr/^ACL:S-1-5-11:0\/0x0\/0x001200a9$/m, 'and read back as it was set');

    my $r = Lab::Product::pvesm(['add', 'smbgateway', 'third', '--path', '/srv/third', '--smbgw-gateway', 'files', '--smbgw-net', 'ip=dhcp']);
    isnt($r->{rc}, 0, 'a section that wants another network for the gateway is refused');
    like($r->{all}, qr/'third'.*'office'/s, 'naming both') or diag($r->{all});
};

subtest 'users and access act inside' => sub {
    is(Lab::Product::user('create', 'ben', password => $PASSWORD)->{rc}, 0, 'a second user');
    pvesm_ok('he may read', ['set', 'office', '--smbgw-access', 'ro:ben']);
    is(Lab::Box::until_true(sub { client('ben', 'office', 'ls') eq 'OK' }), 1, 'he reads');
    is(works('ben', 'office'), 'NT_STATUS_ACCESS_DENIED', 'and does not write');
    pvesm_ok('he may not', ['set', 'office', '--delete', 'smbgw-access']);
    is(Lab::Box::until_true(sub { client('ben', 'office', 'ls') eq 'NT_STATUS_ACCESS_DENIED' }), 1, 'any more');
};

subtest 'a limit is that of the tree on the node, and the size that clients see' => sub {
    my $MIB = 1 << 20;
    Lab::Disks::mount('/srv/disk', size => 1024, mkfs => ['mkfs.btrfs', '-q']);
    is(Lab::Box::run(['btrfs', @$_])->{rc}, 0, "btrfs @$_") for ['quota', 'enable', '/srv/disk'], ['subvolume', 'create', '/srv/disk/limited'], ['quota', 'rescan', '-w', '/srv/disk'];
    pvesm_ok('pvesm add', ['add', 'smbgateway', 'limited', '--path', '/srv/disk/limited', '--smbgw-gateway', 'files', '--smbgw-access', 'rw:anna', '--smbgw-quota', '64M']);
    becomes('limited', 'ready');
    my $du = sub {
        my $out = Lab::Box::run(['smbclient', "//$ADDRESS/limited", '-U', "anna%$PASSWORD", '-m', 'SMB3_11', '-t', '10', '-c', 'du'], timeout => 30)->{out};
        return $out =~ m/(\d+) blocks of size (\d+)\./ ? $1 * $2 : $out;
    };
    is(Lab::Box::until_true(sub { $du->() eq 64 * $MIB }, 15), 1, 'a client outside sees the limit as the size') or diag($du->());
    my ($limit) = glob('/sys/fs/btrfs/*/qgroups/0_256/max_referenced');
    is(Lab::Box::slurp($limit) + 0, 64 * $MIB, 'which is that of the subvolume on the node');
    Lab::Box::spew('/run/lab/big', 'x' x (70 * $MIB));
    # A write of which only a part finds room is an answer that smbclient does not understand.
    isnt(client('anna', 'limited', 'put /run/lab/big big'), 'OK', 'more is refused');
    like(client('anna', 'limited', 'put /run/lab/big more'), qr/DISK_FULL|QUOTA/, 'and then anything');
    cmp_ok(-s '/srv/disk/limited/big', '<', 64 * $MIB, 'the limit holds');
    is(works('anna', 'office'), 'OK', 'for no other share');
    pvesm_ok('another limit', ['set', 'limited', '--smbgw-quota', '96M']);
    is(Lab::Box::until_true(sub { $du->() eq 96 * $MIB }, 30), 1, 'is seen') or diag($du->());
    pvesm_ok('pvesm remove', ['remove', 'limited']);
    is(Lab::Box::until_true(sub { Lab::Product::status('limited')->{state} ? 0 : 1 }, 30), 1, 'it is gone');
    isnt(Lab::Box::slurp($limit) + 0, 96 * $MIB, 'with its limit');
    is(reconcile()->{rc}, 0, 'the worker');
};

subtest 'a container that was stopped, changed or destroyed by hand is put right' => sub {
    is(Lab::Guests::pct(['stop', $first])->{rc}, 0, 'stopped');
    is(Lab::Guests::init_pid($first), undef, 'it does not run');
    is(reconcile()->{rc}, 0, 'after a stop');
    is(works_again('anna', 'office'), 'OK', 'it serves again');

    is(Lab::Guests::pct(['set', $first, '--memory', '700'])->{rc}, 0, 'it is given more memory');
    like(Lab::Guests::config($first), qr/^memory: 700$/m, 'which it has');
    is(reconcile()->{rc}, 0, 'after that');
    like(Lab::Guests::config($first), qr/^memory: 256$/m, 'its memory is as ordered');
    is(Lab::Guests::limit($first, 'memory.limit_in_bytes') // Lab::Guests::limit($first, 'memory.max'), 256 * 1024 * 1024, 'to the kernel too');

    my $sid = Lab::Guests::exec($first, ['net', 'getlocalsid'])->{out};
    my $owner = Lab::Guests::exec($first, ['id', '-u', 'anna'])->{out};
    is(Lab::Guests::pct(['stop', $first])->{rc}, 0, 'stopped');
    is(Lab::Guests::pct(['destroy', $first])->{rc}, 0, 'destroyed');
    is(reconcile()->{rc}, 0, 'the worker builds it anew') or diag(Lab::Product::words_of(reconcile()));
    is(works_again('anna', 'office'), 'OK', 'anna has her password');
    is(Lab::Guests::exec(vmid(), ['id', '-u', 'anna'])->{out}, $owner, 'her number');
    is(Lab::Guests::exec(vmid(), ['net', 'getlocalsid'])->{out}, $sid, 'and Samba its SID');
    ok(-e '/srv/office/kept.txt', 'the data is there');
    $first = vmid();
};

subtest 'a renumbered container is named, never doubled, and can be taken' => sub {
    is(Lab::Guests::pct(['stop', $first])->{rc}, 0, 'stopped');
    my $new = $first + 50;
    rename("/var/lib/vz/images/$first", "/var/lib/vz/images/$new");
    my $text = Lab::Guests::config($first);
    $text =~ s!local:\Q$first\E/vm-\Q$first\E-!local:$new/vm-$new-!;
    rename("/var/lib/vz/images/$new/vm-$first-disk-0.raw", "/var/lib/vz/images/$new/vm-$new-disk-0.raw");
    Lab::Box::spew("/etc/pve/nodes/box/lxc/$new.conf", $text, 0640);
    unlink("/etc/pve/nodes/box/lxc/$first.conf");
    my $r = reconcile();
    like($r->{all}, qr/adopt files $new/, 'it is named, with the command') or diag($r->{all});
    is_deeply([glob('/etc/pve/nodes/box/lxc/*.conf')], [map { "/etc/pve/nodes/box/lxc/$_.conf" } sort $FOREIGN, $new], 'and no second one is made');
    is(Lab::Product::call(['gateway', 'adopt', 'files', $FOREIGN])->{rc} ? 1 : 0, 1, 'a container without the mark cannot be taken');
    $r = Lab::Product::call(['gateway', 'adopt', 'files', $new]);
    is($r->{rc}, 0, 'the right one can') or diag(Lab::Product::words_of($r));
    reconcile();
    is(works_again('anna', 'office'), 'OK', 'and serves');
    $first = vmid();
    is($first, $new, 'under its new number');
};

subtest 'a removed share goes at once, its mount point with the next start' => sub {
    pvesm_ok('pvesm remove', ['remove', 'lab']);
    is(Lab::Box::until_true(sub { client('anna', 'lab', 'ls') eq 'NT_STATUS_BAD_NETWORK_NAME' }), 1, 'it is not served any more');
    like(join(' ', @{ Lab::Product::status('office')->{warnings} // [] }), qr/next start/, 'status says what waits');
    is(Lab::Guests::exec($first, ['test', '-e', '/srv/smbgw/lab/acl.txt'])->{rc}, 0, 'the tree is still mounted');
    is(Lab::Guests::host_owner('/srv/lab'), '0:0', 'the tree has its owner back');
    my $r = Lab::Product::call(['gateway', 'restart', 'files'], timeout => 120);
    is($r->{rc}, 0, 'restarted') or diag(Lab::Product::words_of($r));
    isnt(Lab::Guests::exec($first, ['test', '-e', '/srv/smbgw/lab/acl.txt'])->{rc}, 0, 'it is not');
    is(works_again('anna', 'office'), 'OK', 'the other share works');
    ok(-e '/srv/lab/acl.txt', 'the data stays');
};

subtest 'stopped on purpose it stays stopped' => sub {
    is(Lab::Product::call(['gateway', 'stop', 'files'], timeout => 120)->{rc}, 0, 'stopped');
    reconcile();
    is(Lab::Guests::init_pid($first), undef, 'the worker leaves it');
    like(join(' ', @{ Lab::Product::status('office')->{warnings} // [] }), qr/gateway start files/, 'status says so');
    is(Lab::Product::call(['gateway', 'start', 'files'], timeout => 120)->{rc}, 0, 'started');
    is(works_again('anna', 'office'), 'OK', 'it serves');
};

subtest 'an upgrade replaces the container and keeps everything else' => sub {
    my ($marker, $newer) = Lab::Guests::newer_template('newer', 1);
    Lab::Box::spew("$newer.smbgw.json", JSON::PP::encode_json({ %$marker, sha256 => '0' x 64 }), 0644);
    my $r = Lab::Product::call(['gateway', 'upgrade', 'files'], timeout => 120);
    isnt($r->{rc}, 0, 'an archive that is not what its marker says is refused');
    is(works('anna', 'office'), 'OK', 'the old container serves on');
    Lab::Box::spew("$newer.smbgw.json", JSON::PP::encode_json($marker), 0644);

    my $sid = Lab::Guests::exec($first, ['net', 'getlocalsid'])->{out};
    my ($mac) = Lab::Guests::config($first) =~ m/hwaddr=([0-9A-F:]+)/;
    $r = Lab::Product::call(['gateway', 'upgrade', 'files'], timeout => 120);
    is($r->{rc}, 0, 'upgraded') or diag(Lab::Product::words_of($r));
    my $now = vmid();
    isnt($now, $first, 'another container');
    is(-e "/etc/pve/nodes/box/lxc/$first.conf" ? 1 : 0, 0, 'the old one is gone');
    is(gateway('files')->{container}->{template}, 'newer', 'made from the newer template');
    is(works_again('anna', 'office'), 'OK', 'anna works with her password');
    is(Lab::Guests::exec($now, ['net', 'getlocalsid'])->{out}, $sid, 'Samba has its SID');
    like(Lab::Guests::config($now), qr/hwaddr=\Q$mac\E/, 'the interface its address');
    $first = $now;
    Lab::Product::call(['gateway', 'upgrade', 'files']);
    is(vmid(), $first, 'there is nothing to upgrade to any more');
};

subtest 'templates are listed, and those that nobody uses are pruned' => sub {
    my %t = map { $_->{name} => $_ } @{ Lab::Product::call(['template', 'list'])->{data}->{templates} // [] };
    is(scalar(keys %t), 2, 'two are there');
    ok($t{newer}->{'in-use'}, 'one is in use');
    like($t{newer}->{samba}, qr/4\.\d+/, 'its Samba is known');
    my $r = Lab::Product::call(['template', 'prune', '--keep', '1']);
    is($r->{rc}, 0, 'pruned') or diag(Lab::Product::words_of($r));
    is_deeply([map { $_->{name} } @{ Lab::Product::call(['template', 'list'])->{data}->{templates} // [] }], ['newer'], 'the other one is gone');
};

subtest 'under the HA manager it is started and stopped through that' => sub {
    is(Lab::Guests::ha(['add', "ct:$first", '--state', 'started'])->{rc}, 0, 'added to HA');
    is(Lab::Product::call(['gateway', 'stop', 'files'], timeout => 120)->{rc}, 0, 'stopped');
    is(Lab::Guests::init_pid($first), undef, 'it does not run');
    like(Lab::Box::slurp('/etc/pve/ha/resources.cfg'), qr/ct: $first\n\s+state stopped/, 'by the state of the resource');
    is(Lab::Product::call(['gateway', 'start', 'files'], timeout => 120)->{rc}, 0, 'started');
    like(Lab::Box::slurp('/etc/pve/ha/resources.cfg'), qr/ct: $first\n\s+state started/, 'likewise');
    is(Lab::Guests::ha(['remove', "ct:$first"])->{rc}, 0, 'removed from HA');
    is(works_again('anna', 'office'), 'OK', 'it serves');
};

subtest 'it is small' => sub {
    my ($kib, $each) = Lab::Guests::pss($first);
    cmp_ok($kib, '>', 5_000, 'there is something in it');
    cmp_ok($kib, '<=', 80 * 1024, "its processes have a proportional set size of $kib KiB together") or diag(map { "$_ $each->{$_}\n" } sort keys %$each);
};

subtest 'the last share takes the container with it, and nothing else' => sub {
    pvesm_ok('pvesm remove', ['remove', 'office']);
    ok(Lab::Box::until_true(sub { !-e "/etc/pve/nodes/box/lxc/$first.conf" }, 60), 'the container goes');
    ok(Lab::Box::until_true(sub { main::state('office') eq 'none' }, 30), 'and so does the share');
    is(Lab::Guests::host_owner('/srv/office'), '0:0', 'the tree has its owner back');
    is(sprintf('%04o', (stat('/srv/office'))[2] & 07777), '0755', 'and its mode');
    ok(-e '/srv/office/kept.txt', 'the data is there');
    is(Lab::Box::slurp('/etc/pve/storage.cfg') =~ s/\s+\z//r, $sections =~ s/\s+\z//r, 'storage.cfg is as before');
};

subtest 'a share can be removed while its container is being made' => sub {
    Lab::Box::spew('/run/lab/pct-double', "PCT_DOUBLE_SLOW=create:8\n");
    pvesm_ok('pvesm add', ['add', 'smbgateway', 'office', '--path', '/srv/office', '--smbgw-gateway', 'files', '--username', 'anna', '--smbgw-net', $NET], password => $PASSWORD);
    ok(Lab::Box::until_true(sub { (Lab::Product::status('office')->{operation} // {})->{step} }, 20), 'the worker is at it') or diag(Lab::Product::call(['status', 'office'], text => 1)->{all});
    is(main::state('office'), 'provisioning', 'it is not there yet');
    my $r = Lab::Product::pvesm(['remove', 'office']);
    is($r->{rc}, 0, 'removed, at the first attempt') or diag($r->{all});
    unlink('/run/lab/pct-double');
    ok(Lab::Box::until_true(sub { reconcile(); my @c = glob('/etc/pve/nodes/box/lxc/*.conf'); @c == 1 && main::state('office') eq 'none' }, 60), 'no container and no share is left') or diag(Lab::Box::run(['find', '/etc/pve/nodes', '/run/smbgw'])->{out});
    is(-e '/run/smbgw/pending/office' ? 1 : 0, 0, 'and no password');
};

subtest 'a build that fails leaves nothing and says why' => sub {
    for my $command (qw(create start)) {
        Lab::Box::spew('/run/lab/pct-double', "PCT_DOUBLE_FAIL=$command\n");
        pvesm_ok('pvesm add', ['add', 'smbgateway', 'office', '--path', '/srv/office', '--smbgw-gateway', 'files', '--username', 'anna', '--smbgw-net', $NET], password => $PASSWORD);
        becomes('office', 'failed');
        like(JSON::PP::encode_json(Lab::Product::status('office')), qr/'$command' was asked to fail/, "pct $command: the status says what it said");
        is_deeply([glob('/etc/pve/nodes/box/lxc/*.conf')], ["/etc/pve/nodes/box/lxc/$FOREIGN.conf"], 'no container is left');
        is(Lab::Guests::host_owner('/srv/office'), '0:0', 'the tree is as it was');
        unlink('/run/lab/pct-double');
        pvesm_ok('it can be given up', ['remove', 'office']);
        ok(Lab::Box::until_true(sub { reconcile(); main::state('office') eq 'none' }, 60), 'and is gone');
    }
};

subtest 'without mapped mounts the tree gets the numbers of the container' => sub {
    Lab::Box::spew('/run/lab/pct-double', "PCT_DOUBLE_NO_IDMAP=1\n");
    my @add = ('add', 'smbgateway', 'old', '--path', '/srv/old', '--smbgw-gateway', 'files', '--username', 'anna', '--smbgw-net', $NET);
    my $r = Lab::Product::pvesm([@add], password => $PASSWORD);
    isnt($r->{rc}, 0, 'a tree with files in it is refused');
    like($r->{all}, qr!pve-smbgateway shift /srv/old!, 'with the command') or diag($r->{all});
    $r = Lab::Product::call(['shift', '/srv/old']);
    is($r->{rc}, 0, 'shifted') or diag(Lab::Product::words_of($r));
    is(Lab::Guests::host_owner('/srv/old/here before.txt'), '100000:100000', 'everything in it');
    pvesm_ok('now it is taken', [@add], password => $PASSWORD);
    becomes('old', 'ready');
    is(works_again('anna', 'old'), 'OK', 'a client works with it');
    is(client('anna', 'old', 'put /etc/hostname new.txt'), 'OK', 'and leaves a file');
    my $gid = (stat('/srv/old'))[5];
    cmp_ok($gid, '>=', 108_000, 'whose group is one of the container');
    is(Lab::Guests::host_owner('/srv/old/new.txt'), "100000:$gid", 'and whose owner is its root');
    pvesm_ok('removed', ['remove', 'old']);
    ok(Lab::Box::until_true(sub { reconcile(); my @c = glob('/etc/pve/nodes/box/lxc/*.conf'); @c == 1 }, 60), 'the container goes');
    is(Lab::Product::call(['shift', '/srv/old', '--back'])->{rc}, 0, 'and back');
    is(Lab::Guests::host_owner('/srv/old/here before.txt'), '0:0', 'the old file is as it was');
    unlink('/run/lab/pct-double');
};

subtest 'another gateway beside it, with IPv6 in a VLAN' => sub {
    Lab::Box::skip_all('no IPv6 here') if !Lab::Guests::has_ipv6();
    mkdir('/srv/six');
    my $address = 'fd00:db8:7::20';
    pvesm_ok('pvesm add', ['add', 'smbgateway', 'six', '--path', '/srv/six', '--username', 'anna', '--smbgw-net', "ip=none,ip6=$address/64,tag=7,mtu=1400"], password => $PASSWORD);
    becomes('six', 'ready');
    my ($vmid) = map { $_->{container}->{vmid} } grep { $_->{gateway} eq 'six' } @{ Lab::Product::call(['gateway', 'list'])->{data}->{gateways} };
    like(Lab::Guests::exec($vmid, ['ip', '-o', 'address', 'show', 'dev', 'eth0'])->{out}, qr/\Q$address\E/, 'the container has the address');
    like(Lab::Guests::exec($vmid, ['ip', '-o', 'link', 'show', 'dev', 'eth0'])->{out}, qr/mtu 1400/, 'and the MTU');
    is(Lab::Box::run(['ip', 'address', 'add', 'fd00:db8:7::1/64', 'dev', 'vmbr0v7', 'nodad'])->{rc}, 0, 'the node has an address in the VLAN');
    my $r;
    ok(Lab::Box::until_true(sub { $r = Lab::Box::run(['smbclient', '//six/six', '-I', $address, '-U', "anna%$PASSWORD", '-m', 'SMB3_11', '-c', 'put /etc/hostname six.txt']); $r->{rc} == 0 }, 15), 'a client writes over IPv6') or diag($r->{all});
    pvesm_ok('removed', ['remove', 'six']);
    ok(Lab::Box::until_true(sub { reconcile(); !-e "/etc/pve/nodes/box/lxc/$vmid.conf" }, 60), 'its container goes');
};

is(Lab::Guests::config($FOREIGN), $foreign, 'the foreign container has its configuration');
is(Lab::Guests::init_pid($FOREIGN), $foreign_init, 'and never stopped');

done_testing();
