# SPDX-License-Identifier: AGPL-3.0-or-later
# What pvestatd calls every ten seconds: check_connection, activate_storage, status. The answers, and the proof by a list of system
# calls that there is no child, network, lock or call on the tree in it. With SMBGW_STAGE on the real library, else on the fake.

use strict;
use warnings;

use Test::More;
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;

my ($api) = Harness::api_versions();
my $call = 'my $p = "PVE::Storage::Custom::SMBGatewayPlugin"; my $s = { type => "smbgateway", path => "%s", content => { none => 1 } }; my $c = $p->check_connection("office", $s); $p->activate_storage("office", $s, {}); my @r = $p->status("office", $s, {}); ';

# --- answers
my $world = Harness::world(api => $api, inc => ["$Harness::HERE/fake"]);
$world->{env}->{FAKE_SMBGW_LOG} = $world->dir() . '/log';
my %case = (
    '1000,600,400,1,500' => [[1000, 600, 400, 1], undef],
    '1000,600,400,1,59999' => [[1000, 600, 400, 1], undef],
    '1000,600,400,1,61000' => [[0, 0, 0, 0], qr/the last status is 61 s old/],
    '1000,600,400,0,500' => [[0, 0, 0, 0], qr/the tree is not served/],
    '' => [[0, 0, 0, 0], qr/no status yet/],
    '18446744073709551615,2,3,1,1' => [['18446744073709551615', 2, 3, 1], undef],
);
for my $usage (sort keys %case) {
    $world->{env}->{FAKE_SMBGW_USAGE} = $usage;
    my $got = $world->case('load_stack(); ' . sprintf($call, '/srv/office') . 'return [map { "$_" } @r];');
    is_deeply($got->{value}, [map { "$_" } @{ $case{$usage}->[0] }], "usage '$usage'") or diag(explain($got));
    $case{$usage}->[1] ? like(join('', @{ $got->{warnings} }), $case{$usage}->[1], 'with a message') : is_deeply([grep { m/office/ } @{ $got->{warnings} }], [], 'without a message');
}

# what waits for the worker, and what it could not do
$world->{env}->{FAKE_SMBGW_USAGE} = '1000,600,400,0,500';
for my $case (['provisioning', qr/it is being built, see 'pve-smbgateway status office'/], ['deleting', qr/it is being removed, see/], ['failed', qr/it could not be built: no space left for a container, see 'pve-smbgateway status office'/]) {
    $world->write('log.states', qq({"office":"$case->[0]"}));
    my $got = $world->case('load_stack(); ' . sprintf($call, '/srv/office') . 'return [map { "$_" } @r];');
    is_deeply($got->{value}, [0, 0, 0, 0], "$case->[0] and inactive") or diag(explain($got));
    like(join('', @{ $got->{warnings} }), $case->[1], 'with a message');
}
$world->{env}->{FAKE_SMBGW_USAGE} = '1000,600,400,1,500';
$world->write('log.states', '{"office":"provisioning"}');
is_deeply($world->case('load_stack(); ' . sprintf($call, '/srv/office') . 'return [map { "$_" } @r];')->{value}, [1000, 600, 400, 1], 'provisioning, and the tree is there: active');
unlink($world->dir() . '/log.states');

# the same message is not repeated every ten seconds
$world->{env}->{FAKE_SMBGW_USAGE} = '';
my $got = $world->case('load_stack(); ' . sprintf($call, '/srv/office') . '$p->status("office", $s, {}) for 1 .. 5; return 1;');
is(scalar(grep { m/no status yet/ } @{ $got->{warnings} }), 1, 'a message is given once');

# a worker that was forked after the first use
$world->{env}->{FAKE_SMBGW_USAGE} = '1000,600,400,1,500';
$got = $world->case('load_stack(); ' . sprintf($call, '/srv/office') . 'my $pid = fork(); if (!$pid) { my @x = $p->status("office", $s, {}); POSIX::_exit($x[3] ? 7 : 8) } waitpid($pid, 0); return $? >> 8;');
is($got->{value}, 7, 'a forked child has a context of its own');

