# SPDX-License-Identifier: MIT OR Apache-2.0

# Shares with limits on ext4 and XFS, from the command to what a client sees, with a real smbd, in an emulated machine whose kernel has
# project quota. The test itself starts again in there; outside it knows which disks it gets.

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use lib File::Basename::dirname(Cwd::realpath(__FILE__)) . '/../lab/lib';

use Test::More;

use Lab::Box;
use Lab::Product;
use Lab::Smb;

if (!$ENV{SMBGW_EMULATED}) {
    require Lab::Emulated;
    require Lab::Tap;
    my $why = Lab::Smb::missing() // Lab::Product::missing();
    Lab::Box::skip_all($why) if defined($why);
    Lab::Emulated::ready();
    my @disks = (
        { size => 64, type => 'ext4', mkfs => ['mkfs.ext4', '-q', '-O', 'quota,project', '-E', 'quotatype=prjquota'], options => 'prjquota', mount => '/media/ext4' },
        { size => 320, type => 'xfs', mkfs => ['mkfs.xfs', '-q'], options => 'prjquota', mount => '/media/xfs' },
        { size => 64, type => 'ext4', mkfs => ['mkfs.ext4', '-q', '-O', 'quota', '-E', 'quotatype=usrquota'], options => 'usrquota', mount => '/media/users' },
    );
    my $stage = $ENV{SMBGW_STAGE} // "$Lab::Box::ROOT/.cache/stage";
    my %env = (SMBGW_EMULATED => 1, SMBGW_STAGE => $stage, CI => $ENV{CI} // '');
    Lab::Tap::pass_on(Lab::Emulated::run_userland([$^X, Cwd::realpath(__FILE__)], disks => \@disks, env => \%env, memory => 1024, timeout => 300));
    done_testing();
    exit(0);
}

# --- in there -----------------------------------------------------------------------------------------------------------

Lab::Product::enter();

my %PASSWORD = (anna => 'anna has 8 MiB', ben => 'ben has them too');
my $MIB = 1 << 20;

sub call_ok {
    my ($name, $r) = @_;
    return ok(defined($r->{rc}) && $r->{rc} == 0, $name) || !diag(Lab::Product::words_of($r));
}

# Bytes in all and bytes that are free, as a client sees them.
sub seen_by {
    my ($user, $share) = @_;
    my ($total, $size, $free) = Lab::Smb::client($user, $PASSWORD{$user}, $share, 'du')->{out} =~ m/(\d+) blocks of size (\d+)\. (\d+) blocks available/;
    return defined($total) ? ($total * $size, $free * $size) : (-1, -1);
}

sub status_of { my ($user, $share, $commands) = @_; return Lab::Smb::client($user, $PASSWORD{$user}, $share, $commands)->{status} }

Lab::Box::spew('/tmp/five', 'x' x (5 * $MIB));

for my $fs ('ext4', 'xfs') {
    my $tree = "/media/$fs/office";
    mkdir($_) for $tree, "$tree/old";
    Lab::Box::spew("$tree/old/file", 'y' x (2 * $MIB));
    call_ok("$fs: a share with a limit, and something in it", Lab::Product::create($fs, { path => $tree, username => 'anna', 'smbgw-quota' => '8M' }, password => $PASSWORD{anna}));
    my ($total, $free) = seen_by('anna', $fs);
    is($total, 8 * $MIB, "$fs: a client sees the limit as the size");
    cmp_ok(abs($free - 6 * $MIB), '<', $MIB / 4, "$fs: what was there before counts") or diag($free);
    is(status_of('anna', $fs, 'put /tmp/five one'), 'OK', "$fs: a client writes");
    # A write of which only a part finds room is an answer that smbclient does not understand: the next one is.
    isnt(status_of('anna', $fs, 'put /tmp/five two'), 'OK', "$fs: up to the limit");
    like(status_of('anna', $fs, 'put /tmp/five three'), qr/DISK_FULL|QUOTA/, "$fs: and no further");
    my $row = Lab::Product::call(['quota', 'report', $fs])->{data}->{shares}->[0];
    is($row->{means}, 'project', "$fs: by a project");
    cmp_ok($row->{used}, '>', 6.9 * $MIB, "$fs: the report counts");
    cmp_ok($row->{files}, '>=', 4, "$fs: also files");
    call_ok("$fs: a larger one", Lab::Product::set($fs, { 'smbgw-quota' => '20M' }));
    is((seen_by('anna', $fs))[0], 20 * $MIB, "$fs: is seen");
}

# The file system is the share's alone: what users own in it can be limited.
call_ok('a share with a limit for one user', Lab::Product::create('users', { path => '/media/users', username => 'anna', 'smbgw-user-quota' => 'anna=4M', 'smbgw-access' => 'rw:ben' }, password => $PASSWORD{anna}));
call_ok('another user', Lab::Product::user('create', 'ben', password => $PASSWORD{ben}));
is((seen_by('anna', 'users'))[0], 4 * $MIB, 'a client of the limited user sees that as the size');
cmp_ok((seen_by('ben', 'users'))[0], '>', 40 * $MIB, 'one of the other the file system');
isnt(status_of('anna', 'users', 'put /tmp/five hers'), 'OK', 'she cannot write more');
is(status_of('ben', 'users', 'put /tmp/five his'), 'OK', 'he can');
is((stat('/media/users/his'))[4], (getpwnam('ben'))[2], 'and the file is his');
call_ok('a limit by the command', Lab::Product::call(['quota', 'user', 'users', 'anna', '20M']));
is((seen_by('anna', 'users'))[0], 20 * $MIB, 'is seen');
call_ok('no limit', Lab::Product::call(['quota', 'user', 'users', 'anna', 'none']));
cmp_ok((seen_by('anna', 'users'))[0], '>', 40 * $MIB, 'as well');

for my $id ('ext4', 'xfs', 'users') {
    call_ok("$id: removed", Lab::Product::remove($id));
}
my $lsattr = Lab::Box::run(['lsattr', '-pd', '/media/ext4/office', '/media/xfs/office']);
unlike($lsattr->{out}, qr/^\s*[1-9]\d* /m, 'the trees have the project that they had') or diag($lsattr->{all});
done_testing();
