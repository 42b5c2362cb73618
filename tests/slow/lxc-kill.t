# SPDX-License-Identifier: MIT OR Apache-2.0

# The real command killed by SIGKILL at its journal writes while it makes, changes, replaces and destroys a real container. Then the
# worker runs as the agent would run it: afterwards what was promised is so, nothing else is left, and nobody else's container was
# touched.
#
# Six seeded points of each plan by default, all of them with SMBGW_ALL=1; SMBGW_SEED chooses others.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../lab/lib';

use Test::More;

use Lab::Box;
use Lab::Guests;
use Lab::Kill;
use Lab::Product;

Lab::Kill::ready();
Lab::Product::enter_node();
END { Lab::Guests::stop_all() if defined($ENV{SMBGW_LAB_BOX}) }

my $PASSWORD = 'never twice the same';
my $ADDRESS = '192.0.2.21';
my $FOREIGN = 100;
# Hooks start no worker here: this file says when it runs.
my %alone = (env => { SMBGW_COMMAND => '/bin/true' });

sub worker { return Lab::Product::call(['reconcile', '--once', '--wait', '0', @_], timeout => 180) }

sub client {
    my ($share, $commands) = @_;
    my $r = Lab::Box::run(['smbclient', "//$ADDRESS/$share", '-U', "anna%$PASSWORD", '-m', 'SMB3_11', '-t', '10', '-c', $commands], timeout => 30);
    return $r->{all} =~ m/(NT_STATUS_\w+)/ ? $1 : 'OK';
}

sub works {
    my ($share) = @_;
    my $got = '';
    Lab::Box::until_true(sub { ($got = client($share, 'put /etc/hostname r.txt; get r.txt /tmp/r.txt; del r.txt')) eq 'OK' }, 15);
    return $got;
}

sub numbers { return [sort map { m/(\d+)\.conf\z/ } glob('/etc/pve/nodes/box/lxc/*.conf')] }
sub ours { return [grep { $_ != $FOREIGN } @{ numbers() }] }

sub section { my ($id) = @_; return Lab::Box::slurp('/etc/pve/storage.cfg') =~ m/^smbgateway: \Q$id\E$/m ? 1 : 0 }

my %net = ('smbgw-net' => "ip=$ADDRESS/24,gw=$Lab::Guests::HOST,ip6=none");
my @create = (['add', 'smbgateway', 'office', '--path', '/srv/office', '--smbgw-gateway', 'files', '--username', 'anna', map { ("--$_", $net{$_}) } keys %net], password => $PASSWORD);

mkdir("/srv/$_") for qw(office lab);
is(Lab::Guests::create($FOREIGN, hostname => 'files')->{rc}, 0, 'a foreign container') or BAIL_OUT('no containers');
is(Lab::Guests::pct(['start', $FOREIGN])->{rc}, 0, 'which runs');
my ($foreign, $foreign_init) = (Lab::Guests::config($FOREIGN), Lab::Guests::init_pid($FOREIGN));

# Nothing half done, whatever happened: no open operation, no scratch file, and the foreign container as it was.
sub sound {
    my ($what) = @_;
    is_deeply([glob("$Lab::Product::STATE/ops/*.open")], [], "$what: no operation is open");
    is_deeply([glob("$Lab::Product::RUN/{check,probe,import,pending}/*")], [], "$what: nothing of a check or a proof is left, and no password");
    is(Lab::Guests::config($FOREIGN), $foreign, "$what: the foreign container is configured as before");
    is(Lab::Guests::init_pid($FOREIGN), $foreign_init, "$what: and never stopped");
    return;
}

sub killed {
    my ($what, $n, $all, $call) = @_;
    my $r = Lab::Kill::killed_at($n, $call);
    # Lives differ by a write or so: only the last point may not be reached.
    if (defined($r->{rc}) && $r->{rc} == 0) { ok($n == $all, "$what: it ended before the kill, which was meant for its last write"); return 0 }
    is($r->{signal}, 9, "$what: it was killed") or diag($r->{all});
    # the cluster file system gives the lock of a dead process to others after two minutes
    rmdir('/etc/pve/priv/lock/file-storage_cfg');
    return 1;
}

sub finish {
    my ($what) = @_;
    # The first resumes, and what that leaves to be done is done by the next, 20 seconds later.
    my $w;
    for (1 .. 3) { $w = worker('office'); $w = worker() }
    is($w->{rc}, 0, "$what: the worker has nothing to complain about") or diag(Lab::Product::words_of($w));
    return;
}

my $announce = sub { return Lab::Product::pvesm(@create, %alone, @_) };
my $build = sub { return Lab::Product::call(['reconcile', '--once', '--wait', '0', 'office'], timeout => 180, @_) };
my $add = sub { return Lab::Product::pvesm(['add', 'smbgateway', 'lab', '--path', '/srv/lab', '--smbgw-gateway', 'files', '--smbgw-access', 'rw:anna'], %alone, timeout => 120, @_) };
my $remove = sub { my ($id) = @_; return sub { return Lab::Product::pvesm(['remove', $id], %alone, timeout => 120, @_) } };

sub with_office {
    return if section('office') && works('office') eq 'OK';
    is($announce->()->{rc}, 0, 'there is a section') if !section('office');
    worker('office');
    is(works('office'), 'OK', 'there is a share') or BAIL_OUT('no share to test with');
    return;
}

