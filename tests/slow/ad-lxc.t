# SPDX-License-Identifier: MIT OR Apache-2.0

# A gateway in a container that is a member of a real Active Directory domain, from `pvesm add` to the removal of its last share:
# the steps are those of a native gateway, and the password of the join is left neither on the node nor in the container.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../lab/lib';

use Test::More;

use Lab::Box;
use Lab::Canary;
use Lab::Domain;
use Lab::Guests;
use Lab::Product;
use Lab::Smb;

my $why = Lab::Domain::missing();
Lab::Box::skip_all($why) if defined($why);
Lab::Canary::ready();
Lab::Product::enter_node();
END { Lab::Guests::stop_all() if defined($ENV{SMBGW_LAB_BOX}) }

my $log = Lab::Box::listen_to_log();
Lab::Domain::start();
Lab::Domain::resolve_by_dc();

my $CANARY = 'Kanarienvogel-0815-' . join('', map { ('a' .. 'z')[rand(26)] } 1 .. 12);
my %PASSWORD = (map { $_ => "Of-$_-1234" } qw(alice bob carol));
my $ADDRESS = '192.0.2.31';
my $FQDN = "office.$Lab::Domain::DNS_DOMAIN";

Lab::Domain::ou('Servers');
Lab::Domain::group('Staff');
Lab::Domain::user('alice', $PASSWORD{alice}, groups => ['Staff']);
Lab::Domain::user($_, $PASSWORD{$_}) for qw(bob carol);
Lab::Domain::user('joiner', $CANARY);
Lab::Domain::delegate('joiner', 'Servers');

mkdir("/srv/$_") for qw(office second wrong);
my $canary = Lab::Canary::watch('Kanarienvogel', pause => 0.2);

# What is given a password is recorded: with all that a container does while it is built, which takes its time.
sub pvesm {
    my ($words, %o) = @_;
    my $r = Lab::Product::pvesm($words, defined($o{password}) ? (wrap => [$canary->recorder()]) : (), %o);
    $canary->heard("pvesm @$words[0, 1]", $r->{all});
    return $r;
}

sub call {
    my ($words, %o) = @_;
    my $r = Lab::Product::call($words, defined($o{password}) ? (wrap => [$canary->recorder()]) : (), timeout => 180, %o);
    $canary->heard("@$words", $r->{all});
    return $r;
}

sub call_ok { my ($name, $r) = @_; return ok(defined($r->{rc}) && $r->{rc} == 0, $name) || diag(Lab::Product::words_of($r)) }

