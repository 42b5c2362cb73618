# SPDX-License-Identifier: MIT OR Apache-2.0

# One native share from create to remove on a real smbd, beside a foreign share that never notices.

use strict;
use warnings;
use utf8;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use Test::More;

use Lab::Box;
use Lab::Product;
use Lab::RawClient;
use Lab::Smb;

Lab::Product::enter();
binmode(Test::More->builder->$_(), ':utf8') for qw(output failure_output todo_output);

my %PASSWORD = (anna => 'Käse & "Brot"; 100%', ben => 'ben-ben-ben', carl => 'carl-carl-carl', fred => 'fred-fred-fred');

sub call_ok {
    my ($name, $r) = @_;
    my $ok = ok(defined($r->{rc}) && $r->{rc} == 0, $name) or diag(Lab::Product::words_of($r));
    return $ok;
}

sub refused {
    my ($name, $r, @patterns) = @_;
    ok(defined($r->{rc}) && $r->{rc} != 0, $name) or return diag($r->{out});
    my $text = Lab::Product::words_of($r);
    like($text, $_, "... and says so: $_") for @patterns;
    return;
}

sub trip { my ($user, $share, $name) = @_; return Lab::Smb::round_trip($user, $PASSWORD{$user}, $share, $name, "from $user, äöü\n") }
sub say_of { my ($user, $share, $commands, %o) = @_; return Lab::Smb::client($user, $PASSWORD{$user}, $share, $commands, %o)->{status} }

# --- the machine before: a foreign share with a user of its own ---------------------------------------------------------

my $LAX = '';
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
my $FOREIGN = <<'CONF';

# the office before us
[Old Stuff]
   comment = foreign
   path = /srv/old
   read only = no
   vfs objects = recycle
CONF

mkdir('/srv/old') && chmod(0777, '/srv/old');
Lab::Box::run(['useradd', '--no-create-home', 'fred']);
Lab::Box::run(['smbpasswd', '-s', '-a', 'fred'], stdin => "$PASSWORD{fred}\n$PASSWORD{fred}\n");

subtest 'beside a foreign share with lax globals nothing is created' => sub {
    Lab::Smb::foreign($LAX, $FOREIGN);
    Lab::Smb::start();
    my $before = Lab::Product::footprint();
    mkdir('/srv/office');
    my $r = Lab::Product::create('office', { path => '/srv/office', username => 'anna' }, password => $PASSWORD{anna});
    refused('the create is refused', $r, qr/map to guest/i, qr/server min protocol/i, qr/signing/i, qr/lxc/i);
    is(join('', map { "$_\n" } Lab::Product::left_behind($before, Lab::Product::footprint())), '', 'and nothing has changed');
    is(trip('fred', 'Old Stuff', 'a.txt'), 'OK', 'the foreign share works');
    Lab::Smb::stop();
};

Lab::Smb::fresh();
Lab::Smb::foreign($STRICT, $FOREIGN);
{
    # the stock file allows guests; an administrator of a careful office does not
    my $text = Lab::Box::slurp(Lab::Smb::CONF());
    $text =~ s/^(\s*map to guest\s*=).*$/$1 never/m;
    Lab::Box::spew(Lab::Smb::CONF(), $text);
}
Lab::Smb::start();
my $before = Lab::Product::footprint();
my $conf_before = Lab::Box::slurp(Lab::Smb::CONF());
my $effective_before = Lab::Smb::effective();
my $smbd = Lab::Smb::pid();
my $fred = Lab::Smb::hold('fred', $PASSWORD{fred}, 'Old Stuff');
ok($fred->writes(), 'a foreign session is open and writes') or diag($fred->ended());
my ($fred_session) = map { $_->{session_id} } @{ Lab::Smb::sessions('fred') };

sub foreign_is_untouched {
    my ($when) = @_;
    ok($fred->goes_on(), "$when: the foreign session goes on") or diag($fred->ended());
    is_deeply([map { $_->{session_id} } @{ Lab::Smb::sessions('fred') }], [$fred_session], "$when: it is the same session");
    my $now = Lab::Smb::effective();
    is_deeply($now->{$_}, $effective_before->{$_}, "$when: [$_] has the same effect") for grep { $_ ne 'global' } sort keys %$effective_before;
    my $text = Lab::Box::slurp(Lab::Smb::CONF());
    my @lines = split(/^/m, $text);
    my @added = grep { m/smbgw/ } @lines;
    is(join('', grep { !m/smbgw/ } @lines), $conf_before, "$when: the foreign lines are byte-identical");
    cmp_ok(scalar(@added), '<=', 2, "$when: at most one marked include line was added");
    return;
}

