# SPDX-License-Identifier: MIT OR Apache-2.0

# The node agent on a real smbd: what was broken is put right within a cycle, a section of somebody else's hand is built, a gateway that hangs
# holds up nobody, and it ends with nothing left. What it costs at rest is measured.

use strict;
use warnings;
use utf8;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes ();

use Lab::Box;
use Lab::Product;
use Lab::Smb;

Lab::Product::enter();
binmode(Test::More->builder->$_(), ':utf8') for qw(output failure_output todo_output);

my $PASSWORD = 'anna-anna-anna';
my $BEAT = "$Lab::Product::RUN/agent.json";
my $LOG = '/root/agent.log';

sub beat { return eval { JSON::PP->new->utf8->decode(Lab::Box::slurp($BEAT)) } // {} }
sub gateway { my ($name) = @_; return beat()->{gateways}->{$name} // {} }
sub works { return Lab::Smb::round_trip('anna', $PASSWORD, 'office', 'probe.txt', "anna\n") }
sub within { my ($seconds, $what) = @_; return Lab::Box::until_true($what, $seconds) ? 1 : 0 }
sub ended { my ($pid, $seconds) = @_; return within($seconds, sub { waitpid($pid, POSIX::WNOHANG()) == $pid }) }
sub log_of { return -e $LOG ? Lab::Box::slurp($LOG) : '' }

# User and system time of a process and of the children it has waited for, in seconds.
sub times_of {
    my ($pid) = @_;
    my @stat = split(/ /, Lab::Box::slurp("/proc/$pid/stat") =~ s/\A.*\) //sr);
    my $tick = POSIX::sysconf(POSIX::_SC_CLK_TCK());
    return (($stat[11] + $stat[12]) / $tick, ($stat[13] + $stat[14]) / $tick);
}
sub memory { my ($pid) = @_; return Lab::Box::slurp("/proc/$pid/status") =~ m/^VmRSS:\s+(\d+)/m ? $1 : undef }

Lab::Smb::start();
mkdir("/srv/$_") for qw(office hand);
my $before = Lab::Product::footprint();
my $created = Lab::Product::create('office', { path => '/srv/office', username => 'anna' }, password => $PASSWORD);
is($created->{rc}, 0, 'a share is there') or BAIL_OUT(Lab::Product::words_of($created));

subtest 'as it is installed' => sub {
    is_deeply([grep { m/agent/ } @{ Lab::Product::status('office')->{warnings} }], [], 'without systemd nobody misses an agent that never ran');
    my $agent = Lab::Product::agent(log => $LOG);
    ok(within(30, sub { (gateway('native')->{result} // '') eq 'ok' }), 'the first cycle comes at once') or diag(log_of());
    ok(within(10, sub { Lab::Product::status('office')->{committed} }), 'and notes the section');
    Lab::Smb::stop();
    ok(within(60, sub { works() eq 'OK' }), 'smbd was ended, and runs again after a cycle') or diag(log_of());
    ok(within(30, sub { log_of() =~ m/repaired/ }), 'which the log says when all is proven') or diag(log_of());
    my $conf = Lab::Box::slurp('/etc/samba/smb.conf');
    Lab::Box::spew('/etc/samba/smb.conf', $conf =~ s/^.*smbgw.*\n//mgr);
    kill('HUP', $agent);
    ok(within(18, sub { Lab::Box::slurp('/etc/samba/smb.conf') eq $conf && works() eq 'OK' }), 'a line of ours was taken out, and is back after a reload') or diag(log_of());

    ok(within(30, sub { (() = log_of() =~ m/repaired/g) >= 2 }), 'proven') or diag(log_of());
    my $smbd = Lab::Smb::pid();
    my $list = Lab::Product::call(['list'], text => 1);
    unlike($list->{all}, qr/agent/, 'list says nothing of it');
    kill('KILL', $agent);
    ok(ended($agent, 5), 'it is killed');
    like(Lab::Product::call(['list'], text => 1)->{all}, qr/the agent of this node does not run.*systemctl restart pve-smbgateway-agent/s, 'list says so');
    like(join(' ', @{ Lab::Product::status('office')->{warnings} }), qr/the agent of this node does not run/, 'status too');
    is(Lab::Product::set('office', { 'smbgw-access' => 'rw:anna' })->{rc}, 0, 'a change does without it');
    is(Lab::Smb::pid(), $smbd, 'and so does smbd');
};

# A container's gateway of which only the record is there, and an lxc-info that never answers.
my $HANGING = <<'SCRIPT';
#!/bin/sh
exec sleep 7777
SCRIPT

sub hanging_gateway {
    my ($native) = glob("$Lab::Product::STATE/gateways/native@*.json");
    my $record = JSON::PP->new->utf8->decode(Lab::Box::slurp($native));
    my $node = $record->{node};
    my %box = (%$record, id => 'box', mode => 'lxc', uuid => '01234567-89ab-4cde-8f01-23456789abcd', vmid => 100, shares => {}, users => {}, groups => {}, hashes => {});
    delete(@box{qw(removed former)});
    Lab::Box::spew("$Lab::Product::STATE/gateways/box.json", JSON::PP->new->canonical->utf8->encode(\%box), 0600);
    my $dir = '/etc/pve';
    mkdir($_) for $dir, "$dir/nodes", "$dir/nodes/$node", "$dir/nodes/$node/lxc";
    symlink("nodes/$node/lxc", "$dir/lxc");
    Lab::Box::spew("$dir/lxc/100.conf", "arch: amd64\nhostname: box\ntags: smbgw-$box{uuid}\n");
    Lab::Box::spew('/root/lxc-info', $HANGING, 0755);
    chmod(0755, '/root/lxc-info');
    Lab::Box::spew('/usr/bin/lxc-info', '', 0755) if !-e '/usr/bin/lxc-info';
    my $r = Lab::Box::run(['mount', '--bind', '/root/lxc-info', '/usr/bin/lxc-info']);
    return $r->{rc} == 0;
}
sub sleepers { return grep { (Lab::Box::slurp("/proc/$_/cmdline") // '') =~ m/\Asleep\0007777/ } map { m!/proc/(\d+)\z! ? $1 : () } glob('/proc/[0-9]*') }

subtest 'a gateway that hangs' => sub {
    plan(skip_all => 'NOT RUN: nothing can be put in the place of lxc-info') if !hanging_gateway();
    my $agent = Lab::Product::agent(log => $LOG, times => { pause => 2, long => 2, stall => 4, grace => 2, stop => 2, first => 3 });
    ok(within(30, sub { sleepers() }), 'one question is never answered') or diag(log_of());
    Lab::Smb::stop();
    ok(within(20, sub { works() eq 'OK' }), 'the node\'s own Samba is repaired all the same') or diag(log_of());
    ok(within(40, sub { (gateway('box')->{reason} // '') =~ m/\Ait hung/ }), 'the hanging one is ended and told of') or diag(JSON::PP->new->canonical->encode(beat()), log_of());
    is(gateway('native')->{result}, 'ok', 'the other is in order');
    cmp_ok(gateway('box')->{next} // 0, '>', 0, 'it is tried again later');

    # a section that no hook has seen
    Lab::Box::spew($Lab::Product::SECTIONS, Lab::Box::slurp($Lab::Product::SECTIONS) . "\nsmbgateway: hand\n\tpath /srv/hand\n\tcontent none\n\tsmbgw-mode native\n\tsmbgw-gateway native\n\tnodes " . ((POSIX::uname())[1] =~ s/\..*//r) . "\n\tshare hand\n\tsmbgw-access rw:anna\n\n");
    ok(within(30, sub { (Lab::Product::status('hand')->{state} // '') eq 'ready' }), 'a section by hand becomes a share') or diag(log_of());
    is(Lab::Smb::round_trip('anna', $PASSWORD, 'hand', 'a.txt', "x\n"), 'OK', 'which can be used');

    within(20, sub { sleepers() });
    my $t = Time::HiRes::time();
    kill('TERM', $agent);
    ok(ended($agent, 15), 'it ends on TERM');
    is($?, 0, 'in order');
    cmp_ok(Time::HiRes::time() - $t, '<', 10, 'soon, although a child hangs');
    ok(within(5, sub { !sleepers() }), 'with nothing left') or diag(join(' ', sleepers()));
    ok(!-e $BEAT, 'and no sign of life');
    Lab::Box::run(['umount', '/usr/bin/lxc-info']);
    unlink("$Lab::Product::STATE/gateways/box.json", '/etc/pve/lxc/100.conf');
};

subtest 'at rest' => sub {
    my $agent = Lab::Product::agent(log => $LOG, times => { pause => 1 });
    ok(within(60, sub { (beat()->{cycle} // 0) >= 3 }), 'it has settled');
    my ($from, $own, $children) = (beat()->{cycle}, times_of($agent));
    my $memory = memory($agent);
    ok(within(120, sub { beat()->{cycle} >= $from + 20 }), 'twenty cycles');
    my ($to, $own2, $children2) = (beat()->{cycle}, times_of($agent));
    # the agent itself looks around each second, so a real pause costs it more than a short one
    my $each = ($children2 - $children + $own2 - $own) / ($to - $from);
    diag(sprintf('2 shares: %.1f ms of one core for a cycle, so %.2f %% with one every 20 s; %d KiB', 1000 * $each, 100 * $each / 20, memory($agent)));
    cmp_ok($each, '<', 0.04, 'a cycle at rest costs less than 0.2 % of a core');
    cmp_ok(memory($agent), '<', $memory + 512, 'its memory is as before');
    my $age = Lab::Product::status('office')->{'age-ms'};
    cmp_ok($age, '<', 20_000, 'and the figures are fresh');
    kill('TERM', $agent);
    ok(ended($agent, 10), 'it ends');
};

subtest 'nothing is left' => sub {
    is(Lab::Product::remove($_)->{rc}, 0, "$_ is removed") for qw(hand office);
    my @left = grep { !m!/etc/pve\b|agent\.lock! } Lab::Product::left_behind($before, Lab::Product::footprint());
    is(join('', map { "$_\n" } @left), '', 'the machine is as before');
};

done_testing();
