# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::Agent;

# The node agent: one light process that brings its node to the wanted state again and again. It knows time, processes, deadlines and
# pauses; it must not know what a gateway needs (the library does).
#
# This process never loads the library: what works is always a child, forked for one job, which ends by _exit. So nothing of the
# library is carried over a fork, memory stays flat, and whatever hangs (a container, a dead mount) holds up its own gateway alone. A child
# that has not taken a step for too long gets TERM, which it journals, and later KILL. One that not even KILL ends (it waits for a dead mount in
# the kernel) is left alone and never doubled.

use strict;
use warnings;

use Errno ();
use Fcntl qw(:DEFAULT :flock);
use IO::Handle;
use JSON::PP ();
use POSIX ();
use Socket ();
use Time::HiRes ();

use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Monitor;
use PVE::SMBGateway::Native;
use PVE::SMBGateway::Worker;

# Seconds. The storage counts as inactive when its snapshot is older than 60 s, so that between two cycles there is time for a slow one.
our %TIME = (
    pause => 20,       # from the end of a cycle to the next
    long => 10,        # what takes longer is not waited for by the cycle
    stall => 300,      # a child that takes no step for so long hangs; one step takes about a second, a look at a machine some more
    swift => 15,       # the same of the child that makes the list, for which all gateways wait
    job => 43_200,     # a tree of many millions of files is gone through as a whole
    grace => 10,       # from TERM to KILL
    stop => 5,         # the same when the agent ends
    first => 20,       # the first pause after a failure; each is twice the one before
    most => 600,
    thorough => 300,   # what cannot be seen without Samba's programs is looked at so often
    figures => 10,     # from one look at the figures to the next; they have a beat of their own, which no cycle holds up
    look => 30,        # a look that takes longer hangs
    looks => 300,      # a child looks again and again for so long: loading the library costs more than most looks
    tick => 1,
);
our $JOBS = 4;         # children at work at once, besides the long ones,
our $MOST = 16;        # and with them

# Who has a turn in each cycle, in this order: subs that get the agent and give jobs. A job is
#   name  => what it is about; there is never more than one of a name
#   work  => sub { my ($step) = @_ } in the child, which calls $step->() while it gets on; what it returns (a hash) goes to
#   done  => sub { my ($agent, $result, $why) = @_ } in the agent; without a result $why is the reason. It may give further jobs.
our @TURNS = (\&_gateways);
my $LIST = 'list of gateways';

my ($stop, $reload);

# --- the loop -----------------------------------------------------------------------------------------------------------

sub main {
    my (@argv) = @_;
    while (@argv) {
        my $word = shift(@argv);
        if ($word eq '--config' && @argv) { $PVE::SMBGateway::Config::FILE = shift(@argv); next }
        print { $word eq '--help' ? \*STDOUT : \*STDERR } "usage: pve-smbgateway-agent [--config FILE]\n";
        return $word eq '--help' ? 0 : 1;
    }
    my $agent = bless { children => {}, queue => [], known => {}, figures => 0, beat => 0, alive => 0, cycle => 0, started => _ms(), warned => {} }, __PACKAGE__;
    local $@;
    my $rc = eval { $agent->_run(); 1 } ? 0 : 1;
    _log(3, PVE::SMBGateway::Error->from($@)->text()) if $rc;
    return $rc;
}

