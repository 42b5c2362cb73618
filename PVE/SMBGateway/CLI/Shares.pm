# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::CLI::Shares;

# Shares from the command's side: section and operation together. On Proxmox through its own API, whose hooks do the work; elsewhere the
# section is written once the operation has succeeded. It must not know how a share is made, nor how several are handled at once.

use strict;
use warnings;
use utf8;

use Exporter qw(import);
use JSON::PP ();
use Time::HiRes ();

use PVE::SMBGateway::CLI::Output qw(print_warnings);
use PVE::SMBGateway::CLI::Work qw(watcher run_op with_signals password usage_error);
use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;
use PVE::SMBGateway::Schema;
use PVE::SMBGateway::Worker;

our @EXPORT_OK = qw(cmd_create cmd_set cmd_delete cmd_plan cmd_quota_user no_share);

# Runs what changes the sections: one of several children that work at the same time puts a lock around it.
our $ONE_AT_A_TIME = sub { my ($code) = @_; return $code->() };

sub cmd_create {
    my ($run, $id) = @_;
    my $section = $run->{given};
    my $password = password($run, defined($section->{username}));
    my $result = create($run, $id, $section, $password);
    settle($run, { $id => $result });
    $run->{print} = sub { _print_state($run, $id, $result) };
    return $result;
}

# Creates a share; returns the operation's result. Without Proxmox what the create only recorded is left to settle().
sub create {
    my ($run, $id, $given, $password) = @_;
    my %section = %$given;
    if (PVE::SMBGateway::Config::on_proxmox()) {
        return _proxmox($run, 'create', { storage => $id, type => PVE::SMBGateway::Config::TYPE, %section, _password_param($password) });
    }
    return $ONE_AT_A_TIME->(sub { PVE::SMBGateway::Config::locked(sub {
        my $sections = PVE::SMBGateway::Config::sections();
        PVE::SMBGateway::Error->throw('conflict', "storage '$id' is defined already") if $sections->{$id};
        $section{type} = PVE::SMBGateway::Config::TYPE;
        my $done = run_op($run, 'share.create', { id => $id, section => \%section, sections => $sections }, _secret($password));
        if (!eval { PVE::SMBGateway::Config::put($id, _accepted(\%section, $done)); 1 }) {
            my $error = $@;
            eval { run_op($run, 'share.delete', { id => $id }) };
            die $error;
        }
        return $done;
    }) });
}

