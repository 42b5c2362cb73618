# SPDX-License-Identifier: MIT OR Apache-2.0

# What ad-lxc.t says of a member of a domain, with the newest Samba that Debian has: that of its backports.

use strict;
use warnings;

use File::Basename ();

$ENV{SMBGW_TEMPLATE_SUITE} = 'trixie-backports';
my $file = File::Basename::dirname(__FILE__) . '/ad-lxc.t';
require($file =~ m!\A/! ? $file : "./$file");
