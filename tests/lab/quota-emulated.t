# SPDX-License-Identifier: MIT OR Apache-2.0

# Quotas on real ext4 and XFS, in an emulated machine: the kernel outside need not have them. What is tested is in the program
# `quota-suite`; this file knows which file systems it gets.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use Test::More;

use Lab::Box;
use Lab::Emulated;
use Lab::Suite;
use Lab::Tap;

my $suite = Lab::Suite::program();
Lab::Emulated::ready();

my @EXT4 = ('mkfs.ext4', '-q');
my @PROJECTS = (@EXT4, '-O', 'quota,project', '-E');
my @XFS = ('mkfs.xfs', '-q');    # makes none below 300 MiB

my @disks = (
    { name => 'ext4', type => 'ext4', size => 64, mkfs => [@PROJECTS, 'quotatype=prjquota'], options => 'prjquota' },
    { name => 'ext4-off', type => 'ext4', size => 64, mkfs => \@EXT4 },
    { name => 'ext4-users', type => 'ext4', size => 64, mkfs => [@PROJECTS, 'quotatype=usrquota:grpquota:prjquota'], options => 'usrquota,grpquota,prjquota' },
    { name => 'xfs', type => 'xfs', size => 320, mkfs => \@XFS, options => 'prjquota' },
    { name => 'xfs-off', type => 'xfs', size => 320, mkfs => \@XFS },
);
$_->{mount} = "/mnt/$_->{name}" for @disks;

Lab::Tap::pass_on(Lab::Emulated::run(program => $suite, disks => \@disks, env => { Lab::Suite::trees(map { $_->{name} => $_->{mount} } @disks) }));
done_testing();
