# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Tap;

# Another program's results in this test. It knows TAP; it must not know where or what the program was.

use strict;
use warnings;

use Test::More ();

# Makes the TAP of a program the results of this test: { lines, status; why => what was wrong with the run already; console => what explains
# that; seconds }. What the program said besides is shown with the result that failed. An end before
# its plan is fulfilled fails; so does a skipped part with CI=true, where everything is promised to be there.
sub pass_on {
    my ($r) = @_;
    my $tap = Test::More->builder;
    my ($plan, $seen, $bad, $shown) = (undef, 0, 0, 0);
    my @aside;
    my $aside = sub { $shown ? $tap->diag($_) : $tap->note($_) for splice(@aside); return };
    for my $line (@{ $r->{lines} }) {
        if ($line =~ m/\A1\.\.(\d+)/) { $plan = $1 }
        elsif ($line =~ m/\A(not )?ok\b *\d* *-? *(.*?) *(?:# *(SKIP|TODO)\S* *(.*))?\z/i) {
            my ($good, $name, $directive, $why) = (!defined($1), $2, uc($3 // ''), $4);
            $seen++;
            my $failed = !$good && $directive ne 'TODO';
            $bad++ if $failed;
            $shown ||= $failed;
            $aside->();
            $shown = $failed;
            if ($directive eq 'SKIP' && ($ENV{CI} // '') ne 'true') { $tap->skip("$name: $why") }
            elsif ($directive eq 'SKIP') { $tap->ok(0, "$name (skipped: $why)") }
            elsif ($directive eq 'TODO') { $tap->todo_start($why); $tap->ok($good, $name); $tap->todo_end() }
            else { $tap->ok($good, $name) }
        }
        else { push @aside, $line =~ s/\A# ?//r }
    }
    my $why = $r->{why};
    $why //= 'it says ' . (defined($plan) ? "1..$plan" : 'no plan') . " and gives $seen results" if !defined($plan) || $plan != $seen;
    $why = 'it ended with status ' . ($r->{status} // 'unknown') if !defined($why) && ($r->{status} // 1) != 0 && !$bad;
    $shown ||= defined($why);
    $aside->();
    $tap->note(sprintf('it ran for %.1f seconds', $r->{seconds})) if defined($r->{seconds});
    $tap->ok(!defined($why), 'the program came to its end') and return;
    $tap->diag($why);
    $tap->diag($_) for grep { length } split(/\r?\n/, $r->{console} // '');
    return;
}

1;
