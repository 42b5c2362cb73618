# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::Progress;

# The events of a run as lines for people: on a terminal, in the log of a task. It knows the events of the library (smbgw.h); it must not
# know where the lines go.

use strict;
use warnings;

use Time::HiRes ();

# A sub that takes events and gives a line for each that is worth one to the other sub, with the seconds since it was made.
sub lines {
    my ($print, $began) = @_;
    $began //= _now();
    my %title;
    return sub {
        my ($e) = @_;
        my $event = $e->{event} // '';
        my $step = $e->{step} // '';
        $title{$step} = $e->{title} if defined($e->{title});
        my $what = $title{$step} // $step;
        my $line =
              $event eq 'planned' ? sprintf("%s: %d step%s", $e->{phase} // 'plan', $e->{steps} // 0, ($e->{steps} // 0) == 1 ? '' : 's')
            : $event eq 'done' ? sprintf("  %-8s %s  (%s ms)", exists($e->{changed}) && !$e->{changed} ? 'as is' : 'done', $what, $e->{ms} // '?')
            : $event eq 'replanned' ? "  planned anew: the machine has changed meanwhile"
            : $event eq 'progress' ? sprintf("  %d entries: %s", $e->{entries} // 0, $what)
            : $event eq 'elsewhere' ? "  elsewhere $what"
            : $event eq 'failed' ? '  FAILED   ' . ($what eq '' ? '' : "$what: ") . _brief($e->{error})
            : $event eq 'undo-done' ? sprintf("  undone   %s%s", $what, defined($e->{ms}) ? "  ($e->{ms} ms)" : '')
            : $event eq 'undo-failed' ? "  UNDO FAILED  $what: " . _brief($e->{error})
            : return;
        $print->(sprintf("%7.3f s  %s\n", _now() - $began, $line));
        return;
    };
}

sub _brief {
    my ($error) = @_;
    return ref($error) eq 'HASH' ? $error->{message} // 'unknown' : $error // 'unknown';
}

sub _now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

1;
