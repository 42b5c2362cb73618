# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Box;

# A box: one fake machine made of own net, mount, UTS, IPC and PID namespaces, in which a whole test file runs. It knows how
# to make one, how to run and watch programs in it, and how to compare its files. It must not know Samba or the product.
#
# `Lab::Box::enter()` at the top of a test starts the file again inside a box and does not return outside. Process 1 of the
# box reaps; when the test ends, so does the box with everything that runs in it. Nothing of the machine outside is changed:
# /etc, /run, /tmp, /srv, /var/log and the state directories are private copies, and there is no systemd to be talked to.

use strict;
use warnings;
no warnings 'exec';    # what follows an exec is there for its failure

use Cwd ();
use Digest::SHA ();
use Errno ();
use Fcntl qw(:mode O_WRONLY O_CREAT O_TRUNC);
use File::Basename ();
use File::Find ();
use File::Path ();
use IO::Select ();
use IO::Socket::UNIX ();
use POSIX ();
use Test::More ();
use Time::HiRes ();

# The repository.
our $ROOT = Cwd::realpath(File::Basename::dirname(__FILE__) . '/../../../..');

# Private directories: copied ones keep their content (a box has the accounts and settings of its machine), others start empty.
my @COPIED = ('/etc');
my @EMPTY = qw(/srv /var/log /var/lib/samba /var/cache/samba /var/lib/smbgw /var/tmp /tmp);

my $entered;

# Runs the calling file inside a box. Options: tool => 1 for a program that is no test: it
# says why it cannot and exits with 77.
sub enter {
    my (%o) = @_;
    if (defined($ENV{SMBGW_LAB_BOX})) {
        $entered = $ENV{SMBGW_LAB_BOX};
        return 1;
    }
    my $why = _cannot();
    if (defined($why)) {
        if ($o{tool}) { print STDERR "$why\n"; exit(77) }
        skip_all("no lab: $why");
    }
    _sweep();
    my $base = "/var/tmp/smbgw-lab.$$";
    mkdir($base, 0755) or die "cannot create $base: $!\n";
    my @unshare = ('unshare', '--net', '--mount', '--uts', '--ipc', '--pid', '--fork', '--mount-proc', '--kill-child');
    my $parent = $$;
    my $pid = fork() // die "cannot fork: $!\n";
    if (!$pid) {
        $ENV{SMBGW_LAB_BASE} = $base;
        # prctl(PR_SET_PDEATHSIG, SIGKILL): a box does not outlive us, even if we are killed
        my %prctl = (x86_64 => 157, aarch64 => 167);
        my $number = $prctl{ (POSIX::uname())[4] };
        syscall($number, 1, 9, 0, 0, 0) if defined($number);
        POSIX::_exit(127) if getppid() != $parent;
        exec(@unshare, $^X, '-I', Cwd::realpath(File::Basename::dirname(__FILE__) . '/..'), '-MLab::Box', '-e', 'Lab::Box::_first()', Cwd::realpath($0), @ARGV);
        POSIX::_exit(127);
    }
    for my $signal (qw(INT TERM HUP)) {
        $SIG{$signal} = sub { kill('KILL', $pid) };
    }
    1 while waitpid($pid, 0) < 0 && $!{EINTR};
    my $status = $?;
    remove_cgroups(cgroups($base));
    File::Path::remove_tree($base);
    POSIX::_exit($status & 127 ? 128 + ($status & 127) : $status >> 8);
}

