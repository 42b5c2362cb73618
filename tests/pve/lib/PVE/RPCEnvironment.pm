# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::RPCEnvironment;

# Stand-in: who is asking.

use strict;
use warnings;

my $current;

sub setup_default_cli_env {
    my ($class) = @_;
    die "please run as root\n" if $> != 0;
    $current = bless { user => 'root@pam' }, $class;
    return;
}

sub get { return $current // die "environment is not initialized\n" }
sub get_user { return $_[0]->{user} }

1;
