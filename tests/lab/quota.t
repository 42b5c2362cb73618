# SPDX-License-Identifier: MIT OR Apache-2.0

# Limits on a real btrfs, from Proxmox's storage command to what a client sees, with a real smbd; and what every limit has to do
# (tests/quota) on the file systems that any kernel has. Limits of ext4 and XFS need another kernel: quota-emulated.t.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use Test::More;

use Lab::Box;
use Lab::Disks;
use Lab::Product;
use Lab::Smb;
use Lab::Suite;
use Lab::Tap;

my $suite = Lab::Suite::program();
Lab::Product::enter();
Lab::Product::through_proxmox() or Lab::Box::skip_all('there is no tests/pve');
END { Lab::Disks::detach() }

my $PASSWORD = 'limited to 64M';
my $MIB = 1 << 20;

sub btrfs { my (@words) = @_; my $r = Lab::Box::run(['btrfs', @words]); is($r->{rc}, 0, "btrfs @words") or diag($r->{all}); return $r }

sub pvesm_ok {
    my ($name, @call) = @_;
    my $r = Lab::Product::pvesm(@call);
    ok(defined($r->{rc}) && $r->{rc} == 0, $name) or diag($r->{all});
    return $r;
}

sub refused {
    my ($name, $properties, @patterns) = @_;
    my $r = Lab::Product::create('wrong', { path => '/srv/disk/office', username => 'anna', %$properties }, password => $PASSWORD);
    ok(defined($r->{rc}) && $r->{rc} != 0, $name) or return diag($r->{out});
    like(Lab::Product::words_of($r), $_, "... and says so: $_") for @patterns;
    return;
}

# What a client sees: bytes in all and bytes that are free.
sub seen_by_client {
    my ($share) = @_;
    my $r = Lab::Smb::client('anna', $PASSWORD, $share, 'du');
    my ($total, $size, $free) = $r->{out} =~ m/(\d+) blocks of size (\d+)\. (\d+) blocks available/;
    return (-1, -1) if !defined($total);
    return ($total * $size, $free * $size);
}

# The file system counts when it commits.
sub commit { Lab::Box::run(['sync', '-f', '/srv/disk']); return }

sub report {
    my ($id) = @_;
    my $r = Lab::Product::call(['quota', 'report', $id]);
    return $r->{data}->{shares}->[0] // {};
}

