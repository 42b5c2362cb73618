# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Ceph;

# A Ceph cluster of one of each, and CephFS mounted by ceph-fuse: real daemons in a box. It knows how to build a root file system with
# Debian's Ceph (once, it is cached), how a cluster is brought up without a network, and where CephFS is mounted. It must not know the
# product, nor what a test does with the files.
#
#     Lab::Ceph::ready();      # before the box: what is missing, and the root (building it needs a network)
#     Lab::Box::enter();       # or Lab::Product::enter()
#     Lab::Ceph::start();      # CephFS is at $Lab::Ceph::MOUNT, for the programs of the machine too
#
# Ceph's programs run by chroot in their root, which is read-only: nothing is installed in the machine. Processes, network and mounts
# are the box's, so the cluster ends with it. There is no authentication: every client may do all that Proxmox's own may.

use strict;
use warnings;
no warnings 'exec';    # what follows an exec is there for its failure

use Fcntl qw(:flock);
use File::Basename ();
use File::Path ();
use POSIX ();

use Lab::Box;

our $CACHE = '/var/cache/smbgw-test/ceph';
our $MOUNT = '/mnt/pve/cephfs';

# To be counted up when what is built below changes.
my $RECIPE = 1;

my @PACKAGES = qw(ceph-mon ceph-mgr ceph-osd ceph-mds ceph-fuse ceph-common);
my $ROOT = '/run/lab/ceph';           # where the root is in the box
my $STATE = '/var/lib/ceph';          # in there: all that the daemons write
my $PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
my $MON = '[v2:127.0.0.1:3300,v1:127.0.0.1:6789]';

my $suite = $ENV{SMBGW_CEPH_SUITE};

# --- the root ---------------------------------------------------------------------------------------------------------

# What is needed and not there: a sentence for skip_all, or undef.
sub missing {
    my %package = (chroot => 'coreutils', mount => 'mount', unshare => 'util-linux');
    $package{debootstrap} = 'debootstrap' if !defined(root());
    for my $program (sort keys %package) {
        return "'$program' is not installed (Debian package $package{$program})" if !defined(Lab::Box::which($program));
    }
    return 'this needs root' if $> != 0;
    return 'the kernel has no FUSE (/dev/fuse)' if !-c '/dev/fuse';
    for my $dir (grep { defined } $Lab::Box::ROOT, $ENV{SMBGW_STAGE}) {
        return "$dir lies below /mnt, which a box with Ceph covers" if $dir =~ m!\A/mnt/!;
    }
    return undef;
}

sub suite {
    $suite //= Lab::Box::slurp('/etc/os-release') =~ m/^VERSION_CODENAME=(\S+)/m ? $1 : 'bookworm';
    return $suite;
}

# The directory with the root, or undef. Its name is made of the suite and the version of Ceph.
sub root { return (sort glob("$CACHE/" . suite() . "_*_$RECIPE"))[-1] }

# Version of the Ceph that is used, as Debian counts.
sub version { return (split(/_/, File::Basename::basename(root())))[1] }

