# SPDX-License-Identifier: MIT OR Apache-2.0

# What packages.t says of this machine's Debian, of the other one that the product is for: packages built in a root of that (its Perl, its
# Rust, its lintian), and a system of that to install them into. Root, system and what rustc made are kept in /var/cache/smbgw-test.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../lab/lib';

use Lab::Guests;

$ENV{SMBGW_PACKAGES_SUITE} = Lab::Guests::own_suite() eq 'bookworm' ? 'trixie' : 'bookworm';
my $file = File::Basename::dirname(__FILE__) . '/packages.t';
require($file =~ m!\A/! ? $file : "./$file");
