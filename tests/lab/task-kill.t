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

use JSON::PP ();
use POSIX ();
use Test::More;

use Lab::Box;
use Lab::Kill;
use Lab::Product;
use Lab::Smb;

Lab::Product::enter();
Lab::Product::through_proxmox() or Lab::Box::skip_all('there is no tests/pve');
Lab::Kill::task_ready();

my %PASSWORD = (anna => 'never twice the same', ben => 'the other one');
my ($BOTH, $ONE) = ('rw:anna,rw:ben', 'rw:anna');
my %SIGNAL = (TERM => POSIX::SIGTERM(), KILL => POSIX::SIGKILL());
# Proxmox kills a task that lives longer after its SIGTERM
my $GRACE = 5;

# A request that is a task; its log, and how it ended. Hooks start no worker here: this file says when it runs.
sub task {
    my ($verb, $path, $param, %o) = @_;
    my @words = ($verb, "/nodes/box/smbgateway$path", map { ("--$_", $param->{$_}) } sort keys %$param);
    return Lab::Product::pvesh([@words, '--follow'], %o, env => { SMBGW_COMMAND => '/bin/true', %{ $o{env} // {} } });
}

my %plan = (
    create => sub { return task('create', '/shares', { id => 'office', path => '/srv/office', 'smbgw-mode' => 'native', 'smbgw-access' => $ONE, username => 'anna' }, password => $PASSWORD{anna}, @_) },
    # that it takes somebody's access away has more steps than that it gives it
    update => sub { return task('set', '/shares/office', { 'smbgw-access' => $ONE }, @_) },
    delete => sub { return task('delete', '/shares/office', {}, @_) },
);
my $open_to_both = sub { return task('set', '/shares/office', { 'smbgw-access' => $BOTH }) };
my $ben = sub { return task('create', '/gateways/native/users', { name => 'ben' }, password => $PASSWORD{ben}) };

sub task_ok { my ($name, $r) = @_; return like($r->{out}, qr/^TASK (?:OK|WARNINGS: \d+)\n\z/m, $name) || diag($r->{all}) }

sub worker { return Lab::Product::call(['reconcile', '--once', '--wait', '0']) }

sub section { return Lab::Box::slurp($Lab::Product::SECTIONS) =~ m/^smbgateway: office\n(?:[ \t].*\n)*?[ \t]+smbgw-access (\S+)$/m ? $1 : undef }

sub open_operations { return map { m!/([^/]+)\.open\z! ? $1 : () } glob("$Lab::Product::STATE/ops/*.open") }

sub journal { my ($opid) = @_; return Lab::Box::slurp("$Lab::Product::STATE/ops/$opid.jsonl") }

sub logs_in { my ($user) = @_; return Lab::Smb::round_trip($user, $PASSWORD{$user}, 'office', "of-$user.txt", "hello\n") eq 'OK' ? 1 : 0 }

# --- one life, to learn what it takes and what it leaves -------------------------------------------------------------------

mkdir('/srv/office');
Lab::Box::spew('/srv/office/precious.txt', "precious\n");
Lab::Box::spew('/srv/kept.txt', "kept\n");
# databases and directories exist after it, and every later life writes its journal the same way
task_ok($_, $plan{$_}->()) or BAIL_OUT("no $_ to test with") for qw(create update delete);
my $empty = Lab::Product::footprint();

my (%points, %conf);
my $r = Lab::Kill::task($plan{create});
task_ok('create', $r);
$points{create} = $r->{points};
task_ok('a second user', $ben->());
task_ok('who may write', $open_to_both->());
$conf{$BOTH} = Lab::Box::slurp($Lab::Product::OWN_CONF);
$r = Lab::Kill::task($plan{update});
task_ok('update', $r);
$points{update} = $r->{points};
$conf{$ONE} = Lab::Box::slurp($Lab::Product::OWN_CONF);
isnt($conf{$ONE}, $conf{$BOTH}, 'an update changes the configuration');
task_ok('no second user', task('delete', '/gateways/native/users/ben', {}));
$r = Lab::Kill::task($plan{delete});
task_ok('delete', $r);
$points{delete} = $r->{points};
cmp_ok($points{$_}, '>', 20, "$_ has $points{$_} points") for sort keys %points;
is(join('', map { "$_\n" } Lab::Product::left_behind($empty, Lab::Product::footprint())), '', 'nothing is left');

# --- ended -----------------------------------------------------------------------------------------------------------------

# The task of a plan, ended at a point. True if it was.
sub ended {
    my ($plan, $name, $n) = @_;
    my $r = Lab::Kill::task_ended_at($n, $SIGNAL{$name}, $plan{$plan});
    my ($open) = open_operations();
    my $journal = defined($open) ? journal($open) : '';
    # the mark of an open operation is made before the journal and removed after it
    my $is_open = $journal ne '' && $journal !~ m/"event":"finished"/;
    # Lives differ by a point or so, and what comes when the work is done stops nothing: then it is as without a signal.
    if ($r->{out} =~ m/^TASK (?:OK|WARNINGS: \d+)\n\z/m) {
        ok($n > $points{$plan} - 4, 'it ended before the signal, or with it, which was meant for its end') or diag($r->{all});
        is($open, undef, 'and has finished');
        return 0;
    }
    ok($r->{sent}, 'it got the signal') or diag($r->{all});
    isnt($r->{rc}, 0, 'it has failed');
    if ($name eq 'TERM') {
        cmp_ok($r->{took}, '<', $GRACE, 'it ended before Proxmox would kill it');
        like($r->{out}, qr/^TASK ERROR: (?:.*: )?received interrupt\n\z/m, 'its log says so in the end') or diag($r->{all});
        like($journal, qr/"event":"interrupted"/, 'and its journal') if $is_open;
    } else {
        unlike($r->{out}, qr/^TASK /m, 'its log breaks off');
        # the cluster file system gives the lock of a dead process to others after two minutes
        rmdir('/etc/pve/priv/lock/file-storage_cfg');
    }
    is((Lab::Product::status('office')->{operation} // {})->{opid}, $open, 'status names what is open') if $is_open;
    return 1;
}

# What must be so whenever nothing is going on.
sub is_sound {
    is_deeply([open_operations()], [], 'no operation is open');
    is_deeply([grep { !-d } glob("$Lab::Product::RUN/{check,probe,import,pending}/*")], [], 'nothing of a check or a proof is left');
    is_deeply([grep { m!(?:\.tmp|\.new|~)\z! || m!/\.smbgw! } keys %{ Lab::Box::snapshot('/etc', '/srv', $Lab::Product::STATE, $Lab::Product::RUN) }], [], 'no temporary file either');
    is(Lab::Box::slurp('/srv/office/precious.txt') . Lab::Box::slurp('/srv/kept.txt'), "precious\nkept\n", 'data is untouched');
    return;
}

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
    task_ok('it can be removed', $plan{delete}->()) if Lab::Box::slurp($Lab::Product::SECTIONS) =~ m/^smbgateway: office$/m;
    is_nothing();
    return;
}

sub worker_ok { my $w = worker(); return is($w->{rc}, 0, 'the worker finishes') || diag(Lab::Product::words_of($w)) }

# Each signal has points of its own.
sub each_point {
    my ($plan, $code) = @_;
    for my $name (sort keys %SIGNAL) {
        for my $n (Lab::Kill::points($points{$plan}, $SIGNAL{$name})) {
            subtest "$plan, SIG$name at point $n of $points{$plan}" => sub { $code->($name, $n) };
        }
    }
    return;
}

each_point(create => sub {
    my ($name, $n) = @_;
    if (ended('create', $name, $n)) {
        worker_ok();
        if (logs_in('anna') && !defined(section())) {
            # built and proven, but ended before the section was written: kept for a while, since somebody may be about to write it
            Lab::Product::age_uncommitted(200);
            worker_ok();
        }
    }
    is_share() if defined(section());
    without_share();
});

task_ok('a share', $plan{create}->());
task_ok('a second user', $ben->());
@users = ('anna', 'ben');
task_ok('who may write', $open_to_both->());
each_point(update => sub {
    my ($name, $n) = @_;
    if (ended('update', $name, $n)) {
        worker_ok();
        # that finished the change; the next one, 20 seconds later, goes by the section, which is still the old one
        worker_ok() if Lab::Box::slurp($Lab::Product::OWN_CONF) ne $conf{ section() // '' };
    }
    is_share();
    task_ok('as it was', $open_to_both->()) if (section() // '') ne $BOTH;
});
without_share();
@users = 'anna';

each_point(delete => sub {
    my ($name, $n) = @_;
    task_ok('a share', $plan{create}->()) if !defined(section());
    if (ended('delete', $name, $n)) {
        worker_ok();
        # ended before it was recorded that the share is to go
        return is_share() if logs_in('anna');
        is(Lab::Smb::client('anna', $PASSWORD{anna}, 'office', 'ls')->{ok}, 0, 'nobody is let in');
    }
    without_share();
});

worker_ok();
without_share();
done_testing();
