# SPDX-License-Identifier: MIT OR Apache-2.0

# A native gateway in a real Active Directory domain, from its join to the removal of its last share: users of the domain come in
# by Kerberos and by NTLMv2, with the rights of their groups; what belongs to the machine is never touched; the password of the
# join is found nowhere; and what goes wrong on the way heals.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use Test::More;
use Time::HiRes ();

use Lab::Box;
use Lab::Canary;
use Lab::Domain;
use Lab::Product;
use Lab::Smb;

my $why = Lab::Domain::missing();
Lab::Box::skip_all($why) if defined($why);
Lab::Canary::ready();
Lab::Product::enter();

my $log = Lab::Box::listen_to_log();
Lab::Domain::start();
Lab::Domain::resolve_by_dc();
Lab::Domain::name_service(0);

# The password of whoever joins: ASCII without anything that strace would escape, and unmistakable.
my $CANARY = 'Kanarienvogel-4711-' . join('', map { ('a' .. 'z')[rand(26)] } 1 .. 12);
my %PASSWORD = (map { $_ => "Of-$_-1234" } qw(alice bob carol dave));
my $KEYTAB = '/var/lib/samba/private/smbgw.keytab';
my $FQDN = "box.$Lab::Domain::DNS_DOMAIN";

Lab::Domain::ou('Servers');
Lab::Domain::ou('Servers/Files');
Lab::Domain::group('Staff');
Lab::Domain::user('alice', $PASSWORD{alice}, groups => ['Staff']);
Lab::Domain::user($_, $PASSWORD{$_}) for qw(bob carol dave);
Lab::Domain::user('joiner', $CANARY);
Lab::Domain::delegate('joiner', 'Servers/Files');

# What the machine has of Kerberos for itself: another realm, and keys that are nobody's.
Lab::Box::spew('/etc/krb5.conf', "[libdefaults]\n\tdefault_realm = ELSEWHERE.TEST\n", 0644);
Lab::Box::spew('/etc/krb5.keytab', "\5\2", 0600);
my $NSSWITCH = Lab::Box::slurp('/etc/nsswitch.conf');

mkdir("/srv/$_") for qw(office second proxmox other);
Lab::Smb::start();

sub call_ok {
    my ($name, $r) = @_;
    my $ok = ok(defined($r->{rc}) && $r->{rc} == 0, $name) or diag(Lab::Product::words_of($r));
    return $ok;
}

