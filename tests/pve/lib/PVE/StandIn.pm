# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::StandIn;

# The settings of the stand-ins, PVE_STANDIN_* in the environment. A worker that the product starts gets a clean environment in which
# only SMBGW_* is left, so they travel under that name as well.

use strict;
use warnings;

for my $name (qw(DIR NODE APIVER APIAGE LOCK_SECONDS)) {
    my ($own, $travelling) = ("PVE_STANDIN_$name", "SMBGW_STANDIN_$name");
    $ENV{$own} //= $ENV{$travelling} if defined($ENV{$travelling});
    $ENV{$travelling} = $ENV{$own} if defined($ENV{$own});
}

# An installed node has the directories of its storage 'local'.
if (my ($dir) = ($ENV{PVE_STANDIN_DIR} // '') =~ m!\A(/.+)\z!s) {
    mkdir("$dir/$_") for qw(vz vz/dump vz/template vz/template/iso vz/template/cache);
}

1;