sub _run {
    my ($self) = @_;
    ($stop, $reload) = (0, 0);
    local $SIG{TERM} = sub { $stop = 1 };
    local $SIG{INT} = sub { $stop = 1 };
    local $SIG{HUP} = sub { $reload = 1 };
    local $SIG{CHLD} = 'DEFAULT';
    local $SIG{PIPE} = 'IGNORE';
    # what each child needs is loaded once here: the storage stack, which does not load the library, and what it is compared with
    PVE::SMBGateway::Config::on_proxmox();
    require Digest::SHA;
    for my $plain (qw(XSLoader SMBGW::Context SMBGW::Error SMBGW::Run)) {
        # a library that is missing is told of by the child that needs it
        eval "require $plain; 1" or last;    ## no critic (ProhibitStringyEval)
    }
    $self->_alone();
    ($self->{dir}) = (PVE::SMBGateway::Native::run_dir());
    my $next = _now();
    _notify('READY=1');
    until ($stop) {
        if ($reload && !$self->{open}) {
            $reload = 0;
            $next = 0;
            # whoever asks for it has removed a cause, or wants to know
            delete(@$_{qw(next mark)}) for values %{ $self->{known} };
        }
        $self->_look_at_figures();
        if (!$self->{open} && _now() >= $next) {
            $self->{open} = _now();
            $self->{cycle}++;
            $self->_queue($_->($self)) for @TURNS;
        }
        $self->_start_jobs();
        $self->_wait(_least($TIME{tick}, _least($self->{figures}, $self->{open} ? $self->{figures} : $next) - _now()));
        $self->_deadlines();
        if ($self->{open} && !$self->_in_cycle()) {
            $self->{took} = _now() - delete($self->{open});
            $next = _now() + $TIME{pause};
            $self->_beat();
        }
        $self->_alive();
    }
    _notify('STOPPING=1');
    $self->_end_children();
    unlink("$self->{dir}/agent.json");
    return;
}

# Only one agent keeps a node: two would do everything twice.
sub _alone {
    my ($self) = @_;
    my $dir = PVE::SMBGateway::Native::run_dir();
    mkdir($dir, 0700) or $!{EEXIST} or PVE::SMBGateway::Error->throw('io', "cannot create '$dir': $!");
    sysopen($self->{lock}, "$dir/agent.lock", O_RDWR | O_CREAT, 0600) or PVE::SMBGateway::Error->throw('io', "cannot open '$dir/agent.lock': $!");
    flock($self->{lock}, LOCK_EX | LOCK_NB) or PVE::SMBGateway::Error->throw('busy', 'another agent keeps this node', remedy => 'systemctl status pve-smbgateway-agent');
    return;
}

sub _queue {
    my ($self, @jobs) = @_;
    # without a list nobody has a turn: one that not even KILL ends does not count
    my %there = map { $_->{name} => 1 } @{ $self->{queue} }, grep { !($_->{killed} && $_->{name} eq $LIST) } values %{ $self->{children} };
    push @{ $self->{queue} }, map { { %$_, cycle => $self->{cycle} } } grep { !$there{ $_->{name} } } @jobs;
    return;
}

# What the cycle still waits for.
sub _in_cycle {
    my ($self) = @_;
    return @{ $self->{queue} } + grep { !$_->{apart} && !_is_long($_) } values %{ $self->{children} };
}

sub _is_long { my ($child) = @_; return _now() - $child->{since} >= $TIME{long} }

# --- children -----------------------------------------------------------------------------------------------------------

sub _start_jobs {
    my ($self) = @_;
    # what not even KILL ends takes nobody's place
    while (@{ $self->{queue} } && $MOST > grep { !$_->{killed} } values %{ $self->{children} }) {
        last if $JOBS <= grep { !$_->{apart} && !_is_long($_) } values %{ $self->{children} };
        $self->_fork(shift(@{ $self->{queue} }));
    }
    # all places are taken by what takes long: the rest has its turn in a later cycle
    @{ $self->{queue} } = () if $self->{open} && _now() - $self->{open} > 3 * $TIME{long};
    return;
}

