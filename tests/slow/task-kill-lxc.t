# SPDX-License-Identifier: MIT OR Apache-2.0

# Tasks of Proxmox's API that make a real container for a share, change who may use it, and take both away, ended at each step: by SIGTERM to
# the process group, as Proxmox stops a task, and by SIGKILL. Status names what was interrupted. Then the worker runs as the agent would run
# it, or first an administrator resumes what is open: afterwards there is nothing, and the share can be made again, or there is a complete share
# that is as its section says. Somebody else's container is as it was.
#
# Points are synced journal writes and starts of commands, with the signals in turn. Six seeded ones by default (three of create, one of update,
# two of delete) and half-way through the longest command of each plan; all points with SMBGW_ALL=1, and half-way through all commands that take
# their time. SMBGW_SEED chooses others, and an odd one gives each point the other signal.

use strict;
use warnings;

use Fcntl qw(:flock);
use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../lab/lib';

use Test::More;

use Lab::Box;
use Lab::Guests;
use Lab::Kill;
use Lab::Product;
use Lab::Smb;
use Lab::Task;

Lab::Product::enter_node();
END { Lab::Guests::stop_all() if defined($ENV{SMBGW_LAB_BOX}) }
Lab::Kill::task_ready();

my %PASSWORD = (anna => 'never twice the same', ben => 'the other one');
my ($BOTH, $ONE) = ('rw:anna,rw:ben', 'rw:anna');
my %PRECIOUS = ('/srv/office/precious.txt' => "precious\n", '/srv/kept.txt' => "kept\n");
my $ADDRESS = '192.0.2.21';
my $FOREIGN = 100;

my %SECTION = (
    id => 'office', path => '/srv/office', 'smbgw-gateway' => 'files', 'smbgw-access' => $ONE, username => 'anna',
    'smbgw-net' => "ip=$ADDRESS/24,gw=$Lab::Guests::HOST,ip6=none",
);
my %plan = (
    create => sub { return Lab::Task::request('create', '/shares', \%SECTION, password => $PASSWORD{anna}, @_) },
    update => sub { return Lab::Task::request('set', '/shares/office', { 'smbgw-access' => $ONE }, @_) },
    delete => sub { return Lab::Task::request('delete', '/shares/office', {}, @_) },
);
my $open_to_both = sub { return Lab::Task::request('set', '/shares/office', { 'smbgw-access' => $BOTH }) };
my $ben = sub { return Lab::Task::request('create', '/gateways/files/users', { name => 'ben' }, password => $PASSWORD{ben}) };

# --- what there is ---------------------------------------------------------------------------------------------------------

sub section { return Lab::Task::property('office', 'smbgw-access') }

sub ours { return grep { $_ != $FOREIGN } map { m/(\d+)\.conf\z/ } glob('/etc/pve/nodes/*/lxc/*.conf') }

sub in_container { my (@argv) = @_; my ($vmid) = ours(); return defined($vmid) ? Lab::Guests::exec($vmid, [@argv])->{out} : '' }

sub client {
    my ($user, $commands) = @_;
    return Lab::Smb::client($user, $PASSWORD{$user}, 'office', $commands, extra => ['-I', $ADDRESS], timeout => 30)->{status};
}

# A container that has just been started needs a moment.
sub logs_in {
    my ($user) = @_;
    my $commands = "put /etc/hostname of-$user.txt; get of-$user.txt /run/lab/of-$user.txt; del of-$user.txt; get precious.txt /run/lab/precious.txt";
    return Lab::Box::until_true(sub { client($user, $commands) eq 'OK' }, 15) ? 1 : 0;
}

# Places outside the footprint where something of a container can be left.
sub places { return { map { $_ => 1 } grep { !m!/pve-config-\d+\.lock\z! } glob('/var/lib/vz/images/* /var/lib/vz/private/* /var/lib/lxc/* /sys/class/net/* /run/lock/* /run/lock/lxc/* /etc/pve/priv/lock/* /run/smbgw/*/*.json') } }

