# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Packages;

# The product's Debian packages, and plain Debian systems to install them into. It knows how packages are built (`make deb`; for another
# Debian than this machine's in a root of that one), how a newer version of one is made, and how a small system with systemd is built and
# cached, from which `pct create` makes a container. It must not know what a test does with them.
#
#     Lab::Packages::ready('bookworm');      # before the box: packages and system; both need a network when they are built
#     Lab::Box::enter();
#     Lab::Guests::prepare();
#     Lab::Packages::into_storage('bookworm');

use strict;
use warnings;
no warnings 'exec';    # what follows an exec is there for its failure

use Fcntl qw(:flock);
use File::Basename ();
use File::Path ();
use POSIX ();

use Lab::Box;
use Lab::Guests;

our $CACHE = '/var/cache/smbgw-test/packages';

# To be counted up when what is built below changes: systems, and roots to build packages in.
my $SYSTEM = 2;
my $BUILD = 3;

our @NAMES = qw(libsmbgw0 libsmbgw-dev libsmbgw-perl pve-smbgateway);

# What the packages depend on and recommend, without which they cannot be installed where there is no network; and what makes it a system.
my @INSTALLED = qw(systemd-sysv ifupdown iproute2 perl samba samba-common-bin smbclient);
# Nobody logs in on a terminal, and an unprivileged container cannot do the rest.
my @MASKED = qw(nmbd.service winbind.service samba-ad-dc.service console-getty.service container-getty@.service getty@.service systemd-networkd.service
    systemd-logind.service sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount);

my $PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

# What is needed and not there: a sentence for skip_all, or undef.
sub missing {
    my ($suite) = @_;
    my %package = (chroot => 'coreutils', 'dpkg-deb' => 'dpkg', 'dpkg-scanpackages' => 'dpkg-dev', zstd => 'zstd');
    my $here = $suite eq Lab::Guests::own_suite();
    $package{debootstrap} = 'debootstrap' if !defined(system_archive($suite)) || !$here && !-d _root_elsewhere($suite);
    $package{lintian} = 'lintian' if $here;
    for my $program (sort keys %package) {
        return "'$program' is not installed (Debian package $package{$program})" if !defined(Lab::Box::which($program));
    }
    return 'this needs root' if $> != 0;
    return undef;
}

