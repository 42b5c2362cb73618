# SPDX-License-Identifier: MIT OR Apache-2.0
# The manual pages are well formed.
use strict;
use warnings;

use Pod::Checker;
use Test::More;

for my $file (glob('lib/*.pm lib/SMBGW/*.pm')) {
    my $checker = Pod::Checker->new(-quiet => 1);
    $checker->parse_from_file($file, '/dev/null');
    is($checker->num_errors, 0, $file);
}

done_testing();
