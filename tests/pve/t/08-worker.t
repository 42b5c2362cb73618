# SPDX-License-Identifier: AGPL-3.0-or-later
# The worker: how a hook starts it (without waiting, leaving nothing of the caller open in it), and how it waits for the section that
# the hook's caller has not written yet.

use strict;
use warnings;

use JSON::PP ();
use Test::More;
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;

my $world = Harness::world(api => [15, 6], inc => ["$Harness::HERE/fake"]);
my $dir = $world->dir();
$world->{env} = { FAKE_SMBGW_LOG => "$dir/log" };
sub until_there { my ($name) = @_; for (1 .. 200) { my $t = $world->read($name); return $t if defined($t) && $t =~ m/end/; select(undef, undef, undef, 0.05) } return '' }

# --- a worker that takes its time, started from a process with a pipe, a blocked signal, an END block and a destructor
$world->write('worker', "#!$^X\n" . <<'CODE');
use POSIX ();
my %fd = map { $_ => readlink("/proc/self/fd/$_") // '' } map { m!(\d+)$! } glob('/proc/self/fd/*');
my $set = POSIX::SigSet->new(); POSIX::sigprocmask(POSIX::SIG_BLOCK(), POSIX::SigSet->new(), $set);
open(my $f, '>', "$ENV{SMBGW_TEST_DIR}/trace") or die;
print {$f} "args @ARGV\n", map({ "fd $_ $fd{$_}\n" } sort keys %fd), 'session ', POSIX::getpid() == getpgrp() || getppid() == 1 ? 'own' : 'none', "\n",
    'blocked ', $set->ismember(POSIX::SIGTERM()), "\n", 'env ', join(',', sort grep { m/SECRET|SMBGW_TEST/ } keys %ENV), "\n", 'cwd ', readlink('/proc/self/cwd'), "\n", "end\n";
close($f);
sleep(3);
CODE
chmod(0755, "$dir/worker");
my $code = <<'CODE';
use strict; use warnings; use POSIX ();
use PVE::SMBGateway::Worker;
pipe(my $r, my $w); $^F = 1000; open(my $leak, '<', '/etc/hostname'); open(my $lock, '>', "$ENV{SMBGW_TEST_DIR}/held"); $^F = 2;
POSIX::sigprocmask(POSIX::SIG_BLOCK(), POSIX::SigSet->new(POSIX::SIGTERM()));
sub D::DESTROY { print "destroyed\n" } my $d = bless {}, 'D'; END { print "END\n" }
$SIG{CHLD} = sub { };
$| = 0; print "buffered\n";
my $t = Time::HiRes::time();
my $ok = PVE::SMBGateway::Worker::start('office');
printf("took %.1f ok %s children %s\n", Time::HiRes::time() - $t, $ok, waitpid(-1, POSIX::WNOHANG()));
PVE::SMBGateway::Worker::start("a b; touch /tmp/x");
CODE
my $started = time();
my $got = $world->perl($code, env => { SMBGW_COMMAND => "$dir/worker", SMBGW_TEST_DIR => $dir, SECRET => 'x' });
cmp_ok(time() - $started, '<', 3, 'the caller is not kept: its output ends with it');
like($got->{out}, qr/took 0\.\d ok 1 children -1/, 'starting takes no time and leaves no child');
is($got->{out} =~ s/took.*\n//r, "buffered\ndestroyed\nEND\n", 'buffers, END blocks and destructors run once') or diag($got->{out});
my $trace = until_there('trace');
like($trace, qr/^args reconcile --once office$/m, 'the command');
is_deeply([$trace =~ m!^fd [012] (.*)$!mg], [('/dev/null') x 3], 'standard input, output and error are /dev/null');
is_deeply([grep { !m!\A(?:\Q$dir\E/worker)?\z! } $trace =~ m!^fd (?:[3-9]|\d\d+) (.*)$!mg], [], 'no other descriptor of the caller is left');
unlike($trace, qr/hostname|held|pipe:/, 'none');
like($trace, qr/^blocked 0$/m, 'no blocked signal');
like($trace, qr/^env SMBGW_TEST_DIR$/m, 'a clean environment');
like($trace, qr!^cwd /$!m, 'in the root directory');

# --- a secret is in nobody's argv or environment (the worker gets an id, nothing else)
unlike($trace, qr/password/, 'no secret is passed');

# --- waiting for the section
$world->write('own.cfg', '');
$world->write('log.shares', '{"office":{"path":"/srv/office"}}');
my $pid = fork() // die;
if (!$pid) {
    select(undef, undef, undef, 1.0);
    open(my $f, '>', "$dir/own.cfg");
    print {$f} "smbgateway: office\n\tpath /srv/office\n\n";
    close($f);
    require POSIX;
    POSIX::_exit(0);
}
my $tool = [$^X, '-I', "$Harness::HERE/fake", '-I', $Harness::TOP, "$Harness::TOP/PVE/bin/pve-smbgateway", '--config'];
my $t = time();
$got = $world->command([@$tool[0 .. 5], 'reconcile', '--once', '--config', "$dir/own.cfg", 'office']);
waitpid($pid, 0);
is($got->{status}, 0, 'reconcile of a share whose section comes later') or diag($got->{err});
my @calls = map { JSON::PP->new->utf8->decode($_) } split(/\n/, $world->read('log'));
my ($begin) = grep { $_->[0] eq 'begin' } @calls;
is($begin->[1], 'reconcile', 'is one run');
is_deeply([sort keys %{ $begin->[2]->{sections} }], ['office'], 'begun when the section is there');
is_deeply($begin->[2]->{ids}, ['office'], 'for that share');

# --- on Proxmox: the hook's caller holds the lock, and what it writes is what the worker sees
for my $case (
    ['a change', 'ready', "smbgateway: office\n\tpath /srv/office\n\tsmbgw-memory 512\n\n"],
    ['a create that is provisioned', 'provisioning', "smbgateway: office\n\tpath /srv/office\n\tsmbgw-memory 512\n\n"],
    ['a recorded removal', 'deleting', ''],
) {
    my ($name, $state, $after) = @$case;
    my $world = Harness::world(api => (Harness::api_versions())[0], inc => ["$Harness::HERE/fake"], cfg => $state eq 'provisioning' ? '' : "smbgateway: office\n\tpath /srv/office\n\n");
    my $dir = $world->dir();
    $world->{env} = { FAKE_SMBGW_LOG => "$dir/log" };
    $world->write('log.states', qq({"office":"$state"})) if $state ne 'ready';
    $world->write('log.shares', '{"office":{"path":"/srv/office"}}');
    my $worker = q[my $pid = fork() // die; if (!$pid) { select(undef, undef, undef, 0.3); require PVE::SMBGateway::Worker; my $r = eval { PVE::SMBGateway::Worker::reconcile(ids => ['office'], wait => 30) }; open(my $f, '>', "$ENV{FAKE_SMBGW_LOG}.done"); print {$f} $r ? 'done' : "$@"; close($f); POSIX::_exit(0) }];
    my $got = $world->case("require POSIX; load_stack(); PVE::Storage::lock_storage_config(sub { $worker; select(undef, undef, undef, 2); open(my \$f, '>', \"\$ENV{PVE_STANDIN_DIR}/storage.cfg\"); print {\$f} <<'CFG'; close(\$f) });\n${after}CFG\nwait(); return 1;");
    is($got->{error}, undef, "$name: the worker waits for the lock") or diag(explain($got));
    is($world->read('log.done'), 'done', 'and ends');
    my ($begin) = grep { $_->[0] eq 'begin' } map { JSON::PP->new->utf8->decode($_) } split(/\n/, $world->read('log') // '');
    ok($begin, 'a run was begun') or next;
    is_deeply($begin->[2]->{sections}->{office} // {}, $after eq '' ? {} : { type => 'smbgateway', path => '/srv/office', 'smbgw-memory' => '512', content => 'none' }, 'it sees what was written') or diag(explain($begin));
}

# a removal that was recorded, and whose section stays: so long, and no longer
{
    my $world = Harness::world(api => (Harness::api_versions())[0], inc => ["$Harness::HERE/fake"], cfg => "smbgateway: office\n\tpath /srv/office\n\n");
    $world->{env} = { FAKE_SMBGW_LOG => $world->dir() . '/log' };
    $world->write('log.states', '{"office":"deleting"}');
    my $got = $world->case('load_stack(); require PVE::SMBGateway::Worker; my $t = time(); PVE::SMBGateway::Worker::reconcile(ids => ["office"], wait => 2); my $waited = time() - $t; my @held; local $PVE::SMBGateway::Worker::HELD = \@held; PVE::SMBGateway::Worker::start("office"); return [$waited < 2 ? "at once" : "waited", @held];');
    is_deeply($got->{value}, ['waited', 'office'], 'the worker waits, then leaves it to the library; a command can hold it back') or diag(explain($got));
}

# nor a create that was cut short: nobody will write its section
{
    my $world = Harness::world(api => (Harness::api_versions())[0], inc => ["$Harness::HERE/fake"]);
    $world->{env} = { FAKE_SMBGW_LOG => $world->dir() . '/log' };
    $world->write('log.states', '{"office":"building"}');
    my $got = $world->case('load_stack(); require PVE::SMBGateway::Worker; my $t = time(); PVE::SMBGateway::Worker::reconcile(ids => ["office"], wait => 5); return time() - $t < 3 ? "at once" : "waited";');
    is($got->{value}, 'at once', 'a create that was cut short is taken back at once') or diag(explain($got));
}

# what nobody knows is not waited for; what is abandoned only so long
unlink("$dir/log");
$world->write('own.cfg', '');
$t = time();
$got = $world->command([@$tool[0 .. 5], 'reconcile', '--config', "$dir/own.cfg", 'nosuch1']);
cmp_ok(time() - $t, '<', 10, 'an unknown share is not waited for');
$got = $world->command([@$tool[0 .. 5], 'reconcile', '--wait', '1', '--config', "$dir/own.cfg", 'office']);
@calls = map { JSON::PP->new->utf8->decode($_) } split(/\n/, $world->read('log'));
is(scalar(grep { $_->[0] eq 'begin' } @calls), 2, 'an abandoned one is reconciled without its section in the end');
is_deeply((grep { $_->[0] eq 'begin' } @calls)[1]->[2]->{sections}, {}, 'so that the library can take it back');

done_testing();
