# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::Worker;

# The reconcile worker: what it does, and how a storage hook starts it without waiting. It knows processes and the moment at
# which the hook's caller has written storage.cfg; it must not know what reconciling means (the library does).

use strict;
use warnings;

use Errno ();
use POSIX ();
use Time::HiRes ();

use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;

# Seconds until a created share without a section counts as abandoned, and a removal whose section stays is carried out (UNCOMMITTED_MS
# of the library).
use constant COMMIT_WAIT => 180;

our $COMMAND = '/usr/sbin/pve-smbgateway';
our $SYSTEMD = '/run/systemd/system';

# A command that does the worker's work itself sets this to an array: start() then only notes the ids in it.
our $HELD;

# A command that creates or changes several shares or accounts of a gateway sets this: smbd is not told of each; tell() does it once.
our $TOGETHER;

# Starts the worker for one storage id, or without one lets the agent go through everything on this node now. Returns at once; a
# worker that does not come up is no error here, since the agent does the same work within 20 s.
sub start {
    my ($id) = @_;
    if ($HELD) {
        push @$HELD, $id;
        return 1;
    }
    my @ids;
    if (defined($id)) {
        $id =~ m/\A([A-Za-z][A-Za-z0-9\-_.]*)\z/ or return;    # also untaints
        @ids = ($1);
    }
    my $command = $COMMAND;
    $command = $1 if !${^TAINT} && ($ENV{SMBGW_COMMAND} // '') =~ m!\A(/.+)\z!s;
    my @argv =
        -d $SYSTEMD && $command eq '/usr/sbin/pve-smbgateway'
        ? ('/usr/bin/systemctl', '--no-block', @ids ? ('start', "pve-smbgateway-reconcile\@$ids[0].service") : ('try-reload-or-restart', 'pve-smbgateway-agent.service'))
        : ($command, 'reconcile', '--once', @ids);
    return _detached(@argv);
}

# What a run that creates or changes something is given along.
sub together { return $TOGETHER ? (reload => 'later') : () }

# Has the smbd of a gateway read its configuration, if shares left that to the end. Should it fail, or never come to this, the agent does it
# within a minute, and smbd looks at its files each minute by itself: whoever connects is served already. Returns what is worth a warning.
sub tell {
    my ($gateway, %o) = @_;
    return undef if eval { PVE::SMBGateway::Native::run('gateway.reload', { name => $gateway, (defined($o{actor}) ? (actor => $o{actor}) : ()) }, keep_signal => 1); 1 };
    my $error = PVE::SMBGateway::Error->from($@);
    # a gateway of another node, which does it
    return undef if $error->kind() =~ m/\A(?:not-found|conflict)\z/;
    return 'clients that were connected before see what is new within a minute only: ' . $error->message();
}

# A process that outlives the caller and holds nothing of it: own session, no descriptor, no signal state, no zombie. The caller
# may be a worker of a daemon whose task counts as running as long as anybody holds its pipe.
sub _detached {
    my (@argv) = @_;
    my %env = (PATH => '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL => 'C.UTF-8');
    if (!${^TAINT}) {
        $env{$_} = $ENV{$_} for grep { m/\A(?:PERL5LIB|LD_LIBRARY_PATH|SMBGW_\w+)\z/ } keys %ENV;
    }
    my $pid = fork();
    return 0 if !defined($pid);
    if ($pid) {
        1 while waitpid($pid, 0) < 0 && $!{EINTR};    # the middle process ends at once; ECHILD is fine
        return 1;
    }
    # never back into the caller's code: no destructor, no END block, no buffered output written twice
    eval {
        POSIX::setsid();
        my $worker = fork();
        POSIX::_exit(0) if !defined($worker) || $worker;
        $SIG{$_} = 'DEFAULT' for grep { defined($SIG{$_}) && !m/\A(?:NUM\d+|__.*)\z/ } keys %SIG;
        POSIX::sigprocmask(POSIX::SIG_SETMASK(), POSIX::SigSet->new());
        alarm(0);
        chdir('/');
        my @open;
        if (opendir(my $dir, '/proc/self/fd')) {
            @open = grep { m/\A\d+\z/ } readdir($dir);
            closedir($dir);
        }
        @open = (0 .. 1023) if !@open;
        POSIX::close($_) for map { m/\A(\d+)\z/ ? $1 : () } @open;
        my $null = POSIX::open('/dev/null', POSIX::O_RDWR());
        POSIX::dup2($null, $_) for grep { $_ != $null } 0 .. 2;
        %ENV = %env;
        { no warnings 'exec'; exec { $argv[0] } @argv; }
    };
    POSIX::_exit(127);
}

# What `pve-smbgateway reconcile` does. Named ids are waited for: a hook starts this worker while storage.cfg is not written yet. Returns the
# library's result.
#   ids => [...], wait => seconds (default COMMIT_WAIT), gateway => only that one, on_event => sub, on_step => sub
sub reconcile {
    my (%o) = @_;
    my @ids = @{ $o{ids} // [] };
    my $end = _now() + ($o{wait} // COMMIT_WAIT);
    _hook_over($end) if @ids;
    my $sections = PVE::SMBGateway::Config::sections();
    my $pause = 0.1;
    while (grep { !_settled($_, $sections) } @ids) {
        last if _now() >= $end;
        Time::HiRes::sleep($pause);
        $pause = $pause * 1.5 > 2 ? 2 : $pause * 1.5;
        $sections = PVE::SMBGateway::Config::sections();
    }
    my $result = PVE::SMBGateway::Native::run(
        'reconcile', { (@ids ? (ids => \@ids) : ()), (defined($o{gateway}) ? (gateway => $o{gateway}) : ()), sections => $sections },
        on_event => $o{on_event}, on_step => $o{on_step}, keep_signal => $o{keep_signal},
    );
    _drop_sections($result) if !PVE::SMBGateway::Config::on_proxmox();
    return $result;
}

# A removal that was killed half way has been finished now; on a machine without Proxmox its section is ours to take out as well.
sub _drop_sections {
    my ($result) = @_;
    my @removed = map { $_->{id} } grep { ref($_) eq 'HASH' && ($_->{state} // '') eq 'removed' && defined($_->{id}) } @{ $result->{shares} // [] };
    return if !@removed;
    PVE::SMBGateway::Config::locked(sub {
        my $left = PVE::SMBGateway::Native::query('sections')->{sections} // {};
        my $ours = PVE::SMBGateway::Config::ours();
        PVE::SMBGateway::Config::drop($_) for grep { $ours->{$_} && !$left->{$_} } @removed;
    });
    return;
}

# The hook that started us runs under Proxmox's lock on storage.cfg. Once we have had that lock, its caller has written the new section
# (also a change, which nothing else would show us), or has taken the old one out, or never will.
sub _hook_over {
    my ($end) = @_;
    return if !PVE::SMBGateway::Config::on_proxmox();
    while (_now() < $end) {
        local $@;
        return if eval { PVE::Storage::lock_storage_config(sub { return 1 }, 'waiting for the lock'); 1 };
        return if $@ !~ m/time(?:d )?out/;    # no quorum, for example: what can be done without the lock is done
    }
    return;
}

# Whether a section is as the hook's caller was to leave it: there, gone after a recorded removal, or of no share that is known.
sub _settled {
    my ($id, $sections) = @_;
    local $@;
    my $doc = eval { PVE::SMBGateway::Native::query('status', { id => $id }) };
    # also a create that was cut short: whoever was to write its section has failed with it
    my $unknown = $doc ? ($doc->{state} // '') eq 'building' && !defined($doc->{path}) : ref($@) && $@->kind() eq 'not-found';
    # without Proxmox the section is ours to take out, after the removal
    return !$sections->{$id} if $doc && ($doc->{state} // '') eq 'deleting' && PVE::SMBGateway::Config::on_proxmox();
    return $sections->{$id} || $unknown ? 1 : 0;
}

sub _now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

1;
