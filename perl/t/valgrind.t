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
    my $log = "valgrind-$$.log";
    my $status = system('valgrind', '--quiet', '--error-exitcode=99', '--leak-check=full', '--show-leak-kinds=definite',
        '--errors-for-leak-kinds=definite', '--suppressions=t/valgrind.supp', '--child-silent-after-fork=yes', "--log-file=$log",
        $^X, '-Mblib', $test);
    is($status, 0, $test) or diag(do { local @ARGV = ($log); <> });
    unlink $log;
}

done_testing();
