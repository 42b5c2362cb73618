# SPDX-License-Identifier: MIT OR Apache-2.0

# The domain of the lab: that a member prepared by hand works with it, and that each trouble is the one it says and heals. The
# product has no part in it.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use POSIX ();
use Test::More;

use Lab::Box;
use Lab::Domain;
use Lab::Smb;

my $why = Lab::Domain::missing() // Lab::Smb::missing();
Lab::Box::skip_all($why) if defined($why);
Lab::Box::enter();
Lab::Smb::fresh();
Lab::Domain::start();
Lab::Domain::resolve_by_dc();
Lab::Domain::name_service(1);

my $SRV = "_ldap._tcp.dc._msdcs.$Lab::Domain::DNS_DOMAIN";
my $PASSWORD = 'Of-alice-1';
my $FQDN = "box.$Lab::Domain::DNS_DOMAIN";

sub says {
    my ($r, $rc, $pattern, $name) = @_;
    my $ok = ok(defined($r->{rc}) && $r->{rc} == $rc && $r->{all} =~ $pattern, $name) or diag('rc ' . ($r->{rc} // "signal $r->{signal}") . ": $r->{all}");
    return $ok;
}

sub net { my ($words, %o) = @_; return Lab::Box::run(['net', @$words], %o) }
sub wbinfo { my (@words) = @_; return Lab::Box::run(['wbinfo', @words]) }
sub lookup { my ($name, $type) = @_; return Lab::Domain::lookup($name, $type)->{state} }
sub join_as { my ($user, $password, @words) = @_; return net(['ads', 'join', '-U', "$user\@$Lab::Domain::REALM", @words], stdin => "$password\n") }
sub kinit { my ($user, $password) = @_; return Lab::Box::run(['kinit', '-c', 'FILE:/run/lab/tickets', "$user\@$Lab::Domain::REALM"], stdin => "$password\n") }

# What members remember of a controller would answer for it.
sub offset {
    net(['cache', 'flush']);
    return net(['ads', 'info'])->{out} =~ m/^Server time offset: (-?\d+)$/m ? $1 : undef;
}

# The two seconds are for a machine that has more to do.
sub is_off_by {
    my ($seconds, $name) = @_;
    my $seen = offset() // 'nothing';
    my $ok = ok($seen ne 'nothing' && abs($seen - $seconds) <= 2, $name) or diag("a member sees $seen");
    return $ok;
}

# A write with a ticket: '' if it works, else what was said.
sub write_as {
    my ($user, $password, $name) = @_;
    my $r = kinit($user, $password);
    return $r->{all} if $r->{rc} != 0;
    Lab::Box::spew('/run/lab/text', "written by $user\n");
    # only the option keeps it from asking for a password, only the variable makes it use the ticket
    $r = Lab::Box::run(['smbclient', '--use-kerberos=required', '--use-krb5-ccache=FILE:/run/lab/tickets', '-I', '127.0.0.1', "//$FQDN/office", '-c', "put /run/lab/text $name"], env => { KRB5CCNAME => 'FILE:/run/lab/tickets' });
    return $r->{rc} == 0 && Lab::Box::slurp("/srv/office/$name") eq "written by $user\n" ? '' : $r->{all};
}

Lab::Box::spew('/etc/samba/smb.conf', <<"CONF");
[global]
security = ads
realm = $Lab::Domain::REALM
workgroup = $Lab::Domain::WORKGROUP
kerberos method = secrets and keytab
dedicated keytab file = /etc/krb5.keytab
idmap config * : backend = tdb
idmap config * : range = 3000-7999
idmap config $Lab::Domain::WORKGROUP : backend = rid
idmap config $Lab::Domain::WORKGROUP : range = 100000-999999
disable netbios = yes
load printers = no

[office]
path = /srv/office
read only = no
valid users = +$Lab::Domain::WORKGROUP\\Staff
CONF
mkdir('/srv/office');
chmod(0777, '/srv/office');

subtest 'a domain answers' => sub {
    is(Lab::Domain::tcp($_), 'open', "port $_") for 53, 88, 389, 445;
    is(lookup($SRV, 'SRV'), 'answer', 'its services are found');
    is(lookup("nobody.$Lab::Domain::DNS_DOMAIN", 'A'), 'none', 'a name that is not there is not');
    is_deeply([Lab::Domain::dns_record('dc1')], [$Lab::Domain::ADDRESS], 'its own address');
    like(Lab::Box::slurp('/etc/hosts'), qr/\A192\.0\.2\.1 box\.example\.test box\n/, 'the member has its name with the domain');
    unlike(Lab::Box::slurp('/etc/hosts'), qr/^127\S* box$/m, 'and no other address');
    ok(!-e '/var/lib/samba/private/sam.ldb', "the controller's files are not the member's");
    is((POSIX::uname())[1], 'box', 'nor is its name');
    is_off_by(0, 'the clocks agree');
};

subtest 'accounts' => sub {
    Lab::Domain::group('Staff');
    Lab::Domain::user('alice', $PASSWORD, groups => ['Staff']);
    Lab::Domain::user('bob', 'Of-bob-1');
    Lab::Domain::user('off', $PASSWORD, disabled => 1);
    Lab::Domain::user('late', $PASSWORD, expired => 1);
    Lab::Domain::user('new', $PASSWORD, must_change => 1);
    Lab::Domain::user("j\x{fc}rgen", $PASSWORD);
    says(kinit('alice', $PASSWORD), 0, qr/./s, 'a user');
    says(kinit('alice', 'wrong'), 1, qr/Password incorrect/, 'a wrong password');
    says(kinit('off', $PASSWORD), 1, qr/credentials have been revoked/, 'a disabled user');
    says(kinit('late', $PASSWORD), 1, qr/credentials have been revoked/, 'an expired one');
    says(kinit('new', $PASSWORD), 1, qr/Password expired|Password has expired|must be changed/i, 'one who has to change the password');
    says(kinit('nobody', $PASSWORD), 1, qr/not found in Kerberos database/, 'one that is not there');
    says(kinit('jürgen', $PASSWORD), 0, qr/./s, 'a name that is not ASCII');
    Lab::Domain::enable_account('off');
    says(kinit('off', $PASSWORD), 0, qr/./s, 'the disabled user, enabled');
    Lab::Domain::set_password('bob', 'Of-bob-22');
    says(kinit('bob', 'Of-bob-22'), 0, qr/./s, 'another password');
    my $sid = Lab::Domain::sid('bob');
    Lab::Domain::rename('bob', 'robert');
    is(Lab::Domain::account('bob'), undef, 'renamed: the old name is gone');
    is(Lab::Domain::sid('robert'), $sid, 'and the SID is the same');
    says(kinit('robert', 'Of-bob-22'), 0, qr/./s, 'and the new name logs on');
    Lab::Domain::delete_user('off');
    is(Lab::Domain::account('off'), undef, 'a deleted user');
    my $a = Lab::Domain::account('alice');
    is_deeply($a->{memberOf}, ["CN=Staff,CN=Users,$Lab::Domain::BASE_DN"], 'the groups of a user');
    is($a->{userAccountControl}, 512, 'the flags of a user');
    ok(!eval { Lab::Domain::add_member('Nothing', 'alice'); 1 }, 'what cannot be done dies');
    like($@, qr/\Amember: .*Nothing/, 'and says why');
};

subtest 'a join that an administrator prepared' => sub {
    Lab::Domain::ou('Servers');
    Lab::Domain::ou('Servers/Files');
    Lab::Domain::user('joiner', 'Of-joiner-1');
    says(join_as('joiner', 'Of-joiner-1', 'createcomputer=Servers/Files'), 255, qr/Insufficient access|privileges|Access/i, 'without rights there is none');
    Lab::Domain::delegate('joiner', 'Servers/Files');
    Lab::Domain::computer('box', ou => 'Servers/Files');
    is(Lab::Domain::account('box$')->{dn}, "CN=box,OU=Files,OU=Servers,$Lab::Domain::BASE_DN", 'an account made before the join');
    says(join_as('joiner', 'Of-joiner-1'), 0, qr/^Joined 'BOX'/m, 'with rights it is taken');
    says(net(['ads', 'testjoin']), 0, qr/\AJoin is OK$/, 'the join is good, with no complaint');
    says(net(['ads', 'leave', '-U', "joiner\@$Lab::Domain::REALM"], stdin => "Of-joiner-1\n"), 0, qr/^Deleted account/m, 'and left again');
    is(Lab::Domain::account('box'), undef, 'and the account is gone');
};

subtest 'a member by hand' => sub {
    Lab::Domain::set_dns_record('box');
    my $r = join_as($Lab::Domain::ADMIN, $Lab::Domain::ADMIN_PASSWORD);
    says($r, 0, qr/^Joined 'BOX' to dns domain 'example\.test'/m, 'net ads join');
    is($r->{err}, '', 'and no complaint');
    says(net(['ads', 'testjoin']), 0, qr/\AJoin is OK$/, 'net ads testjoin');
    my $a = Lab::Domain::account('box');
    is($a->{dNSHostName}, $FQDN, 'the account has the name of the machine');
    ok((grep { lc($_) eq "host/$FQDN" } @{ $a->{servicePrincipalName} }), 'and its service names');
    is_deeply([Lab::Domain::dns_record('box')], [$Lab::Domain::MEMBER], 'and the name has an address');
    Lab::Box::run(['winbindd', '-D']);
    ok(Lab::Box::until_true(sub { wbinfo('-t')->{rc} == 0 }), 'wbinfo -t');
    says(wbinfo('-n', 'EXAMPLE\alice'), 0, qr/\A\Q@{[Lab::Domain::sid('alice')]}\E SID_USER/, 'the SID of a user, by both');
    ok(defined(getpwnam('EXAMPLE\alice')), 'the member has the account');
    Lab::Smb::start();
    is(write_as('alice', $PASSWORD, 'one'), '', 'a write with a ticket');
    like(write_as('robert', 'Of-bob-22', 'two'), qr/NT_STATUS_ACCESS_DENIED/, 'none for somebody who is not in the group');
    Lab::Domain::add_member('Staff', 'robert');
    is(write_as('robert', 'Of-bob-22', 'three'), '', 'but once he is');
    Lab::Domain::remove_member('Staff', 'robert');
    like(write_as('robert', 'Of-bob-22', 'four'), qr/NT_STATUS_ACCESS_DENIED/, 'and not any more');
};

subtest 'ports' => sub {
    for my $port (88, 389, 445) {
        Lab::Domain::port($port, 'refuse');
        is(Lab::Domain::tcp($port), 'refused', "port $port refuses");
        Lab::Domain::port($port, 'drop');
        is(Lab::Domain::tcp($port), 'silent', "port $port is silent");
        is(Lab::Domain::tcp(464), 'open', 'and another is open');
        Lab::Domain::port($port, 'open');
        is(Lab::Domain::tcp($port), 'open', "port $port is open again");
    }
    Lab::Domain::port(88, 'refuse');
    says(kinit('alice', $PASSWORD), 1, qr/Cannot contact any KDC/, 'no ticket without port 88');
    Lab::Domain::heal();
    says(kinit('alice', $PASSWORD), 0, qr/./s, 'but with it');
    Lab::Domain::silent(1);
    is(Lab::Domain::tcp($_), 'silent', "away: port $_") for 53, 389;
    Lab::Domain::silent(0);
    is(Lab::Domain::tcp($_), 'open', "back: port $_") for 53, 389;
};

subtest 'DNS' => sub {
    Lab::Domain::dns('silent');
    is(lookup($SRV, 'SRV'), 'silent', 'silent');
    Lab::Domain::dns('refuse');
    is(lookup($SRV, 'SRV'), 'refused', 'refused');
    is(Lab::Domain::tcp(389), 'open', 'the rest serves');
    Lab::Domain::dns('no-srv');
    is(lookup($SRV, 'SRV'), 'none', 'no services');
    is(lookup($Lab::Domain::DC, 'A'), 'answer', 'but addresses');
    is(offset(), undef, 'a member finds no controller');
    Lab::Domain::dns('answer');
    is(lookup($SRV, 'SRV'), 'answer', 'services again');
    is_off_by(0, 'and a member finds them');
    Lab::Domain::set_dns_record('other', '192.0.2.8', '192.0.2.9');
    is_deeply([Lab::Domain::dns_record('other')], ['192.0.2.8', '192.0.2.9'], 'records of another name');
    is(lookup("other.$Lab::Domain::DNS_DOMAIN", 'A'), 'answer', 'which are served');
    Lab::Domain::set_dns_record('other');
    is(lookup("other.$Lab::Domain::DNS_DOMAIN", 'A'), 'none', 'until they are gone');
};

subtest 'the clock' => sub {
    for my $seconds (600, -86400) {
        Lab::Domain::clock($seconds);
        is_off_by($seconds, "off by $seconds seconds");
    }
    Lab::Domain::clock(0);
    is_off_by(0, 'right again');
};

subtest 'away and back' => sub {
    Lab::Domain::stop();
    is(Lab::Domain::tcp($_), 'refused', "away: port $_") for 88, 389, 445;
    Lab::Domain::again();
    is(Lab::Domain::tcp($_), 'open', "back: port $_") for 88, 389, 445;
    net(['cache', 'flush']);
    says(net(['ads', 'testjoin']), 0, qr/^Join is OK$/m, 'the join is as it was');
    is(write_as('alice', $PASSWORD, 'five'), '', 'and a write with a ticket');
};

subtest 'a lost account' => sub {
    Lab::Domain::spn_remove('box', "HOST/BOX.$Lab::Domain::DNS_DOMAIN");
    ok(!(grep { lc($_) eq "host/$FQDN" } @{ Lab::Domain::account('box')->{servicePrincipalName} }), 'a service name is gone');
    Lab::Domain::disable_account('box');
    says(net(['ads', 'testjoin']), 255, qr/not valid/, 'disabled');
    Lab::Domain::enable_account('box');
    says(net(['ads', 'testjoin']), 0, qr/^Join is OK$/m, 'enabled');
    Lab::Domain::delete_account('box');
    is(Lab::Domain::account('box'), undef, 'deleted');
    says(net(['ads', 'testjoin']), 255, qr/not valid/, 'and the member sees it');
};

done_testing();
