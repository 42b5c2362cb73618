# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Emulated;

# An emulated machine: Debian's own kernel with real disks under QEMU, in which one static program runs, or a command with the root of
# this machine below it. It is for what the kernel outside lacks. It knows how to build the machine once (and caches it), how to run a
# program in it, and how to hand on what that said. It must not know what the program is about, nor the product.
#
#     Lab::Emulated::ready();                       # builds the machine if there is none, or skips the test
#     my $r = Lab::Emulated::run(program => '/path/to/static', disks => [ … ]);
#     my $r = Lab::Emulated::run_userland(['perl', …], disks => [ … ]);
#     Lab::Tap::pass_on($r);                        # its TAP becomes the results of this test
#
# Processors are emulated (TCG) even where there is a /dev/kvm: one that opens does not say that a stock kernel gets anywhere with it.
# SMBGW_KVM=1 is for who knows better.

use strict;
use warnings;

use Fcntl qw(:flock :mode);
use File::Basename ();
use File::Find ();
use File::Path ();
use File::Temp ();
use POSIX ();
use Time::HiRes ();

use Lab::Box;

our $CACHE = '/var/cache/smbgw-test/emulated';

# To be counted up when what is built below changes.
my $RECIPE = 1;

# What the machine can load; the rest follows from these. Nothing is loaded that nobody asks for.
my @MODULES = qw(virtio_pci virtio_blk ext4 xfs quota_v2 9p 9pnet_virtio overlay);

my $MARK = 'smbgw-emulated:';

# --- what is needed ---------------------------------------------------------------------------------------------------

# What is needed and not there: a sentence for skip_all, or undef.
sub missing {
    my $here = (POSIX::uname())[4];
    return "the emulated machine is an x86_64, this one is '$here'" if $here ne 'x86_64';
    my %package = (
        'qemu-system-x86_64' => 'qemu-system-x86', busybox => 'busybox-static', depmod => 'kmod', modprobe => 'kmod', strip => 'binutils', xz => 'xz-utils',
        zstd => 'zstd', 'apt-get' => 'apt', 'dpkg-deb' => 'dpkg', setpriv => 'util-linux', 'mkfs.ext4' => 'e2fsprogs', 'mkfs.xfs' => 'xfsprogs',
    );
    for my $program (sort keys %package) {
        return "'$program' is not installed (Debian package $package{$program})" if !defined(Lab::Box::which($program));
    }
    # the other package of that name is linked with libraries that are not there
    return "'busybox' is not static (Debian package busybox-static)" if Lab::Box::slurp(Lab::Box::which('busybox')) =~ m!/ld-linux!;
    return undef;
}

# Builds the machine where there is none. The file is skipped if that cannot be.
sub ready {
    my $why = missing();
    $why //= $@ if !defined($why) && !eval { machine(); 1 };
    skip_all("no emulated machine: $why") if defined($why);
    return;
}

