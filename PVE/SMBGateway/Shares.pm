# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::Shares;

# Shares of Proxmox's storage configuration: created, changed and removed through its own API, so that storage.cfg, its lock and the order
# of hooks are Proxmox's; and the work that a hook leaves to the worker, done here for whoever waits for it. It must not know who asks
# (the command, a task), nor how anything is shown.

use strict;
use warnings;

use Exporter qw(import);
use Time::HiRes ();

use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;
use PVE::SMBGateway::Worker;

our @EXPORT_OK = qw(no_share);

# Calls a method of Proxmox's storage API: 'create', 'update' or 'delete', with its parameters. Hooks run in this process. Returns the result
# of the share's operation.
#   on_event => sub      events of the hooks' runs, and of the worker's work
#   wait => 0            what the hook left to the worker is left to it
#   actor => user        for the worker's work
#   around => sub        calls the code that changes the configuration: a lock of one who has several such calls at once
#   keep_signal => 1     a signal that interrupts the work is not sent again
#   said => sub          called with the warnings that the hook has printed already
sub change {
    my ($method, $param, %o) = @_;
    my $id = $param->{storage};
    PVE::SMBGateway::Config::on_proxmox()
        or PVE::SMBGateway::Error->throw('unsupported', 'this machine has no storage stack of Proxmox VE');
    if ($method ne 'create') {
        my $section = PVE::SMBGateway::Config::sections()->{$id};
        no_share($id) if !$section || $section->{type} ne PVE::SMBGateway::Config::TYPE;
    }
    my ($result, @held);
    local $PVE::SMBGateway::Native::LATE;
    my $call = sub {
        local $PVE::SMBGateway::Native::ON_EVENT = $o{on_event};
        local $PVE::SMBGateway::Native::ON_RESULT = sub { my ($op, $done) = @_; $result = { %$done } if $op =~ m/\Ashare\./ };
        local $PVE::SMBGateway::Worker::HELD = \@held;
        PVE::API2::Storage::Config->$method($param);
        return 1;
    };
    my $ok = eval { $o{around} ? $o{around}->($call) : $call->(); 1 };
    my $error = $ok ? undef : _away($@);
    $result //= { id => $id };
    $o{said}->(@{ $result->{warnings} // [] }) if $o{said};
    my $waits = $ok && ($result->{state} // '') =~ m/\A(?:provisioning|recorded|deleting)\z/;
    if (!$waits || !($o{wait} // 1)) {
        PVE::SMBGateway::Worker::start($_) for @held;
        die $error if !$ok;
        return $result;
    }
    if (my $signal = $PVE::SMBGateway::Native::LATE) {
        PVE::SMBGateway::Worker::start($_) for @held;
        kill($signal, $$) if !$o{keep_signal};
        PVE::SMBGateway::Error->throw('interrupted', "what is wanted of '$id' is recorded, the rest was interrupted by SIG$signal", remedy => 'it goes on in the background');
    }
    return _follow($id, $result, %o);
}

sub no_share {
    my ($id) = @_;
    PVE::SMBGateway::Error->throw('not-found', "there is no SMB share with the storage id '$id'", remedy => "see 'pve-smbgateway list'");
}

# What Proxmox says when its cluster file system is away or refuses to be written is an error of its own.
sub _away {
    my ($thrown) = @_;
    return $thrown if ref($thrown) || $thrown !~ m/no quorum|ipcc_send_rec|Connection refused|Transport endpoint is not connected|storage\.cfg': (?:Permission denied|Device or resource busy)/;
    return PVE::SMBGateway::Error->new('unreachable', 'Proxmox VE cannot change its storage configuration: ' . ($thrown =~ s/\s+\z//r),
        remedy => "look at 'systemctl status pve-cluster' and 'pvecm status', then run the command again");
}

# The worker's work for one share, in the foreground. Whoever is at its gateway already is watched.
sub _follow {
    my ($id, $result, %o) = @_;
    my $gateway = ($result->{section} // {})->{'smbgw-gateway'};
    my $shown = '';
    while (1) {
        my $worked = eval {
            PVE::SMBGateway::Native::run(
                'reconcile', { ids => [$id], sections => PVE::SMBGateway::Config::sections(), 'lock-wait-ms' => 500, PVE::SMBGateway::Worker::together(), (defined($o{actor}) ? (actor => $o{actor}) : ()) },
                on_event => $o{on_event}, keep_signal => $o{keep_signal},
            );
        };
        if (!$worked) {
            my $error = PVE::SMBGateway::Error->from($@);
            die $error if $error->kind() ne 'busy';
        }
        my ($done) = reverse grep { ref($_) eq 'HASH' && ($_->{id} // '') eq $id } @{ ($worked // {})->{shares} // [] };
        _unfinished($id, $result, $done->{error}) if $done && ref($done->{error}) eq 'HASH';
        return { %$result, %$done, warnings => [@{ $result->{warnings} // [] }, @{ $done->{warnings} // [] }] } if $done;

        my $doc = eval { PVE::SMBGateway::Native::query('status', { id => $id }) };
        my $state = ($doc // {})->{state} // ($result->{state} eq 'deleting' ? 'removed' : $result->{state});
        _unfinished($id, $result, $doc->{error}) if $state eq 'failed';
        $gateway //= ($doc // {})->{gateway};
        my $busy = !$worked || grep { !defined($gateway) || $_ eq $gateway } @{ $worked->{busy} // [] };
        return { %$result, state => $state } if !$busy;

        my $step = (ref(($doc // {})->{operation}) eq 'HASH' ? $doc->{operation}->{step} : undef) // 'waiting for the gateway';
        if ($step ne $shown) {
            $shown = $step;
            $o{on_event}->({ event => 'elsewhere', step => $step }) if $o{on_event};
        }
        Time::HiRes::sleep(1);
    }
}

# What was recorded could not be done. It stays wanted.
sub _unfinished {
    my ($id, $result, $doc) = @_;
    my %problems = map { $_->{property} => $_->{message} } @{ $doc->{problems} // [] };
    PVE::SMBGateway::Error->throw(
        $doc->{kind} // 'internal', $doc->{message} // 'unknown failure',
        code => $doc->{code}, problems => \%problems, detail => $doc,
        remedy => join("\n  ", grep { defined } $doc->{remedy}, $result->{state} eq 'deleting'
            ? "the storage is removed from the configuration; the worker tries again, 'pve-smbgateway reconcile $id' does it now"
            : "the storage is in the configuration; the worker tries again, 'pve-smbgateway reconcile $id' does it now, 'pve-smbgateway delete $id' gives up"),
    );
}

1;
