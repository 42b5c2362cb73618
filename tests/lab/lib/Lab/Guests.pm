# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Guests;

# A box as a Proxmox node that runs containers: Proxmox's directories, a bridge, `pct` and `ha-manager`, and the places where a
# test looks at a container from outside. It knows LXC, control groups and the stand-ins in tests/lab/bin. It must not know the
# product.
#
#     Lab::Guests::ready();      # before the box: what is missing, and the template (building it needs a network)
#     Lab::Box::enter();         # or Lab::Product::enter()
#     Lab::Guests::prepare();
#     my $r = Lab::Guests::pct(['create', 105, Lab::Guests::template_volume(), …]);

use strict;
use warnings;
no warnings 'exec';    # what follows an exec is there for its failure

use Digest::SHA ();
use Errno ();
use File::Basename ();
use File::Copy ();
use File::Path ();
use IO::Socket::INET ();
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

use Lab::Box;

our $PCT = '/usr/sbin/pct';
our $HA = '/usr/sbin/ha-manager';
our $BRIDGE = 'vmbr0';
our $HOST = '192.0.2.1';
our $HOST6 = 'fd00:db8::1';
our $FIRST = 100_000;

my $CACHE = '/var/cache/smbgw-test';
my $BIN = "$Lab::Box::ROOT/tests/lab/bin";
my $suite;

# What is needed and not there: a sentence for skip_all, or undef.
sub missing {
    my %package = ('lxc-start' => 'lxc', 'lxc-attach' => 'lxc', 'lxc-usernsexec' => 'lxc', newuidmap => 'uidmap', zstd => 'zstd', tar => 'tar', ip => 'iproute2');
    for my $program (sort keys %package) {
        return "'$program' is not installed (Debian package $package{$program})" if !defined(Lab::Box::which($program));
    }
    return "SMBGW_PCT names '$ENV{SMBGW_PCT}', which cannot be run" if defined($ENV{SMBGW_PCT}) && !-x $ENV{SMBGW_PCT};
    return undef;
}

# This machine's own Debian, and the one that templates have.
sub own_suite { return Lab::Box::slurp('/etc/os-release') =~ m/^VERSION_CODENAME=(\S+)/m ? $1 : 'bookworm' }

sub suite {
    $suite //= $ENV{SMBGW_TEMPLATE_SUITE} // own_suite();
    return $suite;
}

# The directory of a storage that holds the templates of all boxes.
sub cache { return $CACHE }

# The name of the template for a suite: made anew when what the product puts into it changes.
sub key {
    my ($suite) = @_;
    my $recipe = Digest::SHA->new(256)->addfile("$Lab::Box::ROOT/smbgw-core/src/plan/template.rs", 'b')->hexdigest();
    return "lab-$suite-" . substr($recipe, 0, 12);
}

# The template archive, or undef. Its marker lies beside it.
sub template {
    my ($suite) = @_;
    $suite //= suite();
    my ($found) = glob("$CACHE/template/cache/smbgw-gateway-${suite}_" . key($suite) . '_*.tar.zst');
    return defined($found) && -e "$found.smbgw.json" ? $found : undef;
}

# How `pct create` is told to take it.
sub template_volume { return 'local:vztmpl/' . File::Basename::basename(template()) }

# One more template in the storage of the box, which is so much newer (in seconds): the archive is the same. Its marker and its path.
sub newer_template {
    my ($name, $newer) = @_;
    my ($archive) = glob('/var/lib/vz/template/cache/*_lab-*.tar.zst');
    my $path = $archive =~ s/_lab-/_$name-/r;
    symlink(readlink($archive), $path) or die "$path: $!\n";
    my $marker = JSON::PP::decode_json(Lab::Box::slurp("$archive.smbgw.json"));
    my %marker = (%$marker, name => $name, archive => File::Basename::basename($path), 'built-ms' => $marker->{'built-ms'} + 1000 * $newer);
    Lab::Box::spew("$path.smbgw.json", JSON::PP::encode_json(\%marker), 0644);
    return (\%marker, $path);
}

# To be called before the box is entered, which has no network. The file is skipped if something is missing.
sub ready {
    my $why = missing();
    if (!defined($why) && !defined(template())) {
        if (defined($ENV{SMBGW_LAB_BOX}) || $> != 0) { $why = "there is no container template in $CACHE" }
        elsif (!defined(Lab::Box::which('debootstrap'))) { $why = "'debootstrap' is not installed, and there is no container template in $CACHE" }
        else {
            my $pid = fork() // die "cannot fork: $!\n";
            if (!$pid) {
                open(STDOUT, '>', '/dev/null');
                exec($^X, "$Lab::Box::ROOT/tests/lab/template", '--suite', suite());
                POSIX::_exit(127);
            }
            waitpid($pid, 0);
            $why = 'the container template cannot be built' if $? != 0 || !defined(template());
        }
    }
    Lab::Box::skip_all("no containers: $why") if defined($why);
    return;
}

