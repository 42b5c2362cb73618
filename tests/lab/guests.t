# SPDX-License-Identifier: MIT OR Apache-2.0

# The stand-ins for Proxmox's `pct` and `ha-manager`, on real containers: what they promise the other tests. The product has no
# part in it.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use Test::More;

use Lab::Box;
use Lab::Guests;

Lab::Guests::ready();
Lab::Box::enter();
Lab::Guests::prepare();

my $ID = 105;

sub good {
    my ($r, $name) = @_;
    my $ok = ok(defined($r->{rc}) && $r->{rc} == 0, $name) or diag("rc " . ($r->{rc} // "signal $r->{signal}") . ": $r->{all}");
    return $ok;
}

sub refused {
    my ($r, $says, $name) = @_;
    my $ok = ok(defined($r->{rc}) && $r->{rc} != 0 && $r->{err} =~ $says, $name) or diag("rc " . ($r->{rc} // "signal $r->{signal}") . ": $r->{all}");
    return $ok;
}

sub pct { return Lab::Guests::pct([@_]) }
sub inside { my (@argv) = @_; return Lab::Guests::exec($ID, \@argv) }
sub status { return pct('status', $ID)->{out} }

for my $dir (qw(/srv/one /srv/two /srv/three)) {
    mkdir($dir, 0755);
    chmod(0777, $dir);
    Lab::Box::spew("$dir/there", "before\n");
}
my $data = Lab::Box::snapshot(qw(/srv/one /srv/two /srv/three));

subtest 'the grammar is strict' => sub {
    refused(pct('frobnicate'), qr/unknown command 'pct frobnicate'/, 'an unknown command');
    refused(pct('config', 999), qr!\AConfiguration file 'nodes/box/lxc/999\.conf' does not exist$!m, 'a container that is not there');
    refused(pct('create', $ID, Lab::Guests::template_volume(), '--frobnicate', 1), qr/^Unknown option: frobnicate\n400 unable to parse option$/m, 'an unknown option');
    refused(Lab::Guests::create($ID, memory => 'plenty'), qr/^400 Parameter verification failed\.\nmemory: type check \('integer'\) failed - got 'plenty'$/m, 'a value of the wrong type');
    refused(Lab::Guests::create($ID, mp0 => '/srv/one,mp=/srv/one,frob=1'), qr/mp0\.frob: property is not defined in schema/, 'an unknown part of a mount point');
    refused(Lab::Guests::create($ID, mp0 => '/srv/one'), qr/mp0\.mp: property is missing/, 'a mount point without a place');
    refused(Lab::Guests::create($ID, mp0 => '/srv/one,mp=/srv/one,mountoptions=suid'), qr/mp0\.mountoptions: value does not match/, 'an unknown mount option');
    refused(Lab::Guests::create($ID, net0 => 'name=eth0,bridge=vmbr0,ip=192.0.2.300/24'), qr/net0\.ip: value does not look like/, 'an address that is none');
    refused(Lab::Guests::create(99), qr/vmid: invalid format/, 'a number below 100');
    refused(pct('create', $ID, 'local:vztmpl/none.tar.zst', '--rootfs', 'local:2'), qr/does not exist/, 'a template that is not there');
    refused(Lab::Guests::create($ID, rootfs => 'elsewhere:2'), qr/storage 'elsewhere' does not exist/, 'a storage that is not there');
    Lab::Box::spew("/etc/pve/nodes/box/qemu-server/$ID.conf", "name: vm\n");
    refused(Lab::Guests::create($ID), qr/^VM $ID already exists on node 'box'$/m, 'a number that a virtual machine has');
    unlink("/etc/pve/nodes/box/qemu-server/$ID.conf");
    mkdir($_) for '/etc/pve/nodes/other', '/etc/pve/nodes/other/lxc';
    Lab::Box::spew("/etc/pve/nodes/other/lxc/$ID.conf", "arch: amd64\n");
    refused(Lab::Guests::create($ID), qr/^CT $ID already exists on node 'other'$/m, 'a number that a container of another node has');
    unlink("/etc/pve/nodes/other/lxc/$ID.conf");
    refused(Lab::Box::run([$Lab::Guests::PCT, 'list'], env => { PCT_DOUBLE_FAIL => 'list' }), qr/was asked to fail/, 'trouble on request');
    is_deeply([glob('/etc/pve/nodes/*/lxc/* /var/lib/vz/images/*')], [], 'none of them left anything');
    like(pct('help', 'set', '--verbose', '1')->{out}, qr/idmap=/, 'help names idmap=');
    unlike(Lab::Guests::pct(['help', 'set', '--verbose', '1'], env => { PCT_DOUBLE_NO_IDMAP => 1 })->{out}, qr/idmap=/, 'and does not in the version without it');
};

good(Lab::Guests::create($ID, tags => 'smbgw;b', description => "two\nlines: 100%", onboot => 1), 'create') or BAIL_OUT('no container to test');
my $config = Lab::Guests::config($ID);
like($config, qr/\A#two\n#lines%3A 100%25\narch: amd64\ncores: 1\n/, 'the configuration: description first, then sorted');
like($config, qr/^net0: name=eth0,bridge=vmbr0,.*hwaddr=BC:24:11(?::[0-9A-F]{2}){3},ip=.*type=veth$/m, 'with a hardware address');
like($config, qr/^rootfs: local:$ID\/vm-$ID-disk-0\.raw,size=2G\nswap: 0\ntags: b;smbgw\nunprivileged: 1\n\z/m, 'the rest');
refused(Lab::Guests::create($ID), qr/^CT $ID already exists on node 'box'$/m, 'not twice');
is(Lab::Guests::host_owner("/var/lib/vz/images/$ID/vm-$ID-disk-0.raw/etc"), "$Lab::Guests::FIRST:$Lab::Guests::FIRST", 'its root is shifted');

good(pct('set', $ID, '--mp0', '/srv/one,mp=/srv/one,mountoptions=nodev;nosuid;noexec,idmap=passthrough', '-mp1=/srv/none,mp=/srv/none'), 'mount points, of which one is not there');
like(Lab::Guests::config($ID), qr/^mp0: \/srv\/one,mp=\/srv\/one,idmap=passthrough,mountoptions=nodev;nosuid;noexec$/m, 'kept in Proxmox\'s order');
refused(pct('start', $ID), qr/directory '\/srv\/none' does not exist\nstartup for container '$ID' failed/, 'without the directory it does not start');
good(pct('set', $ID, '--delete', 'mp1'), 'the mount point is taken away');
unlike(Lab::Guests::config($ID), qr/^mp1|pending/m, 'at once, as it does not run');
Lab::Box::spew("/etc/pve/lxc/$ID.conf", Lab::Guests::config($ID) . "lxc.cgroup2.pids.max: 200\n");

is(status(), "status: stopped\n", 'status: stopped');
refused(pct('stop', $ID), qr/^CT $ID not running$/m, 'stop of a stopped one');
good(pct('start', $ID), 'start') or BAIL_OUT('no container to test');
is(status(), "status: running\n", 'status: running');
refused(pct('start', $ID), qr/^CT $ID already running$/m, 'start of a running one');
is_deeply([Lab::Guests::containers()], [$ID], 'it has its number as its name');
is(Lab::Guests::wait_up($ID), 'running', 'its systemd finds nothing wrong');
ok(Lab::Guests::wait_port(Lab::Guests::address($ID), 445), 'its smbd answers on the bridge');
like(Lab::Box::slurp('/proc/' . Lab::Guests::init_pid($ID) . '/attr/current'), qr/\Alxc-${ID}_.*\(enforce\)$/, 'it has a label');

subtest 'limits' => sub {
    is(Lab::Guests::limit($ID, 'pids.max'), 200, 'processes, by a raw key');
    is(Lab::Guests::limit($ID, 'memory.limit_in_bytes') // Lab::Guests::limit($ID, 'memory.max'), 512 * 1024 * 1024, 'memory');
    good(pct('set', $ID, '--memory', 256, '--cores', 2), 'changed while it runs');
    is(Lab::Guests::limit($ID, 'memory.limit_in_bytes') // Lab::Guests::limit($ID, 'memory.max'), 256 * 1024 * 1024, 'and in force');
    good(pct('set', $ID, '--memory', 512), 'and raised');
    is(Lab::Guests::limit($ID, 'memory.limit_in_bytes') // Lab::Guests::limit($ID, 'memory.max'), 512 * 1024 * 1024, 'and in force');
    unlike(Lab::Guests::config($ID), qr/pending/, 'nothing is pending');
    cmp_ok(Lab::Guests::pss($ID), '<', 80 * 1024, 'it uses less than 80 MiB') or diag(explain([Lab::Guests::pss($ID)]));
};

subtest 'exec' => sub {
    my $bytes = join('', map { chr } 0 .. 255) x 4096;
    my $r = Lab::Guests::exec($ID, ['cat'], stdin => $bytes);
    good($r, 'cat');
    ok($r->{out} eq $bytes, 'a megabyte of all bytes comes back as it went in');
    is(inside('sh', '-c', 'echo out; echo err >&2; exit 7')->{rc}, 7, 'the exit status');
    is(inside('sh', '-c', 'echo out; echo err >&2')->{err}, "err\n", 'standard error apart');
    unlike(Lab::Guests::pct(['exec', $ID, '--keep-env', '0', '--', 'env'], env => { CANARY => 'x' })->{out}, qr/CANARY/, 'no environment with --keep-env 0');
    like(Lab::Guests::pct(['exec', $ID, '--', 'env'], env => { CANARY => 'x' })->{out}, qr/^CANARY=x$/m, 'which is not the default');
    my $pid = Lab::Box::spawn([$Lab::Guests::PCT, 'exec', $ID, '--keep-env', '0', '--', 'sleep', '4711']);
    my $sleeps = sub { return grep { $_ eq 'sleep' } values %{ Lab::Guests::processes($ID) } };
    ok(Lab::Box::until_true($sleeps), 'a long command runs');
    like(Lab::Box::slurp("/proc/$pid/comm"), qr/lxc-attac/, 'the caller\'s child is lxc-attach itself');
    kill('TERM', $pid);
    is(Lab::Box::wait_for($pid, 5), 15, 'which a signal ends');
    # as with Proxmox's: the command inside knows nothing of it
    ok($sleeps->(), 'the command inside goes on');
    is(inside('timeout', '-s', 'KILL', '0.2', 'sleep', '4711')->{rc}, 137, 'so a limit has to be set inside');
};

subtest 'owners' => sub {
    good(inside('touch', '/srv/one/root'), 'root writes');
    good(inside('sh', '-c', 'touch /srv/one/user && chown 1000:1001 /srv/one/user'), 'and gives it to a user');
    is(Lab::Guests::host_owner('/srv/one/root'), '0:0', 'passthrough: root is root');
    is(Lab::Guests::host_owner('/srv/one/user'), '1000:1001', 'passthrough: a number is that number');
    like(inside('grep', ' /srv/one ', '/proc/self/mounts')->{out}, qr/nosuid,nodev,noexec/, 'mount options are in force');
};

subtest 'hot-plugging' => sub {
    good(pct('set', $ID, '--mp1', '/srv/two,mp=/srv/two'), 'a mount point, shifted');
    good(pct('set', $ID, '--mp2', '/srv/three,mp=/srv/deep/three,idmap=passthrough,mountoptions=nodev;nosuid;noexec,ro=1'), 'and one, passed through, read-only');
    is(inside('cat', '/srv/two/there')->{out}, "before\n", 'the tree is there');
    good(inside('touch', '/srv/two/new'), 'is written');
    is(Lab::Guests::host_owner('/srv/two/new'), "$Lab::Guests::FIRST:$Lab::Guests::FIRST", 'with shifted owners');
    like(inside('grep', ' /srv/deep/three ', '/proc/self/mounts')->{out}, qr/ ro,nosuid,nodev,noexec.*idmapped/, 'the other has its options');
    is(inside('stat', '-c', '%u:%g', '/srv/deep/three/there')->{out}, "0:0\n", 'and owners as on the node');
    isnt(inside('touch', '/srv/deep/three/new')->{rc}, 0, 'and is not written');
    unlike(Lab::Guests::config($ID), qr/pending/, 'nothing is pending');
    refused(pct('set', $ID, '--mp3', '/srv/none,mp=/srv/none'), qr/mp3: unable to hotplug mp3: directory '\/srv\/none' does not exist/, 'what is not there is refused');
    unlike(Lab::Guests::config($ID), qr/mp3/, 'and not kept');
};

subtest 'taking away while it runs waits for the next start' => sub {
    good(pct('set', $ID, '--delete', 'mp1'), 'delete');
    like(Lab::Guests::config($ID), qr/^mp1: .*\n(?:.*\n)*\n\[pve:pending\]\ndelete: mp1\n\z/m, 'the configuration says so');
    unlike(pct('config', $ID)->{out}, qr/^mp1:/m, '`config` shows what will be');
    like(pct('config', $ID, '--current', 1)->{out}, qr/^mp1:/m, '`config --current` what is');
    like(pct('pending', $ID)->{out}, qr/^del mp1: /m, '`pending` the difference');
    is(inside('cat', '/srv/two/there')->{out}, "before\n", 'the tree is still there');
    good(pct('set', $ID, '--mp0', '/srv/one,mp=/srv/one'), 'a changed mount point');
    like(Lab::Guests::config($ID), qr/^mp0: .*idmap=passthrough.*\n(?:.*\n)*\[pve:pending\]\ndelete: mp1\nmp0: \/srv\/one,mp=\/srv\/one\n\z/m, 'waits too');
    good(pct('set', $ID, '--revert', 'mp0'), 'and is thought better of');
    like(Lab::Guests::config($ID), qr/\[pve:pending\]\ndelete: mp1\n\z/, 'so the other remains');
};

subtest 'push and pull' => sub {
    Lab::Box::spew('/srv/pushed', "\0binary\xff", 0600);
    good(pct('push', $ID, '/srv/pushed', '/etc/pushed', '--perms', '0640', '--user', 'www-data', '--group', 'root'), 'push');
    is(inside('stat', '-c', '%a %U:%G %s', '/etc/pushed')->{out}, "640 www-data:root 8\n", 'mode and owner by names of the container');
    good(pct('pull', $ID, '/etc/pushed', '/srv/pulled'), 'pull');
    is(Lab::Box::slurp('/srv/pulled'), "\0binary\xff", 'the same bytes');
    refused(pct('push', $ID, '/srv/pushed', '/etc/pushed', '--user', 'nobody-such'), qr/no such user/, 'an unknown user');
};

subtest 'locks and protection' => sub {
    Lab::Box::spew("/etc/pve/lxc/$ID.conf", "lock: backup\n" . Lab::Guests::config($ID));
    refused(pct('set', $ID, '--onboot', 0), qr/^CT is locked \(backup\)$/m, 'a locked one is not changed');
    good(pct('unlock', $ID), 'unlock');
    good(pct('set', $ID, '--onboot', 0), 'now it is');
    good(pct('set', $ID, '--protection', 1), 'protection');
    refused(pct('destroy', $ID, '--force', 1), qr/can't remove CT $ID - protection mode enabled/, 'keeps it from being destroyed');
    good(pct('set', $ID, '--protection', 0), 'no protection');
    refused(pct('destroy', $ID), qr/unable to destroy CT $ID - container is running/, 'it runs, so it is not destroyed');
};

good(pct('shutdown', $ID, '--timeout', 20, '--forceStop', 1), 'shutdown');
is(status(), "status: stopped\n", 'it is stopped');
good(pct('start', $ID), 'start again');
unlike(Lab::Guests::config($ID), qr/mp1|pending/, 'what was pending is done');
is(Lab::Guests::wait_up($ID), 'running', 'it is up');
isnt(inside('test', '-e', '/srv/two/there')->{rc}, 0, 'the mount point is gone');
is(inside('cat', '/srv/one/there')->{out}, "before\n", 'the other is there');
good(pct('reboot', $ID), 'reboot');
is(Lab::Guests::wait_up($ID), 'running', 'it is up again');

subtest 'high availability' => sub {
    refused(Lab::Guests::ha(['set', "ct:$ID", '--state', 'started']), qr/no such resource 'ct:$ID'/, 'it knows only what was added');
    good(Lab::Guests::ha(['add', "ct:$ID", '--state', 'started', '--max_restart', 1]), 'add');
    like(Lab::Box::slurp('/etc/pve/ha/resources.cfg'), qr/^ct: $ID\n\tmax_restart 1\n\tstate started$/m, 'in Proxmox\'s file');
    like(Lab::Guests::ha(['status'])->{out}, qr/^service ct:$ID \(box, started\)$/m, 'status');
    my $r = pct('stop', $ID);
    good($r, '`pct stop`');
    like($r->{out}, qr/^Requesting HA stop for CT $ID$/m, 'only asks the manager');
    is(status(), "status: stopped\n", 'which stops it');
    like(Lab::Box::slurp('/etc/pve/ha/resources.cfg'), qr/^\tstate stopped$/m, 'and keeps that');
    like(pct('start', $ID)->{out}, qr/^Requesting HA start for CT $ID$/m, '`pct start` too');
    is(status(), "status: running\n", 'and starts it');
    good(Lab::Guests::ha(['set', "ct:$ID", '--state', 'stopped']), 'set --state stopped');
    is(status(), "status: stopped\n", 'stops it');
    refused(pct('destroy', $ID), qr/used in HA resources and purge parameter not set/, 'it is not destroyed behind the manager\'s back');
    refused(Lab::Guests::ha(['set', "ct:$ID", '--state', 'asleep']), qr/does not have a value in the enumeration/, 'an unknown state');
};

good(pct('destroy', $ID, '--purge', 1, '--destroy-unreferenced-disks', 1), 'destroy');
unlike(Lab::Box::slurp('/etc/pve/ha/resources.cfg'), qr/$ID/, 'the manager does not know it any more');
is_deeply([glob("/etc/pve/nodes/*/lxc/* /var/lib/vz/images/* /var/lib/lxc/*")], [], 'nothing of it is left');
my $after = Lab::Box::snapshot(qw(/srv/one /srv/two /srv/three));
is_deeply([grep { !m!\Anew: /srv/(?:one/(?:root|user)|two/new) ! } Lab::Box::differences($data, $after)], [], 'the trees are as they were, but for what was written');

subtest 'the version without idmap=' => sub {
    refused(Lab::Box::run([$Lab::Guests::PCT, 'create', $ID, Lab::Guests::template_volume(), '--rootfs', 'local:2', '--mp0', '/srv/one,mp=/srv/one,idmap=passthrough'], env => { PCT_DOUBLE_NO_IDMAP => 1 }), qr/mp0\.idmap: property is not defined in schema/, 'it is refused');
};

subtest 'numbers mapped one by one' => sub {
    chown($Lab::Guests::FIRST, $Lab::Guests::FIRST, '/srv/one');
    good(Lab::Guests::create($ID, mp0 => '/srv/one,mp=/srv/one,idmap=u:1000:1234:2;g:1000:4321:1', start => 1), 'create and start');
    good(inside('sh', '-c', 'touch /srv/one/mapped && chown 1001:1000 /srv/one/mapped && touch /srv/one/rest'), 'write');
    is(Lab::Guests::host_owner('/srv/one/mapped'), '1235:4321', 'mapped numbers');
    is(Lab::Guests::host_owner('/srv/one/rest'), "$Lab::Guests::FIRST:$Lab::Guests::FIRST", 'the rest as without a map');
    good(pct('destroy', $ID, '--force', 1), 'destroy a running one by force');
};

subtest 'a privileged one' => sub {
    good(Lab::Guests::create($ID, unprivileged => 0, mp0 => '/srv/one,mp=/srv/one', start => 1), 'create and start');
    unlike(Lab::Guests::config($ID), qr/^unprivileged/m, 'its configuration does not say unprivileged');
    is(Lab::Guests::wait_up($ID), 'running', 'its systemd finds nothing wrong');
    ok(Lab::Guests::wait_port(Lab::Guests::address($ID), 445), 'its smbd answers on the bridge');
    like(inside('cat', '/proc/self/uid_map')->{out}, qr/\A\s*0\s+0\s+4294967295\n\z/, 'no number is mapped');
    good(inside('touch', '/srv/one/privileged'), 'root writes');
    is(Lab::Guests::host_owner('/srv/one/privileged'), '0:0', 'as root of the node');
    good(pct('destroy', $ID, '--force', 1), 'destroy');
};

Lab::Guests::stop_all();
is_deeply([grep { -d } glob('/sys/fs/cgroup/lxc* /sys/fs/cgroup/*/lxc*')], [], 'no control group is left');

done_testing();
