# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Task;

# Tasks of Proxmox's API that make, change and remove shares, ended by SIGTERM to the process group, as Proxmox stops a task, or by SIGKILL:
# how they are asked for, what must be so of one that was ended, and of a node where nothing is going on any more. It knows tasks as the
# stand-in modules have them, and the product's files by Lab::Product. It must not know where the Samba of a share runs, nor which share a
# test has.

use strict;
use warnings;

use POSIX ();
use Test::More;

use Lab::Box;
use Lab::Kill;
use Lab::Product;

our %SIGNAL = (TERM => POSIX::SIGTERM(), KILL => POSIX::SIGKILL());
# Proxmox kills a task that lives longer after its SIGTERM
my $GRACE = 5;
my $DONE = qr/^TASK (?:OK|WARNINGS: \d+)\n\z/m;
my $LOCK = '/etc/pve/priv/lock/file-storage_cfg';

# A request that is a task; its log, and how it ended. Hooks start no worker here: the test says when it runs.
sub request {
    my ($verb, $path, $param, %o) = @_;
    my @words = ($verb, "/nodes/box/smbgateway$path", map { ("--$_", $param->{$_}) } sort keys %$param);
    return Lab::Product::pvesh([@words, '--follow'], timeout => 180, %o, env => { SMBGW_COMMAND => '/bin/true', %{ $o{env} // {} } });
}

sub is_ok {
    my ($name, $r) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return like($r->{out}, $DONE, $name) || diag($r->{all});
}

# The worker, once, as the agent runs it.
sub worker_ok {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $w = Lab::Product::call(['reconcile', '--once', '--wait', '0'], timeout => 180);
    return is($w->{rc}, 0, 'the worker finishes') || diag(Lab::Product::words_of($w));
}

# The value of a property in a section of Proxmox's, or undef.
sub property { my ($id, $name) = @_; return Lab::Box::slurp($Lab::Product::SECTIONS) =~ m/^smbgateway: \Q$id\E\n(?:[ \t].*\n)*?[ \t]+\Q$name\E (\S+)$/m ? $1 : undef }

sub has_section { my ($id) = @_; return Lab::Box::slurp($Lab::Product::SECTIONS) =~ m/^smbgateway: \Q$id\E$/m ? 1 : 0 }

sub open_operations { return map { m!/([^/]+)\.open\z! ? $1 : () } glob("$Lab::Product::STATE/ops/*.open") }

sub journal { my ($opid) = @_; return Lab::Box::slurp("$Lab::Product::STATE/ops/$opid.jsonl") }

# The task of a call about a share, ended by a signal at a point: n of so many, in a life that was not disturbed. A hash if it was: `opid`, if it has
# left an operation that is open. Nothing if it was done before. `later` as in Lab::Kill.
sub ended {
    my ($id, $call, $name, $n, $of, $later) = @_;
    my $r = Lab::Kill::task_ended_at($n, $SIGNAL{$name}, $call, $later);
    my ($open) = open_operations();
    my $journal = defined($open) ? journal($open) : '';
    # the mark of an open operation is made before the journal and removed after it
    my $is_open = $journal ne '' && $journal !~ m/"event":"finished"/;
    # Lives differ by a point or so, and what comes when the work is done stops nothing: then it is as without a signal.
    if ($r->{out} =~ $DONE) {
        ok($n > $of - 4, 'it ended before the signal, or with it, which was meant for its end') or diag($r->{all});
        is($open, undef, 'and has finished');
        return undef;
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
        rmdir($LOCK);
    }
    is((Lab::Product::status($id)->{operation} // {})->{opid}, $open, 'status names what is open') if $is_open;
    return { opid => $is_open ? $open : undef };
}

# What must be so whenever nothing is going on; and files of the user have the text that they had: path => text.
sub is_sound {
    my (%precious) = @_;
    is_deeply([open_operations()], [], 'no operation is open');
    is_deeply([grep { !-d } glob("$Lab::Product::RUN/{check,probe,import,pending}/*")], [], 'nothing of a check or a proof is left');
    is_deeply([grep { m!(?:\.tmp|\.new|~)\z! || m!/\.smbgw! } keys %{ Lab::Box::snapshot('/etc', '/srv', $Lab::Product::STATE, $Lab::Product::RUN) }], [], 'no temporary file either');
    is_deeply({ map { $_ => Lab::Box::slurp($_) } keys %precious }, \%precious, 'data is untouched');
    return;
}

1;