sub near { my ($is, $wanted, $name) = @_; return ok(defined($is) && abs($is - $wanted) <= $wanted / 10 + 65536, $name) || diag(($is // 'nothing') . " instead of $wanted") }

Lab::Disks::mount('/srv/disk', size => 2048, mkfs => ['mkfs.btrfs', '-q']);
Lab::Disks::mount('/srv/xfs', size => 320, mkfs => ['mkfs.xfs', '-q']);
Lab::Disks::mount('/srv/off', size => 512, mkfs => ['mkfs.btrfs', '-q']);
btrfs('subvolume', 'create', $_) for '/srv/disk/office', '/srv/disk/lab', '/srv/disk/suite', '/srv/off/office';
mkdir('/srv/disk/plain');

subtest 'refused, with the remedy' => sub {
    refused('a typo of a unit', { 'smbgw-quota' => '500GB' }, qr/smbgw-quota/, qr/write 500G/);
    refused('no unit', { 'smbgw-quota' => '500' }, qr/unit forgotten/);
    refused('zero', { 'smbgw-quota' => '0' }, qr/leave the property out/);
    refused('negative', { 'smbgw-quota' => '-1G' }, qr/negative/);
    refused('quota not enabled', { 'smbgw-quota' => '64M', path => '/srv/off/office' }, qr/not enabled on \/srv\/off/, qr/btrfs quota enable \/srv\/off/);
    btrfs('quota', 'enable', '/srv/disk');
    btrfs('quota', 'rescan', '-w', '/srv/disk');
    refused('no subvolume', { 'smbgw-quota' => '64M', path => '/srv/disk/plain' }, qr/no subvolume/, qr/btrfs subvolume create/);
    refused('more than there is', { 'smbgw-quota' => '500G' }, qr/more than the file system/, qr/2 GiB/);
    refused('tmpfs', { 'smbgw-quota' => '64M', path => '/dev/shm' }, qr/./);
    is_deeply(Lab::Product::call(['list'])->{data}, [], 'nothing was made');
};

# Simple quota, which btrfs-progs of Debian 12 cannot switch on: BTRFS_IOC_QUOTA_CTL with BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA (Linux 6.7).
sub squota {
    my ($at) = @_;
    open(my $fh, '<', $at) or die "$at: $!\n";
    my $args = pack('QQ', 4, 0);
    return ioctl($fh, 0xC0109428, $args);
}

subtest 'every limit has to do this' => sub {
    my %trees = ('xfs-ids' => '/srv/xfs', btrfs => '/srv/disk/suite', 'btrfs-sub' => '/srv/disk/plain', 'btrfs-off' => '/srv/off/office', 'tmpfs-off' => '/dev/shm');
    my $r = Lab::Box::run([$suite], env => { Lab::Suite::trees(%trees) }, timeout => 120);
    Lab::Tap::pass_on({ lines => [split(/\n/, $r->{all})], status => $r->{rc} });
    if (ok(squota('/srv/off'), 'simple quota is switched on')) {
        $r = Lab::Box::run([$suite], env => { Lab::Suite::trees('btrfs-squota' => '/srv/off/office') });
        Lab::Tap::pass_on({ lines => [split(/\n/, $r->{all})], status => $r->{rc} });
    }
};

# Two file systems have a qgroup of the same number here, so the one is asked by its uuid.
my ($fsid) = btrfs('filesystem', 'show', '/srv/disk')->{out} =~ m/uuid:\s+([0-9a-f-]+)/;
my $limit_before = sub { Lab::Box::slurp("/sys/fs/btrfs/$fsid/qgroups/0_$_[0]/max_referenced") =~ s/\s//gr };
my ($office) = btrfs('subvolume', 'show', '/srv/disk/office')->{out} =~ m/Subvolume ID:\s+(\d+)/;
my ($lab) = btrfs('subvolume', 'show', '/srv/disk/lab')->{out} =~ m/Subvolume ID:\s+(\d+)/;
btrfs('qgroup', 'limit', '100M', '/srv/disk/lab');

subtest 'pvesm add with a limit' => sub {
    pvesm_ok('added', ['add', 'smbgateway', 'office', '--path', '/srv/disk/office', '--smbgw-mode', 'native', '--username', 'anna', '--smbgw-quota', '64M'], password => $PASSWORD);
    is(Lab::Product::status('office')->{state}, 'ready', 'ready') or diag(Lab::Product::call(['status', 'office'], text => 1)->{all});
    is($limit_before->($office), 64 * $MIB, 'the qgroup of its subvolume is limited');
    is($limit_before->($lab), 100 * $MIB, 'and no other');
    my ($total, $free) = seen_by_client('office');
    is($total, 64 * $MIB, 'a client sees the limit as the size');
    near($free, 64 * $MIB, 'and that it is empty');
    my $row = pvesm_ok('pvesm status', ['status', '--storage', 'office'])->{out};
    like($row, qr/^office\s+smbgateway\s+active\s+65536\s/m, 'shows it as well');
};

subtest 'full' => sub {
    Lab::Box::spew('/run/lab/big', 'x' x (40 * $MIB));
    is(Lab::Smb::client('anna', $PASSWORD, 'office', 'put /run/lab/big big1')->{status}, 'OK', 'a client writes below the limit');
    commit();
    my ($total, $free) = seen_by_client('office');
    Lab::Box::until_true(sub { ($total, $free) = seen_by_client('office'); abs($free - 24 * $MIB) < 4 * $MIB }, 10);
    near($free, 24 * $MIB, 'and sees what is left');
    my $r = Lab::Smb::client('anna', $PASSWORD, 'office', 'put /run/lab/big big2');
    isnt($r->{status}, 'OK', "more than the limit is refused: $r->{status}");
    # A write of which only a part finds room is an answer that smbclient does not understand: the next one is.
    $r = Lab::Smb::client('anna', $PASSWORD, 'office', 'put /run/lab/big big3');
    like($r->{out}, qr/DISK_FULL|QUOTA/, 'because there is no room') or diag($r->{out});
    commit();
    my $quota = report('office');
    near($quota->{used}, 64 * $MIB, 'the report tells what is used');
    is($quota->{limit}, 64 * $MIB, 'and the limit');
    is($quota->{means}, 'qgroup', 'and by what');
    is($quota->{'lag-ms'}, 30_000, 'and how late that is counted');
    like(Lab::Product::call(['quota', 'report'], text => 1)->{out}, qr/^office\s+64 MiB\s+6\d(?:\.\d)? MiB\s+\d+\.\d\s.*qgroup 0\/$office\s+up to 30 s$/m, 'also for people') or diag(Lab::Product::call(['quota', 'report'], text => 1)->{out});
    Lab::Product::call(['reconcile', '--once']);
};

subtest 'changed' => sub {
    my $r = pvesm_ok('below what is used', ['set', 'office', '--smbgw-quota', '32M']);
    like($r->{all}, qr/uses 6\d.*MiB already, and the limit is 32 MiB/, 'with a warning') or diag($r->{all});
    is($limit_before->($office), 32 * $MIB, 'set');
    is((seen_by_client('office'))[0], 32 * $MIB, 'seen by a client');
    isnt(Lab::Smb::client('anna', $PASSWORD, 'office', 'put /etc/hostname x')->{status}, 'OK', 'nobody can write');
    is(-e '/srv/disk/office/.smbgw-probe' ? 1 : 0, 0, 'the proof left nothing behind');
    is(Lab::Smb::client('anna', $PASSWORD, 'office', 'del big*')->{status}, 'OK', 'but remove');
    commit();
    pvesm_ok('larger', ['set', 'office', '--smbgw-quota', '1G']);
    is((seen_by_client('office'))[0], 1024 * $MIB, 'seen by a client');
    is(Lab::Smb::client('anna', $PASSWORD, 'office', 'put /run/lab/big big1')->{status}, 'OK', 'and there is room');
};

subtest 'somebody changed the limit' => sub {
    btrfs('qgroup', 'limit', '10G', '/srv/disk/office');
    like(join("\n", @{ Lab::Product::call(['status', 'office', '--fresh'])->{data}->{drift} }), qr/limit is 10 GiB instead of 1 GiB/, 'status says so');
    is(Lab::Product::call(['reconcile', '--once'])->{rc}, 0, 'the worker');
    is($limit_before->($office), 1024 * $MIB, 'sets it again');
};

subtest 'without the limit' => sub {
    pvesm_ok('removed', ['set', 'office', '--delete', 'smbgw-quota']);
    unlike($limit_before->($office), qr/^1073741824$/, 'lifted');
    cmp_ok((seen_by_client('office'))[0], '>', 1900 * $MIB, 'a client sees the file system');
    is(Lab::Smb::parameter('dfree command', 'office') // '', '', 'without a program of ours');
};

subtest 'a limit that was there before us' => sub {
    pvesm_ok('added', ['add', 'smbgateway', 'lab', '--path', '/srv/disk/lab', '--smbgw-mode', 'native', '--username', 'anna', '--smbgw-quota', '200M'], password => $PASSWORD);
    is($limit_before->($lab), 200 * $MIB, 'is replaced');
    pvesm_ok('removed', ['remove', 'lab']);
    is($limit_before->($lab), 100 * $MIB, 'and comes back with the removal');
    is(Lab::Box::run(['btrfs', 'subvolume', 'snapshot', '/srv/disk/lab', '/srv/disk/snap'])->{rc}, 0, 'a snapshot');
    my ($snap) = btrfs('subvolume', 'show', '/srv/disk/snap')->{out} =~ m/Subvolume ID:\s+(\d+)/;
    is($limit_before->($snap), 100 * $MIB, 'inherits the limit');
    my $plan = Lab::Product::call(['plan', 'create', 'snap', '--path', '/srv/disk/snap', '--smbgw-mode', 'native', '--username', 'anna', '--smbgw-quota', '50M'], text => 1);
    like($plan->{out}, qr/quota\/limit.*limit \/srv\/disk\/snap to 50 MiB/, 'and can be a share with one of its own') or diag($plan->{all});
};

pvesm_ok('the last one', ['remove', 'office']);
ok(-e '/srv/disk/office/big1', 'data stays');
done_testing();
