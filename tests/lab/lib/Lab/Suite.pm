# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Suite;

# The program `quota-suite` (tests/quota): where it is, and how it is told what to test. It must not know where it runs.

use strict;
use warnings;

use Lab::Box;

# Its path; without it there is nothing to test.
sub program {
    my $suite = $ENV{SMBGW_QUOTA_SUITE} // ($ENV{SMBGW_STAGE} // "$Lab::Box::ROOT/.cache/stage") . '/../quota-suite';
    Lab::Box::skip_all("there is no $suite ('make quota-suite')") if !-x $suite;
    return $suite;
}

# Its environment for trees by name.
sub trees { my (%path) = @_; return (SMBGW_QUOTA_TREES => join(' ', map { "$_=$path{$_}" } sort keys %path)) }

1;
