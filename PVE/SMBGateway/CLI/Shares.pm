# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::CLI::Shares;

# Shares from the command's side: section and operation together. On Proxmox through its own API, whose hooks do the work; elsewhere the
# section is written once the operation has succeeded. It must not know how a share is made, nor how several are handled at once.

use strict;
use warnings;
use utf8;

use Exporter qw(import);
use JSON::PP ();

use PVE::SMBGateway::CLI::Output qw(print_warnings);
use PVE::SMBGateway::CLI::Work qw(watcher run_op with_signals password usage_error actor);
use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;
use PVE::SMBGateway::Schema;
use PVE::SMBGateway::Shares qw(no_share);
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
        my $done = run_op($run, 'share.create', { id => $id, section => \%section, sections => $sections, PVE::SMBGateway::Worker::together() }, _secret($password));
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
    my $worked = run_op($run, 'reconcile', { ids => [sort keys %$results], sections => PVE::SMBGateway::Config::sections(), PVE::SMBGateway::Worker::together() });
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
        my $done = run_op($run, 'share.update', { id => $id, section => \%section, sections => $sections, PVE::SMBGateway::Worker::together() }, _secret($password));
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

# Through Proxmox's own API; what the hook left to the worker is done here, unless --no-wait.
sub _proxmox {
    my ($run, $method, $param) = @_;
    eval { require PVE::RPCEnvironment; PVE::RPCEnvironment->setup_default_cli_env(); 1 }
        or PVE::SMBGateway::Error->throw('unreachable', 'cannot act as root@pam: ' . ($@ =~ s/\s+\z//r), remedy => 'run it as root')
        if PVE::SMBGateway::Config::on_proxmox() && !$ENV{SMBGW_NO_RPCENV};
    return with_signals($run, sub {
        return PVE::SMBGateway::Shares::change(
            $method, $param, on_event => watcher($run), wait => !$run->{opt}->{'no-wait'}, actor => actor(), keep_signal => 1, around => $ONE_AT_A_TIME,
            # the hook has said these
            said => sub { $run->{said} = { map { $_ => 1 } @_ } },
        );
    });
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
