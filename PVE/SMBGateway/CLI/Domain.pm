# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::CLI::Domain;

# The commands of domains: words to operations, answers to text. It must not know Active Directory.

use strict;
use warnings;

use Exporter qw(import);

use PVE::SMBGateway::CLI::Output qw(print_warnings table tree);
use PVE::SMBGateway::CLI::Work qw(run_op password secret_file usage_error);
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;

our @EXPORT_OK = qw(cmd_ad cmd_ad_check cmd_ad_test cmd_ad_act cmd_ad_accounts cmd_ad_whoami);

sub cmd_ad {
    my ($run, $gateway) = @_;
    my ($verb) = $run->{name} =~ m/\Aad (.+)\z/;
    my %params = map { $_ => $run->{opt}->{$_} } grep { defined($run->{opt}->{$_}) } qw(username domain smbgw-ad-ou smbgw-idmap smbgw-ad-dns keep-account);
    $params{gateway} = $gateway if defined($gateway);
    my ($by, @more) = grep { defined($run->{opt}->{$_}) } qw(ticket offline-join);
    usage_error("--$by and --$more[0] are two ways of one thing", $run->{name}) if @more;
    PVE::SMBGateway::Error->throw('invalid', "this needs --username: an account of the domain that may $verb computers")
        if !defined($params{username}) && ($by // '') ne 'offline-join';
    $params{by} = $by if defined($by);
    my $secret = defined($by) ? secret_file($run->{opt}->{$by}) : password($run, 1);
    my $result = run_op($run, "ad.$verb", \%params, secrets => { ($by // 'password') => $secret });
    $run->{print} = sub {
        my $m = $result->{member} // {};
        print "gateway '$result->{gateway}' ", ($verb eq 'join' ? "is a member of $m->{domain} ($m->{workgroup}) as $m->{computer}" : "has left $m->{domain}"), "\n" if !$run->{opt}->{quiet};
        print_warnings($result, $run->{said});
    };
    return $result;
}

sub cmd_ad_check {
    my ($run, $gateway) = @_;
    my ($what) = $run->{name} =~ m/\Aad (.+)\z/;
    my %params = (what => $what, (defined($gateway) ? (gateway => $gateway) : ()), (defined($run->{opt}->{domain}) ? (domain => $run->{opt}->{domain}) : ()));
    delete $params{what} if $what eq 'report';
    my $doc = PVE::SMBGateway::Native::query($what eq 'report' ? 'ad.report' : 'ad.check', \%params);
    $run->{failed} = [{ kind => 'io', code => 10, message => 'not everything that was looked at is good' }] if !$doc->{ok};
    $run->{print} = sub {
        for my $c (@{ $doc->{checks} }) {
            printf("%-5s %-12s %s\n", $c->{ok} ? 'ok' : 'WRONG', $c->{check}, $c->{did});
            print "      saw: $c->{saw}\n";
            print "      means: $c->{means}", (defined($c->{reason}) ? " ($c->{reason})" : ''), "\n";
            print "      remedy: $c->{remedy}\n" if !$c->{ok};
        }
        print "\n", tree({ map { $_ => $doc->{$_} } qw(directory accounts numbers shares fallback-users) }) if $what eq 'report';
    };
    return $doc;
}

sub cmd_ad_test {
    my ($run, $name, $gateway) = @_;
    my %params = (name => $name, (defined($gateway) ? (gateway => $gateway) : ()), map { $_ => $run->{opt}->{$_} } grep { defined($run->{opt}->{$_}) } qw(share ntlm));
    my $result = run_op($run, 'ad.test-user', \%params, secrets => { password => password($run, 1) });
    $run->{print} = sub { print "$result->{name} can log in\n" if !$run->{opt}->{quiet} };
    return $result;
}

sub cmd_ad_act {
    my ($run, $word, $gateway) = @_;
    my ($verb) = $run->{name} =~ m/\Aad (.+)\z/;
    my %words = (repair => { map { $_ => { what => $_ } } qw(keytab rotate names) }, fallback => { on => { on => 1 }, off => { on => 0 } });
    my $params = $words{$verb}->{$word} or usage_error("'$word' is none of " . join(', ', sort keys %{ $words{$verb} }), $run->{name});
    my $result = run_op($run, "ad.$verb", { %$params, (defined($gateway) ? (gateway => $gateway) : ()) });
    $run->{print} = sub {
        print "ad $verb $word: done\n" if !$run->{opt}->{quiet};
        print_warnings($result, $run->{said});
    };
    return $result;
}

sub cmd_ad_accounts {
    my ($run, $gateway) = @_;
    my ($what) = $run->{name} =~ m/\Aad (.+)\z/;
    my %params = ((defined($gateway) ? (gateway => $gateway) : ()), map { $_ => $run->{opt}->{$_} } grep { defined($run->{opt}->{$_}) } qw(match limit));
    my $doc = PVE::SMBGateway::Native::query("ad.$what", \%params);
    $run->{print} = sub {
        print table([map { { %$_, number => $_->{number} // 'out of range' } } @{ $doc->{accounts} }], qw(name sid number));
        print STDERR "there are more: --match narrows it down, --limit shows more\n" if $doc->{more};
    };
    return $doc;
}

sub cmd_ad_whoami {
    my ($run, $name, $gateway) = @_;
    my $doc = PVE::SMBGateway::Native::query('ad.whoami', { name => $name, (defined($gateway) ? (gateway => $gateway) : ()) });
    $run->{print} = sub {
        print "$doc->{name}\n  SID     $doc->{sid}\n  number  ", $doc->{number} // 'outside of the range of the gateway', "\n";
        print "  groups  ", join(', ', map { $_->{name} // $_->{sid} } @{ $doc->{groups} }), "\n";
        for my $s (@{ $doc->{shares} }) {
            my $why = $doc->{disabled} ? 'the account is disabled' : 'neither the account nor a group of it is named';
            print "  share   $s->{id}: ", defined($s->{level}) ? "$s->{level}, by " . join(', ', @{ $s->{by} }) : "no access: $why", "\n";
        }
    };
    return $doc;
}

1;
