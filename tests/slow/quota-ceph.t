# SPDX-License-Identifier: MIT OR Apache-2.0

# Quotas on real CephFS: a small cluster in a box. The mechanism is tested by the program `quota-suite`; then a client of a real smbd
# sees the size of a limited share. This file knows what it gets, and how a share is made. The first run builds a root with Ceph.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../lab/lib';

use Test::More;

use Lab::Box;
use Lab::Ceph;
use Lab::Product;
use Lab::Smb;
use Lab::Suite;
use Lab::Tap;

my $suite = Lab::Suite::program();
Lab::Ceph::ready() if !defined($ENV{SMBGW_LAB_BOX});
Lab::Product::enter();
Lab::Ceph::start();
binmode(Test::More->builder->$_(), ':utf8') for qw(output failure_output todo_output);
note('Ceph ' . Lab::Ceph::version());

# Where others can start it, too. It takes as long as the metadata server needs to tell what is used.
my $program = '/tmp/quota-suite';
Lab::Box::spew($program, Lab::Box::slurp($suite), 0755);
my $r = Lab::Box::run([$program], env => { Lab::Suite::trees(ceph => $Lab::Ceph::MOUNT) }, timeout => 300);
my $why = defined($r->{rc}) ? undef : $r->{signal} == 9 ? 'it was killed after 300 seconds' : "it died of signal $r->{signal}";
Lab::Tap::pass_on({ lines => [split(/\n/, $r->{all})], status => $r->{rc} // -1, why => $why, seconds => $r->{ms} / 1000, console => defined($why) ? Lab::Ceph::logs() : '' });

# --- a client sees the size of the share ----------------------------------------------------------------------------------

my $PASSWORD = 'what anna types';
my $MIB = 1 << 20;

# the program has directories of its own
my $TREE = "$Lab::Ceph::MOUNT/of-anna";
mkdir($TREE) or die "cannot create $TREE: $!\n";

sub call_ok {
    my ($name, $r) = @_;
    my $ok = ok(defined($r->{rc}) && $r->{rc} == 0, $name) or diag(Lab::Product::words_of($r));
    return $ok;
}

# Size and free space in bytes, as smbclient shows them.
sub space {
    my $out = Lab::Smb::client('anna', $PASSWORD, 'office', 'du')->{out};
    my ($blocks, $unit, $free) = $out =~ m/(\d+) blocks of size (\d+)\. (\d+) blocks available/ or return diag($out);
    return ($blocks * $unit, $free * $unit);
}

SKIP: {
    call_ok('create with a limit', Lab::Product::create('office', { path => $TREE, username => 'anna', 'smbgw-quota' => '64M' }, password => $PASSWORD)) or last SKIP;
    is_deeply([space()], [64 * $MIB, 64 * $MIB], 'a client sees the limit as the size, all of it free');
    my $file = '/tmp/eight';
    Lab::Box::spew($file, 'x' x (8 * $MIB));
    is(Lab::Smb::client('anna', $PASSWORD, 'office', "put $file eight")->{status}, 'OK', 'she writes 8 MiB');
    # Samba asks again after a while, and Ceph counts after a while
    ok(Lab::Box::until_true(sub { (space())[1] == 56 * $MIB }, 30), 'and sees 8 MiB less that are free') or diag(join(' ', space()));
    call_ok('a higher limit', Lab::Product::set('office', { 'smbgw-quota' => '128M' }));
    ok(Lab::Box::until_true(sub { (space())[0] == 128 * $MIB }, 30), 'a client sees it') or diag(join(' ', space()));
    call_ok('a limit below what is used', Lab::Product::set('office', { 'smbgw-quota' => '4M' }));
    like(Lab::Smb::client('anna', $PASSWORD, 'office', "put $file more")->{status}, qr/\ANT_STATUS_(?:DISK_FULL|QUOTA_EXCEEDED)\z/, 'nothing more can be written');
    call_ok('delete', Lab::Product::remove('office'));
    is(-s "$TREE/eight", 8 * $MIB, 'the data is still there');
}
Lab::Smb::stop();

done_testing();