# --- the box as a node ------------------------------------------------------------------------------------------------

sub _must {
    my (@argv) = @_;
    my $r = Lab::Box::run(\@argv);
    die "'@argv' failed: $r->{all}" if !defined($r->{rc}) || $r->{rc} != 0;
    return $r->{out};
}

sub _write { my ($path, $text) = @_; open(my $fh, '>', $path) or die "$path: $!\n"; syswrite($fh, $text) // die "$path: $!\n"; close($fh); return }

sub prepare {
    my $base = $ENV{SMBGW_LAB_BOX} // die "not in a box\n";
    _sys($base);
    for my $dir ('/var/lib/lxc', '/var/lib/vz') {
        File::Path::make_path("$base/fs$dir", $dir);
        _must('mount', '--bind', "$base/fs$dir", $dir);
    }
    # root file systems in memory where there is plenty: a busy disk makes the time of a creation anything from one second to ten
    my ($available) = Lab::Box::slurp('/proc/meminfo') =~ m/^MemAvailable:\s+(\d+) kB/m;
    _must('mount', '-t', 'tmpfs', '-o', 'size=3g,mode=0755', 'tmpfs', '/var/lib/vz') if ($available // 0) > 4 * 1024 * 1024;
    for my $file ('/etc/subuid', '/etc/subgid') {
        my $text = Lab::Box::slurp($file);
        Lab::Box::spew($file, "$text" . "root:$FIRST:65536\n", 0644) if $text !~ m/^root:$FIRST:65536$/m;
    }
    _must('ip', 'link', 'add', $BRIDGE, 'type', 'bridge');
    _must('ip', 'address', 'add', "$HOST/24", 'dev', $BRIDGE);
    Lab::Box::run(['ip', 'address', 'add', "$HOST6/64", 'dev', $BRIDGE, 'nodad']) if has_ipv6();
    _must('ip', 'link', 'set', $BRIDGE, 'up');
    my $pve = '/etc/pve';
    File::Path::make_path(map { "$pve/$_" } qw(priv ha nodes/box/lxc nodes/box/qemu-server));
    for my $link (['local', 'nodes/box'], ['lxc', 'nodes/box/lxc'], ['qemu-server', 'nodes/box/qemu-server']) {
        symlink($link->[1], "$pve/$link->[0]") or $!{EEXIST} or die "$link->[0]: $!\n";
    }
    _install();
    if (defined(my $template = template())) {
        File::Path::make_path('/var/lib/vz/template/cache');
        for my $file ($template, "$template.smbgw.json") {
            symlink($file, '/var/lib/vz/template/cache/' . File::Basename::basename($file)) or die "template: $!\n";
        }
    }
    return;
}

# Proxmox's storages of a fresh node, as far as containers need them.
sub storage {
    Lab::Box::spew('/etc/pve/storage.cfg', "dir: local\n\tpath /var/lib/vz\n\tcontent backup,iso,rootdir,vztmpl\n\n", 0644);
    return;
}

sub has_ipv6 { return -e '/proc/sys/net/ipv6' && Lab::Box::slurp('/proc/sys/net/ipv6/conf/all/disable_ipv6') =~ m/\A0/ ? 1 : 0 }

# LXC looks for bridges in /sys/class/net, which shows the network namespace in which it was mounted: so a new one. The control
# groups of the box are a tree of their own, so that containers of several boxes may have the same number and all of them lie
# where Proxmox has them: /sys/fs/cgroup/…/lxc/VMID.
sub _sys {
    my ($base) = @_;
    my @groups = Lab::Box::cgroups($base);
    my $only_v2 = @groups == 1 && $groups[0]->[2] eq '';
    for my $group (@groups) {
        my ($dir) = @$group;
        mkdir($dir, 0755) or die "$dir: $!\n";
        # a new cpuset group has no processors and takes no processes
        for my $file (glob("$dir/cpuset.cpus $dir/cpuset.mems")) {
            my $parent = $file =~ s!/[^/]+(/[^/]+)\z!$1!r;
            my $value = Lab::Box::slurp($parent);
            _write($file, $value) if -e $parent && $value =~ m/\S/ && !$only_v2;
        }
        _write("$dir/cgroup.clone_children", '1') if -e "$dir/cpuset.cpus" && -e "$dir/cgroup.clone_children";
        _write("$dir/cgroup.procs", $_) for 1, $$;
    }
    my %unshare = (x86_64 => 272, aarch64 => 97);
    my $number = $unshare{ (POSIX::uname())[4] } // die "the number of unshare(2) is not known for this machine\n";
    syscall($number, 0x02000000) == 0 or die "cannot have a cgroup namespace: $!\n";
    _must('mount', '-t', 'sysfs', 'sysfs', '/sys');
    _must('mount', '-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', '/sys/fs/cgroup') if !$only_v2;
    for my $group (@groups) {
        my (undef, $how, $name) = @$group;
        my $at = '/sys/fs/cgroup' . ($name eq '' ? '' : "/$name");
        mkdir($at, 0755) if $name ne '';
        _must('mount', '-t', @$how, 'cgroup', $at);
    }
    if ($only_v2) {
        # processes into a leaf that LXC takes for the topmost group; controllers for the rest
        mkdir('/sys/fs/cgroup/init.scope');
        _write('/sys/fs/cgroup/init.scope/cgroup.procs', $_) for split(/\n/, Lab::Box::slurp('/sys/fs/cgroup/cgroup.procs'));
        _write('/sys/fs/cgroup/cgroup.subtree_control', "+$_") for split(' ', Lab::Box::slurp('/sys/fs/cgroup/cgroup.controllers'));
    }
    # A kernel without AppArmor: files that look like its own, and a mark by which the stand-in for `pct` knows them. It lays a
    # label over /proc/PID/attr/current of each container that it starts. This stands in for a feature of the kernel: what
    # AppArmor would refuse is not refused here.
    if (!-e '/sys/module/apparmor/parameters/enabled') {
        _must('mount', '-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', '/sys/module');
        File::Path::make_path('/sys/module/apparmor/parameters');
        Lab::Box::spew('/sys/module/apparmor/parameters/enabled', "Y\n", 0400);
        Lab::Box::spew('/sys/module/apparmor/.stand-in', '');
        # The kernel gives a user namespace a /proc only where one is visible that nothing lies over, and those labels do.
        mkdir('/run/lab/proc', 0755);
        _must('mount', '-t', 'proc', 'proc', '/run/lab/proc');
    }
    return;
}

# The stand-ins, or Proxmox's own `pct` if SMBGW_PCT names it.
sub _install {
    my $dir = '/run/lab/sbin';
    mkdir($dir, 0755) or die "$dir: $!\n";
    File::Copy::copy("$BIN/ha-manager", "$dir/ha-manager") or die "ha-manager: $!\n";
    if (defined($ENV{SMBGW_PCT})) { symlink($ENV{SMBGW_PCT}, "$dir/pct") or die "pct: $!\n" }
    else { File::Copy::copy("$BIN/pct", "$dir/pct") or die "pct: $!\n" }
    chmod(0755, "$dir/pct", "$dir/ha-manager");
    my $r = Lab::Box::run(['mount', '-t', 'overlay', 'overlay', '-o', "lowerdir=$dir:/usr/sbin", '/usr/sbin']);
    return if defined($r->{rc}) && $r->{rc} == 0;
    # no overlay file system here: a copy with them lies over the directory
    my $copy = "$ENV{SMBGW_LAB_BOX}/sbin";
    mkdir($copy, 0755) or die "$copy: $!\n";
    _must('cp', '-a', '/usr/sbin/.', "$copy/");
    _must('cp', '-a', "$dir/.", "$copy/");
    _must('mount', '--bind', $copy, '/usr/sbin');
    return;
}

# --- calls ------------------------------------------------------------------------------------------------------------

# Calls `pct` as Lab::Box::run() does.
sub pct { my ($words, %o) = @_; return Lab::Box::run([$PCT, @$words], timeout => 90, %o) }

sub ha { my ($words, %o) = @_; return Lab::Box::run([$HA, @$words], timeout => 90, %o) }

# Runs a command inside, with nothing of our environment.
sub exec { my ($vmid, $argv, %o) = @_; return pct(['exec', $vmid, '--keep-env', '0', '--', @$argv], %o) }

# A container as small as the product makes them; options (without dashes) replace or add. What pct said.
sub create {
    my ($vmid, %o) = @_;
    my %default = (hostname => "ct$vmid", unprivileged => 1, ostype => 'debian', memory => 512, swap => 0, cores => 1, rootfs => 'local:2', features => 'nesting=1', net0 => net0($vmid));
    my %all = (%default, %o);
    return pct(['create', $vmid, template_volume(), map { ("--$_", $all{$_}) } grep { defined($all{$_}) } sort keys %all]);
}

# Container 100+n has the address …n, so that a test can tell it.
sub address { my ($vmid) = @_; return '192.0.2.' . ($vmid % 200 + 10) }
sub address6 { my ($vmid) = @_; return 'fd00:db8::' . sprintf('%x', $vmid % 200 + 10) }
sub net0 { my ($vmid) = @_; return join(',', 'name=eth0', "bridge=$BRIDGE", 'ip=' . address($vmid) . '/24', "gw=$HOST", has_ipv6() ? ('ip6=' . address6($vmid) . '/64', "gw6=$HOST6") : ()) }

# --- a look from outside ----------------------------------------------------------------------------------------------

# The container's configuration file, as text.
sub config { my ($vmid) = @_; return Lab::Box::slurp("/etc/pve/nodes/box/lxc/$vmid.conf") }

# Names of the containers that run in this box.
sub containers {
    my %n = map { $_ => 1 } Lab::Box::slurp('/proc/net/unix') =~ m!\@/var/lib/lxc/([^/\n]+)/command$!mg;
    my @names = sort keys %n;
    return @names;
}

# The pid of its first process, as seen in the box; undef if it does not run.
sub init_pid { my ($vmid) = @_; my $r = Lab::Box::run(['lxc-info', '-n', $vmid, '-p', '-H']); return $r->{out} =~ m/\A(\d+)/ ? $1 : undef }

# All its processes: pid => name.
sub processes {
    my ($vmid) = @_;
    my $init = init_pid($vmid) // return {};
    my $ns = readlink("/proc/$init/ns/pid") // return {};
    my %p;
    for my $dir (glob('/proc/[0-9]*')) {
        next if (readlink("$dir/ns/pid") // '') ne $ns;
        chomp(my $name = Lab::Box::slurp("$dir/comm"));
        $p{$1} = $name if $dir =~ m/(\d+)\z/;
    }
    return \%p;
}

# Its memory as the sum of the proportional set sizes in KiB; in list context also { "name[pid]" => KiB }. What a control group
# counts is too low: pages of files are charged to who read them first.
sub pss {
    my ($vmid) = @_;
    my ($sum, %each) = (0);
    my $p = processes($vmid);
    for my $pid (keys %$p) {
        my ($kib) = Lab::Box::slurp("/proc/$pid/smaps_rollup") =~ m/^Pss:\s+(\d+) kB/m or next;
        $each{"$p->{$pid}\[$pid]"} = $kib;
        $sum += $kib;
    }
    return wantarray ? ($sum, \%each) : $sum;
}

# A value of its control group: limit($vmid, 'memory.limit_in_bytes'); undef if there is none.
sub limit {
    my ($vmid, $key) = @_;
    my ($controller) = $key =~ m/\A(\w+)\./;
    for my $path ("/sys/fs/cgroup/$controller/lxc/$vmid/$key", "/sys/fs/cgroup/lxc/$vmid/$key") {
        return Lab::Box::slurp($path) =~ s/\n\z//r if -e $path;
    }
    return undef;
}

# Owner of a file on the node, "uid:gid".
sub host_owner { my ($path) = @_; my @st = lstat($path) or return undef; return "$st[4]:$st[5]" }

# Waits until its systemd says that it is up; the state it was in last.
sub wait_up {
    my ($vmid, $seconds) = @_;
    my $state = '';
    Lab::Box::until_true(sub { chomp($state = Lab::Guests::exec($vmid, ['systemctl', 'is-system-running'])->{out}); $state =~ m/\A(?:running|degraded|maintenance)\z/ }, $seconds // 20);
    return $state;
}

# True when a port answers. A try is short: the first word to an interface that is not up yet would be said again only after a second.
sub wait_port {
    my ($address, $port, $seconds) = @_;
    return Lab::Box::until_true(sub { IO::Socket::INET->new(PeerAddr => $address, PeerPort => $port, Timeout => 0.2) ? 1 : 0 }, $seconds // 20);
}

# Ends every container of this box, by name, and removes the control groups that they leave behind.
sub stop_all {
    for my $name (containers()) {
        Lab::Box::run([$PCT, 'stop', $name], timeout => 20, env => { PCT_DOUBLE_HA => 1, PCT_DOUBLE_FAIL => undef, PCT_DOUBLE_SLOW => undef });
        Lab::Box::run(['lxc-stop', '-n', $name, '-k'], timeout => 20) if grep { $_ eq $name } containers();
    }
    Lab::Box::until_true(sub { !containers() }, 10);
    my @left = map { [$_] } grep { -d } glob('/sys/fs/cgroup/lxc /sys/fs/cgroup/lxc.* /sys/fs/cgroup/*/lxc /sys/fs/cgroup/*/lxc.*');
    Lab::Box::remove_cgroups(@left);
    return;
}

1;