# A machine that promises the lab has to keep the promise: elsewhere the file is skipped and says why, with CI=true it fails.
sub skip_all {
    my ($why) = @_;
    Test::More::BAIL_OUT($why) if ($ENV{CI} // '') eq 'true';
    return Test::More::plan(skip_all => $why);
}

sub _cannot {
    return 'this needs root' if $> != 0;
    for my $program (qw(unshare mount ip hostname cp)) {
        return "this needs the program '$program'" if !defined(which($program));
    }
    my $pid = fork() // return "cannot fork: $!";
    if (!$pid) {
        open(STDOUT, '>', '/dev/null');
        open(STDERR, '>', '/dev/null');
        exec('unshare', '--net', '--mount', '--uts', '--ipc', '--pid', '--fork', 'true');
        POSIX::_exit(127);
    }
    return wait_for($pid, 30) ? "'unshare' cannot make namespaces here" : undef;
}

# What earlier runs left behind that were killed before they could clean up.
sub _sweep {
    for my $dir (glob('/var/tmp/smbgw-lab.*')) {
        my ($pid) = $dir =~ m/\.(\d+)\z/ or next;
        next if kill(0, $pid) || !$!{ESRCH};
        remove_cgroups(cgroups($dir));
        File::Path::remove_tree($dir);
    }
    return;
}

# Process 1 of a box: builds it, starts the test, reaps until the test ends.
sub _first {
    my ($script, @args) = @ARGV;
    my $base = delete($ENV{SMBGW_LAB_BASE});
    eval { _build($base, File::Basename::dirname($script)); 1 } or do { print "Bail out! the box cannot be built: $@"; exit(1) };
    my $child = fork() // die "cannot fork: $!\n";
    if (!$child) {
        POSIX::setsid();
        $ENV{SMBGW_LAB_BOX} = $base;
        $ENV{HOME} = '/tmp';
        delete(@ENV{ grep { m/\A(?:XDG_|DBUS_|KRB5|SUDO_)/ } keys %ENV });
        exec($^X, '-I', Cwd::realpath(File::Basename::dirname(__FILE__) . '/..'), $script, @args);
        POSIX::_exit(127);
    }
    while (1) {
        my $pid = waitpid(-1, 0);
        exit($? & 127 ? 128 + ($? & 127) : $? >> 8) if $pid == $child;
        exit(1) if $pid < 0 && !$!{EINTR};
    }
}

sub _must {
    my (@argv) = @_;
    system(@argv) == 0 or die "'@argv' failed\n";
    return;
}

sub _build {
    my ($base, @more) = @_;
    my $fs = "$base/fs";
    mkdir($fs, 0755) or die "$fs: $!\n";
    _must('mount', '--make-rprivate', '/');
    for my $dir (@COPIED, @EMPTY) {
        File::Path::make_path("$fs$dir");
        if (grep { $_ eq $dir } @COPIED) { _must('cp', '-a', '-x', "$dir/.", "$fs$dir/") }
        if ($dir =~ m!tmp\z!) { chmod(01777, "$fs$dir") }
        File::Path::make_path($dir);
    }
    # the repository, the staged product and the test may lie below a directory that is about to be covered
    my @keep = grep { defined && -d } $base, $ROOT, $ENV{SMBGW_STAGE}, @more;
    my %kept;
    my $n = 0;
    for my $dir (@keep) {
        next if !grep { index("$dir/", "$_/") == 0 } @EMPTY;
        my $at = "$base/keep" . $n++;
        mkdir($at);
        _must('mount', '--rbind', $dir, $at) if $dir ne $base;
        $kept{$dir} = $at;
    }
    # a machine with systemd would otherwise be asked to start our daemons outside
    _must('mount', '-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', '/run');
    File::Path::make_path('/run/lock', '/run/systemd/journal', '/run/lab');
    chmod(0700, '/run/lab');
    for my $dir (sort { $a eq '/var/tmp' ? 1 : $b eq '/var/tmp' ? -1 : $a cmp $b } @COPIED, @EMPTY) {
        for my $kept (sort keys %kept) {
            next if index("$kept/", "$dir/") != 0;
            File::Path::make_path("$fs$kept");
            _must('mount', '--rbind', $kept eq $base ? $base : $kept{$kept}, "$fs$kept");
        }
        _must('mount', '--rbind', "$fs$dir", $dir);
    }
    _must('hostname', 'box');
    _append('/etc/hosts', "127.0.1.1 box\n");
    _must('ip', 'link', 'set', 'lo', 'up');
    return;
}

# --- control groups ---------------------------------------------------------------------------------------------------

# Where the control groups of the box with this base directory are, one for each hierarchy: [directory, how it is mounted, name
# below /sys/fs/cgroup]. Only tests that run containers make them; they lie below the group that the test was started in, so
# that its limits hold for the box too. They are the one thing of a box outside its own directories, and go when it ends.
sub cgroups {
    my ($base) = @_;
    my $name = File::Basename::basename($base);
    my %mounted;
    for my $line (split(/\n/, slurp('/proc/self/mountinfo'))) {
        my ($root, $at, $type, $super) = $line =~ m/\A\S+ \S+ \S+ (\S+) (\S+) .* - (\S+) \S+ (\S+)\z/ or next;
        next if $type !~ m/\Acgroup2?\z/ || $at !~ m!\A/sys/fs/cgroup(?:/|\z)!;
        $mounted{$_} //= { root => $root, at => $at, type => $type } for $type eq 'cgroup2' ? '' : grep { !m/\A(?:rw|ro|xattr|clone_children|noprefix)\z|release_agent/ } split(/,/, $super);
    }
    my %seen;
    my @groups;
    for my $line (split(/\n/, slurp('/proc/self/cgroup'))) {
        my (undef, $controllers, $path) = split(/:/, $line, 3);
        my $m = $mounted{ (split(/,/, $controllers))[0] // '' } or next;
        next if $seen{ $m->{at} }++;
        # where version 2 is all there is, only the topmost group may have both processes and groups with limits
        $path = '' if $m->{at} eq '/sys/fs/cgroup';
        $path =~ s!\A\Q$m->{root}\E!! if $m->{root} ne '/';
        push @groups, ["$m->{at}$path/$name" =~ s!/+!/!gr, $m->{type} eq 'cgroup2' ? ['cgroup2'] : ['cgroup', '-o', $controllers =~ m/\Aname=/ ? "none,$controllers" : $controllers], $m->{at} =~ s!\A/sys/fs/cgroup/?!!r];
    }
    return @groups;
}

# Removes control groups with all below them. What still has processes stays.
sub remove_cgroups {
    my (@groups) = @_;
    for my $group (grep { -d $_->[0] } @groups) {
        # the processes of a killed box, and groups that are being removed, need a moment to be gone
        until_true(sub {
            File::Find::finddepth({ no_chdir => 1, wanted => sub { rmdir($File::Find::name) if -d $File::Find::name } }, $group->[0]);
            !-d $group->[0];
        }, 2);
    }
    return;
}

# --- programs ---------------------------------------------------------------------------------------------------------

# The absolute path of a program, or undef.
sub which {
    my ($name) = @_;
    for my $dir (split(/:/, $ENV{PATH} // ''), qw(/usr/local/sbin /usr/sbin /usr/bin /sbin /bin)) {
        return "$dir/$name" if -f "$dir/$name" && -x _;
    }
    return undef;
}

# Runs a program (list of words, no shell) to its end: { rc, signal, out, err, all, ms }. Options: stdin => text, timeout =>
# seconds (30; then it is killed and rc is undef), env => { NAME => value }.
my $serial = 0;

sub run {
    my ($argv, %o) = @_;
    my $name = "/run/lab/run.$$." . $serial++;
    my $start = Time::HiRes::time();
    my $pid = spawn($argv, %o, out => "$name.out", err => "$name.err");
    my $status = wait_for($pid, $o{timeout} // 30);
    my %r = (argv => $argv, ms => int((Time::HiRes::time() - $start) * 1000), out => slurp("$name.out"), err => slurp("$name.err"));
    unlink("$name.out", "$name.err", "$name.in");
    $r{rc} = defined($status) && !($status & 127) ? $status >> 8 : undef;
    $r{signal} = defined($status) ? $status & 127 : 9;
    $r{all} = $r{out} . $r{err};
    return \%r;
}

# Starts a program and returns its pid. Options as run(), and out/err => file.
sub spawn {
    my ($argv, %o) = @_;
    my $in = '/dev/null';
    if (defined($o{stdin})) {
        $in = "/run/lab/stdin.$$." . $serial++;
        spew($in, $o{stdin}, 0600);
    }
    my $pid = fork() // die "cannot fork: $!\n";
    if (!$pid) {
        open(STDIN, '<', $in) or POSIX::_exit(126);
        unlink($in) if $in ne '/dev/null';
        open(STDOUT, '>', $o{out} // '/dev/null') or POSIX::_exit(126);
        open(STDERR, '>', $o{err} // '/dev/null') or POSIX::_exit(126);
        my $env = $o{env} // {};
        for my $key (keys %$env) { defined($env->{$key}) ? ($ENV{$key} = $env->{$key}) : delete($ENV{$key}) }
        exec { $argv->[0] } @$argv;
        POSIX::_exit(127);
    }
    return $pid;
}

# The wait status of a child of ours, which is killed after so many seconds (then undef).
sub wait_for {
    my ($pid, $seconds) = @_;
    my $end = Time::HiRes::time() + $seconds;
    my $pause = 0.001;
    while (1) {
        my $got = waitpid($pid, POSIX::WNOHANG());
        return $? if $got == $pid;
        return undef if $got < 0;
        if (Time::HiRes::time() > $end) {
            kill('KILL', $pid);
            waitpid($pid, 0);
            return undef;
        }
        Time::HiRes::sleep($pause);
        $pause = $pause * 1.3 > 0.02 ? 0.02 : $pause * 1.3;
    }
}

# Polls until the code returns something true, and returns that; '' after so many seconds.
sub until_true {
    my ($code, $seconds) = @_;
    my $end = Time::HiRes::time() + ($seconds // 15);
    while (1) {
        my $value = $code->();
        return $value if $value;
        return '' if Time::HiRes::time() > $end;
        Time::HiRes::sleep(0.02);
    }
}

# Ends a process of the box by its pid, and waits until it is gone.
sub stop {
    my ($pid, $signal) = @_;
    return if !$pid;
    kill($signal // 'TERM', $pid) or return;
    until_true(sub { waitpid($pid, POSIX::WNOHANG()); !kill(0, $pid) }, 10) or kill('KILL', $pid);
    return;
}

# All processes of the box: pid => { args => [...], environ => text, ppid, comm }.
sub processes {
    my %p;
    for my $dir (glob('/proc/[0-9]*')) {
        my ($pid) = $dir =~ m/(\d+)\z/;
        my $stat = slurp("$dir/stat");
        my ($comm, $ppid) = $stat =~ m/\A\d+ \((.*)\) \S+ (\d+)/s or next;
        $p{$pid} = { args => [split(/\0/, slurp("$dir/cmdline"))], environ => slurp("$dir/environ"), comm => $comm, ppid => $ppid };
    }
    return \%p;
}

# Takes programs away: a copy of their directory without them is bound over it. restore_programs() ends that.
my @hidden;

sub hide_programs {
    my (@paths) = @_;
    my %by;
    push @{ $by{ File::Basename::dirname($_) } }, File::Basename::basename($_) for @paths;
    for my $dir (sort keys %by) {
        $dir = Cwd::realpath($dir);
        my $copy = "$entered/hide" . scalar(@hidden);
        mkdir($copy, 0755);
        _must('cp', '-a', "$dir/.", "$copy/");
        unlink("$copy/$_") for @{ $by{$dir} };
        _must('mount', '--bind', $copy, $dir);
        push @hidden, $dir;
    }
    return;
}

sub restore_programs {
    while (my $dir = pop(@hidden)) { _must('umount', '--lazy', $dir) }
    return;
}

# --- files ------------------------------------------------------------------------------------------------------------

sub slurp {
    my ($path) = @_;
    open(my $fh, '<:raw', $path) or return '';
    local $/;
    my $text = readline($fh);
    return $text // '';
}

sub spew {
    my ($path, $text, $mode) = @_;
    utf8::encode($text) if utf8::is_utf8($text);
    sysopen(my $fh, $path, O_WRONLY | O_CREAT | O_TRUNC, $mode // 0644) or die "cannot write $path: $!\n";
    binmode($fh, ':raw');
    print {$fh} $text;
    close($fh) or die "cannot write $path: $!\n";
    return;
}

sub _append {
    my ($path, $text) = @_;
    return spew($path, slurp($path) . $text, 0644);
}

# What lies below some paths: path => "type mode uid:gid content-hash". Times and inode numbers are left out; a second
# snapshot equals the first if nothing changed in content.
sub snapshot {
    my (@paths) = @_;
    my %s;
    for my $path (grep { -e || -l } @paths) {
        File::Find::find({ no_chdir => 1, wanted => sub {
            my $p = $File::Find::name;
            my @st = lstat($p) or return;
            my $what =
                  S_ISDIR($st[2]) ? 'dir'
                : S_ISLNK($st[2]) ? 'link ' . readlink($p)
                : S_ISREG($st[2]) ? 'file ' . Digest::SHA->new(256)->addfile($p, 'b')->hexdigest()
                : S_ISSOCK($st[2]) ? 'socket'
                : 'other';
            $s{$p} = sprintf('%s %04o %d:%d', $what, $st[2] & 07777, $st[4], $st[5]);
        } }, $path);
    }
    return \%s;
}

# The differences of two snapshots, one line each.
sub differences {
    my ($old, $new) = @_;
    my @d;
    for my $path (sort keys %{ { %$old, %$new } }) {
        next if ($old->{$path} // '') eq ($new->{$path} // '');
        push @d, !defined($old->{$path}) ? "new: $path ($new->{$path})" : !defined($new->{$path}) ? "gone: $path" : "changed: $path ($old->{$path} -> $new->{$path})";
    }
    return @d;
}

# Files below some paths that contain a text, byte for byte; not the checkout, which may lie anywhere and holds the tests themselves.
sub files_with {
    my ($text, @paths) = @_;
    my @found;
    for my $path (grep { -e } @paths) {
        File::Find::find({ no_chdir => 1, wanted => sub {
            my $p = $File::Find::name;
            if ($p eq $ROOT) { $File::Find::prune = 1; return }
            return if -l $p || !-f _;
            push @found, $p if index(slurp($p), $text) >= 0;
        } }, $path);
    }
    return @found;
}

# --- log --------------------------------------------------------------------------------------------------------------

# Listens where syslog and journald would, so that what is logged can be read. Returns a sub that gives all messages so far.
sub listen_to_log {
    my $buffer = '';
    my @sockets;
    for my $path ('/run/systemd/journal/dev-log', '/run/systemd/journal/socket') {
        unlink($path);
        push @sockets, IO::Socket::UNIX->new(Local => $path, Type => IO::Socket::UNIX::SOCK_DGRAM(), Blocking => 0) || die "cannot listen on $path: $!\n";
    }
    return sub {
        for my $socket (@sockets) {
            my $message;
            while (defined($socket->recv($message, 65536)) && length($message)) { $buffer .= "$message\n" }
        }
        return $buffer;
    };
}

1;
