# SPDX-License-Identifier: MIT OR Apache-2.0

# What the worker does for a gateway in a domain: it says what is wrong, repairs what it may, lets local users in while no domain
# controller answers and out again. A real domain controller that is stopped, silenced and robbed of records; native mode.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../lab/lib';

use JSON::PP ();
use Test::More;

use Lab::Box;
use Lab::Domain;
use Lab::Product;
use Lab::Smb;

my $why = Lab::Domain::missing();
Lab::Box::skip_all($why) if defined($why);
Lab::Product::enter();

my %PASSWORD = (alice => 'Alice in the domain 1', anna => 'anna of the gateway 1');
my $HEALTH = '/run/smbgw/membership/native.json';

Lab::Domain::start();
Lab::Domain::resolve_by_dc();
Lab::Domain::group('Staff');
Lab::Domain::user('alice', $PASSWORD{alice}, groups => ['Staff']);
Lab::Smb::start();
my $log = Lab::Box::listen_to_log();

sub call_ok {
    my ($name, $words, %o) = @_;
    my $r = Lab::Product::call($words, timeout => 120, %o);
    ok(defined($r->{rc}) && $r->{rc} == 0, $name) or diag(Lab::Product::words_of($r));
    return $r;
}

sub worker { my ($name) = @_; return call_ok($name // 'the worker runs', ['reconcile', '--once']) }
sub status { return Lab::Product::call(['status', 'office'])->{data} // {} }

# What a client of a user gets.
sub local_user { return said(Lab::Box::run(['smbclient', '//127.0.0.1/office', '-U', "BOX\\anna%$PASSWORD{anna}", '-m', 'SMB3_11', '-c', 'ls'])) }
sub domain_user { return said(Lab::Box::run(['smbclient', '//127.0.0.1/office', '-U', "EXAMPLE\\alice%$PASSWORD{alice}", '-m', 'SMB3_11', '-c', 'put /etc/hostname x; del x'], timeout => 90)) }
sub said { my ($r) = @_; return $r->{all} =~ m/(NT_STATUS_\w+)/ ? $1 : 'OK' }

# Makes what is known of the membership older, as if so many seconds had passed.
sub as_if_later {
    my ($seconds) = @_;
    my $doc = JSON::PP::decode_json(Lab::Box::slurp($HEALTH));
    $doc->{$_} -= 1000 * $seconds for qw(since-ms looked-ms thorough-ms);
    $_->{'last-ms'} -= 1000 * $seconds for values %{ $doc->{attempts} // {} };
    Lab::Box::spew($HEALTH, JSON::PP::encode_json($doc), 0600);
    return;
}

mkdir('/srv/office');
call_ok('a share in the domain', ['create', 'office', '--path', '/srv/office', '--smbgw-mode', 'native', '--domain', $Lab::Domain::DNS_DOMAIN,
    '--username', $Lab::Domain::ADMIN, '--smbgw-access', 'rw:@EXAMPLE\\Staff,rw:anna', '--smbgw-ad-fallback', 'anna'], password => $Lab::Domain::ADMIN_PASSWORD);

subtest 'all is well' => sub {
    worker();
    my $s = status();
    is($s->{state}, 'ready', 'ready');
    ok($s->{directory}->{healthy}, 'healthy') or diag(explain($s->{directory}));
    is($s->{directory}->{workgroup}, 'EXAMPLE', 'the domain is told');
    is(domain_user(), 'OK', 'a domain user writes');
};

subtest 'local users are shut out' => sub {
    my $r = call_ok('created', ['user', 'create', 'anna'], password => $PASSWORD{anna});
    like(join(' ', @{ $r->{data}->{warnings} }), qr/while no domain controller answers, and only then/, 'and it is said what for');
    is(local_user(), 'NT_STATUS_ACCOUNT_DISABLED', 'the right password lets nobody in');
    call_ok('another password', ['user', 'password', 'anna'], password => $PASSWORD{anna});
    is(local_user(), 'NT_STATUS_ACCOUNT_DISABLED', 'nor does a new one');
    call_ok('enabled by hand', ['user', 'enable', 'anna']);
    is(local_user(), 'NT_STATUS_ACCOUNT_DISABLED', 'nor an enabled account');
    Lab::Box::run(['smbpasswd', '-e', 'anna']);
    is(local_user(), 'OK', 'enabled past us it does');
    worker('the worker');
    is(local_user(), 'NT_STATUS_ACCOUNT_DISABLED', 'puts that right');
};

subtest 'what is missing is put back' => sub {
    unlink('/var/lib/samba/private/smbgw.keytab');
    as_if_later(3600);
    worker() for 1 .. 2;
    ok(-s '/var/lib/samba/private/smbgw.keytab', 'a keytab');
    Lab::Domain::spn_remove('BOX', grep { m/HOST\/box\./i } @{ Lab::Domain::account('BOX')->{servicePrincipalName} });
    as_if_later(3600);
    worker() for 1 .. 2;
    ok((grep { lc eq 'host/box.example.test' } @{ Lab::Domain::account('BOX')->{servicePrincipalName} }), 'a name of the computer');
    my ($pid) = Lab::Box::slurp('/run/samba/winbindd.pid') =~ m/(\d+)/;
    Lab::Box::stop($pid, 'KILL');
    worker('winbindd was killed');
    is(Lab::Box::run(['wbinfo', '-p'])->{rc}, 0, 'and runs again');
    worker();
    ok(status()->{directory}->{healthy}, 'all is well again') or diag(explain(status()->{directory}));
};

subtest 'a repair that does not help is not repeated for ever' => sub {
    # a directory in its place: the keytab cannot be written
    unlink('/var/lib/samba/private/smbgw.keytab');
    mkdir('/var/lib/samba/private/smbgw.keytab');
    as_if_later(3600);
    for (1 .. 6) { Lab::Product::call(['reconcile', '--once'], timeout => 120); as_if_later(3600) }
    my $d = status()->{directory};
    is($d->{reason}, 'keytab-missing', 'it is named');
    is($d->{attempts}->{'keytab-missing'}->{times}, 3, 'and was tried three times');
    rmdir('/var/lib/samba/private/smbgw.keytab');
    call_ok('repaired by hand', ['ad', 'repair', 'keytab']);
    worker();
    ok(status()->{directory}->{healthy}, 'all is well again');
};

subtest 'no domain controller' => sub {
    Lab::Domain::stop();
    worker('away');
    my $s = status();
    is($s->{state}, 'degraded', 'the share says so');
    ok($s->{active}, 'and is served');
    like($s->{directory}->{reason}, qr/\Adns-|\Aport-|\Adc-/, "why: $s->{directory}->{reason}");
    is(local_user(), 'NT_STATUS_ACCOUNT_DISABLED', 'at once nobody is let in');
    as_if_later(60);
    worker();
    is(local_user(), 'NT_STATUS_ACCOUNT_DISABLED', 'nor after a minute');
    as_if_later(121);
    worker('after two minutes');
    is(local_user(), 'OK', 'the one who is named for it is');
    $s = status();
    ok($s->{directory}->{fallback}, 'the status tells');
    like(join(' ', @{ $s->{warnings} }), qr/local users may log in \(anna\), because no domain controller answers/, 'and warns');
    like($log->(), qr/name server|domain controller/, 'the log knows');
    Lab::Domain::again();
    Lab::Box::until_true(sub { Lab::Product::call(['reconcile', '--once'], timeout => 120); status()->{directory}->{healthy} }, 60);
    ok(status()->{directory}->{healthy}, 'it is back') or diag(explain(status()->{directory}));
    is(local_user(), 'OK', 'one answer ends nothing yet');
    as_if_later(121);
    worker('after two minutes');
    is(local_user(), 'NT_STATUS_ACCOUNT_DISABLED', 'local users are shut out again');
    is(status()->{directory}->{fallback}, undef, 'and the status tells that, too');
    is(domain_user(), 'OK', 'domain users write');
};

subtest 'by hand' => sub {
    my $r = call_ok('on', ['ad', 'fallback', 'on']);
    like(join(' ', @{ $r->{data}->{warnings} }), qr/BOX\\anna/, 'how to log in is said');
    is(local_user(), 'OK', 'a local user is let in');
    as_if_later(3600);
    worker();
    is(local_user(), 'OK', 'the worker does not end what was ordered');
    call_ok('off', ['ad', 'fallback', 'off']);
    is(local_user(), 'NT_STATUS_ACCOUNT_DISABLED', 'and is out');
    call_ok('nobody is named any more', ['set', 'office', '--smbgw-access', 'rw:@EXAMPLE\\Staff', '--delete', 'smbgw-ad-fallback']);
    $r = Lab::Product::call(['ad', 'fallback', 'on']);
    isnt($r->{rc}, 0, 'then there is none');
    like($r->{error}->{message}, qr/names nobody/, 'and it says why');
};

subtest 'a membership that is lost' => sub {
    Lab::Domain::delete_account('BOX');
    as_if_later(3600);
    worker();
    my $d = status()->{directory};
    like($d->{reason}, qr/\Amachine-account-gone|\Amachine-secret-invalid/, "is named: $d->{reason}") or diag(explain($d));
    as_if_later(3600);
    worker();
    is(local_user(), 'NT_STATUS_ACCOUNT_DISABLED', 'and lets no local user in');
    call_ok('joined again', ['ad', 'join', '--username', $Lab::Domain::ADMIN], password => $Lab::Domain::ADMIN_PASSWORD);
    worker();
    ok(status()->{directory}->{healthy}, 'all is well') or diag(explain(status()->{directory}));
    is(domain_user(), 'OK', 'a domain user writes');
};

done_testing();
