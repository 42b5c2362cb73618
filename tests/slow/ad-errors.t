# SPDX-License-Identifier: MIT OR Apache-2.0

# What can be wrong between a gateway and its domain: every cause has a code of its own, and a join that fails leaves nothing,
# neither on the machine nor in the domain.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../lab/lib';

use Test::More;

use Lab::Box;
use Lab::Domain;
use Lab::Product;
use Lab::Smb;

my $why = Lab::Domain::missing();
Lab::Box::skip_all($why) if defined($why);
Lab::Product::enter();
Lab::Domain::start();
Lab::Domain::resolve_by_dc();
Lab::Domain::name_service(0);

my $PASSWORD = 'Of-somebody-1';
my $KEYTAB = '/var/lib/samba/private/smbgw.keytab';
my $PRIVATE = '/var/lib/samba/private';

Lab::Domain::ou('Servers');
Lab::Domain::group('Staff');
Lab::Domain::group('Mail');
Lab::Domain::set_attributes('Mail', groupType => 2);    # global, for distribution
Lab::Domain::user('alice', $PASSWORD, groups => ['Staff']);
Lab::Domain::user('joiner', $PASSWORD);
Lab::Domain::delegate('joiner', 'Servers');
Lab::Domain::user('plain', $PASSWORD);
Lab::Domain::user('off', $PASSWORD, disabled => 1);
Lab::Domain::user('late', $PASSWORD, expired => 1);
Lab::Domain::user('new', $PASSWORD, must_change => 1);
Lab::Domain::user('locked', $PASSWORD);
Lab::Domain::set_attributes('locked', lockoutTime => (time() + 11644473600) * 10_000_000);
Lab::Domain::next_rid(5000);
Lab::Domain::user('far', $PASSWORD);

Lab::Smb::start();
mkdir('/srv/office');

my @ADMIN = ($Lab::Domain::ADMIN, $Lab::Domain::ADMIN_PASSWORD);
my @JOINER = ('joiner', $PASSWORD);

# Creates a share as one of these, with properties beside or instead of the usual ones.
sub create {
    my ($as, %properties) = @_;
    return Lab::Product::create('office', {
        path => '/srv/office', domain => $Lab::Domain::DNS_DOMAIN, username => $as->[0], 'smbgw-access' => 'rw:@EXAMPLE\Staff', %properties,
    }, password => $as->[1], timeout => 180);
}