# To be called before the box is entered, which has no network. Builds what is not there; the file is skipped if that cannot be.
sub ready {
    my ($suite) = @_;
    my $why = missing($suite);
    $why //= $@ if !defined($why) && !eval { _build_packages($suite) if !_built($suite); _build_system($suite) if !defined(system_archive($suite)); 1 };
    Lab::Box::skip_all("no packages in Debian's $suite: " . $why =~ s/\s+\z//r =~ s/\s*\n\s*/; /gr) if defined($why);
    return;
}

# --- the packages -----------------------------------------------------------------------------------------------------

sub _directory { my ($suite) = @_; return "$Lab::Box::ROOT/.cache/deb" . ($suite eq Lab::Guests::own_suite() ? '' : "-$suite") }

# The packages that are there for a suite, however old: name => path; undef if one is missing.
sub packages {
    my ($suite) = @_;
    my %p = map { m!/([a-z0-9-]+)_[^/]*\.deb\z! ? ($1 => $_) : () } glob(_directory($suite) . '/*.deb');
    return undef if grep { !defined($p{$_}) } @NAMES;
    return \%p;
}

# With the root that they were built in, where lintian is.
sub _built { my ($suite) = @_; return defined(packages($suite)) && ($suite eq Lab::Guests::own_suite() || -d _root_elsewhere($suite)) }

sub _build_packages {
    my ($suite) = @_;
    my $log = "$Lab::Box::ROOT/.cache/deb-$suite.log";
    my @build = $suite eq Lab::Guests::own_suite() ? ('make', '-C', $Lab::Box::ROOT, 'deb')
        : (_own_mounts('Lab::Packages::_build_elsewhere'), $suite);
    _logged($log, 3600, @build) or die "the packages cannot be built, see $log\n";
    return if defined(packages($suite));
    die "not all packages were built, see $log\n";
}

# A copy of a package with another version, as a later build would give it; the path of the copy, in a directory.
sub with_version {
    my ($package, $version, $dir) = @_;
    my $name = File::Basename::basename($package) =~ s/_.*//r;
    my $tree = "$dir/$name.tree";
    _must('dpkg-deb', '--raw-extract', $package, $tree);
    my $control = Lab::Box::slurp("$tree/DEBIAN/control");
    my ($old) = $control =~ m/^Version: (\S+)$/m or die "no version in $package\n";
    # its own, and that of the other packages of the same build
    $control =~ s/^Version: \K\Q$old\E$/$version/m;
    $control =~ s/\(= \Q$old\E\)/(= $version)/g;
    Lab::Box::spew("$tree/DEBIAN/control", $control, 0644);
    my $new = "$dir/${name}_$version.deb";
    _pack($tree, $new);
    File::Path::remove_tree($tree);
    return $new;
}

sub _pack {
    my ($tree, $file) = @_;
    my $r = Lab::Box::run(['dpkg-deb', '--root-owner-group', '-Znone', '--build', $tree, $file], timeout => 120);
    die "'$file' cannot be packed: $r->{all}" if !defined($r->{rc}) || $r->{rc} != 0;
    return;
}

sub version_of { my ($package) = @_; return (Lab::Box::run(['dpkg-deb', '--field', $package, 'Version'])->{out}) =~ s/\s+\z//r }

# A package of a name, with nothing in it; files of its control directory can be given.
sub empty_package {
    my ($dir, $name, $version, %files) = @_;
    my $tree = "$dir/$name.tree";
    File::Path::make_path("$tree/DEBIAN");
    Lab::Box::spew("$tree/DEBIAN/control", "Package: $name\nVersion: $version\nArchitecture: all\nMaintainer: nobody <nobody\@example.com>\nDescription: nothing, under a name\n", 0644);
    Lab::Box::spew("$tree/DEBIAN/$_", $files{$_}, $_ eq 'triggers' ? 0644 : 0755) for keys %files;
    my $file = "$dir/${name}_" . ($version =~ s/\A\d+://r) . '_all.deb';
    _pack($tree, $file);
    File::Path::remove_tree($tree);
    return $file;
}

# A package that stands for pve-manager as far as triggers go: it writes a line for each time that Proxmox's daemons would be reloaded.
sub trigger_watch {
    my ($dir, $mark) = @_;
    return empty_package($dir, 'trigger-watch', 1, triggers => "interest-noawait pve-api-updates\n", postinst => qq(#!/bin/sh\nif [ "\$1" = triggered ]; then echo "\$2" >>$mark; fi\n));
}

# Makes a repository of a directory with packages, as apt reads it from `deb [trusted=yes] file:DIRECTORY ./`.
sub index_packages {
    my ($dir) = @_;
    my $r = Lab::Box::run(['dpkg-scanpackages', '--multiversion', $dir], timeout => 60);
    die "no index of '$dir': $r->{all}" if !defined($r->{rc}) || $r->{rc} != 0;
    Lab::Box::spew("$dir/Packages", $r->{out} =~ s!^Filename: \K.*/!./!mgr, 0644);
    return;
}

# --- systems ----------------------------------------------------------------------------------------------------------

# The archive of a plain Debian, or undef.
sub system_archive {
    my ($suite) = @_;
    my $path = "$CACHE/plain-$suite-$SYSTEM.tar.zst";
    return -e $path ? $path : undef;
}

# How `pct create` is told to take it.
sub volume { my ($suite) = @_; return 'local:vztmpl/' . File::Basename::basename(system_archive($suite)) }

# Puts it where the box keeps its templates.
sub into_storage {
    my ($suite) = @_;
    File::Path::make_path('/var/lib/vz/template/cache');
    symlink(system_archive($suite), '/var/lib/vz/template/cache/' . File::Basename::basename(system_archive($suite))) or die "template: $!\n";
    return;
}

# Who comes second waits for the first, and nothing half made is seen.
sub _build_system {
    my ($suite) = @_;
    my $new = "$CACHE/plain-$suite.new";
    my $lock = _lock("$new.lock");
    return if defined(system_archive($suite));
    File::Path::remove_tree($new);
    _logged("$new.log", 1800, _own_mounts('Lab::Packages::_build_root'), $new, $suite, 'system') or die "a plain Debian cannot be built, see $new.log\n";
    _must('tar', '-c', '--zstd', '--numeric-owner', '--xattrs', '--xattrs-include=security.capability', '-f', "$new.tar.zst", '-C', $new, '.');
    rename("$new.tar.zst", "$CACHE/plain-$suite-$SYSTEM.tar.zst") or die "cannot rename $new.tar.zst: $!\n";
    File::Path::remove_tree($new);
    unlink("$new.log");
    return;
}

# Runs in mounts of its own.
sub _build_root {
    my ($root, $suite, $what) = @_;
    %ENV = (PATH => $PATH, LC_ALL => 'C', DEBIAN_FRONTEND => 'noninteractive', map { $_ => $ENV{$_} } grep { m/_proxy\z/i } keys %ENV);
    _must('debootstrap', '--variant=minbase', $suite, $root);
    # no services while it is built, no documents, and no care for what a crash would lose
    Lab::Box::spew("$root/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0755);
    Lab::Box::spew("$root/etc/dpkg/dpkg.cfg.d/small", join('', "force-unsafe-io\n", map { "path-exclude /usr/share/$_/*\n" } qw(doc man locale)));
    # as an administrator keeps it: packages that were built with updates want them
    Lab::Box::spew("$root/etc/apt/sources.list.d/updates.list", join('', map { "deb http://deb.debian.org/$_ main\n" } "debian-security $suite-security", "debian $suite-updates"), 0644);
    _must('chroot', $root, 'apt-get', '-q', 'update');
    _must('chroot', $root, 'apt-get', '-q', '-y', 'upgrade');
    if ($what eq 'system') { _must('chroot', $root, 'apt-get', '-q', '-y', '--no-install-recommends', 'install', @INSTALLED) }
    else {
        # what the product itself says it needs there, and what its packages are looked at with
        _must('cp', "$Lab::Box::ROOT/.ci/deps", "$root/root/deps");
        _must('chroot', $root, '/root/deps', 'deb');
        _must('chroot', $root, 'apt-get', '-q', '-y', '--no-install-recommends', 'install', 'lintian');
    }
    _must('chroot', $root, 'apt-get', 'clean');
    File::Path::remove_tree("$root/var/lib/apt/lists", map { "$root/usr/share/$_" } qw(doc man locale));
    return if $what ne 'system';
    # of the rest what a test installs is to be there as anywhere
    unlink("$root/usr/sbin/policy-rc.d", "$root/etc/dpkg/dpkg.cfg.d/small");
    File::Path::make_path("$root/etc/systemd/system");
    symlink('/dev/null', "$root/etc/systemd/system/$_") for @MASKED;
    Lab::Box::spew("$root/etc/fstab", '', 0644);
    return;
}

# --- another Debian -----------------------------------------------------------------------------------------------------

sub _root_elsewhere { my ($suite) = @_; return "$CACHE/build-$suite-$BUILD" }

# Builds the packages in a root of that Debian: its Perl, its Rust. Sources are copied into memory; crates are those of this machine's
# cargo; what rustc made is kept for the next time. Runs in mounts of its own.
sub _build_elsewhere {
    my ($suite) = @_;
    my $root = _root_elsewhere($suite);
    my $lock = _lock("$root.lock");
    if (!-d $root) {
        File::Path::remove_tree("$root.new");
        _build_root("$root.new", $suite, 'build');
        rename("$root.new", $root) or die "cannot rename $root.new: $!\n";
    }
    my $out = _directory($suite);
    my $cargo = $ENV{CARGO_HOME} // "$ENV{HOME}/.cargo";
    my %bind = ('/cargo/registry' => "$cargo/registry", '/target' => "$CACHE/target-$suite");
    File::Path::make_path($out, values(%bind), map { "$root$_" } keys(%bind), '/work');
    _must('mount', '--bind', $bind{$_}, "$root$_") for sort keys %bind;
    _must('mount', '-t', 'proc', 'proc', "$root/proc");
    _must('mount', '-t', 'tmpfs', 'tmpfs', "$root/work");
    _must('cp', '/etc/resolv.conf', "$root/etc/resolv.conf");
    # what this machine trusts: cargo may have to go through a proxy of its network
    my $certificates = '/etc/ssl/certs/ca-certificates.crt';
    _must('mount', '--bind', $certificates, "$root$certificates") if -e $certificates && -e "$root$certificates";
    # the sources alone: nothing of what was built here is of use there
    _must('tar', '-c', '-f', "$root/work/src.tar", '-C', $Lab::Box::ROOT, '--exclude=./target', '--exclude=./.cache', '--exclude=./.git', '.');
    File::Path::make_path("$root/work/smbgw");
    _must('tar', '-x', '-f', "$root/work/src.tar", '-C', "$root/work/smbgw");
    local %ENV = (PATH => $PATH, LC_ALL => 'C.UTF-8', HOME => '/root', CARGO_HOME => '/cargo', CARGO_TARGET_DIR => '/target', PROFILE => $ENV{PROFILE} // 'release',
        map { $_ => $ENV{$_} } grep { m/_proxy\z/i } keys %ENV);
    _must('chroot', $root, 'make', '-C', '/work/smbgw', 'deb');
    unlink(glob("$out/*"));
    _must('cp', glob("$root/work/smbgw/.cache/deb/*"), $out);
    return;
}

# What the lintian of the suite says of the packages, as Lab::Box::run() does: this machine's, or that of the root they were built in.
sub lintian {
    my ($suite) = @_;
    my $packages = packages($suite);
    my @files = map { $packages->{$_} } @NAMES;
    my @argv = ('lintian', '--allow-root', '--fail-on', 'error,warning', '--tag-display-limit', '0');
    return Lab::Box::run([@argv, @files], timeout => 600) if $suite eq Lab::Guests::own_suite();
    return Lab::Box::run([_own_mounts('Lab::Packages::_inside_elsewhere'), $suite, _directory($suite), @argv, map { '/work/' . File::Basename::basename($_) } @files], timeout => 600);
}

# Becomes a program in the root of that Debian, with a directory at /work. Runs in mounts of its own.
sub _inside_elsewhere {
    my ($suite, $directory, @argv) = @_;
    my $root = _root_elsewhere($suite);
    _must('mount', '--bind', $directory, "$root/work");
    _must('mount', '-t', 'proc', 'proc', "$root/proc");
    _must('mount', '-t', 'tmpfs', 'tmpfs', "$root/tmp");
    %ENV = (PATH => $PATH, LC_ALL => 'C.UTF-8', HOME => '/root');
    exec('chroot', $root, @argv);
    die "cannot run chroot: $!\n";
}

# --- what all of them do ------------------------------------------------------------------------------------------------

sub _must { my (@argv) = @_; system(@argv) == 0 or die "'@argv' failed\n"; return }

sub _lock {
    my ($path) = @_;
    File::Path::make_path($CACHE);
    open(my $lock, '>', $path) or die "cannot write $path: $!\n";
    flock($lock, LOCK_EX) or die "cannot lock $path: $!\n";
    return $lock;
}

# Runs a program with its output in a file; true if it worked in time.
sub _logged {
    my ($log, $seconds, @argv) = @_;
    File::Path::make_path(File::Basename::dirname($log));
    my $pid = fork() // die "cannot fork: $!\n";
    if (!$pid) {
        open(STDOUT, '>', $log) && open(STDERR, '>&', \*STDOUT) or POSIX::_exit(126);
        exec(@argv);
        POSIX::_exit(127);
    }
    my $status = Lab::Box::wait_for($pid, $seconds);
    return defined($status) && $status == 0;
}

# How a function of this file is run in mounts and processes of its own, which are gone when it ends, however it does; its arguments follow.
sub _own_mounts {
    my ($function) = @_;
    return ('unshare', '--mount', '--pid', '--fork', '--mount-proc', '--kill-child', $^X, '-I', File::Basename::dirname(__FILE__) . '/..', '-MLab::Packages', '-e', "$function(\@ARGV)");
}

1;
