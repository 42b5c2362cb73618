# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Suite;

# The program `quota-suite` (tests/quota) in a test file: where it is, and how its results become those of the test. It must not know
# where the program runs.

use strict;
use warnings;

use Test::More ();

use Lab::Box;

# Its path; without it there is nothing to test (`make quota-suite`).
sub program {
    my $suite = $ENV{SMBGW_QUOTA_SUITE} // ($ENV{SMBGW_STAGE} // "$Lab::Box::ROOT/.cache/stage") . '/../quota-suite';
    Lab::Box::skip_all("there is no $suite ('make quota-suite')") if !-x $suite;
    return $suite;
}

# Its environment for trees by name.
sub trees { my (%path) = @_; return (SMBGW_QUOTA_TREES => join(' ', map { "$_=$path{$_}" } sort keys %path)) }

# Passes its TAP on: each result is one of ours. What is wrong with the whole of it is one more: no plan, too few results, a failure that no
# result explains. `why` is what was wrong already.
sub pass_on {
    my ($text, $status, $why) = @_;
    my $tap = Test::More->builder;
    my ($plan, $seen, $bad, $shown, @aside) = (undef, 0, 0, 0);
    my $aside = sub { $shown ? $tap->diag($_) : $tap->note($_) for splice(@aside) };
    for my $line (split(/\r?\n/, $text)) {
        if ($line =~ m/\A1\.\.(\d+)\z/) { $plan = $1 }
        elsif ($line =~ m/\A(not )?ok \d+ - (.*)\z/) {
            my ($failed, $name) = (defined($1), $2);
            $aside->();
            $seen++;
            $bad++ if $failed;
            $shown = $failed;
            $tap->ok(!$failed, $name);
        } else {
            push @aside, $line =~ s/\A# ?//r;
        }
    }
    $why //= 'it says ' . (defined($plan) ? "1..$plan" : 'no plan') . " and gives $seen results" if !$plan || $plan != $seen;
    $why //= 'it ended with status ' . ($status // 'unknown') if !$bad && ($status // 1) != 0;
    $shown ||= defined($why);
    $aside->();
    $tap->ok(!defined($why), 'the program came to its end') or $tap->diag($why);
    return;
}

1;