# As that of the box, for a reason of several lines.
sub skip_all { my ($why) = @_; return Lab::Box::skip_all($why =~ s/\s+\z//r =~ s/\s*\n\s*/; /gr) }

# Runs a program of this machine to its end; what it printed. Options: out => file, timeout => seconds.
sub must {
    my ($argv, %o) = @_;
    my ($out, $err) = (File::Temp->new(), File::Temp->new());
    my $status = Lab::Box::wait_for(Lab::Box::spawn([Lab::Box::which($argv->[0]) // $argv->[0], @$argv[1 .. $#$argv]], out => $o{out} // "$out", err => "$err"), $o{timeout} // 120);
    die "'@$argv' failed: " . Lab::Box::slurp("$err") . "\n" if !defined($status) || $status != 0;
    return Lab::Box::slurp("$out");
}

# --- the machine ------------------------------------------------------------------------------------------------------

# A directory of the cache; the code fills it where there is none. Who comes second waits for the first, and nothing half made is seen.
sub cached {
    my ($key, $fill) = @_;
    my $dir = "$CACHE/$key";
    return $dir if -d $dir;
    File::Path::make_path($CACHE);
    open(my $lock, '>', "$dir.lock") or die "cannot write $dir.lock: $!\n";
    flock($lock, LOCK_EX) or die "cannot lock $dir.lock: $!\n";
    return $dir if -d $dir;
    File::Path::remove_tree("$dir.new");
    mkdir("$dir.new", 0755) or die "cannot create $dir.new: $!\n";
    $fill->("$dir.new");
    rename("$dir.new", $dir) or die "cannot rename $dir.new: $!\n";
    return $dir;
}

# The kernel of this Debian as (package, version, release): what `linux-image-amd64` stands for today.
sub kernel {
    my ($package, $version) = must(['apt-cache', 'show', '--no-all-versions', 'linux-image-amd64']) =~ m/^Depends:.*?\b(linux-image-\S+) \(= ([^)\s]+)\)/m
        or die "apt names no kernel for 'linux-image-amd64'\n";
    return ($package, $version, $package =~ s/\Alinux-image-//r);
}

# The directory with `vmlinux`, the modules as a tree (`root`) and the first root file system with them (`base.cpio`).
my $machine;

sub machine {
    $machine //= eval { _machine() };
    return $machine if defined($machine);
    # the lists of packages are missing, or older than the archive
    must(['apt-get', '-q', 'update'], timeout => 300);
    $machine = _machine();
    return $machine;
}

sub _machine {
    my ($package, $version, $release) = kernel();
    return cached("$package-$version-$RECIPE", sub {
        my ($dir) = @_;
        my $tree = "$dir/package";
        unpack_package("$package=$version", $tree);
        _extract_kernel("$tree/boot/vmlinuz-$release", "$dir/vmlinux");
        _pick_modules($tree, $release, "$dir/root");
        File::Path::remove_tree($tree);
        my $busybox = Lab::Box::which('busybox');
        archive("$dir/base.cpio",
            (map { [$_, S_IFLNK | 0777, "usr/$_"] } qw(bin sbin lib lib64)),
            (map { [$_, S_IFDIR | 0755] } qw(dev mnt proc root run sys var usr/bin usr/sbin usr/lib usr/lib64)),
            ['tmp', S_IFDIR | 01777],
            ['usr/bin/busybox', S_IFREG | 0755, Lab::Box::slurp($busybox)],
            (map { ["usr/$_", S_IFLNK | 0777, '/usr/bin/busybox'] } grep { m!\As?bin/! && $_ ne 'bin/busybox' } map { s!\Ausr/!!r } split(/\n/, must([$busybox, '--list-full']))),
            ['etc/passwd', S_IFREG | 0644, "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"],
            ['etc/group', S_IFREG | 0644, "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"],
            tree("$dir/root"));
    });
}

# Downloads a package by apt, and unpacks it in a new directory. Nothing is installed.
sub unpack_package {
    my ($package, $dir) = @_;
    mkdir($dir, 0755) or die "cannot create $dir: $!\n";
    must(['env', '-C', $dir, 'apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download', $package], timeout => 300);
    must(['dpkg-deb', '-x', $_, $dir]) for glob("$dir/*.deb");
    return;
}

# Takes the kernel out of its wrapping, as the boot protocol says where it is: the machine would need two seconds for that, each time.
sub _extract_kernel {
    my ($vmlinuz, $to) = @_;
    my $image = Lab::Box::slurp($vmlinuz);
    my ($sectors) = unpack('C', substr($image, 0x1f1, 1));
    my ($offset, $length) = unpack('V2', substr($image, 0x248, 8));
    # its size follows the packed kernel
    my ($packed, $size) = unpack('a' . ($length - 4) . 'V', substr($image, ($sectors + 1) * 512 + $offset, $length));
    my @unpack = $packed =~ m/\A\xfd7zXZ\0/ ? ('xz', '-dc') : $packed =~ m/\A\x28\xb5\x2f\xfd/ ? ('zstd', '-dcq') : die "'$vmlinuz' is packed in a way that is not known\n";
    Lab::Box::spew("$to.packed", $packed);
    must([@unpack, "$to.packed"], out => $to);
    unlink("$to.packed");
    die "'$vmlinuz' could not be unpacked in full\n" if -s $to != $size;
    return;
}

# The wanted modules and all that they need, without their debug information, and with the tables of their names.
sub _pick_modules {
    my ($tree, $release, $root) = @_;
    symlink('usr/lib', "$tree/lib");    # where a package of Debian 13 has them; there is one in a package of Debian 12
    must(['depmod', '-b', $tree, $release]);
    my $from = "$tree/lib/modules/$release";
    my $to = "$root/usr/lib/modules/$release";
    my %file;
    for my $module (@MODULES) {
        $file{$_} = 1 for must(['modprobe', '-d', $tree, '-S', $release, '--show-depends', $module]) =~ m!^insmod \S*?/lib/modules/\Q$release\E/(\S+)!mg;
    }
    take_module("$from/$_", "$to/$_") for sort keys %file;
    Lab::Box::spew("$to/$_", Lab::Box::slurp("$from/$_")) for 'modules.builtin', 'modules.builtin.modinfo', 'modules.order';
    index_modules($root, $release);
    return;
}

# Copies a module, unpacked: the machine's own loader knows nothing else.
sub take_module {
    my ($from, $to) = @_;
    File::Path::make_path(File::Basename::dirname($to));
    must([$from =~ m/\.xz\z/ ? ('xz', '-dc') : $from =~ m/\.zst\z/ ? ('zstd', '-dcq') : 'cat', $from], out => $to =~ s/\.(?:xz|zst)\z//r);
    return;
}

# Strips the modules of a tree, and writes the tables by which the kernel's `modprobe` finds them.
sub index_modules {
    my ($root, $release) = @_;
    File::Find::find({ no_chdir => 1, wanted => sub { must(['strip', '-d', $_]) if m/\.ko\z/ } }, $root);
    symlink('usr/lib', "$root/lib");
    must(['depmod', '-b', $root, $release]);
    unlink("$root/lib");
    return;
}

# --- archives ---------------------------------------------------------------------------------------------------------

# Writes what the kernel unpacks as its first root: "newc" entries [path, mode, content], where the content of a link is its target.
# Directories on the way are made. Several archives in a row are one, and a later file replaces an earlier one.
sub archive {
    my ($file, @entries) = @_;
    open(my $fh, '>:raw', $file) or die "cannot write $file: $!\n";
    my %made;
    my $inode = 0;
    my $entry = sub {
        my ($path, $mode, $data) = @_;
        my $head = '070701' . join('', map { sprintf('%08X', $_) } ++$inode, $mode, 0, 0, 1, 0, length($data), 0, 0, 0, 0, length($path) + 1, 0) . "$path\0";
        print {$fh} map { $_ . "\0" x (-length($_) % 4) } $head, $data;
    };
    for (@entries) {
        my ($path, $mode, $data) = @$_;
        $path =~ s!\A/!!;
        # these are links: a directory in their place would hide what is below /usr
        $path =~ s!\A((?:s?bin|lib(?:64)?)/)!usr/$1!;
        my @parts = split(m!/!, $path);
        for my $n (1 .. $#parts) {
            my $parent = join('/', @parts[0 .. $n - 1]);
            $entry->($parent, S_IFDIR | 0755, '') if !$made{$parent}++;
        }
        next if S_ISDIR($mode) && $made{$path}++;
        $entry->($path, $mode, $data // '');
    }
    $entry->('TRAILER!!!', 0, '');
    close($fh) or die "cannot write $file: $!\n";
    return;
}

# The entries of all files below a directory.
sub tree {
    my ($dir) = @_;
    my @entries;
    File::Find::find({ no_chdir => 1, wanted => sub {
        my @st = lstat($_);
        push @entries, [substr($_, length($dir) + 1), $st[2], -l _ ? readlink($_) : Lab::Box::slurp($_)] if $_ ne $dir && !-d _;
    } }, $dir);
    return @entries;
}

# --- a run ------------------------------------------------------------------------------------------------------------

sub _quote { return join(' ', map { "'" . s/'/'\\''/gr . "'" } @_) }

# Boots the machine, runs a static program in it as root, and powers off. Options:
#
#     program => path, args => [words], env => { NAME => value }
#     disks   => [{ size => MiB, mkfs => [words before the image], type => 'ext4', options => 'prjquota', mount => '/mnt/ext4' }]
#     files   => { path there => path here }, layers => [archives that lie over the machine's]
#     before  => [[words], …]    what has to succeed before the program starts, after disks are mounted
#     memory  => MiB (256), timeout => seconds (60; then it is turned off)
#
# Gives { status => the program's, undef if it did not come to its end, why => what went wrong then, lines => [what it said on both
# outputs], console => what the kernel said, seconds }.
sub run {
    my (%o) = @_;
    local @SIG{qw(INT TERM HUP)} = (sub { exit(1) }) x 3;    # by way of END, so that the directory goes
    machine();
    my $dir = File::Temp->newdir('smbgw-emulated.XXXXXX', TMPDIR => 1);
    my @disks = @{ $o{disks} // [] };
    my @needed = @{ $o{system} // [] };
    my @qemu = @{ $o{qemu} // [] };
    for my $n (0 .. $#disks) {
        my $disk = $disks[$n];
        my $image = "$dir/disk$n";
        open(my $fh, '>', $image) or die "cannot write $image: $!\n";
        truncate($fh, $disk->{size} << 20) or die "cannot write $image: $!\n";
        must([@{ $disk->{mkfs} }, $image]);
        push @qemu, '-drive', "if=none,id=disk$n,file=$image,format=raw,cache=unsafe", '-device', "virtio-blk-pci,drive=disk$n";
        my $at = ($o{root} // '') . $disk->{mount};
        push @needed, ['mkdir', '-p', $at], ['mount', '-t', $disk->{type}, '-o', $disk->{options} // 'defaults', '/dev/vd' . chr(ord('a') + $n), $at];
    }
    push @needed, @{ $o{before} // [] };
    my $files = { %{ $o{files} // {} } };
    my @command = @{ $o{command} // ['/program/' . File::Basename::basename($o{program}), @{ $o{args} // [] }] };
    $files->{ $command[0] } = $o{program} if defined($o{program});
    archive("$dir/own.cpio",
        ['init', S_IFREG | 0755, _init(\@needed, $o{env} // {}, \@command)],
        map { [$_, S_IFREG | (stat($files->{$_}) ? (stat(_))[2] & 07777 : die "cannot read $files->{$_}: $!\n"), Lab::Box::slurp($files->{$_})] } sort keys %$files);
    must(['cat', "$machine/base.cpio", @{ $o{layers} // [] }, "$dir/own.cpio"], out => "$dir/initrd");
    my $kvm = ($ENV{SMBGW_KVM} // '') eq '1';
    my $start = Time::HiRes::time();
    # it does not outlive us, even if we are killed
    my $pid = Lab::Box::spawn(['setpriv', '--pdeathsig', 'KILL', Lab::Box::which('qemu-system-x86_64'),
        '-M', 'q35', '-accel', $kvm ? 'kvm' : 'tcg', '-cpu', $kvm ? 'host' : 'max', '-smp', 1, '-m', $o{memory} // 256,
        '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', "file:$dir/console", '-serial', "file:$dir/said",
        '-kernel', "$machine/vmlinux", '-initrd', "$dir/initrd", '-append', 'console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off tsc=reliable', @qemu],
        err => "$dir/err");
    my $timeout = $o{timeout} // 60;
    my $ended = Lab::Box::wait_for($pid, $timeout);
    my %r = (seconds => Time::HiRes::time() - $start, console => Lab::Box::slurp("$dir/console") . Lab::Box::slurp("$dir/err"));
    my $said = Lab::Box::slurp("$dir/said");
    $r{status} = $1 if $said =~ s/\Q$MARK\E exit (\d+)\n\z//;
    $r{why} = $1 if $said =~ s/\Q$MARK\E (.+)\n\z//;
    $r{why} //= "it was turned off after $timeout seconds" if !defined($ended);
    $r{why} //= 'it ended before the program did' if !defined($r{status});
    $r{lines} = [split(/\n/, $said)];
    return \%r;
}

# Runs a command of this machine with all that it needs: the emulated machine has this one's root, under a layer in memory that takes what
# is written. /dev, /proc, /run and /sys are its own; /tmp is not, since the repository may lie there. Options as run(), without those for files.
sub run_userland {
    my ($argv, %o) = @_;
    my $root = '/system';
    my @enter = ('chroot', $root);
    return run(memory => 512, %o, root => $root, command => [@enter, @$argv], before => [map { [@enter, @$_] } @{ $o{before} // [] }],
        qemu => ['-virtfs', 'local,path=/,mount_tag=outside,security_model=none,readonly=on,multidevs=remap'],
        system => [
            ['modprobe', '-a', '9pnet_virtio', '9p', 'overlay'],
            ['mkdir', '/outside', '/layer', $root],
            ['mount', '-t', '9p', '-o', 'ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000', 'outside', '/outside'],
            ['mount', '-t', 'tmpfs', 'layer', '/layer'],
            ['mkdir', '/layer/upper', '/layer/work'],
            ['mount', '-t', 'overlay', '-o', 'lowerdir=/outside,upperdir=/layer/upper,workdir=/layer/work', 'system', $root],
            (map { ['mount', '--bind', "/$_", "$root/$_"] } qw(dev proc sys)),
            ['mount', '-t', 'tmpfs', '-o', 'mode=0755', 'run', "$root/run"],
        ]);
}

# The first process of the machine. What the program says has a port of its own, which the kernel does not write to; it is closed
# before the power goes, which waits until all is out.
sub _init {
    my ($needed, $env, $command) = @_;
    my $steps = join('', map { 'needed ' . _quote(@$_) . "\n" } ['modprobe', '-a', 'virtio_pci', 'virtio_blk'], @$needed);
    my $export = join('', map { "export $_=" . _quote($env->{$_}) . "\n" } sort keys %$env);
    return <<"SH" . $export . _quote(@$command) . "\n" . <<"END";
#!/bin/sh
export PATH=/usr/sbin:/usr/bin HOME=/root
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=1777 tmp /tmp
stty -F /dev/ttyS1 -opost
needed() { "\$@" || { echo "$MARK '\$*' failed"; exit; }; }
(
ip link set lo up
${steps}cd /tmp
SH
echo "$MARK exit \$?"
) >/dev/ttyS1 2>&1 </dev/null
poweroff -f
END
}

1;
