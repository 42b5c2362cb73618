# SPDX-License-Identifier: MIT OR Apache-2.0
# The other tests once more under valgrind; slow, so only with SMBGW_VALGRIND=1. t/valgrind.supp holds what is Perl's own.
use strict;
use warnings;

use Test::More;

plan(skip_all => 'SMBGW_VALGRIND=1 is not set: leaks and bad accesses are not looked for') if !$ENV{SMBGW_VALGRIND};
BAIL_OUT('valgrind is not installed') if !grep { -x "$_/valgrind" } split /:/, $ENV{PATH};

$ENV{SMBGW_UNDER_VALGRIND} = 1;
$ENV{PERL_DESTRUCT_LEVEL}  = 2;
for my $test (grep { !m{/(?:valgrind|memory|pod|broken|link)\.t$} } glob('t/*.t')) {
    my @argv = ('valgrind', '--quiet', '--error-exitcode=99', '--leak-check=full', '--show-leak-kinds=definite',
        '--errors-for-leak-kinds=definite', '--suppressions=t/valgrind.supp', $^X, '-Mblib', $test);
    # Its TAP is not ours.
    my $pid = open(my $out, '-|') // die "fork: $!";
    if (!$pid) {
        open(STDERR, '>&', \*STDOUT);
        exec { $argv[0] } @argv;
        die "valgrind: $!";
    }
    my $text = do { local $/; <$out> };
    close $out;
    is($?, 0, $test) or diag($text);
}

done_testing();