# Locks that somebody still holds: files that are locked, and containers that say so.
sub held {
    my @held = grep { Lab::Box::slurp($_) =~ m/^lock:/m } glob('/etc/pve/nodes/*/lxc/*.conf');
    for my $file (grep { -f } glob("$Lab::Product::RUN/lock/* /run/lock/lxc/*")) {
        open(my $fh, '<', $file) or die "$file: $!\n";
        push @held, $file if !flock($fh, LOCK_EX | LOCK_NB);
    }
    return \@held;
}

# --- one life, to learn what it takes and what it leaves --------------------------------------------------------------------

is(Lab::Guests::create($FOREIGN, hostname => 'files')->{rc}, 0, 'a foreign container') or BAIL_OUT('no containers');
is(Lab::Guests::pct(['start', $FOREIGN])->{rc}, 0, 'which runs');
my ($foreign, $foreign_init) = (Lab::Guests::config($FOREIGN), Lab::Guests::init_pid($FOREIGN));
mkdir('/srv/office');
Lab::Box::spew($_, $PRECIOUS{$_}) for keys %PRECIOUS;
my ($empty, $tree, $places) = (Lab::Product::footprint(), Lab::Box::snapshot('/srv'), places());

my (%points, %commands);
my $r = Lab::Kill::task($plan{create});
Lab::Task::is_ok('create', $r) or BAIL_OUT('no share to test with');
($points{create}, $commands{create}) = @$r{qw(points commands)};
Lab::Task::is_ok('a second user', $ben->());
Lab::Task::is_ok('who may write', $open_to_both->());
is(logs_in($_), 1, "$_ can work") for qw(anna ben);
$r = Lab::Kill::task($plan{update});
Lab::Task::is_ok('update', $r);
($points{update}, $commands{update}) = @$r{qw(points commands)};
is(client('ben', 'ls'), 'NT_STATUS_ACCESS_DENIED', 'an update takes access away');
$r = Lab::Kill::task($plan{delete});
Lab::Task::is_ok('delete', $r);
($points{delete}, $commands{delete}) = @$r{qw(points commands)};
cmp_ok($points{$_}, '>', 20, "$_ has $points{$_} points") for sort keys %points;

# --- what must be so afterwards ----------------------------------------------------------------------------------------------

sub is_sound {
    Lab::Task::is_sound(%PRECIOUS);
    is_deeply(held(), [], 'no lock is held');
    is(Lab::Guests::config($FOREIGN), $foreign, 'the foreign container is configured as before');
    is(Lab::Guests::init_pid($FOREIGN), $foreign_init, 'and never stopped');
    return;
}

sub is_nothing {
    is_deeply([ours()], [], 'there is no container of ours');
    is_deeply([grep { $_ ne $FOREIGN } Lab::Guests::containers()], [], 'none runs either');
    is_deeply([grep { !$places->{$_} } sort keys %{ places() }], [], 'no root file system, interface or lock of it is left');
    is(join('', map { "$_\n" } Lab::Product::left_behind($empty, Lab::Product::footprint())), '', 'nothing is left of the share');
    is(join('', map { "$_\n" } Lab::Box::differences($tree, Lab::Box::snapshot('/srv'))), '', 'the tree is as it was, with owners and modes');
    is_sound();
    return;
}

my @users = 'anna';

# A complete share, as its section says.
sub is_share {
    my $access = section() // return fail('there is a section');
    is(scalar(my @own = ours()), 1, 'there is one container of ours');
    is(logs_in('anna'), 1, 'anna can work');
    is($access eq $BOTH ? logs_in('ben') : client('ben', 'ls'), $access eq $BOTH ? 1 : 'NT_STATUS_ACCESS_DENIED', 'and ben if he may') if grep { $_ eq 'ben' } @users;
    is_deeply([sort map { m/\A([^:]+):/ } split(/\n/, in_container('pdbedit', '-L'))], [sort @users], 'nobody else has an account');
    is(in_container('find', '/etc', '/srv', '/root', '/var/lib/samba', '-xdev', '(', '-name', '*.tmp', '-o', '-name', '*.new', '-o', '-name', '.smbgw*', ')'), '', 'no temporary file in the container');
    is_deeply([map { Lab::Product::status('office')->{$_} } qw(state operation stuck)], ['ready', undef, undef], 'status says that it is ready');
    is_sound();
    return;
}

