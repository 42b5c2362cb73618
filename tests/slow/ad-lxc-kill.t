# SPDX-License-Identifier: MIT OR Apache-2.0

# The worker killed by SIGKILL at its journal writes while it builds a container that joins a real domain. The password of the join
# waits for whoever goes on: afterwards there is one container, one computer account, and a share that works.
#
# Six seeded points by default, all of them with SMBGW_ALL=1; SMBGW_SEED chooses others.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../lab/lib';

use Test::More;

use Lab::Box;
use Lab::Domain;
use Lab::Guests;
use Lab::Kill;
use Lab::Product;
use Lab::Smb;

my $why = Lab::Domain::missing();
Lab::Box::skip_all($why) if defined($why);
Lab::Kill::ready();
Lab::Product::enter_node();
END { Lab::Guests::stop_all() if defined($ENV{SMBGW_LAB_BOX}) }
Lab::Domain::start();
Lab::Domain::resolve_by_dc();

my $PASSWORD = 'Of-somebody-1';
my $ADDRESS = '192.0.2.31';
# Hooks start no worker here: this file says when it runs.
my %alone = (env => { SMBGW_COMMAND => '/bin/true' });
Lab::Domain::ou('Servers');
Lab::Domain::group('Staff');
Lab::Domain::user('alice', $PASSWORD, groups => ['Staff']);
Lab::Domain::user('joiner', $PASSWORD);
Lab::Domain::delegate('joiner', 'Servers');
mkdir('/srv/office');

my @ADD = (
    'add', 'smbgateway', 'office', '--path', '/srv/office', '--domain', $Lab::Domain::DNS_DOMAIN, '--username', 'joiner', '--smbgw-ad-ou', 'Servers', '--smbgw-access', 'rw:@EXAMPLE\Staff',
    '--smbgw-net', "ip=$ADDRESS/24,gw=$Lab::Guests::HOST,ip6=none",
);

sub announce { return Lab::Product::pvesm(\@ADD, password => $PASSWORD, %alone) }
my $build = sub { return Lab::Product::call(['reconcile', '--once', '--wait', '0', 'office'], timeout => 180, @_) };
sub worker { return Lab::Product::call(['reconcile', '--once', '--wait', '0', @_], timeout => 180) }
sub containers { return scalar(@{ [glob('/etc/pve/nodes/box/lxc/*.conf')] }) }
sub client { return Lab::Smb::client('EXAMPLE/alice', $PASSWORD, 'office', 'put /etc/hostname a.txt', extra => ['-I', $ADDRESS])->{status} }
sub works { my $got = ''; Lab::Box::until_true(sub { ($got = client()) eq 'OK' }, 20); return $got }

sub away {
    is(Lab::Product::pvesm(['remove', 'office'], %alone)->{rc}, 0, 'it can be removed');
    worker() for 1, 2;
    is(containers(), 0, 'the container goes');
    Lab::Domain::delete_account('OFFICE') if defined(Lab::Domain::account('OFFICE'));
    is_deeply([glob("$Lab::Product::STATE/ops/*.open")], [], 'no operation is open');
    is_deeply([map { glob("/run/smbgw/$_/*") } qw(domain pending carried probe check)], [], 'nothing is left in /run/smbgw');
    return;
}

is(announce()->{rc}, 0, 'a section') or BAIL_OUT('no section');
my ($writes, $r) = Lab::Kill::syncs($build);
is(works(), 'OK', 'a member in a container is built under the tracer') or BAIL_OUT(Lab::Product::call(['status', 'office'], text => 1)->{all});
cmp_ok($writes, '>', 20, "with $writes journal writes");
away();

for my $n (Lab::Kill::points($writes)) {
    subtest "the building of a member killed at journal write $n of $writes" => sub {
        is(announce()->{rc}, 0, 'the section is accepted');
        my $r = Lab::Kill::killed_at($n, $build);
        # Lives differ by a write or so: only the last point may not be reached.
        defined($r->{rc}) && $r->{rc} == 0 ? ok($n == $writes, 'it ended before the kill, which was meant for its last write') : is($r->{signal}, 9, 'it was killed');
        worker('office');
        $r = worker();
        is($r->{rc}, 0, 'the worker has nothing to complain about') or diag(Lab::Product::words_of($r));
        is(works(), 'OK', 'the share works');
        is(containers(), 1, 'in one container');
        ok(defined(Lab::Domain::account('OFFICE')), 'with a computer account');
        away();
    };
}

done_testing();