sub state { my ($id) = @_; return Lab::Product::status($id)->{state} // 'none' }

# Waits until the worker, which the hook started, is done with a share.
sub becomes {
    my ($id, $state) = @_;
    my $now = '';
    Lab::Box::until_true(sub { ($now = main::state($id)) eq $state }, 90);
    return is($now, $state, "$id is $state") || diag(Lab::Product::call(['status', $id], text => 1)->{all});
}

sub reconcile { return call(['reconcile', '--once', '--wait', '0']) }

sub by_password {
    my ($user, $share, $commands) = @_;
    return Lab::Smb::client("EXAMPLE/$user", $PASSWORD{$user}, $share, $commands, extra => ['-I', $ADDRESS])->{status};
}

sub by_kerberos {
    my ($user, $share, $commands) = @_;
    return Lab::Smb::by_ticket(Lab::Smb::ticket("$user\@$Lab::Domain::REALM", $PASSWORD{$user}), $FQDN, $share, $commands, address => $ADDRESS)->{status};
}

# A file by each of the two ways; the words of the first that does not work. A container that has just started is given a moment.
sub works {
    my ($user, $share) = @_;
    my $got = '';
    for my $by (\&by_kerberos, \&by_password) {
        Lab::Box::until_true(sub { ($got = $by->($user, $share, 'put /etc/hostname a.txt; get a.txt /run/lab/got')) eq 'OK' }, 20);
        return $got if $got ne 'OK';
    }
    return $got;
}

sub is_well {
    my ($name) = @_;
    my $doc = Lab::Product::call(['ad', 'check', 'office'], timeout => 120)->{data} // {};
    return ok($doc->{ok}, $name) || diag(explain([grep { !$_->{ok} } @{ $doc->{checks} // [] }]));
}

sub vmid { return (grep { $_->{gateway} eq 'office' } @{ Lab::Product::call(['gateway', 'list'])->{data}->{gateways} // [] })[0]->{container}->{vmid} }

sub password_is_nowhere {
    my ($when) = @_;
    my @dirs = qw(/etc /run/smbgw /var/lib/smbgw /var/lib/samba /var/log /var/tmp /tmp /srv /var/lib/vz/images);
    # what the container has in memory only
    if (my $init = defined(vmid()) && Lab::Guests::init_pid(vmid())) { push @dirs, map { "/proc/$init/root/$_" } qw(run tmp dev/shm) }
    is_deeply([grep { !m!/dc/fs/! } Lab::Box::files_with($CANARY, @dirs)], [], "$when: the password is in no file of the node and the container");
    unlike(Lab::Box::slurp($Lab::Product::SECTIONS), qr/Kanarienvogel|joiner/, "$when: nor is it in storage.cfg, nor the account");
    return;
}

my $sections = Lab::Box::slurp($Lab::Product::SECTIONS);
my @NET = ('--smbgw-net', "ip=$ADDRESS/24,gw=$Lab::Guests::HOST,ip6=none");
my @ADD = ('--domain', $Lab::Domain::DNS_DOMAIN, '--username', 'joiner', '--smbgw-ad-ou', 'Servers', '--smbgw-access', 'rw:@EXAMPLE\Staff,ro:EXAMPLE\bob', @NET);

subtest 'a container that is a member' => sub {
    my $r = pvesm(['add', 'smbgateway', 'office', '--path', '/srv/office', @ADD], password => $CANARY);
    is($r->{rc}, 0, 'pvesm add') or BAIL_OUT($r->{all});
    becomes('office', 'ready') or BAIL_OUT('no container in a domain to test');
    my $a = Lab::Domain::account('OFFICE') // {};
    is($a->{dn}, "CN=OFFICE,OU=Servers,$Lab::Domain::BASE_DN", 'the computer account bears the name of the container');
    is(lc($a->{dNSHostName} // ''), $FQDN, '... in the domain');
    is(Lab::Domain::account('BOX'), undef, 'the node is no member');
    is(works('alice', 'office'), 'OK', 'a member of the group writes, with a ticket and by NTLMv2');
    is(by_kerberos('bob', 'office', 'put /etc/hostname b.txt'), 'NT_STATUS_ACCESS_DENIED', 'a reader does not');
    is(by_password('carol', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', 'whom nobody names is denied');
    is_well('ad check finds nothing');
    password_is_nowhere('created');
};

my $sid = Lab::Domain::sid('OFFICE');
my $first = vmid();

my ($own, $samba) = map { $_->{out} =~ m/^Version (\S+)/ ? $1 : '' } Lab::Box::run(['/usr/sbin/smbd', '--version']), Lab::Guests::exec($first, ['/usr/sbin/smbd', '--version']);
note("Samba $samba in container $first");
isnt($samba, $own, 'it is another Samba than the machine\'s') if defined($ENV{SMBGW_TEMPLATE_SUITE});

# the domain's numbers must be such as the container has
my ($uid) = Lab::Guests::exec($first, ['id', '-u', 'EXAMPLE\alice'])->{out} =~ m/(\d+)/;
cmp_ok($uid // 0, '<', 65536, 'the number of a user is one of the container') or diag($uid // 'none');

subtest 'questions and a second share' => sub {
    my $who = Lab::Product::call(['ad', 'whoami', 'EXAMPLE\alice', 'office'], timeout => 60)->{data} // {};
    is_deeply([map { [@$_{qw(id level)}] } @{ $who->{shares} // [] }], [['office', 'rw']], 'whoami');
    is($who->{number}, $uid, '... with the number from inside');
    call_ok('test-user', call(['ad', 'test-user', 'EXAMPLE\alice', 'office'], password => $PASSWORD{alice}));
    my $r = pvesm(['add', 'smbgateway', 'second', '--path', '/srv/second', '--smbgw-gateway', 'office', '--smbgw-access', 'rw:EXAMPLE\carol']);
    is($r->{rc}, 0, 'a second share needs no password') or diag($r->{all});
    becomes('second', 'ready');
    is(works('carol', 'second'), 'OK', 'it works');
    is(by_password('carol', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', 'and gives no access to the first');
    is(Lab::Domain::sid('OFFICE'), $sid, 'there was no second join');
};

subtest 'restart' => sub {
    call_ok('gateway restart', call(['gateway', 'restart', 'office']));
    is(works('alice', 'office'), 'OK', 'the share works');
    is_well('ad check finds nothing');
};

subtest "the machine's password is changed, and the worker looks after it" => sub {
    my $version = Lab::Domain::account('OFFICE')->{'msDS-KeyVersionNumber'};
    my $r = Lab::Guests::exec($first, ['wbinfo', '-c']);
    is($r->{rc}, 0, 'wbinfo -c inside') or diag($r->{all});
    is(Lab::Domain::account('OFFICE')->{'msDS-KeyVersionNumber'}, $version + 1, 'changes it');
    call_ok('the worker', reconcile());
    is(works('alice', 'office'), 'OK', 'the share works');
    is_well('ad check finds nothing');
};

subtest 'an upgrade takes the membership along' => sub {
    Lab::Guests::newer_template('newer', 1);
    my $version = Lab::Domain::account('OFFICE')->{'msDS-KeyVersionNumber'};
    call_ok('gateway upgrade', call(['gateway', 'upgrade', 'office']));
    isnt(vmid(), $first, 'another container');
    is(works('alice', 'office'), 'OK', 'the share works');
    is(works('carol', 'second'), 'OK', 'the other one too');
    my $a = Lab::Domain::account('OFFICE');
    is_deeply([$a->{objectSid}, $a->{'msDS-KeyVersionNumber'}], [$sid, $version], 'nobody joined again');
    is((Lab::Guests::exec(vmid(), ['id', '-u', 'EXAMPLE\alice'])->{out} =~ m/(\d+)/)[0], $uid, 'users have the numbers they had');
    is_deeply([glob('/run/smbgw/carried/*')], [], 'the secret that was carried over is left nowhere');
    is_well('ad check finds nothing');
    password_is_nowhere('upgraded');
};

subtest 'the domain controller away, and back' => sub {
    Lab::Domain::stop();
    call_ok('gateway restart', call(['gateway', 'restart', 'office']));
    reconcile();
    Lab::Domain::again();
    ok(Lab::Box::until_true(sub { by_kerberos('alice', 'office', 'ls') eq 'OK' }, 60), 'a container that started without it serves when it is back');
    reconcile();
    is_well('ad check finds nothing');
};

subtest 'leave, join, and a wrong password' => sub {
    my $r = call(['ad', 'leave', 'office', '--username', 'joiner'], password => 'Kanarienvogel-falsch');
    isnt($r->{rc}, 0, 'a wrong password');
    is($r->{error}->{detail}->{reason}, 'bad-credential', '... is said');
    is(works('alice', 'office'), 'OK', '... and changes nothing');
    call_ok('ad leave', call(['ad', 'leave', 'office', '--username', 'joiner'], password => $CANARY));
    is(Lab::Domain::account('OFFICE'), undef, 'the account is gone');
    isnt(by_password('alice', 'office', 'ls'), 'OK', 'nobody of the domain comes in');
    call_ok('ad join', call(['ad', 'join', 'office', '--username', 'joiner'], password => $CANARY));
    is(works('alice', 'office'), 'OK', 'and they do');
    is_well('ad check finds nothing');
    password_is_nowhere('joined again');
};

subtest 'the last share' => sub {
    my $last = vmid();
    is(pvesm(['remove', $_])->{rc}, 0, "pvesm remove $_") for qw(second office);
    ok(Lab::Box::until_true(sub { !-e "/etc/pve/nodes/box/lxc/$last.conf" && main::state('office') eq 'none' }, 90), 'the container goes');
    ok(defined(Lab::Domain::account('OFFICE')), 'the computer account stays, as nobody gave a password to remove it');
    is_deeply([map { glob("/run/smbgw/$_/*") } qw(domain pending carried probe check)], [], 'nothing is left in /run/smbgw');
    is(Lab::Box::slurp($Lab::Product::SECTIONS) =~ s/\s+\z//r, $sections =~ s/\s+\z//r, 'storage.cfg is as before');
    ok(-e '/srv/office/a.txt', 'the data stays');
    password_is_nowhere('removed');
};

subtest 'a join that fails leaves no container' => sub {
    my $r = Lab::Product::pvesm(['add', 'smbgateway', 'wrong', '--path', '/srv/wrong', @ADD], password => 'Kanarienvogel-falsch');
    is($r->{rc}, 0, 'pvesm add, with a wrong password') or diag($r->{all});
    becomes('wrong', 'failed');
    is((Lab::Product::status('wrong')->{error} // {})->{reason}, 'bad-credential', 'status says why') or diag(explain(Lab::Product::status('wrong')));
    is_deeply([glob('/etc/pve/nodes/box/lxc/*.conf')], [], 'there is no container');
    is(Lab::Domain::account('WRONG'), undef, 'and no account');
    is(pvesm(['remove', 'wrong'])->{rc}, 0, 'it can be given up');
    ok(Lab::Box::until_true(sub { reconcile(); main::state('wrong') eq 'none' }, 60), 'and is gone');
};

subtest 'the password of the join' => sub {
    my $joins = () = $canary->recorded() =~ m/"ads", "join"/g;
    cmp_ok($joins, '>=', 2, "$joins joins were recorded");
    $canary->silent($CANARY, 'Kanarienvogel-falsch');
    ok(index($log->(), 'Kanarienvogel') < 0, 'not in the system log');
};

done_testing();
