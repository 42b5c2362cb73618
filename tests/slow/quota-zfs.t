# SPDX-License-Identifier: MIT OR Apache-2.0

# Quotas on real ZFS, in an emulated machine. What is tested is in the program `quota-suite`; this file knows which data sets it gets.
# The first run builds the module, which takes some minutes.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../lab/lib';

use Test::More;

use Lab::Box;
use Lab::Emulated;
use Lab::Suite;
use Lab::Tap;
use Lab::Zfs;

my $suite = Lab::Suite::program();
Lab::Zfs::ready();

# A pool in a file: on a whole disk `zpool` makes partitions, and waits for names that nobody here gives them.
my @pool = (
    ['modprobe', 'zfs'],
    ['truncate', '-s', '256M', '/tmp/vdev'],
    ['zpool', 'create', '-o', 'cachefile=none', '-m', 'none', 'tank', '/tmp/vdev'],
    ['zfs', 'create', '-o', 'mountpoint=/mnt/zfs', 'tank/office'],
    ['zfs', 'create', '-o', 'mountpoint=/mnt/zfs-plain', 'tank/plain'],
    ['mkdir', '/mnt/zfs-plain/sub'],
);
my $r = Lab::Emulated::run(program => $suite, layers => [Lab::Zfs::layer()], before => \@pool, memory => 1024, timeout => 120, env => { Lab::Suite::trees(zfs => '/mnt/zfs', 'zfs-sub' => '/mnt/zfs-plain/sub') });
Lab::Tap::pass_on($r);
done_testing();