sub without_share {
    Lab::Task::is_ok('it can be removed', $plan{delete}->()) if Lab::Task::has_section('office');
    is_nothing();
    return;
}

sub with_share {
    return if defined(section());
    Lab::Task::is_ok('the share can be made', $plan{create}->());
    return is_share();
}

is_nothing();

# --- ended -------------------------------------------------------------------------------------------------------------------

# Who goes on: an administrator with what is open, if anything is, and the worker in any case.
sub goes_on {
    my ($ended, $by) = @_;
    my $opid = $ended->{opid};
    if ($by eq 'resume' && defined($opid)) {
        # A signal that ends a command of the task first makes its step fail: then all is taken back, and that is what is gone on with.
        my $goes_back = Lab::Task::journal($opid) =~ m/"event":"(?:failed|undo-begun)"/;
        my $r = Lab::Product::call(['resume', $opid], password => $PASSWORD{anna}, timeout => 180);
        my $error = $r->{error}->{message} // '';
        ok($goes_back ? $error ne '' : defined($r->{rc}) && $r->{rc} == 0, $goes_back ? "it is taken back, and says why: $error" : 'it can be resumed') or diag(Lab::Product::words_of($r));
        is_deeply([Lab::Task::open_operations()], [], 'nothing is open any more');
    }
    return Lab::Task::worker_ok();
}

my $turn = Lab::Kill::seed();

sub each_point {
    my ($plan, $count, $code) = @_;
    for my $at ((map { [$_, 0] } Lab::Kill::spread($points{$plan}, $count)), Lab::Kill::halfway(@{ $commands{$plan} })) {
        my ($n, $later) = @$at;
        my $name = (qw(TERM KILL))[$turn % 2];
        my $by = (qw(worker resume resume worker))[$turn % 4];
        $turn++;
        my $when = "point $n of $points{$plan}" . ($later ? " and $later ms" : '');
        subtest "$plan, SIG$name at $when, then $by" => sub {
            my $ended = Lab::Task::ended('office', $plan{$plan}, $name, $n, $points{$plan}, $later);
            goes_on($ended, $by) if $ended;
            $code->($ended);
        };
    }
    return;
}

each_point(create => 3, sub {
    my ($ended) = @_;
    if ($ended && !Lab::Task::has_section('office') && ours()) {
        # built and proven, but ended before the section was written: kept for a while, since somebody may be about to write it
        Lab::Product::age_uncommitted(200);
        Lab::Task::worker_ok();
    }
    # what was taken back although it is wanted is made anew by the next worker, 20 seconds later
    Lab::Task::worker_ok() if $ended && Lab::Task::has_section('office') && !ours();
    if (!Lab::Task::has_section('office')) {
        is_nothing();
        Lab::Task::is_ok('the share can be made', $plan{create}->());
    }
    is_share();
    without_share();
});

with_share();
Lab::Task::is_ok('a second user', $ben->());
@users = ('anna', 'ben');
Lab::Task::is_ok('who may write', $open_to_both->());
each_point(update => 1, sub {
    my ($ended) = @_;
    # what was open is the change; the worker after that, 20 seconds later, goes by the section, which may still be the old one
    Lab::Task::worker_ok() if $ended;
    is_share();
    Lab::Task::is_ok('as it was', $open_to_both->()) if (section() // '') ne $BOTH;
});
without_share();
@users = 'anna';

with_share();
each_point(delete => 2, sub {
    my ($ended) = @_;
    if ($ended && ours() && Lab::Task::has_section('office') && Lab::Product::status('office')->{state} eq 'deleting') {
        # ended before Proxmox wrote that the section is gone, which the worker waits for, but not for ever
        isnt(client('anna', 'ls'), 'OK', 'nobody is let in');
        Lab::Product::age_uncommitted(200);
        Lab::Task::worker_ok();
    } elsif ($ended && ours() && !Lab::Task::has_section('office')) {
        # a removal whose command was ended by the signal is done by the next worker, 20 seconds later
        Lab::Task::worker_ok();
    }
    # ended before it was recorded that the share is to go
    is_share() if ours();
    # a section that stayed is that of a removed share, and goes by another removal
    without_share() if !ours();
    with_share();
});
without_share();
done_testing();
