# SPDX-License-Identifier: MIT OR Apache-2.0

# What samba-other.t says of the other Debian's Samba, of the newest one that Debian has for it: that of its backports, which counts by share.

use strict;
use warnings;

use File::Basename ();

$ENV{SMBGW_TEMPLATE_SUITE} = 'trixie-backports';
my $file = File::Basename::dirname(__FILE__) . '/samba-other.t';
require($file =~ m!\A/! ? $file : "./$file");