# --- create -------------------------------------------------------------------------------------------------------------

subtest 'create' => sub {
    my $r = Lab::Product::create('office', { path => '/srv/office', username => 'anna' }, password => $PASSWORD{anna});
    call_ok('create', $r) or return;
    is($r->{data}->{state}, 'ready', 'the share is ready');
    is(trip('anna', 'office', 'first.txt'), 'OK', 'anna logs in, writes and reads');
    my ($uid, $shell, $home) = (getpwnam('anna'))[2, 8, 7];
    like($shell, qr/nologin|false/, 'her unix account has no shell');
    ok(!-d $home, 'and no home directory');
    is((getpwnam('anna'))[1] =~ m/\A[!*x]/ ? 1 : 0, 1, 'and no password');
    like(Lab::Box::slurp('/etc/shadow'), qr/^anna:[!*]/m, 'also not in shadow');
    is(sprintf('%04o', (stat('/srv/office'))[2] & 02772), '2770', 'the tree belongs to the group of the share, and nobody else may write');
    is(sprintf('%04o', (stat('/srv/office/first.txt'))[2] & 07777), '0660', 'its files are closed to everybody else');
    foreign_is_untouched('after create');
    is(Lab::Smb::pid(), $smbd, 'smbd was not restarted');
    my $status = Lab::Product::status('office');
    is($status->{schema}, 1, 'status has a schema number');
    like(join(' ', map { "$_" } values %{ Lab::Product::call(['list'])->{data}->{shares}->[0] // {} }), qr/office/, 'list names it') if ref(Lab::Product::call(['list'])->{data}) eq 'HASH';
};

subtest 'refusals by real clients' => sub {
    is(Lab::Smb::client('anna', $PASSWORD{anna}, 'office', 'ls', protocol => 'NT1')->{status}, 'NT_STATUS_INVALID_NETWORK_RESPONSE', 'SMB1');
    is(Lab::Smb::client('anna', $PASSWORD{anna}, 'office', 'ls', protocol => $_)->{status}, 'NT_STATUS_NOT_SUPPORTED', $_) for qw(SMB2_10 SMB3_00 SMB3_02);
    isnt(Lab::Smb::client('anna', $PASSWORD{anna}, 'office', 'ls', protocol => 'SMB2_02')->{status}, 'OK', 'SMB2_02');
    is(Lab::Smb::client('nobody', '', 'office', 'ls')->{status}, 'NT_STATUS_LOGON_FAILURE', 'guest');
    is(Lab::Smb::client('nosuchuser', 'x', 'office', 'ls')->{status}, 'NT_STATUS_LOGON_FAILURE', 'an unknown user does not become a guest');
    # Samba 4.22 drops the connection instead of answering.
    like(Lab::Smb::client(undef, undef, 'office', 'ls')->{status}, qr/\ANT_STATUS_(?:ACCESS_DENIED|CONNECTION_DISCONNECTED)\z/, 'anonymous');
    is(Lab::Smb::client('anna', 'wrong', 'office', 'ls')->{status}, 'NT_STATUS_LOGON_FAILURE', 'a wrong password');
    my $raw = Lab::RawClient::try_plain(user => 'anna', password => $PASSWORD{anna}, share => 'office');
    is($raw->{mode}, 3, 'the server demands signing');
};

# --- users and access ---------------------------------------------------------------------------------------------------

subtest 'second user, denied user, access changed' => sub {
    for my $user (qw(ben carl)) {
        call_ok("user create $user", Lab::Product::user('create', $user, password => $PASSWORD{$user}));
        is(say_of($user, 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', "$user exists and has no access");
    }
    call_ok('ben may read', Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,ro:ben' }));
    is(Lab::Smb::get('ben', $PASSWORD{ben}, 'office', 'first.txt'), Encode::encode('UTF-8', "from anna, äöü\n"), 'ben reads');
    is(Lab::Smb::put('ben', $PASSWORD{ben}, 'office', 'ben.txt'), 'NT_STATUS_ACCESS_DENIED', 'ben cannot write');
    is(say_of('ben', 'office', $_), 'NT_STATUS_ACCESS_DENIED', "ben cannot: $_") for 'del first.txt', 'mkdir dir', 'rename first.txt x.txt';
    is(say_of('carl', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', 'carl is denied');
    ok(!exists(Lab::Smb::listing('carl', $PASSWORD{carl})->{office}), 'and is not shown the share');
    ok(exists(Lab::Smb::listing('ben', $PASSWORD{ben})->{office}), 'ben is');

    my $ben = Lab::Smb::hold('ben', $PASSWORD{ben}, 'office');
    like($ben->ended(), qr/ACCESS_DENIED/, 'a reader has nothing to hold open by writing');
    call_ok('ben may write', Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,rw:ben' }));
    is(Lab::Smb::put('ben', $PASSWORD{ben}, 'office', 'first.txt'), 'OK', 'ben overwrites the file of anna');
    is(say_of('ben', 'office', 'rename first.txt second.txt; mkdir together'), 'OK', 'renames it, makes a directory');
    is(Lab::Smb::put('anna', $PASSWORD{anna}, 'office', 'together/of-anna.txt'), 'OK', 'anna writes into it');
    is(say_of('ben', 'office', 'del together/of-anna.txt; rmdir together'), 'OK', 'ben deletes both');
    is(say_of('anna', 'office', 'ls second.txt'), 'OK', 'anna sees the rename');

    my $anna = Lab::Smb::hold('anna', $PASSWORD{anna}, 'office');
    $ben = Lab::Smb::hold('ben', $PASSWORD{ben}, 'office');
    ok($ben->writes() && $anna->writes(), 'both have open sessions');
    call_ok('ben back to reading', Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,ro:ben' }));
    is($ben->wait_end(), 'NT_STATUS_NETWORK_NAME_DELETED', 'his open session has lost the right to write at once');
    ok($anna->goes_on(), 'anna was not disturbed') or diag($anna->ended());

    call_ok('carl may write', Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,ro:ben,rw:carl' }));
    my $carl = Lab::Smb::hold('carl', $PASSWORD{carl}, 'office');
    ok($carl->writes(), 'carl writes');
    call_ok('carl is taken out', Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,ro:ben' }));
    is($carl->wait_end(), 'NT_STATUS_NETWORK_NAME_DELETED', 'his open session ends at once');
    is(say_of('carl', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', 'and he does not come back');
    ok($anna->goes_on(), 'anna was not disturbed');
    $_->stop() for $anna, $ben, $carl;
    foreign_is_untouched('after access changes');
};

subtest 'groups' => sub {
    call_ok('group create', Lab::Product::group('create', 'staff-room'));
    call_ok('add member', Lab::Product::group('add-member', 'staff-room', 'ben'));
    call_ok('the group may write', Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,rw:@staff-room' }));
    is(trip('ben', 'office', 'group.txt'), 'OK', 'a member writes');
    is(say_of('carl', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', 'who is no member does not');
    my $ben = Lab::Smb::hold('ben', $PASSWORD{ben}, 'office');
    call_ok('remove member', Lab::Product::group('remove-member', 'staff-room', 'ben'));
    isnt($ben->wait_end(), '', 'the open session of the former member ends');
    is(say_of('ben', 'office', 'ls'), 'NT_STATUS_ACCESS_DENIED', 'and he does not come back');
    $ben->stop();
    call_ok('access without the group', Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,ro:ben' }));
    call_ok('group remove', Lab::Product::group('remove', 'staff-room'));
};

subtest 'full control' => sub {
    call_ok('anna has full control', Lab::Product::set('office', { 'smbgw-access' => 'full:anna,rw:ben' }));
    is(trip('ben', 'office', 'acl.txt'), 'OK', 'ben writes a file');
    my $host = uc(Lab::Box::run(['hostname'])->{out} =~ s/\s+\z//r);
    like(Lab::Smb::add_acl('ben', $PASSWORD{ben}, 'office', 'acl.txt', "ACL:$host\\carl:ALLOWED/0/READ"), qr/ACCESS_DENIED/, 'ben cannot change its permissions');
    is(Lab::Smb::add_acl('anna', $PASSWORD{anna}, 'office', 'acl.txt', "ACL:$host\\carl:ALLOWED/0/READ"), 'OK', 'anna can');
    unlike(Lab::Box::slurp($Lab::Product::OWN_CONF), qr/^\h*admin users\h*=\h*\S/m, "not by Samba's 'admin users'");
    call_ok('back to writing', Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,ro:ben' }));
    like(Lab::Smb::add_acl('anna', $PASSWORD{anna}, 'office', 'acl.txt', "ACL:$host\\carl:ALLOWED/0/READ"), qr/ACCESS_DENIED/, 'a writer cannot');
};

subtest 'users: disable, enable, password' => sub {
    my $account = Lab::Smb::accounts()->{anna};
    my $anna = Lab::Smb::hold('anna', $PASSWORD{anna}, 'office');
    call_ok('disable', Lab::Product::user('disable', 'anna'));
    isnt($anna->wait_end(), '', 'her open session ends at once');
    $anna->stop();
    is(say_of('anna', 'office', 'ls'), 'NT_STATUS_ACCOUNT_DISABLED', 'she cannot log in');
    call_ok('enable', Lab::Product::user('enable', 'anna'));
    is(trip('anna', 'office', 'back.txt'), 'OK', 'she is back');
    is_deeply(Lab::Smb::accounts()->{anna}, $account, 'with the same numbers and password');
    my $old = $PASSWORD{anna};
    $PASSWORD{anna} = 'neu und länger';
    call_ok('password', Lab::Product::user('password', 'anna', password => $PASSWORD{anna}));
    is(trip('anna', 'office', 'back.txt'), 'OK', 'the new password works');
    is(Lab::Smb::client('anna', $old, 'office', 'ls')->{status}, 'NT_STATUS_LOGON_FAILURE', 'the old one does not');
    refused('an empty password is refused', Lab::Product::user('password', 'anna', password => ''), qr/password/i);
    my $users = Lab::Product::user('list', undef)->{data};
    my $text = JSON::PP->new->canonical->encode($users // {});
    like($text, qr/"\Q$_\E"/, "list names $_") for qw(anna ben carl);
    unlike($text, qr/"fred"/, 'and no foreign user');
    refused('an existing system account is refused', Lab::Product::user('create', 'fred', password => 'x-x-x-x-x'), qr/fred/);
    refused('also in access', Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,rw:root' }), qr/root/);
};

# --- rename, disable ----------------------------------------------------------------------------------------------------

subtest 'rename' => sub {
    my $anna = Lab::Smb::hold('anna', $PASSWORD{anna}, 'office');
    call_ok('rename', Lab::Product::set('office', { share => 'Büro Akten' }));
    is($anna->wait_end(), 'NT_STATUS_NETWORK_NAME_DELETED', 'the session of the old name ends');
    $anna->stop();
    is(say_of('anna', 'office', 'ls'), 'NT_STATUS_BAD_NETWORK_NAME', 'the old name is gone');
    is(trip('anna', 'Büro Akten', 'renamed.txt'), 'OK', 'the new one works');
    ok(-e '/srv/office/back.txt', 'the files stayed');
    refused('a name that a foreign share has is refused', Lab::Product::set('office', { share => 'OLD stuff' }), qr/old stuff/i);
    call_ok('and back', Lab::Product::set('office', { share => 'office' }));
    is(trip('anna', 'office', 'renamed.txt'), 'OK', 'it works again');
    foreign_is_untouched('after renames');
};

subtest 'disable and enable' => sub {
    my $anna = Lab::Smb::hold('anna', $PASSWORD{anna}, 'office');
    call_ok('disable', Lab::Product::set('office', { disable => 1 }));
    is($anna->wait_end(), 'NT_STATUS_NETWORK_NAME_DELETED', 'open sessions end');
    $anna->stop();
    is(say_of('anna', 'office', 'ls'), 'NT_STATUS_BAD_NETWORK_NAME', 'it is not served');
    ok(-e '/srv/office/back.txt' && getpwnam('anna'), 'data and users stay');
    call_ok('enable', Lab::Product::set('office', { disable => 0 }));
    is(trip('anna', 'office', 'enabled.txt'), 'OK', 'it is served again');
    foreign_is_untouched('after disable and enable');
};

subtest 'a hand-edited managed file is kept and named' => sub {
    my $edited = Lab::Box::slurp($Lab::Product::OWN_CONF) =~ s/^(\[office\]\n)/$1   comment = by hand\n/mr;
    like($edited, qr/by hand/, 'edited by hand');
    Lab::Box::spew($Lab::Product::OWN_CONF, $edited);
    my $status = Lab::Product::call(['status', 'office', '--fresh']);
    like(JSON::PP->new->canonical->encode($status->{data} // {}), qr/smbgw\.conf/, 'status names the file');
    my $r = Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,rw:ben' });
    refused('a change is refused rather than overwriting it', $r, qr/smbgw\.conf/);
    is(Lab::Box::slurp($Lab::Product::OWN_CONF), $edited, 'the file is as the hand left it');
    $r = Lab::Product::call(['repair', 'office']);
    like(JSON::PP->new->canonical->encode($r->{data} // $r->{error}), qr/by hand/, 'repair shows the difference');
    is(Lab::Box::slurp($Lab::Product::OWN_CONF), $edited, 'and keeps the file');
    call_ok('repair --overwrite', Lab::Product::call(['repair', 'office', '--overwrite']));
    unlike(Lab::Box::slurp($Lab::Product::OWN_CONF), qr/by hand/, 'puts ours back');
    is(trip('anna', 'office', 'repaired.txt'), 'OK', 'the share works');
};

# --- remove -------------------------------------------------------------------------------------------------------------

subtest 'remove' => sub {
    my $anna = Lab::Smb::hold('anna', $PASSWORD{anna}, 'office');
    my $data = Lab::Box::snapshot('/srv/office');
    call_ok('delete', Lab::Product::remove('office'));
    isnt($anna->wait_end(), '', 'open sessions end');
    $anna->stop();
    is(Lab::Smb::client('anna', $PASSWORD{anna}, 'office', 'ls')->{ok}, 0, 'nobody gets in');
    is(Lab::Box::slurp(Lab::Smb::CONF()), $conf_before, 'smb.conf is byte-identical');
    is_deeply(Lab::Smb::effective(), $effective_before, 'and equal in effect');
    is(join('', map { "$_\n" } Lab::Product::left_behind($before, Lab::Product::footprint())), '', 'configuration and accounts are as before');
    my $after = Lab::Box::snapshot('/srv/office');
    is_deeply([grep { !defined($after->{$_}) } grep { !m/held-/ } keys %$data], [], 'the data is still there');
    is(Lab::Smb::pid(), $smbd, 'smbd runs on');
    ok($fred->goes_on(), 'the foreign session goes on');
    is_deeply([map { $_->{session_id} } @{ Lab::Smb::sessions('fred') }], [$fred_session], 'and is the one from the beginning');
    my $audit = Lab::Product::call(['audit']);
    like(JSON::PP->new->encode($audit->{data} // {}), qr/share\.delete/, 'the audit trail remembers');
};
$fred->stop();
Lab::Smb::stop();

# --- without foreign shares ---------------------------------------------------------------------------------------------

Lab::Smb::fresh();
mkdir("/srv/$_") for qw(one safe none);

subtest 'a stopped smbd is started, and stopped with the last share' => sub {
    my $start = Lab::Product::footprint();
    is(Lab::Smb::pid(), undef, 'smbd does not run');
    call_ok('create', Lab::Product::create('one', { path => '/srv/one', username => 'anna' }, password => $PASSWORD{anna}));
    ok(Lab::Smb::pid(), 'smbd runs');
    is(trip('anna', 'one', 'one.txt'), 'OK', 'the share works');
    my $netstat = Lab::Box::slurp('/proc/net/tcp');
    unlike($netstat, qr/:008B 0+:0000 0A/, 'nobody listens for NetBIOS');
    my $control = Lab::RawClient::try_plain(user => 'anna', password => $PASSWORD{anna}, share => 'one');
    is($control->{write}, 'OK', 'with standard, a client that cannot encrypt gets in (the control of the next test)');
    call_ok('delete', Lab::Product::remove('one'));
    is(join('', map { "$_\n" } Lab::Product::left_behind($start, Lab::Product::footprint())), '', 'nothing is left');
    ok(Lab::Box::until_true(sub { !Lab::Smb::pid() }), 'smbd does not run again');
};

subtest 'high: encryption is required' => sub {
    call_ok('create', Lab::Product::create('safe', { path => '/srv/safe', username => 'anna', 'smbgw-security' => 'high' }, password => $PASSWORD{anna}));
    is(trip('anna', 'safe', 'safe.txt'), 'OK', 'a client that encrypts works');
    my $raw = Lab::RawClient::try_plain(user => 'anna', password => $PASSWORD{anna}, share => 'safe');
    isnt($raw->{tree} // 'refused', 'OK', 'a client in clear does not get in');
    is($raw->{session}, 'ACCESS_DENIED', 'it is refused at session setup');
    $raw = Lab::RawClient::try_plain(user => 'anna', password => $PASSWORD{anna}, share => 'safe', cipher => 1);
    isnt($raw->{tree} // 'refused', 'OK', 'nor one that could encrypt and ignores the flag of the server');
    call_ok('delete', Lab::Product::remove('safe'));
};

subtest 'smbd absent' => sub {
    Lab::Smb::stop() if Lab::Smb::pid();
    my $start = Lab::Product::footprint();
    Lab::Box::hide_programs('/usr/sbin/smbd');
    my $r = Lab::Product::create('none', { path => '/srv/none', username => 'anna' }, password => $PASSWORD{anna});
    Lab::Box::restore_programs();
    refused('the create is refused', $r, qr/smbd|samba/i, qr/install/i);
    is(join('', map { "$_\n" } Lab::Product::left_behind($start, Lab::Product::footprint())), '', 'and nothing is left');
};

done_testing();
