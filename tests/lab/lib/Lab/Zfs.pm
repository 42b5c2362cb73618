# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Zfs;

# ZFS for the emulated machine: Debian's module, built for the machine's kernel as Debian's users do it, with `zfs` and `zpool`. It
# knows how to build them in a root of their own, which takes some minutes, and caches them. It must not know what a test does with them.

use strict;
use warnings;

use Fcntl qw(S_IFREG);
use File::Path ();

use Lab::Box;
use Lab::Emulated;

# To be counted up when what is built below changes.
my $RECIPE = 1;

my @PROGRAMS = map { "/usr/sbin/$_" } qw(zfs zpool mount.zfs);
# Loaded by the C library when a thread is ended, as `zfs send` does; `ldd` does not say so.
my $UNWINDER = '/lib/x86_64-linux-gnu/libgcc_s.so.1';

# Builds the layer where there is none, or skips the file.
sub ready {
    Lab::Emulated::ready();
    my $why = defined(Lab::Box::which('debootstrap')) ? undef : "'debootstrap' is not installed (Debian package debootstrap)";
    $why //= 'this needs root' if $> != 0;
    $why //= $@ if !defined($why) && !eval { layer(); 1 };
    Lab::Emulated::skip_all("no ZFS: $why") if defined($why);
    return;
}

# An archive to lie over the machine's, for run(layers => […]). A kernel of one Debian release gets the ZFS of the same release as it
# is when the kernel is new.
sub layer {
    my ($package, $version, $release) = Lab::Emulated::kernel();
    my $machine = Lab::Emulated::machine();
    return Lab::Emulated::cached("zfs-for-$package-$version-$RECIPE", sub { my ($dir) = @_; _build($dir, $machine, $release) }) . '/zfs.cpio';
}

# The archives of Debian that this machine uses, as (address, suite, address, suite, …).
sub _archives {
    return map { split(/\|/) } grep { length } split(/\n/, Lab::Emulated::must(['apt-get', 'indextargets', '--format', '$(REPO_URI)|$(RELEASE)', 'Created-By: Packages', 'Origin: Debian', 'Component: main']));
}

sub _build {
    my ($dir, $machine, $release) = @_;
    my $root = "$dir/debian";
    my ($suite) = Lab::Box::slurp('/etc/os-release') =~ m/^VERSION_CODENAME=(\S+)/m or die "/etc/os-release names no release of Debian\n";
    my @archives = _archives();
    my %by = reverse(@archives);
    Lab::Emulated::must(['debootstrap', '--variant=minbase', $suite, $root, $by{$suite} // die "apt has no archive of '$suite'\n"], timeout => 600);
    my $list = '';
    while (my ($address, $archive) = splice(@archives, 0, 2)) { $list .= "deb $address $archive main contrib\n" }
    Lab::Box::spew("$root/etc/apt/sources.list", $list);
    Lab::Box::spew("$root/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0755);
    # mounts and processes of its own, which are gone when it ends
    my $within = sub {
        return Lab::Emulated::must(['unshare', '--mount', '--pid', '--fork', '--kill-child', "--root=$root", '--wd=/', '--mount-proc', 'env', '-i', 'PATH=/usr/sbin:/usr/bin', 'LC_ALL=C', 'DEBIAN_FRONTEND=noninteractive', @_], timeout => 1800);
    };
    $within->('apt-get', '-q', 'update');
    $within->('apt-get', '-q', 'install', '-y', '--no-install-recommends', "linux-headers-$release", 'dkms', 'build-essential', 'zfsutils-linux');
    # not installed: its set-up would build for the kernel outside
    $within->('apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download', 'zfs-dkms');
    my ($deb) = glob("$root/zfs-dkms_*.deb");
    Lab::Emulated::must(['dpkg-deb', '-x', $deb, $root]);
    my ($source) = glob("$root/usr/src/zfs-*");
    my ($version) = $source =~ m/-([^-]+)\z/;
    $within->('dkms', 'build', '-m', 'zfs', '-v', $version, '-k', $release);

    my $modules = "usr/lib/modules/$release";
    Lab::Emulated::must(['cp', '-a', "$machine/root", "$dir/root"]);
    Lab::Emulated::take_module($_, "$dir/root/$modules/updates/dkms/" . s!.*/!!r) for glob("$root/var/lib/dkms/zfs/$version/$release/x86_64/module/*.ko*");
    Lab::Emulated::index_modules("$dir/root", $release);
    my %file = map { $_ => 1 } @PROGRAMS, $UNWINDER, $within->('ldd', @PROGRAMS) =~ m!(?:=> |^\s+)(/\S+) \(!mg;
    Lab::Emulated::archive("$dir/zfs.cpio",
        (grep { $_->[0] =~ m!\A\Q$modules\E/(?:updates/|modules\.)! } Lab::Emulated::tree("$dir/root")),
        map { [$_, S_IFREG | 0755, Lab::Box::slurp("$root$_") || die "there is no $_\n"] } sort keys %file);
    File::Path::remove_tree($root, "$dir/root");
    return;
}

1;
