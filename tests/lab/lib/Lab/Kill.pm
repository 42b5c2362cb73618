# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Kill;

# SIGKILL for a real command at its journal writes. It knows strace, and which system call a journal write is; it must not know the
# product or what a test makes of it.

use strict;
use warnings;

use Lab::Box;

my $TRACE = '/tmp/trace';
my $SEED = $ENV{SMBGW_SEED} // 20;

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

# Six different points of n, always the first and the last, the same for the same seed; all of them with SMBGW_ALL=1.
sub points {
    my ($n) = @_;
    return (1 .. $n) if $ENV{SMBGW_ALL} || $n <= 6;
    my %p = (1 => 1, $n => 1);
    my $x = $SEED;
    while (keys(%p) < 6) {
        $x = ($x * 1103515245 + 12345) & 0x7fffffff;
        $p{ 2 + ($x >> 8) % ($n - 2) } = 1;
    }
    my @p = sort { $a <=> $b } keys %p;
    return @p;
}

1;
