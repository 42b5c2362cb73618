# SPDX-License-Identifier: AGPL-3.0-or-later
# The node agent on the fake library: who has a turn and when, deadlines, pauses after failures, what it tells systemd and readers of its sign
# of life, and how it ends. That it repairs real shares is tested in tests/lab/agent.t.

use strict;
use warnings;

use JSON::PP ();
use POSIX ();
use Socket ();
use Test::More;
use Time::HiRes ();
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;

# An agent of one test: a process with its own files, short times, and a socket where systemd would listen.
package Agent;

sub new {
    my ($class, %o) = @_;
    my $world = Harness::world(api => [15, 6], inc => ["$Harness::HERE/fake"]);
    my $dir = $world->dir();
    my $self = bless { world => $world, dir => $dir, socket => $o{abstract} ? "\0smbgw-test-$$" : "$dir/notify" }, $class;
    socket($self->{listen}, Socket::AF_UNIX(), Socket::SOCK_DGRAM(), 0) or die $!;
    bind($self->{listen}, Socket::pack_sockaddr_un($self->{socket})) or die $!;
    $world->write('options.json', JSON::PP->new->encode({ 'run-dir' => "$dir/run" }));
    $world->write('own.cfg', $o{cfg} // "smbgateway: office\n\tpath /srv/office\n\n");
    my %time = (pause => 0.3, long => 0.5, stall => 1.5, swift => 1.5, grace => 0.5, stop => 1, first => 1, most => 3, thorough => 60, tick => 0.1, %{ $o{time} // {} });
    $world->write('agent.pl', "use PVE::SMBGateway::Agent;\n" . join('', map { "\$PVE::SMBGateway::Agent::TIME{$_} = $time{$_};\n" } keys %time)
            . ($o{code} // '') . "\nmy \$rc = PVE::SMBGateway::Agent::main('--config', '$dir/own.cfg'); print STDERR \$INC{'SMBGW.pm'} ? 'LOADED' : 'light', \"\\n\"; exit(\$rc);\n");
    $self->mode($o{mode} // '');
    my $gateways = JSON::PP->new->encode({ node => 'pve1', gateways => $o{gateways} // ['native'] });
    $self->{pid} = fork() // die $!;
    if (!$self->{pid}) {
        open(STDERR, '>', "$dir/err");
        delete(@ENV{ grep { m/\A(?:SMBGW_|FAKE_|NOTIFY|JOURNAL)/ } keys %ENV });
        @ENV{qw(SMBGW_OPTIONS FAKE_SMBGW_LOG FAKE_SMBGW_TURNS NOTIFY_SOCKET)} = ("$dir/options.json", "$dir/log", $gateways, $self->{socket} =~ s/\A\0/\@/r);
        exec($^X, map({ "-I$_" } $world->inc()), "$dir/agent.pl") or POSIX::_exit(127);
    }
    return $self;
}

sub mode { my ($self, $mode) = @_; $self->{world}->write('log.mode.new', $mode); rename("$self->{dir}/log.mode.new", "$self->{dir}/log.mode"); return }
sub err { return $_[0]->{world}->read('err') // '' }

sub calls {
    my ($self) = @_;
    return map { eval { JSON::PP->new->utf8->decode($_) } // () } split(/\n/, $self->{world}->read('log') // '');
}

# Runs that were begun: [op, gateway, mark].
sub begun { return map { [$_->[1], $_->[2]->{gateway}, $_->[2]->{mark}] } grep { $_->[0] eq 'begin' } $_[0]->calls() }
sub count { my ($self, $gateway, $op) = @_; return scalar(grep { $_->[1] eq $gateway && $_->[0] eq ($op // $_->[0]) } $self->begun()) }
sub beat { my ($self) = @_; return eval { JSON::PP->new->utf8->decode($self->{world}->read('run/agent.json')) } // {} }

sub notified {
    my ($self) = @_;
    while (1) {
        my $bits = '';
        vec($bits, fileno($self->{listen}), 1) = 1;
        last if select($bits, undef, undef, 0) < 1;
        recv($self->{listen}, my $text, 4096, 0);
        push @{ $self->{heard} }, $text;
    }
    return @{ $self->{heard} // [] };
}

sub until_so {
    my ($self, $what, $seconds) = @_;
    my $end = Time::HiRes::time() + ($seconds // 20);
    while (Time::HiRes::time() < $end) {
        return 1 if $what->();
        Time::HiRes::sleep(0.05);
    }
    return 0;
}

sub end {
    my ($self, $signal) = @_;
    kill($signal // 'TERM', $self->{pid});
    my $t = Time::HiRes::time();
    my $gone = $self->until_so(sub { waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid} }, 15);
    $self->{status} = $?;
    $self->{took} = Time::HiRes::time() - $t;
    kill('KILL', $self->{pid}) if !$gone;
    return $gone;
}

package main;

sub alive { my ($pid) = @_; open(my $f, '<', "/proc/$pid/stat") or return 0; return readline($f) =~ m/\) Z / ? 0 : 1 }

subtest 'cycles' => sub {
    my $agent = Agent->new(gateways => ['native', 'box']);
    ok($agent->until_so(sub { $agent->count('native') >= 3 && $agent->count('box') >= 3 }), 'one cycle after the other') or diag($agent->err());
    my @begun = $agent->begun();
    is_deeply([map { $_->[0] } grep { $_->[1] eq 'native' } @begun[0 .. 5]], ['reconcile', 'refresh', 'refresh'], 'a thorough look, then cheap ones as long as nothing changes');
    is((grep { $_->[0] eq 'refresh' } @begun)[0]->[2] =~ m/\Amark of / ? 1 : 0, 1, 'with the mark that the library gave');
    my @turns = map { [sort keys %{ $_->[2]->{sections} }] } grep { $_->[0] eq 'query' && $_->[1] eq 'turns' } $agent->calls();
    is_deeply([@turns[0, 1]], [['office'], []], 'sections are handed over when they have changed');

    $agent->{world}->write('own.cfg', "smbgateway: office\n\tpath /srv/office\n\ndir: other\n\tpath /x\n\n");
    ok($agent->until_so(sub { $agent->count('native', 'reconcile') >= 2 }), 'another storage configuration is looked at thoroughly');
    my $n = $agent->count('box', 'reconcile');
    $agent->mode('changed=box');
    ok($agent->until_so(sub { $agent->count('box', 'reconcile') >= $n + 2 }), 'so is a gateway whose mark is another');
    $agent->mode('');

    my $beat = $agent->beat();
    is($beat->{pid}, $agent->{pid}, 'the sign of life names the process');
    is($beat->{ticks}, do { open(my $f, '<', "/proc/$agent->{pid}/stat"); (split(/ /, readline($f) =~ s/.*\) //r))[19] }, 'and its start');
    cmp_ok(abs($beat->{at} / 1000 - time()), '<', 10, 'and the time');
    is($beat->{gateways}->{$_}->{result}, 'ok', "$_ is in order") for qw(native box);
    is(sprintf('%04o', (stat("$agent->{dir}/run/agent.json"))[2] & 07777), '0600', 'it is for root');
    my @said = $agent->notified();
    is($said[0], 'READY=1', 'systemd is told that it is ready');
    ok((grep { $_ eq 'WATCHDOG=1' } @said), 'that it lives');
    ok((grep { m/\ASTATUS=cycle \d+ took [\d.]+ s, gateways: 2\z/ } @said), 'and what it does') or diag(explain(\@said));
    ok($agent->end(), 'it ends');
    is($agent->{status}, 0, 'without complaint');
    is(($agent->notified())[-1], 'STOPPING=1', 'and says so');
    like($agent->err(), qr/^light$/m, 'it never loaded the library itself');
    ok(!-e "$agent->{dir}/run/agent.json", 'its sign of life is gone');
};

subtest 'where nothing can hang' => sub {
    my $local = 'local=native;local=box';
    my $agent = Agent->new(gateways => ['native', 'box'], mode => $local, time => { figures => 3600 });
    ok($agent->until_so(sub { $agent->count('native', 'refresh') >= 2 && $agent->count('box', 'refresh') >= 2 }), 'it is looked at as well') or diag($agent->err());
    my $before = my @before = $agent->calls();
    my $n = $agent->count('native', 'refresh');
    ok($agent->until_so(sub { $agent->count('native', 'refresh') >= $n + 4 }), '... and again');
    my @since = splice(@{ [$agent->calls()] }, $before);
    my ($children, $looks) = (scalar(grep { $_->[0] eq 'new' } @since), scalar(grep { $_->[0] eq 'begin' } @since));
    cmp_ok($children, '<=', $looks / 2 + 1, "by the child that makes the list ($children processes for $looks looks)");
    is($agent->beat()->{gateways}->{$_}->{result}, 'ok', "$_ is in order") for qw(native box);

    $n = $agent->count('box', 'reconcile');
    $agent->mode("$local;changed=box");
    ok($agent->until_so(sub { $agent->count('box', 'reconcile') >= $n + 2 }), 'one that has changed is gone through');
    $agent->mode($local);
    my ($since, $cheap) = (0, 0);
    ok($agent->until_so(sub {
        my $now = $agent->count('box', 'reconcile');
        ($since, $cheap) = ($now, $agent->count('box', 'refresh')) if $now != $since;
        return $agent->count('box', 'refresh') >= $cheap + 3;
    }), 'and is quiet again');
    $agent->mode("$local;hang=box");
    ok($agent->until_so(sub { ($agent->beat()->{gateways}->{box}->{failures} // 0) >= 1 }), 'one that hangs all the same is found out') or diag(explain($agent->beat()));
    $n = $agent->count('native');
    ok($agent->until_so(sub { $agent->count('native') >= $n + 4 }), 'and holds up nobody for long');
    $agent->mode($local);
    ok($agent->until_so(sub { $agent->beat()->{gateways}->{box}->{result} eq 'ok' }, 30), 'it is taken up again');
    ok($agent->end(), 'it ends');
};

subtest 'a gateway that fails' => sub {
    my $agent = Agent->new(gateways => ['native', 'box'], mode => 'failgw=box');
    ok($agent->until_so(sub { ($agent->beat()->{gateways}->{box}->{failures} // 0) >= 2 }), 'is tried again');
    my $n = $agent->count('box');
    cmp_ok($n, '<=', 3, 'after a pause');
    cmp_ok($agent->count('native'), '>', $n, 'while the others have their turns');
    my $box = $agent->beat()->{gateways}->{box};
    is($box->{result}, 'failed', 'its result is told');
    is($box->{reason}, 'no answer from box', 'with the reason');
    cmp_ok($box->{next}, '>', $agent->beat()->{started}, 'and when it is tried again');
    ok($agent->until_so(sub { grep { m/\ASTATUS=.*in trouble: box \(no answer from box\)/ } $agent->notified() }), 'also to systemd');
    kill('HUP', $agent->{pid});
    ok($agent->until_so(sub { $agent->count('box') > $n }, 3), 'a reload tries it at once');
    $agent->mode('');
    ok($agent->until_so(sub { ($agent->beat()->{gateways}->{box}->{result} // '') eq 'ok' }), 'when the cause is gone it is in order again');
    $agent->end();
    is(scalar(() = $agent->err() =~ m/no answer from box; tried again in/g), 1, 'the log has one line when it begins') or diag($agent->err());
    is(scalar(() = $agent->err() =~ m/box: in order again, after \d+ attempts/g), 1, 'and one when it is over') or diag($agent->err());
};

subtest 'a gateway that hangs' => sub {
    my $agent = Agent->new(gateways => ['native', 'box', 'slow'], mode => 'hang=box;slowgw=slow');
    ok($agent->until_so(sub { grep { $_->[0] eq 'hangs' } $agent->calls() }), 'takes no step');
    my ($pid) = map { $_->[1] } grep { $_->[0] eq 'hangs' } $agent->calls();
    ok($agent->until_so(sub { $agent->count('native') >= 3 }), 'the others have their turns');
    is($agent->count('box'), 1, 'it is never doubled');
    ok($agent->until_so(sub { !alive($pid) }), 'it is ended, though it does not react to TERM');
    ok($agent->until_so(sub { ($agent->beat()->{gateways}->{box}->{reason} // '') =~ m/\Ait hung: no step in \d+ s\z/ }), 'which is told') or diag(explain($agent->beat()));
    is($agent->count('slow'), 1, 'one that takes steps may go on');
    my ($works) = map { $_->[1] } grep { $_->[0] eq 'works' } $agent->calls();
    ok(alive($works), 'for as long as it takes');
    ok($agent->until_so(sub { ($agent->beat()->{gateways}->{slow}->{running} // 0) >= 1 }), 'and that is told');
    ok($agent->until_so(sub { (grep { $_->[0] eq 'hangs' } $agent->calls()) >= 2 }), 'the hanging one is tried again');
    my @children = map { $_->[1] } grep { $_->[0] =~ m/\A(?:hangs|works)\z/ } $agent->calls();
    ok($agent->end(), 'the agent ends');
    cmp_ok($agent->{took}, '<', 10, 'soon');
    is_deeply([grep { alive($_) } @children], [], 'and leaves no child');
    ok((grep { $_->[0] eq 'interrupt' } $agent->calls()), 'the one at work was interrupted, not cut off');
};

subtest 'more gateways than places' => sub {
    my @names = map { "g$_" } 1 .. 9;
    my $agent = Agent->new(gateways => \@names, code => '$PVE::SMBGateway::Agent::JOBS = 2; $PVE::SMBGateway::Agent::MOST = 5;', mode => join(';', map { "slowgw=g$_" } 1 .. 3));
    ok($agent->until_so(sub { !grep { $agent->count($_) < 2 } @names[3 .. 8] }), 'three that take long leave room for the others') or diag(explain([$agent->begun()]));
    ok($agent->end(), 'it ends');
};

subtest 'a killed agent leaves nobody who works for nobody' => sub {
    my $agent = Agent->new(gateways => ['slow'], mode => 'slowgw=slow', abstract => 1);
    ok($agent->until_so(sub { grep { $_->[0] eq 'works' } $agent->calls() }), 'a child is at work');
    my ($pid) = map { $_->[1] } grep { $_->[0] eq 'works' } $agent->calls();
    is(($agent->notified())[0], 'READY=1', 'an abstract socket is found as well');
    $agent->end('KILL');
    ok($agent->until_so(sub { !alive($pid) }), 'it ends with the agent');
    ok((grep { $_->[0] eq 'interrupt' } $agent->calls()), 'in order');
};

subtest 'one agent a node, and wrong words' => sub {
    my $agent = Agent->new();
    ok($agent->until_so(sub { $agent->count('native') }), 'the first works');
    my $world = $agent->{world};
    my $got = $world->perl("use PVE::SMBGateway::Agent; exit(PVE::SMBGateway::Agent::main('--config', '$agent->{dir}/own.cfg'));", env => { FAKE_SMBGW_LOG => "$agent->{dir}/log2", SMBGW_OPTIONS => "$agent->{dir}/options.json" });
    is($got->{status} >> 8, 1, 'a second ends');
    like($got->{err}, qr/another agent keeps this node/, 'and says why');
    $agent->end();
    $got = $world->perl("use PVE::SMBGateway::Agent; exit(PVE::SMBGateway::Agent::main('--nonsense'));");
    is($got->{status} >> 8, 1, 'an unknown option');
    like($got->{err}, qr/usage: pve-smbgateway-agent/, 'shows the usage');
};

subtest 'what tells that the storage configuration is another' => sub {
    my $world = Harness::world(api => (Harness::api_versions())[0], inc => ["$Harness::HERE/fake"], cfg => "smbgateway: office\n\tpath /srv/office\n\n");
    my $digest = sub { return $world->case('load_stack(); require PVE::SMBGateway::Config; return PVE::SMBGateway::Config::digest();')->{value} // 'none' };
    my $first = $digest->();
    like($first, qr/\A[0-9a-f]{64}\z/, 'on Proxmox: a number of the sections');
    is($digest->(), $first, 'the same in each process');
    $world->write('pve/storage.cfg', "smbgateway: office\n\tpath /srv/office\n\tsmbgw-memory 512\n\n");
    isnt($digest->(), $first, 'another after a change');
};

done_testing();