# Codes of an error, and of the problems that it names.
sub code { my ($r) = @_; return $r->{error}->{detail}->{reason} // (defined($r->{rc}) && $r->{rc} == 0 ? 'it works' : 'no code') }
sub properties_of { my ($r) = @_; return join(',', sort map { $_->{property} // '' } @{ $r->{error}->{problems} // [] }) }

sub is_code {
    my ($r, $code, $name) = @_;
    my $ok = is(code($r), $code, $name) or diag(Lab::Product::words_of($r));
    return $ok;
}

sub call_ok {
    my ($name, $r) = @_;
    my $ok = ok(defined($r->{rc}) && $r->{rc} == 0, $name) or diag(Lab::Product::words_of($r));
    return $ok;
}

my ($before, $private);

sub remember {
    $before = Lab::Product::footprint();
    $private = Lab::Box::snapshot($PRIVATE);
    return;
}

sub nothing_is_left {
    my ($name) = @_;
    my @left = Lab::Product::left_behind($before, Lab::Product::footprint());
    # Samba has its own subdirectories and locks there, which it makes when it wants
    push @left, grep { m!/(?:secrets\.tdb|smbgw[^/]*)\b! } Lab::Box::differences($private, Lab::Box::snapshot($PRIVATE));
    push @left, 'winbindd runs' if Lab::Smb::winbindd_pid();
    push @left, map { "file $_" } grep { -e } $KEYTAB, '/run/smbgw/domain/smb.conf';
    my $ok = is(join('', map { "$_\n" } @left), '', "$name: nothing is left");
    remember() if !$ok;    # the next case has its own
    return $ok;
}

remember();

# One row: name, code; as: [account, password]; set: properties; property: which one is to blame; before, after: the trouble, and
# its end; account: what the domain has of the gateway afterwards (nothing).
my %heal = (after => \&Lab::Domain::heal);
my @CASES = (
    ['a wrong password', 'bad-credential', as => ['Administrator', 'wrong'], property => 'username'],
    ['an unknown user', 'bad-credential', as => ['nobody-there', 'wrong'], property => 'username'],
    ['a disabled user', 'account-disabled', as => ['off', $PASSWORD], property => 'username'],
    ['an expired user', 'account-expired', as => ['late', $PASSWORD], property => 'username'],
    ['a locked user', 'account-locked', as => ['locked', $PASSWORD], property => 'username'],
    ['a user who has to change the password', 'password-must-change', as => ['new', $PASSWORD], property => 'username'],
    ['a user without rights', 'no-rights', as => ['plain', $PASSWORD], set => { 'smbgw-ad-ou' => 'Servers' }, property => 'username'],
    ['a user without rights, without a unit', 'no-rights', as => ['plain', $PASSWORD], property => 'username'],
    ['a unit that is not there', 'ou-missing', set => { 'smbgw-ad-ou' => 'Servers/None' }, property => 'smbgw-ad-ou'],
    ['a user that is not there', 'name-unknown', set => { 'smbgw-access' => 'rw:EXAMPLE\nobody-there' }, property => 'smbgw-access'],
    ['a user named as a group', 'name-of-other-kind', set => { 'smbgw-access' => 'rw:@EXAMPLE\alice' }, property => 'smbgw-access'],
    ['a group named as a user', 'name-of-other-kind', set => { 'smbgw-access' => 'rw:EXAMPLE\Staff' }, property => 'smbgw-access'],
    ['a group for mail', 'group-not-security', set => { 'smbgw-access' => 'rw:@EXAMPLE\Mail' }, property => 'smbgw-access'],
    ['an account without a number', 'out-of-range', set => { 'smbgw-access' => 'rw:EXAMPLE\far', 'smbgw-idmap' => '300000-304000' }, property => 'smbgw-access'],
    ['no name server', 'dns-no-server', before => \&Lab::Domain::no_names, after => \&Lab::Domain::heal_names],
    ['a name server that fails', 'dns-failed', before => sub { Lab::Domain::bad_names(2) }, after => \&Lab::Domain::heal_names],
    ['a name server that does not want', 'dns-refused', before => sub { Lab::Domain::bad_names(5) }, after => \&Lab::Domain::heal_names],
    ['DNS refused', 'dns-refused', before => sub { Lab::Domain::dns('refuse') }, %heal],
    ['DNS silent', 'dns-silent', before => sub { Lab::Domain::dns('silent') }, %heal],
    ['DNS without the services', 'srv-missing', before => sub { Lab::Domain::dns('no-srv') }, %heal, property => 'domain'],
    ['another domain', 'srv-missing', set => { domain => 'other.test', 'smbgw-access' => '' }, property => 'domain'],
    ['a controller without an address', 'dc-unresolved', before => sub { Lab::Domain::set_dns_record('dc1') }, after => sub { Lab::Domain::set_dns_record('dc1', $Lab::Domain::ADDRESS) }],
    ['a controller to which no way leads', 'unreachable', before => sub { Lab::Domain::set_dns_record('dc1', '198.51.100.1') }, after => sub { Lab::Domain::set_dns_record('dc1', $Lab::Domain::ADDRESS) }],
    (map { my $port = $_; ["port $port refused", 'port-refused', before => sub { Lab::Domain::port($port, 'refuse') }, %heal] } 88, 389, 445),
    (map { my $port = $_; ["port $port silent", 'port-silent', before => sub { Lab::Domain::port($port, 'drop') }, %heal] } 88, 389, 445),
    ['everything silent', 'dns-silent', before => sub { Lab::Domain::silent(1) }, %heal],
    ['the name of another computer', 'name-taken', account => 'other.example.test',
        before => sub { Lab::Domain::computer('box'); Lab::Domain::set_attributes('box', dNSHostName => 'other.example.test') }, after => sub { Lab::Domain::delete_account('box') }],
);

sub run_case {
    my ($name, $code, %o) = @_;
    $o{before}->() if $o{before};
    my $r = create($o{as} // \@ADMIN, %{ $o{set} // {} });
    is_code($r, $code, "$name: $code");
    is(properties_of($r), $o{property}, "$name: $o{property} is to blame") if defined($o{property});
    like($r->{error}->{remedy} // '', qr/\w/, "$name: and what helps is said");
    # a domain that nobody reaches any more has to be asked in its own database
    my $account = Lab::Domain::account('BOX');
    is(defined($account) ? $account->{dNSHostName} // 'without a name' : undef, $o{account}, "$name: the domain has the computer account it had");
    Lab::Product::remove('office') if $r->{success};
    $o{after}->() if $o{after};
    Lab::Domain::delete_account('box') if defined(Lab::Domain::account('BOX'));
    return nothing_is_left($name);
}

my $only = $ENV{SMBGW_CASE};    # those with that text in their name
for my $case (grep { !defined($only) || index($_->[0], $only) >= 0 } @CASES) { run_case(@$case) }

for my $seconds (defined($only) && $only !~ m/clock/ ? () : (600, -600)) {
    Lab::Domain::clock($seconds);
    run_case("a clock that is off by $seconds s", 'clock-skew');
}
Lab::Domain::clock(0) if !defined($only) || $only =~ m/clock/;

if (defined($only)) { done_testing(); exit(0) }

# --- an account that was there before -----------------------------------------------------------------------------------

subtest 'an account that an administrator made' => sub {
    Lab::Domain::computer('box', ou => 'Servers');
    my $sid = Lab::Domain::sid('BOX');
    my $r = create(\@JOINER, 'smbgw-access' => 'rw:EXAMPLE\nobody-there');
    is_code($r, 'name-unknown', 'a create that fails after it has joined');
    is(Lab::Domain::sid('BOX'), $sid, 'leaves the account that it found');
    nothing_is_left('and');
    call_ok('create', create(\@JOINER));
    is(Lab::Domain::sid('BOX'), $sid, 'the account is taken');
    is(Lab::Domain::account('BOX')->{dn}, "CN=box,OU=Servers,$Lab::Domain::BASE_DN", 'where it lies');
    is(Lab::Smb::client('EXAMPLE/alice', $PASSWORD, 'office', 'ls')->{status}, 'OK', 'the share works');
};

# --- a member from which something is taken -----------------------------------------------------------------------------

# What `ad check` finds, as check => reason, those that are well left out.
sub found {
    my $r = Lab::Product::call(['ad', 'check'], timeout => 120);
    my $doc = $r->{data} // {};
    my %found;
    for my $check (@{ $doc->{checks} // [] }) {
        push @{ $found{ $check->{reason} } }, $check->{check} if defined($check->{reason});
    }
    return { ok => $doc->{ok} ? 1 : 0, rc => $r->{rc}, reasons => \%found, all => $r->{all} };
}

sub finds {
    my ($code, $name) = @_;
    my $f = found();
    my $ok = ok(exists($f->{reasons}->{$code}), "$name: $code") or diag(join(', ', sort keys %{ $f->{reasons} }) || 'nothing', ' | ', $f->{all});
    return $f if $ok;
    return $f;
}

subtest 'a good member' => sub {
    my $f = found();
    is($f->{ok}, 1, 'ad check finds nothing') or diag($f->{all});
    is($f->{rc}, 0, 'and exits with 0');
};

subtest 'a second join' => sub {
    my $sid = Lab::Domain::sid('BOX');
    my $number = Lab::Domain::account('BOX')->{'msDS-KeyVersionNumber'};
    call_ok('ad join of a member', Lab::Product::call(['ad', 'join', '--username', 'joiner'], password => $PASSWORD, timeout => 120));
    is(Lab::Domain::sid('BOX'), $sid, 'the account is the same');
    is(Lab::Smb::client('EXAMPLE/alice', $PASSWORD, 'office', 'ls')->{status}, 'OK', 'the share works');
    is(found()->{ok}, 1, 'ad check finds nothing');
    my $r = Lab::Product::call(['ad', 'join', '--username', 'joiner'], password => 'wrong', timeout => 120);
    is_code($r, 'bad-credential', 'one with a wrong password fails');
    is(Lab::Smb::client('EXAMPLE/alice', $PASSWORD, 'office', 'ls')->{status}, 'OK', 'and takes nothing away: the share works');
    is(found()->{ok}, 1, 'and the membership is good');
    is(Lab::Domain::sid('BOX'), $sid, 'with the same account');
};

subtest 'names of the account' => sub {
    Lab::Domain::spn_remove('box', "HOST/BOX.$Lab::Domain::DNS_DOMAIN");
    my $f = finds('spn-lost', 'a name is lost');
    is($f->{ok}, 0, 'and that is not well');
    is($f->{rc}, 10, 'by the exit status too');
    call_ok('ad join', Lab::Product::call(['ad', 'join', '--username', 'joiner'], password => $PASSWORD, timeout => 120));
    is(found()->{ok}, 1, 'puts it back');
};

subtest 'the keytab' => sub {
    unlink($KEYTAB);
    finds('keytab-missing', 'it is gone');
    Lab::Product::call(['reconcile', '--once', '--wait', '0'], timeout => 120);
    ok(-e $KEYTAB, 'the worker makes it anew');
    is(found()->{ok}, 1, 'and all is well');
};

subtest 'a renamed and a deleted user' => sub {
    Lab::Domain::rename('Staff', 'Crew');
    my $f = finds('renamed', 'a group has another name');
    is($f->{ok}, 1, 'which harms nobody');
    is(Lab::Smb::client('EXAMPLE/alice', $PASSWORD, 'office', 'ls')->{status}, 'OK', 'its members come in as before');
    Lab::Domain::rename('Crew', 'Staff');
    Lab::Domain::user('brief', $PASSWORD);
    call_ok('a second account has access', Lab::Product::set('office', { 'smbgw-access' => 'rw:@EXAMPLE\Staff,ro:EXAMPLE\brief' }));
    Lab::Domain::delete_user('brief');
    $f = finds('name-unknown', 'it is deleted');
    is($f->{ok}, 1, 'which harms nobody else');
    call_ok('and is taken out', Lab::Product::set('office', { 'smbgw-access' => 'rw:@EXAMPLE\Staff' }));
    is(found()->{ok}, 1, 'all is well');
};

subtest 'winbindd' => sub {
    my $pid = Lab::Smb::winbindd_pid();
    ok($pid, 'winbindd has a process') or return;
    Lab::Box::stop($pid);
    finds('winbindd-down', 'it does not run');
    Lab::Product::call(['reconcile', '--once', '--wait', '0'], timeout => 120);
    is(found()->{ok}, 1, 'the worker brings it back');
};

# Every row: trouble, code, its end.
for my $case (
    ['DNS refused', 'dns-refused', sub { Lab::Domain::dns('refuse') }],
    ['DNS silent', 'dns-silent', sub { Lab::Domain::dns('silent') }],
    ['no services', 'srv-missing', sub { Lab::Domain::dns('no-srv') }],
    ['port 389 refused', 'port-refused', sub { Lab::Domain::port(389, 'refuse') }],
    ['port 88 silent', 'port-silent', sub { Lab::Domain::port(88, 'drop') }],
) {
    my ($name, $code, $trouble) = @$case;
    $trouble->();
    is(finds($code, "ad check of a member, $name")->{ok}, 0, '... and that is not well');
    Lab::Domain::heal();
}

subtest 'the clock' => sub {
    Lab::Domain::clock(600);
    is(finds('clock-skew', 'it is off')->{ok}, 0, 'and that is not well');
    Lab::Domain::clock(0);
    ok(Lab::Box::until_true(sub { found()->{ok} }, 20), 'and is right again');
};

subtest 'the computer account' => sub {
    Lab::Domain::disable_account('box');
    my $f = finds('account-revoked', 'disabled');
    is($f->{ok}, 0, 'and that is not well');
    Lab::Domain::enable_account('box');
    ok(Lab::Box::until_true(sub { found()->{ok} }, 20), 'enabled: well again');

    Lab::Domain::set_password('box', 'Another-one-of-box-1');
    is(finds('machine-secret-invalid', 'its password is another')->{ok}, 0, 'and that is not well');
    call_ok('ad join', Lab::Product::call(['ad', 'join', '--username', 'joiner'], password => $PASSWORD, timeout => 120));
    is(found()->{ok}, 1, 'makes it well');

    Lab::Domain::delete_account('box');
    is(finds('machine-account-gone', 'deleted')->{ok}, 0, 'and that is not well');
    call_ok('ad join', Lab::Product::call(['ad', 'join', '--username', 'Administrator'], password => $Lab::Domain::ADMIN_PASSWORD, timeout => 120));
    is(found()->{ok}, 1, 'makes another');
    is(Lab::Smb::client('EXAMPLE/alice', $PASSWORD, 'office', 'ls')->{status}, 'OK', 'the share works');
};

subtest 'left' => sub {
    call_ok('ad leave', Lab::Product::call(['ad', 'leave', '--username', 'Administrator'], password => $Lab::Domain::ADMIN_PASSWORD, timeout => 120));
    is(Lab::Domain::account('BOX'), undef, 'the account is gone');
    call_ok('delete', Lab::Product::remove('office'));
    nothing_is_left('and');
};

done_testing();
