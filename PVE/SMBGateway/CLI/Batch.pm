# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::CLI::Batch;

# Work on many things at once: what belongs to one gateway goes into one process, and so many processes at a time as are allowed. It
# knows processes, pipes and signals; it must not know what the work is.
#
# A library context must not go through fork(), so there must be none here before the children are made. A child begins an item when it is
# told to, and ends when nobody can tell it any more: should this process be killed, each child finishes the item that it is at.

use strict;
use warnings;

use Errno ();
use Fcntl qw(:flock);
use IO::Handle;
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

use PVE::SMBGateway::CLI::Shares;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;

my $json = JSON::PP->new->utf8->canonical->allow_nonref->allow_blessed->convert_blessed;

# Runs groups of items; returns (results in the order of the items, name of the signal that ended it or undef).
#   groups    [[item, …], …]; a group's items are worked on one after the other in one process
#   jobs      how many groups at once
#   on_error  'continue', or 'stop': no item is begun any more after one failed
#   work      sub { my ($item) = @_ }, in the child; returns plain data
#   after     sub { my ($done) = @_ }, in the child, once with [[item, data], …] of what succeeded; may change the data, and returns
#             { number in this list => error document }
#   notify    sub { my ($item, $result) = @_ }, here, for each item begun (result undef) and ended
# A result is { result => 'ok' | 'failed' | 'skipped', data => …, error => PVE::SMBGateway::Error, seconds => N }.
sub run {
    my (%o) = @_;
    PVE::SMBGateway::Error->throw('internal', 'a library context was made before processes are forked') if PVE::SMBGateway::Native::has_context();
    my @items = map { @$_ } @{ $o{groups} };
    my $jobs = $o{jobs} < 1 ? 1 : $o{jobs};
    my @waiting;
    my $first = 0;
    for my $group (grep { @$_ } @{ $o{groups} }) {
        push @waiting, { items => $group, first => $first };
        $first += @$group;
    }
    my @results = map { { result => 'skipped' } } @items;
    my (@children, $signal, $stop);
    # a file without a name: nothing is left of it, however this ends
    open(my $lock, '+>', undef) or PVE::SMBGateway::Error->throw('io', "cannot make a temporary file: $!");

    # told twice by a terminal, which does no harm
    my $told = sub { my ($name) = @_; $signal //= $name; kill($name, map { $_->{pid} } @children); return };
    local $SIG{TERM} = $told;
    local $SIG{INT} = $told;
    local $SIG{HUP} = $told;
    local $SIG{PIPE} = 'IGNORE';

    my $end = sub {
        my ($n, $result) = @_;
        $results[$n] = $result;
        $stop = 1 if $result->{result} eq 'failed' && ($o{on_error} // 'continue') eq 'stop';
        $o{notify}->($items[$n], $result) if $o{notify};
        return;
    };
    # the next item of a child, or word that there is none
    my $next = sub {
        my ($child) = @_;
        if ($stop || $signal || $child->{next} > $#{ $child->{items} }) {
            close(delete($child->{to})) if $child->{to};
            return;
        }
        $child->{at} = $child->{first} + $child->{next}++;
        $o{notify}->($items[ $child->{at} ], undef) if $o{notify};
        syswrite($child->{to}, "go\n");
        return;
    };

    while (1) {
        while (@waiting && @children < $jobs && !$stop && !$signal) {
            my $child = shift(@waiting);
            $child->{next} = 0;
            _fork($child, \@children, \%o, $lock);
            push @children, $child;
            $next->($child);
        }
        last if !@children;
        my $bits = '';
        vec($bits, fileno($_->{from}), 1) = 1 for @children;
        next if select($bits, undef, undef, undef) <= 0;
        my @heard = grep { vec($bits, fileno($_->{from}), 1) } @children;
        for my $child (@heard) {
            my $n = sysread($child->{from}, $child->{text}, 65536, length($child->{text}));
            next if !defined($n) && $!{EINTR};
            while ($child->{text} =~ s/\A(.*)\n//) {
                my $said = $json->decode($1);
                if ($said->{after}) {
                    _patch($results[ $child->{first} + $_ ], $said->{after}->{$_}) for keys %{ $said->{after} };
                    next;
                }
                my $at = delete($child->{at});
                $said->{error} = PVE::SMBGateway::Error->from_document($said->{error}) if $said->{error};
                $end->($at, $said);
                $next->($child);
            }
            next if $n;
            close($child->{from});
            close($child->{to}) if $child->{to};
            1 while waitpid($child->{pid}, 0) < 0 && $!{EINTR};
            my $status = $?;
            if (defined($child->{at})) {
                my $by = $status & 127;
                $end->($child->{at}, { result => 'failed', error => $by
                    ? PVE::SMBGateway::Error->new('interrupted', "its process was ended by signal $by", remedy => "what it had begun is continued or undone by 'pve-smbgateway reconcile'")
                    : PVE::SMBGateway::Error->new('internal', 'its process ended without a word') });
            }
            @children = grep { $_ != $child } @children;
        }
    }
    return (\@results, $signal);
}

# What the child found out after its last item.
sub _patch {
    my ($result, $patch) = @_;
    $result->{data} = $patch->{data} if exists($patch->{data});
    @$result{qw(result error)} = ('failed', PVE::SMBGateway::Error->from_document($patch->{error})) if $patch->{error};
    return;
}

# Runs code in a process of its own, so that none here has a library context; returns its data, or dies as it did.
sub apart {
    my ($code) = @_;
    my ($results, $signal) = run(groups => [[{}]], jobs => 1, work => $code);
    my $r = $results->[0];
    PVE::SMBGateway::Error->throw('interrupted', "interrupted by SIG$signal") if $signal;
    die $r->{error} if $r->{error};
    return $r->{data};
}

sub _fork {
    my ($child, $others, $o, $lock) = @_;
    pipe(my $from, my $answers) && pipe(my $orders, my $to) or PVE::SMBGateway::Error->throw('io', "cannot make a pipe: $!");
    # a signal must not find the parent's handlers in the child
    my $all = POSIX::SigSet->new(map { POSIX->can("SIG$_")->() } qw(TERM INT HUP));
    my $old = POSIX::SigSet->new();
    POSIX::sigprocmask(POSIX::SIG_BLOCK(), $all, $old);
    $_->flush() for \*STDOUT, \*STDERR;
    my $pid = fork();
    if (defined($pid) && !$pid) {
        eval {
            $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP PIPE);
            POSIX::sigprocmask(POSIX::SIG_SETMASK(), $old);
            close($_) for $from, $to, map { grep { defined } @$_{qw(from to)} } @$others;
            open(STDIN, '<', '/dev/null');
            open(STDOUT, '>&', \*STDERR);    # answers go through the pipe; what Proxmox prints on the way is no answer
            _child($child, $o, $orders, $answers, $lock);
        };
        POSIX::_exit(0);    # no destructor, END block or buffer of the parent's
    }
    my $error = "$!";
    POSIX::sigprocmask(POSIX::SIG_SETMASK(), $old);
    PVE::SMBGateway::Error->throw('io', "cannot start a process: $error") if !defined($pid);
    close($answers);
    close($orders);
    @$child{qw(pid from to text)} = ($pid, $from, $to, '');
    return;
}

sub _child {
    my ($child, $o, $orders, $answers, $lock) = @_;
    my $say = sub { my $line = $json->encode($_[0]) . "\n"; my $at = 0; while ($at < length($line)) { $at += syswrite($answers, $line, length($line) - $at, $at) // return } return };
    local $PVE::SMBGateway::CLI::Shares::ONE_AT_A_TIME = sub {
        my ($code) = @_;
        # opened anew: the inherited handle is one with those of the other children, and so would be its lock
        open(my $fh, '<', '/proc/self/fd/' . fileno($lock)) or PVE::SMBGateway::Error->throw('io', "cannot open the lock of the batch: $!");
        flock($fh, LOCK_EX) or PVE::SMBGateway::Error->throw('io', "cannot take the lock of the batch: $!");
        return $code->();
    };
    my @done;
    for my $n (0 .. $#{ $child->{items} }) {
        defined(readline($orders)) or last;
        my @warnings;
        local $SIG{__WARN__} = sub { push @warnings, $_[0] =~ s/\s+\z//r };
        my $began = Time::HiRes::time();
        my $data = eval { [$o->{work}->($child->{items}->[$n])] };
        my $answer = $data ? { result => 'ok', data => $data->[0] } : { result => 'failed', error => PVE::SMBGateway::Error->from($@)->document() };
        push @{ $answer->{data}->{warnings} }, @warnings if @warnings && ref($answer->{data} // {}) eq 'HASH';
        $answer->{seconds} = sprintf('%.3f', Time::HiRes::time() - $began) + 0;
        push @done, [$n, $child->{items}->[$n], $data->[0]] if $data;
        $say->($answer);
    }
    if ($o->{after}) {
        my $errors = eval { $o->{after}->([map { [@$_[1, 2]] } @done]) };
        my $all = $errors ? undef : PVE::SMBGateway::Error->from($@)->document();
        $say->({ after => { map { my ($n, undef, $data) = @{ $done[$_] }; ($n => { data => $data, $all || $errors->{$_} ? (error => $all // $errors->{$_}) : () }) } 0 .. $#done } });
    }
    return;
}

1;