sub _fork {
    my ($self, $job) = @_;
    pipe(my $read, my $write) or return $self->_over($job, undef, "no pipe: $!");
    my $agent = $$;
    my $pid = fork();
    return $self->_over($job, undef, "cannot fork: $!") if !defined($pid);
    if ($pid) {
        close($write);
        $read->blocking(0);
        $self->{children}->{$pid} = { %$job, pid => $pid, read => $read, text => '', since => _now(), heard => _now() };
        return;
    }
    # never back into the agent's code: no END block, no destructor
    eval {
        $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP CHLD);
        # one that has ended and is not buried yet has none
        close($_) for grep { defined } $read, $self->{lock}, map { $_->{read} } values %{ $self->{children} };
        $write->autoflush(1);
        my $said = 0;
        my $step = sub {
            kill('TERM', $$) if getppid() != $agent;    # nobody is left to wait for us
            return if _now() - $said < _least(5, $TIME{stall} / 4);
            $said = _now();
            print {$write} "\n";
        };
        my $result = eval { $job->{work}->($step) };
        $result = { failed => _brief($@), kind => ref($@) && $@->can('kind') ? $@->kind() : 'internal' } if ref($result) ne 'HASH';
        print {$write} JSON::PP->new->utf8->encode($result), "\n";
        close($write);
        1;
    } or _log(3, "$job->{name}: " . _brief($@));
    POSIX::_exit(0);
}

# Hears what children say, for at most so many seconds, and buries those that have ended.
sub _wait {
    my ($self, $seconds) = @_;
    my $bits = '';
    vec($bits, fileno($_->{read}), 1) = 1 for grep { $_->{read} } values %{ $self->{children} };
    my $n = select(my $ready = $bits, undef, undef, $seconds > 0 ? $seconds : 0);
    for my $child (values %{ $self->{children} }) {
        if ($n > 0 && $child->{read} && vec($ready, fileno($child->{read}), 1)) {
            my $got = sysread($child->{read}, $child->{text}, 65_536, length($child->{text}));
            if ($got) {
                $child->{heard} = _now();
            } elsif (defined($got) || !($!{EAGAIN} || $!{EINTR})) {
                close(delete($child->{read}));
            }
        }
        my $gone = waitpid($child->{pid}, POSIX::WNOHANG());
        next if $gone == 0 || $gone < 0 && !$!{ECHILD};
        my $status = $gone > 0 ? $? : 0;
        $self->_bury($child, $status);
    }
    return;
}

