# SPDX-License-Identifier: MIT OR Apache-2.0
# The module and the library belong together.
use strict;
use warnings;

use Test::More;

use_ok('SMBGW');
is(SMBGW::version(), $SMBGW::VERSION, 'module and library have the same version');
like(SMBGW::abi_version(), qr/^\d+$/, 'the binary interface has a number');
can_ok('SMBGW::Context', qw(new query usage begin resume log_take));
can_ok('SMBGW::Run',     qw(secret step unwind interrupt));
can_ok('SMBGW::Error',   qw(code kind message remedy detail problems));

done_testing();