# To be called before the box is entered, which has no network. Builds the root if there is none; the file is skipped if that cannot be.
sub ready {
    my $why = missing();
    $why //= $@ if !defined($why) && !defined(root()) && !eval { _build_root(); 1 };
    Lab::Box::skip_all('no Ceph: ' . $why =~ s/\s+\z//r =~ s/\s*\n\s*/; /gr) if defined($why);
    return;
}

# Who comes second waits for the first, and nothing half made is seen.
sub _build_root {
    my $new = "$CACHE/" . suite() . '.new';
    File::Path::make_path($CACHE);
    open(my $lock, '>', "$new.lock") or die "cannot write $new.lock: $!\n";
    flock($lock, LOCK_EX) or die "cannot lock $new.lock: $!\n";
    return if defined(root());
    File::Path::remove_tree($new);
    # mounts and processes of its own, which are gone when it ends, however it does
    my @alone = ('unshare', '--mount', '--pid', '--fork', '--mount-proc', '--kill-child');
    my $log = "$new.log";
    my $pid = fork() // die "cannot fork: $!\n";
    if (!$pid) {
        open(STDOUT, '>', $log) && open(STDERR, '>&', \*STDOUT) or POSIX::_exit(126);
        exec(@alone, $^X, '-I', File::Basename::dirname(__FILE__) . '/..', '-MLab::Ceph', '-e', 'Lab::Ceph::_build(@ARGV)', $new, suite());
        POSIX::_exit(127);
    }
    my $status = Lab::Box::wait_for($pid, 1800);
    die "the root with Ceph cannot be built, see $log\n" if !defined($status) || $status != 0;
    my ($version) = Lab::Box::slurp("$new/var/lib/dpkg/status") =~ m/^Package: ceph-mon\n(?:.+\n)*?Version: (\S+)/m or die "no ceph-mon in $new\n";
    unlink($log);
    rename($new, "$CACHE/" . suite() . "_${version}_$RECIPE") or die "cannot rename $new: $!\n";
    return;
}

sub _must { my (@argv) = @_; system(@argv) == 0 or die "'@argv' failed\n"; return }

# Runs in mounts of its own.
sub _build {
    my ($root, $of) = @_;
    %ENV = (PATH => $PATH, LC_ALL => 'C', DEBIAN_FRONTEND => 'noninteractive', map { $_ => $ENV{$_} } grep { m/_proxy\z/i } keys %ENV);
    _must('debootstrap', '--variant=minbase', $of, $root);
    # no services, no documents, and no care for what a crash would lose
    Lab::Box::spew("$root/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0755);
    Lab::Box::spew("$root/etc/dpkg/dpkg.cfg.d/small", join('', "force-unsafe-io\n", map { "path-exclude /usr/share/$_/*\n" } qw(doc man locale)));
    # debootstrap does not see to alternative dependencies, apt does
    _must('chroot', $root, 'apt-get', '-q', '-y', '--no-install-recommends', 'install', @PACKAGES);
    _must('chroot', $root, 'apt-get', 'clean');
    File::Path::remove_tree("$root/var/lib/apt/lists", map { "$root/usr/share/$_" } qw(doc man locale));
    File::Path::make_path("$root$STATE", "$root/mnt");
    return;
}

# --- the cluster ------------------------------------------------------------------------------------------------------

# Without authentication the OSD cannot register itself ("wrong fsid"): its place is given by hand. One copy of everything, in a
# file; and a disk of the machine that is nearly full is no reason for a monitor to give up.
sub _conf {
    my ($fsid) = @_;
    return <<"CONF";
[global]
fsid = $fsid
mon_host = $MON
public_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
mon_data = $STATE/mon
mgr_data = $STATE/mgr
osd_data = $STATE/osd
mds_data = $STATE/mds
run_dir = $STATE/run
log_file = $STATE/log/\$name.log
mon_cluster_log_file = /dev/null
mon_data_avail_crit = 0
mon_allow_pool_size_one = true
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_crush_update_on_start = false
osd_class_update_on_start = false
bluestore_block_size = 2147483648
mgr_initial_modules =
CONF
}

# Runs one of Ceph's programs to its end, as Lab::Box::run() does. Nothing of our environment is its own.
sub run {
    my ($argv, %o) = @_;
    return Lab::Box::run(['chroot', $ROOT, 'env', '-i', "PATH=$PATH", 'LC_ALL=C', "CEPH_CONF=$STATE/ceph.conf", @$argv], timeout => 60, %o);
}

sub _ceph {
    my (@argv) = @_;
    my $r = run(\@argv);
    die "'@argv' failed: $r->{all}\n" . logs() if !defined($r->{rc}) || $r->{rc} != 0;
    return $r->{out};
}

# The last lines of every log.
sub logs {
    my $text = '';
    for my $file (sort glob("$ROOT$STATE/log/*")) {
        my @lines = split(/^/, Lab::Box::slurp($file));
        $text .= join('', "--- $file\n", @lines[-(@lines < 10 ? @lines : 10) .. -1]);
    }
    return $text;
}

sub _uuid { return Lab::Box::slurp('/proc/sys/kernel/random/uuid') =~ s/\s+\z//r }

# Brings the cluster up and mounts CephFS, in a box.
sub start {
    my $base = $ENV{SMBGW_LAB_BOX} // die "not in a box\n";
    my $state = "$base/ceph";
    File::Path::make_path($ROOT, map { "$state/$_" } qw(mon mgr osd mds run log));
    _must('mount', '-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', '/mnt');
    File::Path::make_path($MOUNT);
    _must('mount', '--bind', root(), $ROOT);
    _must('mount', '-o', 'remount,bind,ro', $ROOT);
    _must('mount', '--rbind', $_->[0], "$ROOT$_->[1]") for ['/dev', '/dev'], ['/proc', '/proc'], ['/mnt', '/mnt'], [$state, $STATE];
    _must('mount', '-t', 'tmpfs', '-o', 'mode=01777', 'tmpfs', "$ROOT$_") for '/run', '/tmp';

    my ($fsid, $osd) = (_uuid(), _uuid());
    my @as = ('--setuser', 'root', '--setgroup', 'root');
    Lab::Box::spew("$state/ceph.conf", _conf($fsid));
    _ceph('monmaptool', '--create', '--fsid', $fsid, '--addv', 'a', $MON, "$STATE/monmap");
    _ceph('ceph-mon', '-i', 'a', '--mkfs', '--monmap', "$STATE/monmap", @as);
    _ceph('ceph-mon', '-i', 'a', @as);
    _ceph('ceph-mgr', '-i', 'a', @as);
    _ceph('ceph', 'osd', 'new', $osd, '0');
    _ceph('ceph', 'osd', 'crush', 'add', 'osd.0', '1.0', 'root=default', 'host=box');
    _ceph('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', $osd, @as);
    _ceph('ceph-osd', '-i', '0', @as);
    _ceph('ceph', 'osd', 'pool', 'create', $_, '4') for 'meta', 'data';
    _ceph('ceph', 'fs', 'new', 'cephfs', 'meta', 'data');
    _ceph('ceph-mds', '-i', 'a', @as);
    Lab::Box::until_true(sub { _ceph('ceph', 'mds', 'stat') =~ m/=up:active/ }, 60) or die "the metadata server does not come up\n" . logs();
    mount_at($MOUNT);
    return;
}

# Mounts CephFS, or a directory of it, at a path below /mnt. ceph-fuse remounts what it has mounted now and then, by the
# path that it sees, and gives up where that is none: so the mount stays in its root, and is shown outside by a second one.
sub mount_at {
    my ($path, $directory) = @_;
    File::Path::make_path($path);
    _ceph('ceph-fuse', defined($directory) ? ('-r', $directory) : (), $path);
    _must('mount', '--bind', "$ROOT$path", $path);
    return;
}

1;
