# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::INotify;

# Stand-in: the name of this node.

use strict;
use warnings;

use PVE::StandIn;

use POSIX ();

sub nodename {
    return $ENV{PVE_STANDIN_NODE} if defined($ENV{PVE_STANDIN_NODE});
    my $name = (POSIX::uname())[1];
    $name =~ s/\..*//;
    return $name;
}

1;
