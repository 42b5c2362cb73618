# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Kill;

# Signals for a real command, or for a task of Proxmox's API, at its journal writes. It knows strace, the library that does it in a task
# (end-task.c; strace would have to follow forks), and which system call a journal write is; it must not know the product or what a test makes
# of it.

use strict;
use warnings;

use File::Basename ();
use Time::HiRes ();

use Lab::Box;

my $TRACE = '/tmp/trace';
my $SEED = $ENV{SMBGW_SEED} // 20;
# Milliseconds from which a command has a middle.
my $LONG = 200;

# Skips the file where there is no strace.
sub ready {
    Lab::Box::skip_all("'strace' is not installed") if !defined(Lab::Box::which('strace'));
    return;
}

# How many synced journal writes a call makes, and what it gave. Only our own process counts: strace does not follow its children.
sub syncs {
    my ($call) = @_;
    my $r = $call->(wrap => ['strace', '-o', $TRACE, '-e', 'trace=fdatasync']);
    my $n = () = Lab::Box::slurp($TRACE) =~ m/^fdatasync\(/mg;
    return ($n, $r);
}

# The call, killed at its n-th journal write.
sub killed_at {
    my ($n, $call) = @_;
    return $call->(wrap => ['strace', '-o', $TRACE, '-e', 'trace=fdatasync', '-e', "inject=fdatasync:signal=KILL:when=$n"]);
}

# The same numbers on every machine.
sub _next { my ($x) = @_; return ($x * 1103515245 + 12345) & 0x7fffffff }

# Six different points of n, always the first and the last, the same for the same seed; all of them with SMBGW_ALL=1. `more` is added to the
# seed, for another six.
sub points {
    my ($n, $more) = @_;
    return (1 .. $n) if $ENV{SMBGW_ALL} || $n <= 6;
    my %p = (1 => 1, $n => 1);
    my $x = $SEED + ($more // 0);
    while (keys(%p) < 6) {
        $x = _next($x);
        $p{ 2 + ($x >> 8) % ($n - 2) } = 1;
    }
    my @p = sort { $a <=> $b } keys %p;
    return @p;
}

# So many different points of n, one in each part of equal length, the same for the same seed; all of them with SMBGW_ALL=1. `more` as above.
sub spread {
    my ($n, $count, $more) = @_;
    return (1 .. $n) if $ENV{SMBGW_ALL} || $n <= $count;
    my $x = $SEED + ($more // 0);
    my @p;
    for my $part (0 .. $count - 1) {
        my ($from, $to) = map { int($n * $_ / $count) } $part, $part + 1;
        $x = _next($x);
        push @p, $from + 1 + ($x >> 8) % ($to - $from);
    }
    return @p;
}

# Half-way through the longest of these commands, as task() gives them: a point, and how many milliseconds later; through all that are long with
# SMBGW_ALL=1.
sub halfway {
    my (@commands) = sort { $b->[1] <=> $a->[1] } @_;
    return map { [$_->[0], int($_->[1] / 2)] } $ENV{SMBGW_ALL} ? grep { $_->[1] >= $LONG } @commands : $commands[0];
}

# What else a test chooses by it.
sub seed { return $SEED }

# --- tasks ------------------------------------------------------------------------------------------------------------

my $LIBRARY = '/run/lab/end-task.so';
my $POINTS = '/run/lab/end-task.log';

# Makes what ends tasks; skips the file where that cannot be. In a box.
sub task_ready {
    my $cc = Lab::Box::which('cc') // Lab::Box::skip_all("'cc' is not installed");
    my $r = Lab::Box::run([$cc, '-shared', '-fPIC', '-O1', '-Wall', '-Wextra', '-Werror', '-o', $LIBRARY, File::Basename::dirname(__FILE__) . '/../end-task.c']);
    die "end-task.c cannot be compiled: $r->{all}" if $r->{rc} != 0;
    return;
}

sub _with_points {
    my ($call, %env) = @_;
    unlink($POINTS);
    my $r = $call->(env => { LD_PRELOAD => $LIBRARY, END_TASK_LOG => $POINTS, %env });
    my $end = Time::HiRes::time();
    my @lines = map { [split(/ /, $_)] } split(/\n/, Lab::Box::slurp($POINTS));
    # the first to do something is the task
    @lines = grep { $_->[0] == $lines[0]->[0] } @lines;
    my ($sent) = map { $_->[2] } grep { $_->[1] eq 'signal' } @lines;
    @lines = grep { $_->[1] ne 'signal' } @lines;
    my @commands = map { [$_, int(($lines[$_]->[2] - $lines[$_ - 1]->[2]) * 1000)] } grep { $lines[$_ - 1]->[1] eq 'start' } 1 .. $#lines;
    return { %$r, points => scalar(@lines), commands => \@commands, sent => defined($sent) ? 1 : 0, took => defined($sent) ? $end - $sent : undef };
}

# A call that starts a task and waits for it: what it gives, and `points`, how many journal writes and starts of commands the task has; in
# `commands` the points that are starts, each with the milliseconds up to the next point.
sub task { my ($call) = @_; return _with_points($call) }

# The same; at the n-th point the task's process group gets a signal, or so many milliseconds later, which the command that was started then has
# had for its work. Beside what the call gives: whether it was `sent`, and in `took` the seconds from then to the end of the call.
sub task_ended_at { my ($n, $signal, $call, $later) = @_; return _with_points($call, END_TASK_AT => $n, END_TASK_SIGNAL => $signal, END_TASK_LATER => $later) }

1;