# Without Proxmox nothing waits for us, so what creates only recorded is carried out at once, in one run for all of them. Results by id;
# state and warnings are put into them. Returns errors by id.
sub settle {
    my ($run, $results) = @_;
    return {} if PVE::SMBGateway::Config::on_proxmox() || !%$results;
    my $worked = run_op($run, 'reconcile', { ids => [sort keys %$results], sections => PVE::SMBGateway::Config::sections() });
    my %errors;
    for my $now (grep { $results->{ $_->{id} // '' } } @{ $worked->{shares} // [] }) {
        my $result = $results->{ $now->{id} };
        push @{ $result->{warnings} }, @{ $now->{warnings} // [] };
        $result->{state} = $now->{state} if defined($now->{state});
        $errors{ $now->{id} } = $now->{error} if ref($now->{error}) eq 'HASH';
    }
    return \%errors;
}

sub _print_state {
    my ($run, $id, $result) = @_;
    printf("share '%s' (%s) is %s\n", $result->{share} // $id, $id, $result->{state} // 'in storage.cfg') if !$run->{opt}->{quiet};
    print_warnings($result, $run->{said});
    return;
}

sub _secret { my ($password) = @_; return (secrets => defined($password) ? { password => $password } : undef) }
sub _password_param { my ($password) = @_; return defined($password) ? (password => PVE::SMBGateway::Config::characters($password)) : () }

# A section as the library accepted it: what it decided is in it, and the account that joins a domain is not.
sub _accepted {
    my ($section, $done) = @_;
    my %accepted = (%$section, %{ $done->{section} // {} });
    delete $accepted{username} if $done->{section} && !defined($done->{section}->{username});
    return \%accepted;
}

# What `set` is asked to do: values, names to take out.
sub asked {
    my ($run) = @_;
    return ($run->{given}, [grep { length } split(/[\s,;]+/, $run->{opt}->{delete} // '')]);
}

sub cmd_set {
    my ($run, $id) = @_;
    my ($given, $delete) = asked($run);
    my $password = password($run, 0);
    usage_error('nothing to change', 'set') if !%$given && !@$delete && !defined($password);
    my $result = change($run, $id, $given, $delete, $password);
    $run->{print} = sub { _print_state($run, $id, $result) };
    return $result;
}

# Changes a share: properties by name, and names of those to take out.
sub change {
    my ($run, $id, $given, $delete, $password) = @_;
    if (PVE::SMBGateway::Config::on_proxmox()) {
        return _proxmox($run, 'update', { storage => $id, %$given, (@$delete ? (delete => join(',', @$delete)) : ()), _password_param($password) });
    }
    for my $key (@$delete, keys %$given) {
        my $p = PVE::SMBGateway::Schema::property($key) or PVE::SMBGateway::Error->throw('invalid', "there is no property '$key'");
        PVE::SMBGateway::Error->throw('invalid', "'$key' cannot be changed", problems => { $key => 'is fixed at create' }) if $p->{fixed};
    }
    return $ONE_AT_A_TIME->(sub { PVE::SMBGateway::Config::locked(sub {
        my $sections = PVE::SMBGateway::Config::sections();
        my $old = PVE::SMBGateway::Config::ours($sections)->{$id} or no_share($id);
        my %section = (%$old, %$given);
        delete @section{@$delete};
        $sections->{$id} = \%section;
        my $done = run_op($run, 'share.update', { id => $id, section => \%section, sections => $sections }, _secret($password));
        PVE::SMBGateway::Config::put($id, _accepted(\%section, $done));
        return $done;
    }) });
}

sub cmd_delete {
    my ($run, $id) = @_;
    my $result = remove($run, $id);
    $run->{print} = sub { _print_removed($run, $id, $result) };
    return $result;
}

# Removes a share; its data stays.
sub remove {
    my ($run, $id) = @_;
    return _proxmox($run, 'delete', { storage => $id }) if PVE::SMBGateway::Config::on_proxmox();
    return $ONE_AT_A_TIME->(sub { PVE::SMBGateway::Config::locked(sub {
        my $sections = PVE::SMBGateway::Config::sections();
        no_share($id) if $sections->{$id} && ($sections->{$id}->{type} // '') ne PVE::SMBGateway::Config::TYPE;
        # a section may have been lost while its share is still served: that share can be removed too
        no_share($id) if !$sections->{$id} && !grep { ($_->{id} // '') eq $id } @{ PVE::SMBGateway::Native::query('list')->{shares} // [] };
        my $done = run_op($run, 'share.delete', { id => $id });
        PVE::SMBGateway::Config::drop($id);
        return $done;
    }) });
}

sub _print_removed {
    my ($run, $id, $result) = @_;
    my $kept = $result->{kept} // {};
    my $state = $result->{state} // 'removed';
    my $what = $state eq 'deleting' ? 'is being removed' : $state eq 'recorded' ? 'will be removed by its node' : 'is removed';
    print "share '$id' $what; its data stays\n" if !$run->{opt}->{quiet};
    print "  data kept in $kept->{tree}\n" if defined($kept->{tree}) && !$run->{opt}->{quiet};
    for my $account (@{ $kept->{accounts} // [] }) {
        print '  account kept: ', ref($account) eq 'HASH' ? join(', ', map { $account->{$_} } grep { defined($account->{$_}) && !ref($account->{$_}) } sort keys %$account) : $account, "\n"
            if !$run->{opt}->{quiet};
    }
    print_warnings($result, $run->{said});
    return;
}

sub no_share {
    my ($id) = @_;
    PVE::SMBGateway::Error->throw('not-found', "there is no SMB share with the storage id '$id'", remedy => "see 'pve-smbgateway list'");
}

# Through Proxmox's own API, so that storage.cfg, its lock and the order of hooks are Proxmox's. Hooks run in this process. Returns the
# result of the share's operation; what the hook left to the worker is done here, unless --no-wait.
sub _proxmox {
    my ($run, $method, $param) = @_;
    eval { require PVE::RPCEnvironment; PVE::RPCEnvironment->setup_default_cli_env(); 1 }
        or PVE::SMBGateway::Error->throw('unreachable', 'cannot act as root@pam: ' . ($@ =~ s/\s+\z//r), remedy => 'run it as root')
        if PVE::SMBGateway::Config::on_proxmox() && !$ENV{SMBGW_NO_RPCENV};
    if ($method ne 'create') {
        my $section = PVE::SMBGateway::Config::sections()->{ $param->{storage} };
        no_share($param->{storage}) if !$section || $section->{type} ne PVE::SMBGateway::Config::TYPE;
    }
    my ($id, $result, @held) = ($param->{storage});
    my $ok = eval { $ONE_AT_A_TIME->(sub {
        local $PVE::SMBGateway::Native::ON_EVENT = watcher($run);
        local $PVE::SMBGateway::Native::ON_RESULT = sub { my ($op, $done) = @_; $result = { %$done } if $op =~ m/\Ashare\./ };
        local $PVE::SMBGateway::Worker::HELD = \@held;
        with_signals($run, sub { PVE::API2::Storage::Config->$method($param) // {} });
        return 1;
    }) };
    my $error = $ok ? undef : _away($@);
    $result //= { id => $id };
    # the hook has said these
    $run->{said} = { map { $_ => 1 } @{ $result->{warnings} // [] } };
    my $waits = $ok && ($result->{state} // '') =~ m/\A(?:provisioning|recorded|deleting)\z/;
    if (!$waits || $run->{opt}->{'no-wait'}) {
        PVE::SMBGateway::Worker::start($_) for @held;
        die $error if !$ok;
        return $result;
    }
    return _follow($run, $id, $result);
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
    my ($run, $id, $result) = @_;
    my $gateway = ($result->{section} // {})->{'smbgw-gateway'};
    my $shown = '';
    while (1) {
        my $worked = eval { run_op($run, 'reconcile', { ids => [$id], sections => PVE::SMBGateway::Config::sections(), 'lock-wait-ms' => 500 }) };
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
        my $watcher = $step ne $shown ? watcher($run) : undef;
        $watcher->({ event => 'elsewhere', step => $shown = $step }) if $watcher;
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

sub cmd_plan {
    my ($run, @args) = @_;
    my $verb = $args[0] =~ m/\A(?:create|set|delete)\z/ && @args == 2 ? shift(@args) : undef;
    usage_error('which storage?', 'plan') if @args != 1;
    my ($id) = @args;
    my $sections = PVE::SMBGateway::Config::sections();
    my $old = PVE::SMBGateway::Config::ours($sections)->{$id};
    $verb //= $old ? 'set' : 'create';
    my $op = { create => 'share.create', set => 'share.update', delete => 'share.delete' }->{$verb};
    my $params = { id => $id };
    if ($verb ne 'delete') {
        no_share($id) if $verb eq 'set' && !$old;
        my %section = ($verb eq 'set' ? %$old : (type => PVE::SMBGateway::Config::TYPE), %{ $run->{given} });
        delete @section{ grep { length } split(/[\s,;]+/, $run->{opt}->{delete} // '') };
        $params->{section} = \%section;
        $params->{sections} = $sections;
    }
    my $plan = PVE::SMBGateway::Native::query('plan', { op => $op, params => $params });
    $run->{print} = sub {
        my ($data) = @_;
        my $text = $data->{text} // JSON::PP->new->canonical->pretty->encode($data);
        $text =~ s/\n*\z/\n/;
        print $text;
    };
    return $plan;
}

# One user of the list that the section has; the rest is `set`.
sub cmd_quota_user {
    my ($run, $id, $name, $size) = @_;
    my $section = PVE::SMBGateway::Config::sections()->{$id} or usage_error("there is no share '$id' in the storage configuration", $run->{name});
    my %limit = map { m/\A\s*([^=]+?)\s*=\s*(.+?)\s*\z/ ? ($1 => $2) : () } split(/,/, $section->{'smbgw-user-quota'} // '');
    $size eq 'none' ? delete($limit{$name}) : ($limit{$name} = $size);
    my $list = join(',', map { "$_=$limit{$_}" } sort keys %limit);
    $list eq '' ? ($run->{opt}->{delete} = 'smbgw-user-quota') : ($run->{given}->{'smbgw-user-quota'} = $list);
    return cmd_set($run, $id);
}

1;