sub without_office {
    $remove->('office')->() if section('office');
    worker() for 1, 2;
    is_deeply(ours(), [], 'there is no container');
    return;
}

# --- how many writes each plan has ------------------------------------------------------------------------------------

my %writes;
is($announce->()->{rc}, 0, 'a section');
($writes{create}) = Lab::Kill::syncs($build);
is(works('office'), 'OK', 'a container is built under the tracer') or BAIL_OUT(Lab::Product::call(['status', 'office'], text => 1)->{all});
($writes{add}) = Lab::Kill::syncs($add);
is(works('lab'), 'OK', 'a second share is added') or BAIL_OUT('no second share');
worker();
($writes{remove}) = Lab::Kill::syncs($remove->('lab'));
worker();
my $serial = 0;

# One more template, newer than all before it.
sub newer { $serial++; Lab::Guests::newer_template("n$serial", $serial); return }

my $upgrade = sub { return Lab::Product::call(['gateway', 'upgrade', 'files'], timeout => 180, @_) };
newer();
($writes{upgrade}, my $upgraded) = Lab::Kill::syncs($upgrade);
is($upgraded->{rc}, 0, 'an upgrade under the tracer works') or diag(Lab::Product::words_of($upgraded));
$remove->('office')->();
my $destroy = sub { return Lab::Product::call(['reconcile', '--once', '--wait', '0'], timeout => 180, @_) };
($writes{destroy}) = Lab::Kill::syncs($destroy);
is_deeply(ours(), [], 'the container goes under the tracer');
cmp_ok($writes{$_}, '>', 4, "$_ has $writes{$_} journal writes") for sort keys %writes;
worker();

# --- killed -----------------------------------------------------------------------------------------------------------

for my $n (Lab::Kill::points($writes{create})) {
    subtest "the building of a container killed at journal write $n of $writes{create}" => sub {
        without_office() if @{ ours() };
        is($announce->()->{rc}, 0, 'the section is accepted') if !section('office');
        killed('building', $n, $writes{create}, $build);
        finish('afterwards');
        is(works('office'), 'OK', 'the share is there');
        is(scalar(@{ ours() }), 1, 'in one container');
        sound('afterwards');
        $remove->('office')->();
        worker() for 1, 2;
        is_deeply(ours(), [], 'and it can be removed');
    };
}

with_office();
for my $n (Lab::Kill::points($writes{add})) {
    subtest "the adding of a share killed at journal write $n of $writes{add}" => sub {
        killed('adding', $n, $writes{add}, $add);
        finish('afterwards');
        if (!section('lab')) {
            # built and proven, but killed before the section was written: kept for a while, since somebody may be about to write it
            Lab::Product::age_uncommitted(200);
            worker();
        }
        is(client('lab', 'ls'), section('lab') ? 'OK' : 'NT_STATUS_BAD_NETWORK_NAME', 'the share is there if its section is');
        is(works('office'), 'OK', 'the other share works');
        sound('afterwards');
        $remove->('lab')->() if section('lab');
        worker();
        is(Lab::Guests::host_owner('/srv/lab'), '0:0', 'the tree has its owner back');
        # what waits for the next start must not pile up
        Lab::Product::call(['gateway', 'restart', 'files'], timeout => 120);
    };
}

for my $n (Lab::Kill::points($writes{remove})) {
    subtest "the removal of a share killed at journal write $n of $writes{remove}" => sub {
        $add->() if !section('lab');
        worker();
        is(client('lab', 'put /etc/hostname precious.txt'), 'OK', 'there is a share with a file');
        killed('removing', $n, $writes{remove}, $remove->('lab'));
        $remove->('lab')->() if section('lab');
        finish('afterwards');
        is(client('lab', 'ls'), 'NT_STATUS_BAD_NETWORK_NAME', 'it is gone');
        is(works('office'), 'OK', 'the other share works');
        ok(-e '/srv/lab/precious.txt', 'the data stays');
        sound('afterwards');
        Lab::Product::call(['gateway', 'restart', 'files'], timeout => 120);
    };
}

for my $n (Lab::Kill::points($writes{upgrade})) {
    subtest "an upgrade killed at journal write $n of $writes{upgrade}" => sub {
        newer();
        killed('upgrading', $n, $writes{upgrade}, $upgrade);
        finish('afterwards');
        is(works('office'), 'OK', 'the share works');
        is(scalar(@{ ours() }), 1, 'there is one container');
        sound('afterwards');
    };
}

for my $n (Lab::Kill::points($writes{destroy})) {
    subtest "the destruction of a container killed at journal write $n of $writes{destroy}" => sub {
        with_office();
        is(client('office', 'put /etc/hostname precious.txt'), 'OK', 'a file');
        is($remove->('office')->()->{rc}, 0, 'its removal is accepted');
        killed('destroying', $n, $writes{destroy}, $destroy);
        finish('afterwards');
        is_deeply(ours(), [], 'the container is gone');
        ok(-e '/srv/office/precious.txt', 'the data stays');
        is(Lab::Guests::host_owner('/srv/office'), '0:0', 'the tree has its owner back');
        sound('afterwards');
    };
}

done_testing();