sub refused {
    my ($name, $r, %o) = @_;
    ok(defined($r->{rc}) && $r->{rc} != 0, $name) or return diag($r->{out});
    my $text = Lab::Product::words_of($r);
    is($r->{error}->{detail}->{reason}, $o{reason}, "... for $o{reason}") || diag($text) if $o{reason};
    is(join(',', sort map { $_->{property} // '' } @{ $r->{error}->{problems} // [] }), $o{property}, "... by $o{property}") || diag($text) if $o{property};
    like($text, $_, "... and says so: $_") for @{ $o{says} // [] };
    return;
}

sub by_password { my ($user, $share, $commands) = @_; return Lab::Smb::client("EXAMPLE/$user", $PASSWORD{$user}, $share, $commands)->{status} }

# A ticket for the gateway is kept, so what groups it carries is decided anew by each call.
sub by_kerberos {
    my ($user, $share, $commands) = @_;
    return Lab::Smb::by_ticket(Lab::Smb::ticket("$user\@$Lab::Domain::REALM", $PASSWORD{$user}), $FQDN, $share, $commands)->{status};
}

sub writes { my ($how, $user, $share, $name) = @_; Lab::Box::spew('/run/lab/text', "of $user\n"); return $how->($user, $share, "put /run/lab/text $name") }

sub ad { my ($words, %o) = @_; return Lab::Product::call(['ad', @$words], timeout => 120, %o) }
sub as_joiner { my ($words, %o) = @_; return ad([@$words, '--username', 'joiner'], password => $CANARY, %o) }
sub check { my $r = ad(['check'], @_); return $r->{data} // {} }

sub is_well {
    my ($name) = @_;
    my $doc = check();
    my $ok = ok($doc->{ok}, $name) or diag(explain([grep { !$_->{ok} } @{ $doc->{checks} // [] }]));
    return $ok;
}

sub reconcile { return Lab::Product::call(['reconcile', '--once', '--wait', '0'], timeout => 120) }

# The machine's own Kerberos, which is not ours.
my %OWN = map { $_ => Lab::Box::snapshot($_) } '/etc/krb5.conf', '/etc/krb5.keytab';

sub machine_is_untouched {
    my ($when) = @_;
    is_deeply([map { Lab::Box::differences($OWN{$_}, Lab::Box::snapshot($_)) } sort keys %OWN], [], "$when: /etc/krb5.conf and /etc/krb5.keytab are as they were");
    return;
}

# What is in secrets.tdb, but for what Samba says anew whenever it starts.
sub secrets { return [sort(Lab::Box::run(['tdbdump', '/var/lib/samba/private/secrets.tdb'])->{out} =~ m/^key.*\n^data.*$/mg)] }

# --- the password is nowhere ----------------------------------------------------------------------------------------------

my $canary = Lab::Canary::watch('Kanarienvogel');

sub traced {
    my ($words, %o) = @_;
    my $r = Lab::Product::call($words, wrap => [$canary->recorder()], timeout => 120, %o);
    $canary->heard($words->[0], $r->{all});
    return $r;
}

sub password_is_nowhere {
    my ($when) = @_;
    my @files = grep { !m!\A/run/lab/! } Lab::Box::files_with($CANARY, qw(/etc /var/lib /var/log /var/cache/samba /var/tmp /run /srv /tmp));
    # the controller's own directories hold what it wants
    @files = grep { !m!/dc/fs/! } @files;
    is_deeply(\@files, [], "$when: the password is in no file");
    unlike(Lab::Box::slurp($Lab::Product::SECTIONS), qr/Kanarienvogel|joiner/, "$when: nor is it in storage.cfg, nor the account");
    return;
}

# --- create ---------------------------------------------------------------------------------------------------------------

my $before = Lab::Product::footprint();
my $secrets = secrets();
my $conf = Lab::Box::slurp(Lab::Smb::CONF());
my $ACCESS = 'rw:@EXAMPLE\Staff,ro:EXAMPLE\bob,full:EXAMPLE\dave';
my @CREATE = (
    '--path', '/srv/office', '--smbgw-mode', 'native', '--domain', $Lab::Domain::DNS_DOMAIN, '--username', 'joiner', '--smbgw-ad-ou', 'Servers/Files',
    '--smbgw-idmap', '2000000-2999999', '--smbgw-access', $ACCESS,
);
my $sid;

sub left {
    my ($name) = @_;
    is(join('', map { "$_\n" } Lab::Product::left_behind($before, Lab::Product::footprint())), '', "$name: configuration and accounts are as before");
    is(Lab::Box::slurp(Lab::Smb::CONF()), $conf, "$name: smb.conf is byte-identical");
    is_deeply(secrets(), $secrets, "$name: Samba's secrets are those from before");
    ok(!-e $KEYTAB, "$name: there is no keytab");
    ok(Lab::Box::until_true(sub { !Lab::Smb::winbindd_pid() }, 5), "$name: winbindd does not run");
    machine_is_untouched($name);
    return;
}

subtest 'plan' => sub {
    my $r = traced(['plan', 'create', 'office', @CREATE], password => $CANARY);
    if (($r->{rc} // -1) != 0) {    # a plan need not take a password
        $r = traced(['plan', 'create', 'office', @CREATE]);
    }
    call_ok('the plan is shown', $r);
    like($r->{out}, qr/domain/, 'and speaks of the domain');
    is(Lab::Domain::account('BOX'), undef, 'the domain has no computer by it');
    left('plan');
};

subtest 'what is wrong by itself' => sub {
    for my $case (
        ['a local user', 'smbgw-access', 'smbgw-access' => 'rw:anna'],
        ['a user of another domain', 'smbgw-access', 'smbgw-access' => 'rw:OTHER\alice'],
        ['a distinguished name', 'smbgw-ad-ou', 'smbgw-ad-ou' => 'OU=Files,OU=Servers'],
        ['a range of the node itself', 'smbgw-idmap', 'smbgw-idmap' => '1000-9000'],
        ['a name that is none in DNS', 'domain', domain => 'EXAMPLE'],
    ) {
        my ($name, $property, %properties) = @$case;
        my $r = Lab::Product::create('other', { path => '/srv/other', domain => $Lab::Domain::DNS_DOMAIN, username => 'joiner', 'smbgw-access' => $ACCESS, %properties }, password => $CANARY);
        refused($name, $r, property => $property);
    }
    refused('no account', Lab::Product::create('other', { path => '/srv/other', domain => $Lab::Domain::DNS_DOMAIN, 'smbgw-access' => $ACCESS }), property => 'username');
    is(Lab::Domain::account('BOX'), undef, 'the domain has no computer');
    left('refused');
};

subtest 'create' => sub {
    my $r = traced(['create', 'office', @CREATE], password => $CANARY);
    call_ok('create, by an account that is no administrator', $r) or BAIL_OUT('no gateway in a domain to test');
    is($r->{data}->{state}, 'ready', 'the share is ready');
    my $a = Lab::Domain::account('BOX');
    is($a->{dn}, "CN=BOX,OU=Files,OU=Servers,$Lab::Domain::BASE_DN", 'the computer account is in its unit');
    is(lc($a->{dNSHostName}), $FQDN, 'with the name of the machine');
    $sid = $a->{objectSid};
    my %names = map { lc($_) => 1 } @{ $a->{servicePrincipalName} };
    ok($names{'host/box'} && $names{"host/$FQDN"}, 'and its service names') or diag(explain([sort keys %names]));
    password_is_nowhere('after create');
    machine_is_untouched('after create');
    is(sprintf('%04o', (stat($KEYTAB))[2] & 07777), '0600', 'the keytab is for root only');
    is((stat('/var/lib/samba/private/secrets.tdb'))[2] & 07777, 0600, "so are Samba's secrets");
    like(Lab::Box::slurp('/etc/nsswitch.conf'), qr/^passwd:.*\bwinbind\b.*\n(?:.*\n)*?group:.*\bwinbind\b/m, 'the machine knows accounts of the domain');
    is(Lab::Box::slurp('/etc/nsswitch.conf') =~ s/ winbind\b//gr, $NSSWITCH, 'and nothing else of that file has changed');
    is((getpwnam('EXAMPLE\alice'))[2] // 'nobody', 2000000 + (Lab::Domain::sid('alice') =~ m/(\d+)\z/)[0], 'by numbers of the range');
    is_deeply([glob('/run/smbgw/domain/*.conf'), glob('/run/smbgw/pending/*')], [], 'nothing is left of the join in /run/smbgw');
};

subtest 'effective settings' => sub {
    my %want = (
        security => 'ADS', 'server role' => 'member server', realm => $Lab::Domain::REALM, workgroup => 'EXAMPLE', 'ntlm auth' => 'ntlmv2-only',
        'server min protocol' => 'SMB3', 'server signing' => 'required', 'map to guest' => 'Never', 'restrict anonymous' => '2', 'winbind use default domain' => 'No',
        'winbind enum users' => 'No', 'winbind enum groups' => 'No', 'winbind offline logon' => 'No', 'template shell' => '/usr/sbin/nologin',
        'idmap config EXAMPLE : backend' => 'rid', 'idmap config EXAMPLE : range' => '2000000-2999999',
    );
    # a parameter may have its value by default, which is not in the file; testparm calls SMB3_11 by its other name
    for my $name (sort keys %want) { is(lc(Lab::Smb::parameter($name)), lc($want{$name}), $name) }
    is(Lab::Smb::parameter('netbios name'), 'BOX', 'netbios name');
    like(Lab::Smb::parameter('valid users', 'office'), qr/\Q@{[Lab::Domain::sid('Staff')]}\E/, 'access is given by SID');
};

subtest 'users of the domain' => sub {
    for my $how (['Kerberos', \&by_kerberos], ['NTLMv2', \&by_password]) {
        my ($name, $by) = @$how;
        is(writes($by, 'alice', 'office', "alice-$name.txt"), 'OK', "$name: a member of the group writes");
        is(Lab::Box::slurp("/srv/office/alice-$name.txt"), "of alice\n", '... what is sent');
        is($by->('bob', 'office', "get alice-$name.txt /run/lab/got"), 'OK', "$name: a reader reads");
        is(writes($by, 'bob', 'office', 'bob.txt'), 'NT_STATUS_ACCESS_DENIED', '... and does not write');
        is($by->('carol', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', "$name: whom nobody names is denied");
    }
    is(Lab::Smb::client('EXAMPLE/alice', 'wrong', 'office', 'ls')->{status}, 'NT_STATUS_LOGON_FAILURE', 'a wrong password');
    is(Lab::Smb::client('EXAMPLE/alice', $PASSWORD{alice}, 'office', 'ls', protocol => 'SMB2_10')->{ok}, 0, 'an old protocol');
    my $entry = 'ACL:EXAMPLE\carol:ALLOWED/0/READ';
    is(writes(\&by_password, 'dave', 'office', 'dave.txt'), 'OK', 'full writes');
    like(Lab::Smb::add_acl('EXAMPLE/alice', $PASSWORD{alice}, 'office', 'alice-NTLMv2.txt', $entry), qr/ACCESS_DENIED/, 'a writer cannot change permissions');
    is(Lab::Smb::add_acl('EXAMPLE/dave', $PASSWORD{dave}, 'office', 'alice-NTLMv2.txt', $entry), 'OK', 'full can');
};

subtest 'members of a group' => sub {
    Lab::Domain::add_member('Staff', 'carol');
    is(writes(\&by_kerberos, 'carol', 'office', 'carol.txt'), 'OK', 'who is added writes with the next ticket');
    is(writes(\&by_password, 'carol', 'office', 'carol.txt'), 'OK', 'and with the next NTLM session');
    Lab::Domain::remove_member('Staff', 'carol');
    is(by_kerberos('carol', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', 'who is removed does not come in with the next ticket');
    is(by_password('carol', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', 'nor with the next NTLM session');
};

# --- questions ------------------------------------------------------------------------------------------------------------

subtest 'questions' => sub {
    my $doc = check();
    ok($doc->{ok}, 'ad check finds nothing');
    my @bare = grep { my $c = $_; grep { !defined($c->{$_}) || !length($c->{$_}) } qw(check did saw means) } @{ $doc->{checks} };
    is_deeply(\@bare, [], 'every check says what it did, what it saw, and what that means');
    my %checks = map { $_->{check} => 1 } @{ $doc->{checks} };
    ok($checks{$_}, "... $_") for qw(dns-srv port clock join secret names keytab accounts);
    for my $what (qw(dns kerberos time report)) { ok((ad([$what])->{data} // {})->{ok}, "ad $what") }

    my $who = ad(['whoami', 'EXAMPLE\alice'])->{data} // {};
    is($who->{sid}, Lab::Domain::sid('alice'), 'whoami: the SID');
    is_deeply([map { [@$_{qw(id level)}, join(',', @{ $_->{by} })] } @{ $who->{shares} }], [['office', 'rw', '@EXAMPLE\Staff (rw)']], 'what she may, and by which group');
    ok((grep { ($_->{name} // '') eq 'EXAMPLE\Staff' } @{ $who->{groups} }), 'her groups');
    $who = ad(['whoami', 'carol'])->{data} // {};
    is_deeply([map { [@$_{qw(id level by)}] } @{ $who->{shares} }], [['office', undef, []]], 'whoami of one who may nothing');
    like(ad(['whoami', 'alice'], text => 1)->{out}, qr/office: rw, by \@EXAMPLE\\Staff/, 'as people read it');
    like(ad(['whoami', 'carol'], text => 1)->{out}, qr/office: no access: \w/, 'and why not');
    refused('whoami of nobody', ad(['whoami', 'nobody-there']), reason => 'name-unknown');
    Lab::Domain::disable_account('bob');
    $who = ad(['whoami', 'bob'])->{data} // {};
    ok($who->{disabled}, 'a disabled user');
    is_deeply([map { $_->{level} } @{ $who->{shares} }], [undef], '... may nothing');
    unlike(ad(['whoami', 'bob'], text => 1)->{out}, qr/neither the account nor a group of it is named/, '... and not for want of being named');
    is(by_password('bob', 'office', 'ls'), 'NT_STATUS_ACCOUNT_DISABLED', '... which is so');
    Lab::Domain::enable_account('bob');

    my $names = sub { return [map { $_->{name} } @{ (ad($_[0])->{data} // {})->{accounts} // [] }] };
    is_deeply($names->(['users', '--match', 'ali']), ['EXAMPLE\alice'], 'users by a part of their name');
    is_deeply($names->(['groups', '--match', 'STAFF']), ['EXAMPLE\Staff'], 'groups, in any case');
    is_deeply($names->(['users', '--match', 'ali*)(cn=']), [], 'a name that is a filter finds nobody');
    my $few = ad(['users', '--limit', '2'])->{data} // {};
    is(scalar(@{ $few->{accounts} // [] }), 2, 'no more than asked for');
    ok($few->{more}, 'and that there are more');
};

# --- access ---------------------------------------------------------------------------------------------------------------

subtest 'names that access cannot be given to' => sub {
    my $text = Lab::Box::slurp($Lab::Product::SECTIONS);
    my @access = map { ["rw:\@EXAMPLE\\Staff,$_->[0]", @$_[1, 2]] } (
        ['rw:EXAMPLE\nobody-there', 'name-unknown', 'nobody-there'], ['rw:@EXAMPLE\alice', 'name-of-other-kind', 'alice'], ['rw:EXAMPLE\Staff', 'name-of-other-kind', 'Staff'],
        ['rw:OTHER\alice', undef, 'OTHER'], ['rw:anna', undef, 'anna'], ['rw:@locals', undef, 'locals'],
    );
    for my $case (@access) {
        my ($access, $reason, $names) = @$case;
        refused($access, Lab::Product::set('office', { 'smbgw-access' => $access }), property => 'smbgw-access', says => [qr/\Q$names\E/], $reason ? (reason => $reason) : ());
    }
    is(Lab::Box::slurp($Lab::Product::SECTIONS), $text, 'the section is as it was');
    is(by_password('alice', 'office', 'ls'), 'OK', 'and access too');
    call_ok('another user by name', Lab::Product::set('office', { 'smbgw-access' => "$ACCESS,ro:EXAMPLE\\carol" }));
    is(by_password('carol', 'office', 'ls'), 'OK', '... comes in');
    call_ok('and not any more', Lab::Product::set('office', { 'smbgw-access' => $ACCESS }));
    is(by_password('carol', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', '... is denied');
};

subtest 'what cannot be changed any more' => sub {
    refused("$_->[0]", Lab::Product::set('office', { @$_ }), property => $_->[0]) for [domain => 'other.test'], ['smbgw-idmap' => '3000000-3999999'], ['smbgw-ad-ou' => 'Servers'];
    is_well('the membership is good');
};

subtest 'a second share' => sub {
    my $version = Lab::Domain::account('BOX')->{'msDS-KeyVersionNumber'};
    call_ok('needs no password', Lab::Product::create('second', { path => '/srv/second', 'smbgw-access' => 'rw:EXAMPLE\carol', domain => $Lab::Domain::DNS_DOMAIN, 'smbgw-ad-ou' => 'Servers/Files', 'smbgw-idmap' => '2000000-2999999' }));
    is(writes(\&by_kerberos, 'carol', 'second', 'carol.txt'), 'OK', 'it works');
    is(by_password('carol', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', 'and gives no access to the first');
    my $a = Lab::Domain::account('BOX');
    is_deeply([$a->{objectSid}, $a->{'msDS-KeyVersionNumber'}], [$sid, $version], 'there was no second join');
    call_ok('it is removed', Lab::Product::remove('second'));
    is(writes(\&by_kerberos, 'alice', 'office', 'after.txt'), 'OK', 'and the first works');
    is(Lab::Domain::sid('BOX'), $sid, 'the gateway stays a member');
};

subtest 'another name' => sub {
    Lab::Domain::rename('Staff', 'Crew');
    my ($renamed) = grep { ($_->{reason} // '') eq 'renamed' } @{ check()->{checks} };
    like($renamed->{saw} // '', qr/Staff.*Crew/, 'ad check says which');
    is(writes(\&by_password, 'alice', 'office', 'crew.txt'), 'OK', 'access goes on');
    is(writes(\&by_kerberos, 'alice', 'office', 'crew.txt'), 'OK', '... with a ticket too');
    my $who = ad(['whoami', 'alice'])->{data} // {};
    is(($who->{shares} // [])->[0]->{level}, 'rw', 'whoami says so');
    call_ok('any other change is still possible', Lab::Product::set('office', { 'smbgw-security' => 'standard' }));
    Lab::Domain::rename('Crew', 'Staff');
    ok(!(grep { ($_->{reason} // '') eq 'renamed' } @{ check()->{checks} }), 'the old name again: nothing to say');
};

# --- daemons --------------------------------------------------------------------------------------------------------------

subtest 'daemons' => sub {
    my $winbindd = Lab::Smb::winbindd_pid();
    ok($winbindd, 'winbindd runs') or return;
    Lab::Box::stop($winbindd, 'KILL');
    ok(!Lab::Smb::winbindd_pid(), 'it is killed');
    call_ok('the worker', reconcile());
    ok(Lab::Smb::winbindd_pid(), 'brings it back');
    is(by_password('alice', 'office', 'ls'), 'OK', 'and the share works');
    Lab::Smb::stop();
    Lab::Smb::start();
    is(by_password('alice', 'office', 'ls'), 'OK', 'smbd, started anew, too: by NTLMv2');
    is(by_kerberos('alice', 'office', 'ls'), 'OK', '... and with a ticket');
};

subtest "the machine's password is changed" => sub {
    my $cache = Lab::Smb::ticket("alice\@$Lab::Domain::REALM", $PASSWORD{alice});
    is(Lab::Smb::by_ticket($cache, $FQDN, 'office', 'ls')->{status}, 'OK', 'a ticket for the old one');
    my $version = Lab::Domain::account('BOX')->{'msDS-KeyVersionNumber'};
    for my $words (['net', 'ads', 'changetrustpw'], ['wbinfo', '-c']) {
        my $r = Lab::Box::run($words, env => { KRB5_CONFIG => '/etc/samba/smbgw-krb5.conf' });
        is($r->{rc}, 0, "@$words") or diag($r->{all});
        is(Lab::Domain::account('BOX')->{'msDS-KeyVersionNumber'}, ++$version, '... changes it');
        is(by_kerberos('alice', 'office', 'ls'), 'OK', '... a new ticket works');
        is(by_password('alice', 'office', 'ls'), 'OK', '... NTLMv2 works');
        is(Lab::Smb::by_ticket($cache, $FQDN, 'office', 'ls')->{status}, 'OK', '... and the old ticket');
        is_well('... ad check finds nothing');
    }
};

subtest 'profile high' => sub {
    call_ok('smbgw-security high', Lab::Product::set('office', { 'smbgw-security' => 'high' }, timeout => 120));
    is(Lab::Smb::parameter('server smb encrypt'), 'required', 'encryption is required');
    is(by_kerberos('alice', 'office', 'ls'), 'OK', 'Kerberos works');
    is(Lab::Smb::parameter('ntlm auth'), 'disabled', '... the gateway itself accepts no NTLM');
    # which is about its own accounts: those of the domain are judged by the controllers
    is(by_password('alice', 'office', 'ls'), 'OK', "... NTLM of a domain account is the controllers' to refuse");
    Lab::Domain::ntlm(0);
    isnt(by_password('alice', 'office', 'ls'), 'OK', 'which they do where it is disabled there');
    is(by_kerberos('alice', 'office', 'ls'), 'OK', '... and Kerberos works');
    is_well('... ad check finds nothing');
    Lab::Domain::ntlm(1);
    call_ok('smbgw-security standard', Lab::Product::set('office', { 'smbgw-security' => 'standard' }, timeout => 120));
    ok(Lab::Box::until_true(sub { by_password('alice', 'office', 'ls') eq 'OK' }, 30), 'back: NTLMv2 works');
};

subtest 'the domain controller away, and back' => sub {
    my $held = Lab::Smb::hold('EXAMPLE/alice', $PASSWORD{alice}, 'office');
    Lab::Domain::stop();
    my $start = Time::HiRes::time();
    my $status = Lab::Product::status('office');
    is($status->{state}, 'ready', 'status answers');
    ok($status->{served}, 'and says that it is served') or diag(explain($status));
    ok(!check()->{ok}, 'ad check finds it away');
    reconcile();
    ok($held->goes_on(), 'an open session goes on') or diag($held->ended());
    $held->stop();
    $status = Lab::Product::status('office');
    ok($status->{served}, 'the worker has broken nothing') or diag(explain($status));
    like($status->{state}, qr/\A(?:ready|degraded)\z/, '... and says how it is');
    my $r = Lab::Product::set('office', { 'smbgw-access' => 'rw:@EXAMPLE\Staff,full:EXAMPLE\dave' }, timeout => 45);
    call_ok('access is taken away all the same', $r);
    unlike(Lab::Smb::parameter('valid users', 'office'), qr/\Q@{[Lab::Domain::sid('bob')]}\E/, '... from whom it was meant');
    Lab::Domain::again();
    reconcile() if !defined($r->{rc});
    ok(Lab::Box::until_true(sub { by_password('alice', 'office', 'ls') eq 'OK' }, 40), 'back: the share works');
    is(by_kerberos('alice', 'office', 'ls'), 'OK', '... with a ticket too');
    is_well('ad check finds nothing');
};

# --- leaving and coming back ------------------------------------------------------------------------------------------------

subtest 'leave and join' => sub {
    refused('a wrong password', ad(['leave', '--username', 'joiner'], password => 'wrong'), reason => 'bad-credential');
    is_well('... and the membership is good');
    is(by_password('alice', 'office', 'ls'), 'OK', '... and the share works');

    call_ok('ad leave --keep-account', traced(['ad', 'leave', '--keep-account', '--username', 'joiner'], password => $CANARY));
    my $a = Lab::Domain::account('BOX');
    is(($a // {})->{objectSid}, $sid, 'the account stays');
    ok(($a->{userAccountControl} // 0) & 2, '... disabled');
    isnt(by_password('alice', 'office', 'ls'), 'OK', 'nobody of the domain comes in');
    call_ok('ad join', traced(['ad', 'join', '--username', 'joiner'], password => $CANARY));
    is(by_password('alice', 'office', 'ls'), 'OK', 'the share works');
    is(by_kerberos('alice', 'office', 'ls'), 'OK', '... with a ticket too');
    is(Lab::Domain::sid('BOX'), $sid, 'with the account from before');
    ok(!(Lab::Domain::account('BOX')->{userAccountControl} & 2), '... which is enabled');
    is_well('ad check finds nothing');

    call_ok('ad leave', as_joiner(['leave']));
    is(Lab::Domain::account('BOX'), undef, 'the account is gone');
    ok(!-e $KEYTAB, 'so is the keytab');
    call_ok('a share can still be changed', Lab::Product::set('office', { 'smbgw-access' => 'rw:@EXAMPLE\Staff' }));
    call_ok('the worker', reconcile());
    is(Lab::Domain::account('BOX'), undef, 'does not bring it back');
    call_ok('ad join', as_joiner(['join']));
    is(Lab::Domain::account('BOX')->{dn}, "CN=BOX,OU=Files,OU=Servers,$Lab::Domain::BASE_DN", 'makes one in the same unit');
    is(by_password('alice', 'office', 'ls'), 'OK', 'the share works');
    is(writes(\&by_kerberos, 'alice', 'office', 'back.txt'), 'OK', '... with a ticket too');
    is_well('ad check finds nothing');
};

subtest 'the last share' => sub {
    my $r = traced(['delete', 'office']);
    call_ok('delete', $r);
    like(join(' ', @{ $r->{data}->{warnings} // [] }, $r->{all}), qr/computer account BOX stays/, 'the computer account that stays is named');
    ok(defined(Lab::Domain::account('BOX')), '... and does');
    left('delete');
    is(Lab::Box::slurp('/etc/nsswitch.conf'), $NSSWITCH, '... nsswitch.conf too');
    ok(-e '/srv/office/back.txt', 'the data stays');
    password_is_nowhere('after delete');
};

# --- machines that are somebody's already -------------------------------------------------------------------------------------

# what profile standard wants of a machine whose settings are not ours to change
my $STRICT = <<'CONF';
   server min protocol = SMB3_11
   server signing = mandatory
   server smb encrypt = desired
   restrict anonymous = 2
   disable netbios = yes
   smb ports = 445
   load printers = no
   disable spoolss = yes
   printcap name = /dev/null
   usershare max shares = 0
   ntlm auth = ntlmv2-only
CONF

sub create_other {
    return Lab::Product::create('other', { path => '/srv/other', domain => $Lab::Domain::DNS_DOMAIN, username => $Lab::Domain::ADMIN, 'smbgw-access' => 'rw:EXAMPLE\carol' }, password => $Lab::Domain::ADMIN_PASSWORD, timeout => 120);
}

subtest 'beside others' => sub {
    Lab::Domain::delete_account('box');
    Lab::Box::run(['useradd', '--no-create-home', 'fred']);
    Lab::Box::run(['smbpasswd', '-s', '-a', 'fred'], stdin => "of-fred\nof-fred\n");
    my $start = Lab::Product::footprint();
    refused('a user of its own', create_other(), property => 'domain', says => [qr/fred/, qr/lxc/]);
    is(join('', map { "$_\n" } Lab::Product::left_behind($start, Lab::Product::footprint())), '', 'nothing has changed');
    Lab::Box::run(['smbpasswd', '-x', 'fred']);
    Lab::Smb::foreign($STRICT, "\n[Old Stuff]\n   path = /srv/other\n");
    my $text = Lab::Box::slurp(Lab::Smb::CONF());
    Lab::Box::spew(Lab::Smb::CONF(), $text =~ s/^(\s*map to guest\s*=).*$/$1 never/mr);
    $start = Lab::Product::footprint();
    refused('a share of its own', create_other(), property => 'domain', says => [qr/Old Stuff/i, qr/lxc/]);
    is(join('', map { "$_\n" } Lab::Product::left_behind($start, Lab::Product::footprint())), '', 'nothing has changed');
    is(Lab::Domain::account('BOX'), undef, 'the domain has no computer');
    Lab::Smb::stop();
    Lab::Smb::fresh();
};

subtest 'a member by hand' => sub {
    Lab::Box::spew(Lab::Smb::CONF(), <<"CONF");
[global]
security = ads
realm = $Lab::Domain::REALM
workgroup = $Lab::Domain::WORKGROUP
kerberos method = secrets and keytab
idmap config * : backend = tdb
idmap config * : range = 3000-7999
map to guest = never
$STRICT
CONF
    my $r = Lab::Box::run(['net', 'ads', 'join', '-U', "$Lab::Domain::ADMIN\@$Lab::Domain::REALM"], stdin => "$Lab::Domain::ADMIN_PASSWORD\n");
    is($r->{rc}, 0, 'net ads join') or diag($r->{all});
    my ($start, $had, $account) = (Lab::Product::footprint(), secrets(), Lab::Domain::account('BOX'));
    refused('create is refused', create_other(), property => 'domain', says => [qr/member of a domain already/, qr/lxc/]);
    is(join('', map { "$_\n" } Lab::Product::left_behind($start, Lab::Product::footprint())), '', 'nothing has changed');
    is_deeply(secrets(), $had, "neither have Samba's secrets");
    is_deeply(Lab::Domain::account('BOX'), $account, 'nor the account');
    $r = Lab::Box::run(['net', 'ads', 'testjoin']);
    like($r->{all}, qr/^Join is OK$/m, 'the membership is good');
    $r = Lab::Box::run(['net', 'ads', 'leave', '-U', "$Lab::Domain::ADMIN\@$Lab::Domain::REALM"], stdin => "$Lab::Domain::ADMIN_PASSWORD\n");
    is($r->{rc}, 0, 'until its administrator ends it') or diag($r->{all});
    Lab::Smb::fresh();
    Lab::Smb::start();
};

# --- by Proxmox's storage command -----------------------------------------------------------------------------------------

subtest 'pvesm' => sub {
    plan(skip_all => 'there is no tests/pve') if !Lab::Product::through_proxmox();
    Lab::Domain::computer('box', ou => 'Servers/Files');
    my $start = Lab::Product::footprint();
    my @words = ('smbgateway', 'proxmox', '--path', '/srv/proxmox', '--smbgw-mode', 'native', '--domain', $Lab::Domain::DNS_DOMAIN, '--username', 'joiner', '--smbgw-access', 'rw:@EXAMPLE\Staff');
    my $r = Lab::Product::pvesm(['add', @words], password => $CANARY, wrap => [$canary->recorder()]);
    $canary->heard('pvesm add', $r->{all});
    is($r->{rc}, 0, 'pvesm add, with the account that is there already') or diag($r->{all});
    ok(Lab::Box::until_true(sub { by_password('alice', 'proxmox', 'ls') eq 'OK' }, 40), 'the worker joins') or diag(Lab::Product::words_of(reconcile()));
    is(writes(\&by_kerberos, 'alice', 'proxmox', 'a.txt'), 'OK', 'a user writes with a ticket');
    # where a password waits for the worker, until the worker is done
    ok(Lab::Box::until_true(sub { !Lab::Box::files_with($CANARY, '/run/smbgw') }, 20), 'the password waits for nobody any more');
    password_is_nowhere('after pvesm add');
    is_well('ad check finds nothing');
    $r = Lab::Product::pvesm(['remove', 'proxmox']);
    is($r->{rc}, 0, 'pvesm remove') or diag($r->{all});
    my @left;
    Lab::Box::until_true(sub { !(@left = Lab::Product::left_behind($start, Lab::Product::footprint())) }, 15);
    is(join('', map { "$_\n" } @left), '', 'nothing is left');

    my $wrong = "$CANARY-wrong";
    $r = Lab::Product::pvesm(['add', @words], password => $wrong);
    my $status;
    ok(Lab::Box::until_true(sub { $status = Lab::Product::status('proxmox'); ($status->{state} // '') eq 'failed' }, 20), 'a wrong password: it fails in the background') or diag($r->{all});
    is(($status->{error} // {})->{reason}, 'bad-credential', '... and status says why') or diag(explain($status));
    $r = Lab::Product::pvesm(['remove', 'proxmox']);
    is($r->{rc}, 0, '... and it can be removed') or diag($r->{all});
    Lab::Box::until_true(sub { !(@left = Lab::Product::left_behind($start, Lab::Product::footprint())) }, 15);
    is(join('', map { "$_\n" } @left), '', '... and leaves nothing');
    password_is_nowhere('after a failed pvesm add');

    $r = Lab::Product::pvesm(['add', @words[0 .. $#words - 1], 'rw:anna'], password => $CANARY);
    isnt($r->{rc}, 0, 'a local user is refused at once');
    unlike(Lab::Box::slurp($Lab::Product::SECTIONS), qr/proxmox/, '... and leaves no section');
};

subtest 'the password of the join' => sub {
    my $joins = () = $canary->recorded() =~ m/"ads", "join"/g;
    cmp_ok($joins, '>=', 2, "$joins joins were recorded");
    $canary->silent($CANARY);
    ok(index($log->(), $CANARY) < 0, 'not in the system log');
};

done_testing();