sub _bury {
    my ($self, $child, $status) = @_;
    delete($self->{children}->{ $child->{pid} });
    if ($child->{read}) {
        1 while sysread($child->{read}, $child->{text}, 65_536, length($child->{text}));
        close($child->{read});
    }
    my ($line) = grep { m/\S/ } split(/\n/, $child->{text});
    my $result = defined($line) ? eval { JSON::PP->new->utf8->decode($line) } : undef;
    my $why = $child->{told}
        // ($status & 127 ? 'it was ended by signal ' . ($status & 127) : 'it ended without a word' . ($status ? ', status ' . ($status >> 8) : ''));
    # one that was cut off and still got to its end did its work
    ($result, $why) = (undef, $child->{told} // $result->{failed}) if ref($result) eq 'HASH' && defined($result->{failed}) && $result->{kind} ne 'busy';
    return $self->_over($child, $result, $why);
}

sub _over {
    my ($self, $job, $result, $why) = @_;
    $self->_queue($job->{done}->($self, ref($result) eq 'HASH' ? $result : undef, $why));
    return;
}

# Ends what hangs. The pid is one of ours: nobody else waits for our children, so it cannot be another process by now.
sub _deadlines {
    my ($self) = @_;
    for my $child (values %{ $self->{children} }) {
        my $now = _now();
        if ($child->{killed}) {
            next;
        } elsif ($child->{termed}) {
            next if $now - $child->{termed} < $TIME{grace};
            $child->{killed} = $now;
            kill('KILL', $child->{pid});
        } elsif ($now - $child->{heard} > ($child->{stall} // $TIME{stall}) || $now - $child->{since} > $TIME{job}) {
            $child->{termed} = $now;
            $child->{told} = sprintf('it hung: no step in %d s', $now - $child->{heard}) if $now - $child->{heard} > ($child->{stall} // $TIME{stall});
            $child->{told} //= sprintf('it was not over after %d s', $now - $child->{since});
            _log(4, "$child->{name}: $child->{told}; it is ended");
            kill('TERM', $child->{pid});
        }
    }
    return;
}

sub _end_children {
    my ($self) = @_;
    my $end = _now() + $TIME{stop};
    kill('TERM', $_) for keys %{ $self->{children} };
    my $left = sub { return grep { my $got = waitpid($_, POSIX::WNOHANG()); $got == 0 || $got < 0 && !$!{ECHILD} ? 1 : do { delete($self->{children}->{$_}); 0 } } keys %{ $self->{children} } };
    while ($left->()) {
        if (_now() >= $end) {
            kill('KILL', $_) for keys %{ $self->{children} };
            Time::HiRes::sleep(0.2);
            $left->();
            last;
        }
        Time::HiRes::sleep(0.05);
    }
    return;
}

# --- the turn of the gateways -------------------------------------------------------------------------------------------

# First the list, then each gateway for itself. Those at which most likely nothing has changed, and at which nothing can hang, are looked at by the
# child that makes the list: a child of its own costs more than such a look.
sub _gateways {
    my ($self) = @_;
    my $listed = $self->{listed} // { digest => '', names => [] };
    return {
        name => $LIST, stall => $TIME{swift},
        work => sub {
            my ($step) = @_;
            my $digest = PVE::SMBGateway::Config::digest();
            my $same = $digest eq $listed->{digest};
            my $doc = PVE::SMBGateway::Native::query('turns', { sections => $same ? {} : PVE::SMBGateway::Config::sections() });
            my @quiet = grep { $self->_is_swift($_, $digest) && eval { $self->_nothing_changed($_, $digest, 0, $step) } } @{ $doc->{gateways} };
            return { digest => $digest, names => $doc->{gateways}, same => $same ? 1 : 0, quiet => \@quiet };
        },
        done => sub {
            my ($agent, $result, $why) = @_;
            $agent->_judge($LIST, $result, $why);
            # without a list: those that were there before
            my %names = map { $_ => 1 } @{ $listed->{names} };
            if ($result) {
                %names = () if !$result->{same};
                $agent->{listed} = { digest => $result->{digest}, names => $result->{names} } if !$result->{same};
                $names{$_} = 1 for @{ $result->{names} };
                delete(@{ $agent->{known} }{ grep { !$names{$_} && $_ ne $LIST && $_ ne 'figures' } keys %{ $agent->{known} } });
            }
            my $digest = $result ? $result->{digest} : undef;
            for my $name (@{ ($result // {})->{quiet} // [] }) {
                $agent->_judge($name, { quiet => 1 });
                delete($names{$name});
            }
            return map { $agent->_gateway($_, $digest) } sort { ($b eq 'native') <=> ($a eq 'native') || $a cmp $b } keys %names;
        },
    };
}

# The mark of what was seen when nothing was to do, as long as a look without Samba's programs is enough.
sub _mark {
    my ($self, $name, $digest) = @_;
    my $known = $self->{known}->{$name} // {};
    return if !defined($digest) || !defined($known->{mark}) || $known->{digest} ne $digest || _now() - $known->{thorough} >= $TIME{thorough};
    return $known->{mark};
}

sub _is_swift {
    my ($self, $name, $digest) = @_;
    my $known = $self->{known}->{$name} // {};
    # beside a list that hangs the next one only makes the list
    return 0 if !$known->{local} || ($known->{next} // 0) > _now() || grep { $_->{name} eq "gateway $name" || $_->{name} eq $LIST } values %{ $self->{children} };
    return defined($self->_mark($name, $digest));
}

# In a child: whether nothing has changed at a gateway, so that its snapshots hold.
sub _nothing_changed {
    my ($self, $name, $digest, $wait, $step) = @_;
    my $mark = $self->_mark($name, $digest) // return 0;
    my $kept = PVE::SMBGateway::Native::run('refresh', { gateway => $name, mark => $mark, 'lock-wait-ms' => $wait }, on_step => $step, keep_signal => 1);
    return !$kept->{changed};
}

sub _gateway {
    my ($self, $name, $digest) = @_;
    my $known = $self->{known}->{$name} //= {};
    return () if ($known->{next} // 0) > _now();
    my $began = _now();
    return {
        name => "gateway $name",
        work => sub {
            my ($step) = @_;
            return { quiet => 1 } if $self->_nothing_changed($name, $digest, 2000, $step);
            my $result = PVE::SMBGateway::Worker::reconcile(gateway => $name, on_step => $step, keep_signal => 1);
            return { mark => $result->{mark}, local => $result->{local} ? 1 : 0, busy => $result->{busy}, warnings => $result->{warnings}, did => [map { _did($_) } @{ $result->{shares} // [] }] };
        },
        done => sub {
            my ($agent, $result, $why) = @_;
            my $known = $agent->{known}->{$name} //= {};
            if (!$result || !$result->{quiet}) {
                @$known{qw(mark local)} = $result ? @$result{qw(mark local)} : ();
                @$known{qw(digest thorough)} = ($digest, $began);
            }
            $agent->_judge($name, $result, $why);
            return;
        },
    };
}

# What one operation of a reconcile came to, in a line; nothing where it is not worth one.
sub _did {
    my ($share) = @_;
    my $what = $share->{id} // $share->{name} // 'repair';
    # a section that stays after its share was removed is a warning, and none of this cycle's doing
    return () if ($share->{state} // '') eq 'removed' && !$share->{kept};
    return "$what: " . ($share->{error}->{message} // 'failed') if ref($share->{error}) eq 'HASH';
    return 'smbd told of new shares' if $share->{reloaded};
    return $share->{repaired} ? 'repaired' : defined($share->{state}) ? "$what: $share->{state}" : ();
}

# Notes how a job came out, and when it may be tried again.
sub _judge {
    my ($self, $name, $result, $why) = @_;
    my $known = $self->{known}->{$name} //= {};
    $known->{at} = _ms();
    my $busy = $result && (($result->{kind} // '') eq 'busy' || @{ $result->{busy} // [] });
    if ($result) {
        $known->{result} = $busy ? 'busy' : 'ok';
        _log(5, "$name: in order again, after $known->{failures} attempt" . ($known->{failures} == 1 ? '' : 's')) if $known->{failures};
        delete(@$known{qw(failures reason next)});
        $known->{reason} = $result->{failed} if $busy && defined($result->{failed});
        _log(5, "$name: $_") for @{ $result->{did} // [] };
        # those of every cycle are said once
        if (!$result->{quiet} && !$busy) {
            my %before = map { $_ => 1 } @{ $known->{warnings} // [] };
            my @now = grep { defined } @{ $result->{warnings} // [] };
            _log(4, "$name: $_") for grep { !$before{$_} } @now;
            $known->{warnings} = \@now;
        }
        return;
    }
    my $before = $known->{reason} // '';
    my $pause = _least($TIME{first} * 2**_least($known->{failures}++ // 0, 20), $TIME{most});
    @$known{qw(result reason next)} = ('failed', $why, _now() + $pause);
    # the reason alone: numbers in it change each time
    (my $new = $why) =~ s/\d+//g;
    (my $old = $before) =~ s/\d+//g;
    _log(4, "$name: $why; tried again in $pause s, later at longer intervals") if $new ne $old;
    return;
}

# --- figures ------------------------------------------------------------------------------------------------------------

# One look after the other for all readers, in one child, until there is something to tell. It goes on beside one that not even KILL ends: the
# library leaves out the gateway at which that hangs.
sub _look_at_figures {
    my ($self) = @_;
    return if _now() < $self->{figures};
    # on its beat, however long it took; what was missed is not made up for
    my $next = $self->{figures} + $TIME{figures};
    $self->{figures} = $next > _now() ? $next : _now() + $TIME{figures};
    my @there = grep { $_->{name} eq 'figures' } values %{ $self->{children} };
    return if @there > 2 || grep { !$_->{killed} } @there;
    # what is killed and does not end keeps its lock; the library takes one by its path
    unlink("$self->{dir}/metrics/lock") if @there;
    my $beat = $self->{figures};
    $self->_fork({
        name => 'figures', apart => 1, stall => $TIME{look},
        work => sub {
            my ($step) = @_;
            my $end = _now() + $TIME{looks};
            while (1) {
                my $began = _now();
                my $look = PVE::SMBGateway::Monitor::look();
                return { %$look, began => $began } if @{ $look->{due} // [] } || @{ $look->{notes} // [] } || _now() + $TIME{figures} > $end;
                $step->();
                Time::HiRes::sleep($beat - _now()) if $beat > _now();
                $beat += $TIME{figures};
                $beat = _now() + $TIME{figures} if $beat < _now();
            }
        },
        done => sub {
            my ($agent, $result, $why) = @_;
            $agent->_judge('figures', $result, $why);
            delete($agent->{known}->{figures}->{next});
            return if !$result;
            # what is wrong with rules stands in each look, and is said once
            my %said = %{ $agent->{said} // {} };
            $agent->{said} = { map { $_ => 1 } @{ $result->{notes} // [] } };
            _log(4, $_) for grep { !$said{$_} } @{ $result->{notes} // [] };
            $agent->_tell($result) if @{ $result->{due} // [] };
            return;
        },
    });
    return;
}

# Telling has a child of its own: a mail server may take a minute. What becomes due while one is at it is told next. The library hands an event
# out again after a minute, as it must if nobody says what came of it; one that is being told then, or was told since the look began, is not told twice.
sub _tell {
    my ($self, $look) = @_;
    my ($at_it) = grep { $_->{name} eq 'alerts' && !$_->{killed} } values %{ $self->{children} };
    my %waits = map { $_->{event}->{id} => 1 } @{ ($self->{untold} // {})->{due} // [] };
    my @due = grep {
        my $id = $_->{event}->{id};
        !$waits{$id} && !($at_it && $at_it->{ids}->{$id}) && ($self->{told}->{$id} // -1) < $look->{began}
    } @{ $look->{due} };
    return if !@due;
    if ($at_it) {
        $self->{untold} = { %$look, due => [@{ ($self->{untold} // {})->{due} // [] }, @due] };
        return;
    }
    my %ids = map { $_->{event}->{id} => 1 } @due;
    $self->_fork({
        name => 'alerts', apart => 1, ids => \%ids,
        work => sub {
            my ($step) = @_;
            return PVE::SMBGateway::Monitor::tell({ %$look, due => \@due }, $step);
        },
        done => sub {
            my ($agent, $result, $why) = @_;
            # no look takes so long
            my $told = $agent->{told} //= {};
            delete(@$told{ grep { _now() - $told->{$_} > 600 } keys %$told });
            $told->{$_} = _now() for keys %ids;
            _log(4, $_) for $result && !defined($result->{failed}) ? @{ $result->{notes} // [] } : 'alerts could not be told: ' . ($result ? $result->{failed} : $why);
            my $next = delete($agent->{untold});
            $agent->_tell({ %$next, began => _now() }) if $next;
            return;
        },
    });
    return;
}

# --- signs of life ------------------------------------------------------------------------------------------------------

# To systemd, by a datagram (sd_notify(3)); nothing where it did not start us.
sub _notify {
    my ($text) = @_;
    my $path = $ENV{NOTIFY_SOCKET} // '';
    return 0 if $path !~ m!\A[/\@].!;
    $path =~ s/\A\@/\0/;
    socket(my $socket, Socket::AF_UNIX(), Socket::SOCK_DGRAM(), 0) or return 0;
    return send($socket, $text, Socket::MSG_DONTWAIT(), Socket::pack_sockaddr_un($path)) ? 1 : 0;
}

sub _alive {
    my ($self) = @_;
    return if _now() - $self->{alive} < _least(5, $TIME{pause} / 4);
    $self->{alive} = _now();
    _notify('WATCHDOG=1');
    $self->_beat() if _now() - $self->{beat} >= $TIME{pause};
    return;
}

# What readers of a status, and people, see of us.
sub _beat {
    my ($self) = @_;
    $self->{beat} = _now();
    my $shift = _ms() - _now() * 1000;
    my %gateways;
    for my $name (grep { !m/\A(?:$LIST|figures)\z/ || $self->{known}->{$_}->{failures} } keys %{ $self->{known} }) {
        my $k = $self->{known}->{$name};
        my ($child) = grep { $_->{name} eq "gateway $name" } values %{ $self->{children} };
        $gateways{$name} = {
            result => $k->{result} // ($child ? 'running' : 'waiting'), at => $k->{at}, reason => $k->{reason}, failures => $k->{failures} // 0,
            next => defined($k->{next}) ? int($k->{next} * 1000 + $shift) : undef, running => $child ? int(_now() - $child->{since}) : undef,
            warnings => $k->{warnings} // [],
        };
    }
    my $doc = {
        schema => 1, pid => $$, ticks => _ticks(), started => $self->{started}, at => _ms(), cycle => $self->{cycle},
        'duration-ms' => defined($self->{took}) ? int($self->{took} * 1000) : undef, gateways => \%gateways,
    };
    my $file = "$self->{dir}/agent.json";
    my $ok = eval {
        unlink("$file.new");
        sysopen(my $fh, "$file.new", O_WRONLY | O_CREAT | O_EXCL, 0600) or die "$!\n";
        (print {$fh} JSON::PP->new->canonical->utf8->encode($doc), "\n") && close($fh) or die "$!\n";
        rename("$file.new", $file) or die "$!\n";
    };
    my $why = $ok ? '' : $@;
    _log(4, "cannot write $file: $why") if !$ok && $why ne ($self->{warned}->{beat} // '');
    $self->{warned}->{beat} = $why;

    my @bad = sort grep { $gateways{$_}->{failures} } keys %gateways;
    my @long = sort grep { ($gateways{$_}->{running} // 0) >= $TIME{long} } keys %gateways;
    _notify(sprintf('STATUS=cycle %d took %.1f s, gateways: %d', $self->{cycle}, $self->{took} // 0, scalar(keys %gateways))
            . (@bad ? '; in trouble: ' . join(', ', map { "$_ (" . _line($gateways{$_}->{reason}) . ')' } @bad) : '')
            . (@long ? '; at work: ' . join(', ', map { "$_ since $gateways{$_}->{running} s" } @long) : ''));
    return;
}

# When we were started, in clock ticks since the boot: with the pid, who we are.
sub _ticks {
    open(my $fh, '<', "/proc/$$/stat") or return 0;
    my $stat = readline($fh) // '';
    return (split(/ /, $stat =~ s/\A.*\) //sr))[19] + 0;
}

# --- words and numbers --------------------------------------------------------------------------------------------------

# Where the journal reads us it is told the level.
sub _log {
    my ($level, $text) = @_;
    $text = _line($text);
    utf8::encode($text) if utf8::is_utf8($text);
    print STDERR +(defined($ENV{JOURNAL_STREAM}) ? "<$level>" : 'pve-smbgateway-agent: ') . "$text\n";
    return;
}

sub _line { my ($text) = @_; $text =~ s/\s+\z//; $text =~ s/\s*\n\s*/; /g; return $text }

sub _brief {
    my ($error) = @_;
    return _line(ref($error) && $error->can('message') ? $error->message() : defined($error) && $error ne '' ? "$error" : 'it failed without a word');
}

sub _least { my ($x, $y) = @_; return $x < $y ? $x : $y }

sub _now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

sub _ms { return int(Time::HiRes::time() * 1000) }

1;
