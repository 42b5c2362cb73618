# SPDX-License-Identifier: MIT OR Apache-2.0

# Tasks of Proxmox's API that create, change and remove a share of the node's own Samba, ended at each step: by SIGTERM to the process group,
# as Proxmox stops a task, and by SIGKILL. A stopped one has said in its journal that it was interrupted and has ended at once. Then the
# worker runs as the agent would run it: afterwards there is nothing, or a complete share that is as its section says.
#
# Points are synced journal writes and starts of commands. Six seeded ones of each plan and signal by default, all of them with SMBGW_ALL=1;
# SMBGW_SEED chooses others.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use Test::More;

use Lab::Box;
use Lab::Kill;
use Lab::Product;
use Lab::Smb;
use Lab::Task;

Lab::Product::enter();
Lab::Product::through_proxmox() or Lab::Box::skip_all('there is no tests/pve');
Lab::Kill::task_ready();

my %PASSWORD = (anna => 'never twice the same', ben => 'the other one');
my ($BOTH, $ONE) = ('rw:anna,rw:ben', 'rw:anna');
my %PRECIOUS = ('/srv/office/precious.txt' => "precious\n", '/srv/kept.txt' => "kept\n");

my %plan = (
    create => sub { return Lab::Task::request('create', '/shares', { id => 'office', path => '/srv/office', 'smbgw-mode' => 'native', 'smbgw-access' => $ONE, username => 'anna' }, password => $PASSWORD{anna}, @_) },
    # that it takes somebody's access away has more steps than that it gives it
    update => sub { return Lab::Task::request('set', '/shares/office', { 'smbgw-access' => $ONE }, @_) },
    delete => sub { return Lab::Task::request('delete', '/shares/office', {}, @_) },
);
my $open_to_both = sub { return Lab::Task::request('set', '/shares/office', { 'smbgw-access' => $BOTH }) };
my $ben = sub { return Lab::Task::request('create', '/gateways/native/users', { name => 'ben' }, password => $PASSWORD{ben}) };

sub section { return Lab::Task::property('office', 'smbgw-access') }

sub logs_in { my ($user) = @_; return Lab::Smb::round_trip($user, $PASSWORD{$user}, 'office', "of-$user.txt", "hello\n") eq 'OK' ? 1 : 0 }

# --- one life, to learn what it takes and what it leaves -------------------------------------------------------------------

mkdir('/srv/office');
Lab::Box::spew($_, $PRECIOUS{$_}) for keys %PRECIOUS;
# databases and directories exist after it, and every later life writes its journal the same way
Lab::Task::is_ok($_, $plan{$_}->()) or BAIL_OUT("no $_ to test with") for qw(create update delete);
my $empty = Lab::Product::footprint();

my (%points, %conf);
my $r = Lab::Kill::task($plan{create});
Lab::Task::is_ok('create', $r);
$points{create} = $r->{points};
Lab::Task::is_ok('a second user', $ben->());
Lab::Task::is_ok('who may write', $open_to_both->());
$conf{$BOTH} = Lab::Box::slurp($Lab::Product::OWN_CONF);
$r = Lab::Kill::task($plan{update});
Lab::Task::is_ok('update', $r);
$points{update} = $r->{points};
$conf{$ONE} = Lab::Box::slurp($Lab::Product::OWN_CONF);
isnt($conf{$ONE}, $conf{$BOTH}, 'an update changes the configuration');
Lab::Task::is_ok('no second user', Lab::Task::request('delete', '/gateways/native/users/ben', {}));
$r = Lab::Kill::task($plan{delete});
Lab::Task::is_ok('delete', $r);
$points{delete} = $r->{points};
cmp_ok($points{$_}, '>', 20, "$_ has $points{$_} points") for sort keys %points;
is(join('', map { "$_\n" } Lab::Product::left_behind($empty, Lab::Product::footprint())), '', 'nothing is left');

# --- ended -----------------------------------------------------------------------------------------------------------------

# The task of a plan, ended at a point. True if it was.
sub ended { my ($plan, $name, $n) = @_; return Lab::Task::ended('office', $plan{$plan}, $name, $n, $points{$plan}) }

sub is_sound { return Lab::Task::is_sound(%PRECIOUS) }

sub is_nothing {
    is(join('', map { "$_\n" } Lab::Product::left_behind($empty, Lab::Product::footprint())), '', 'nothing is left of the share');
    ok(!-e $Lab::Product::OWN_CONF, 'nor of our configuration');
    is_sound();
    return;
}

my @users = 'anna';

# A complete share, as its section says.
sub is_share {
    my $access = section() // return fail('there is a section');
    is(Lab::Box::slurp($Lab::Product::OWN_CONF), $conf{$access}, "the configuration is that of $access");
    is(logs_in('anna'), 1, 'anna can work');
    is(logs_in('ben'), $access eq $BOTH ? 1 : 0, 'and ben if he may') if grep { $_ eq 'ben' } @users;
    is_deeply([sort keys %{ Lab::Smb::accounts() }], \@users, 'nobody else has an account');
    is(Lab::Product::status('office')->{state}, 'ready', 'status says that it is ready');
    is_sound();
    return;
}

sub without_share {
    Lab::Task::is_ok('it can be removed', $plan{delete}->()) if Lab::Task::has_section('office');
    is_nothing();
    return;
}

# Each signal has points of its own.
sub each_point {
    my ($plan, $code) = @_;
    for my $name (sort keys %Lab::Task::SIGNAL) {
        for my $n (Lab::Kill::points($points{$plan}, $Lab::Task::SIGNAL{$name})) {
            subtest "$plan, SIG$name at point $n of $points{$plan}" => sub { $code->($name, $n) };
        }
    }
    return;
}

each_point(create => sub {
    my ($name, $n) = @_;
    if (ended('create', $name, $n)) {
        Lab::Task::worker_ok();
        if (logs_in('anna') && !defined(section())) {
            # built and proven, but ended before the section was written: kept for a while, since somebody may be about to write it
            Lab::Product::age_uncommitted(200);
            Lab::Task::worker_ok();
        }
    }
    is_share() if defined(section());
    without_share();
});

Lab::Task::is_ok('a share', $plan{create}->());
Lab::Task::is_ok('a second user', $ben->());
@users = ('anna', 'ben');
Lab::Task::is_ok('who may write', $open_to_both->());
each_point(update => sub {
    my ($name, $n) = @_;
    if (ended('update', $name, $n)) {
        Lab::Task::worker_ok();
        # that finished the change; the next one, 20 seconds later, goes by the section, which is still the old one
        Lab::Task::worker_ok() if Lab::Box::slurp($Lab::Product::OWN_CONF) ne $conf{ section() // '' };
    }
    is_share();
    Lab::Task::is_ok('as it was', $open_to_both->()) if (section() // '') ne $BOTH;
});
without_share();
@users = 'anna';

each_point(delete => sub {
    my ($name, $n) = @_;
    Lab::Task::is_ok('a share', $plan{create}->()) if !defined(section());
    if (ended('delete', $name, $n)) {
        Lab::Task::worker_ok();
        # ended before it was recorded that the share is to go
        return is_share() if logs_in('anna');
        is(Lab::Smb::client('anna', $PASSWORD{anna}, 'office', 'ls')->{ok}, 0, 'nobody is let in');
    }
    without_share();
});

Lab::Task::worker_ok();
without_share();
done_testing();