# --- system calls
SKIP: {
    skip 'no strace', 5 if system('strace -V >/dev/null 2>&1') != 0;
    my ($inc, $libdir) = Harness::staged();
    my %env = (FAKE_SMBGW_LOG => '', FAKE_SMBGW_USAGE => '1000,600,400,1,500');
    my @inc = ("$Harness::HERE/fake");
    if ($inc) {
        @inc = @$inc;
        %env = (LD_LIBRARY_PATH => $libdir);
    }
    note($inc ? 'the real library' : 'the fake, no library is staged');
    my $world = Harness::world(api => $api, inc => \@inc, env => \%env);
    my $dir = $world->dir();
    my $tree = "$dir/tree";
    $world->write('options.json', qq({"state-dir":"$dir/state","run-dir":"$dir/run","record-dir":"$dir/state/gateways","node":"pve1"}));

    # a mount whose server does not answer, if this machine lets us have one: every call on it would wait for ever
    # a fresh snapshot says that the tree was there; on a file system that is not local only the snapshot counts
    mkdir("$dir/run/status");
    $world->write('run/status/office.json', sprintf('{"schema":1,"id":"office","at":%d000,"active":true,"path":"%s","local":false,"fsid":"0","space":{"total":1000,"avail":600,"used":400}}', time(), $tree));
    $world->write('run/status/built.json', sprintf('{"schema":1,"id":"built","at":%d000,"active":false,"path":"%s","local":false,"fsid":"0","state":"failed","warnings":[],"error":{"message":"no room"}}', time(), $tree));
    my $dead = mount_dead($tree);
    diag('no dead mount here: only the list of system calls is checked') if !$dead;
    my $program = 'use POSIX (); require PVE::Storage; local $SIG{__WARN__} = sub { syswrite(STDERR, $_[0]) }; ' . sprintf($call, $tree) . 'for (1 .. 3) { syswrite(STDERR, "mark$_\n"); $p->check_connection("office", $s); $p->activate_storage("office", $s, {}); $p->status("built", $s, {}); @r = $p->status("office", $s, {}); } syswrite(STDERR, "markend\n"); syswrite(STDERR, "answer @r[0 .. 3]\n"); POSIX::_exit(0);';
    my $file = $world->write('hot.pl', $program);
    my $done = $world->command(['timeout', '30', 'strace', '-f', '-o', "$dir/trace", $^X, map({ "-I$_" } $world->inc()), $file]);
    unmount_dead($dead) if $dead;
    is($done->{status}, 0, 'the three calls end' . ($dead ? ', the tree being on a dead mount' : '')) or diag($done->{err});
    like($done->{err}, qr/storage 'built': it could not be built: no room, see/, 'a share that could not be built says why') if $inc;
    like($done->{err}, qr/^answer 1000 600 400 1$/m, 'with the figures of the snapshot');
    my $trace = $world->read('trace') // '';
    my ($hot) = $trace =~ m/write\(2, "mark1.*?\n(.*)write\(2, "markend/s;
    ok(defined($hot), 'the calls are in the trace') or $hot = '';
    my @calls = map { m/^\d+\s+(\w+)\((.*)/ ? [$1, $2] : () } split(/\n/, $hot);
    my @bad = grep { $_->[0] =~ m/^(?:clone3?|fork|vfork|execve|execveat|socket|connect|sendto|flock|wait4|waitid|poll|ppoll|select|pselect6|epoll_wait|nanosleep|clock_nanosleep|mount)$/ || $_->[0] eq 'fcntl' && $_->[1] =~ m/F_\w*LK/ } @calls;
    is_deeply([map { "$_->[0]($_->[1]" } @bad], [], 'no child, network, lock or wait in them');
    my @tree = grep { index($_->[1], $tree) >= 0 } @calls;
    is_deeply([map { "$_->[0]($_->[1]" } @tree], [], 'no call on the tree');
    note('system calls of one cycle: ' . join(' ', map { $_->[0] } @calls[0 .. ($#calls < 30 ? $#calls : 30)]));
}

done_testing();

# A FUSE mount without a server behind it: the kernel takes it, and every look at it waits.
sub mount_dead {
    my ($dir) = @_;
    return undef if $> != 0;
    sysopen(my $fuse, '/dev/fuse', 2) or return undef;
    my $fd = fileno($fuse);
    require Fcntl;
    fcntl($fuse, Fcntl::F_SETFD(), 0);
    my $options = "fd=$fd,rootmode=40000,user_id=0,group_id=0";
    my $ok = system('mount', '-i', '-t', 'fuse', '-o', $options, 'smbgw-dead', $dir) == 0;
    return $ok ? [$fuse, $dir] : undef;
}

sub unmount_dead {
    my ($dead) = @_;
    close($dead->[0]);    # the connection is aborted, whoever waits gets an error
    system('umount', '-l', $dead->[1]);
    return;
}
