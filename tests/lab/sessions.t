# SPDX-License-Identifier: MIT OR Apache-2.0

# Who is connected and what is open, on a real smbd: two users on two shares and a third on a foreign one are told apart, one is closed and
# ends, the others go on.

use strict;
use warnings;
no warnings 'exec';    # what follows an exec is there for its failure
use utf8;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use Test::More;

use Lab::Box;
use Lab::Product;
use Lab::Smb;

Lab::Product::enter();
binmode(Test::More->builder->$_(), ':utf8') for qw(output failure_output todo_output);

my %PASSWORD = map { $_ => "$_-$_-$_" } qw(anna ben fred);

sub call_ok {
    my ($name, $r) = @_;
    return ok(defined($r->{rc}) && $r->{rc} == 0, $name) || !diag(Lab::Product::words_of($r));
}

sub sessions { my (@words) = @_; return Lab::Product::call(['session', 'list', @words])->{data} }
sub files { my (@words) = @_; return Lab::Product::call(['file', 'list', @words])->{data} }

# A client that opens a file, and keeps it open until it is told to stop: its standard input is the returned handle.
sub open_file {
    my ($user, $share, $file) = @_;
    my $credentials = "/run/lab/open.$user";
    Lab::Box::spew($credentials, "username = $user\npassword = $PASSWORD{$user}\n", 0600);
    my $pid = open(my $to, '|-') // die "cannot fork: $!\n";
    if (!$pid) {
        open(STDOUT, '>', "/run/lab/open.$user.log") && open(STDERR, '>&', \*STDOUT) or POSIX::_exit(126);
        exec('smbclient', '-s', '/dev/null', "//127.0.0.1/$share", '-A', $credentials, '-m', 'SMB3_11');
        POSIX::_exit(127);
    }
    $to->autoflush(1);
    print {$to} "open \"$file\"\n";
    return $to;
}

# --- two shares of ours, with strict globals, and a foreign one --------------------------------------------------------------

mkdir($_) for '/srv/office', '/srv/lab', '/srv/old';
chmod(0777, '/srv/old');
call_ok('first share', Lab::Product::create('office', { path => '/srv/office', username => 'anna' }, password => $PASSWORD{anna}));
call_ok('ben', Lab::Product::user('create', 'ben', password => $PASSWORD{ben}));
call_ok('second share', Lab::Product::create('lab', { path => '/srv/lab', share => 'Lab Süd', 'smbgw-access' => 'rw:ben' }));
Lab::Smb::foreign(undef, "\n[Old Stuff]\n   path = /srv/old\n   read only = no\n");
Lab::Box::run(['useradd', '--no-create-home', 'fred']);
Lab::Box::run(['smbpasswd', '-s', '-a', 'fred'], stdin => "$PASSWORD{fred}\n$PASSWORD{fred}\n");
Lab::Box::run(['smbcontrol', 'smbd', 'reload-config']);

is_deeply(sessions()->{sessions}, [], 'nobody is connected');
like(Lab::Product::call(['session', 'list'], text => 1)->{out}, qr/^nobody is connected$/m, '... in words');

my $anna = Lab::Smb::hold('anna', $PASSWORD{anna}, 'office');
my $ben = Lab::Smb::hold('ben', $PASSWORD{ben}, 'Lab Süd');
my $fred = Lab::Smb::hold('fred', $PASSWORD{fred}, 'Old Stuff');
ok($_->goes_on(), "$_->{user} writes") or diag($_->ended()) for $anna, $ben, $fred;

subtest 'who is connected' => sub {
    my $doc = sessions();
    is_deeply([map { [$_->{user}, map { $_->{id} } grep { $_->{share} ne 'IPC$' } @{ $_->{shares} }] } @{ $doc->{sessions} }], [['anna', 'office'], ['ben', 'lab']], 'users and shares');
    is($doc->{foreign}, 1, 'that of the foreign share is counted, not shown');
    my ($s) = @{ $doc->{sessions} };
    my ($real) = @{ Lab::Smb::sessions('anna') };
    is("$s->{id} $s->{pid}", "$real->{session_id} $real->{pid}", 'id and process are those of smbstatus');
    is("$s->{dialect} $s->{address} $s->{gateway}", 'SMB3_11 127.0.0.1 native', 'dialect, address, gateway');
    is($s->{signing}->{degree}, $real->{signing}, 'signing');
    is($s->{encryption}->{degree}, $real->{encryption}, 'encryption');
    like($s->{since}, qr/\A\d{4}-\d\d-\d\dT/, 'since when');
    is(scalar(@{ sessions('--share', 'lab')->{sessions} }), 1, 'of one share');
    is(sessions('--user', 'ben')->{sessions}->[0]->{user}, 'ben', 'of one user');
    my $text = Lab::Product::call(['session', 'list'], text => 1);
    like($text->{out}, qr/^\Q$s->{id}\E +anna +127\.0\.0\.1 +native +office +SMB3_11/m, 'as a table') or diag("$s->{id}\n$text->{out}");
    like($text->{err}, qr/1 more of foreign shares/, 'with a word on the foreign one');
};

subtest 'what is open' => sub {
    Lab::Box::spew('/srv/lab/a   long name.txt', "text\n", 0666);
    my $to = open_file('ben', 'Lab Süd', 'a   long name.txt');
    my $doc;
    Lab::Box::until_true(sub { $doc = files('--share', 'lab'); grep { $_->{path} =~ m/long/ } @{ $doc->{files} } });
    my ($f) = grep { $_->{path} =~ m/long/ } @{ $doc->{files} } or return fail('it is listed') || diag(Lab::Box::run(['smbstatus', '-L', '-n'])->{all}, Lab::Box::slurp('/run/lab/open.ben.log'));
    is("$f->{path}|$f->{user}|$f->{id}|$f->{tree}", 'a   long name.txt|ben|lab|/srv/lab', 'path, user and share');
    like($f->{access}, qr/\ARD/, 'access');
    like($f->{'share-mode'}, qr/\ADENY_/, 'share mode');
    like($f->{since}, qr/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\z/, 'since when');
    my ($mine) = grep { $_->{pid} == $f->{pid} } @{ sessions()->{sessions} };
    is_deeply($f->{sessions}, [$mine->{id}], 'and the session that has it');
    is_deeply([grep { $_->{path} =~ m/long/ } @{ files('--user', 'anna')->{files} }], [], "it is none of anna's");
    like(Lab::Product::call(['file', 'list', '--share', 'lab'], text => 1)->{out}, qr/^lab +a long name\.txt +ben +127\.0\.0\.1/m, 'as a table');

    call_ok('that session is closed', Lab::Product::call(['session', 'close', $mine->{id}]));
    ok(Lab::Box::until_true(sub { !grep { $_->{path} =~ m/long/ } @{ files()->{files} } }), 'and its file with it');
    ok($ben->goes_on(), "ben's other session goes on") or diag($ben->ended());
    local $SIG{PIPE} = 'IGNORE';
    close($to);
};

subtest 'one ends' => sub {
    my ($s) = grep { $_->{user} eq 'anna' } @{ sessions()->{sessions} };
    my $plan = Lab::Product::call(['session', 'close', $s->{id} . '9']);
    is($plan->{rc}, 2, 'one that is not there is not found');
    my $r = Lab::Product::call(['session', 'close', $s->{id}]);
    call_ok("anna's session", $r);
    is($r->{data}->{ended}->[0]->{user}, 'anna', 'the answer says whose it was');
    ok($anna->wait_end(), 'has ended') or diag('it goes on');
    ok($_->goes_on(), "$_->{user} goes on") or diag($_->ended()) for $ben, $fred;
    is(Lab::Smb::put('anna', $PASSWORD{anna}, 'office', 'again.txt'), 'OK', 'anna may come again');
    my ($entry) = grep { $_->{op} eq 'session.close' && $_->{target} eq $s->{id} } @{ Lab::Product::call(['audit'])->{data}->{entries} };
    ok($entry && $entry->{result} eq 'done', 'the audit trail has it') or diag(explain($entry));
};

subtest 'all of a user, and none of a foreign share' => sub {
    my $again = Lab::Smb::hold('ben', $PASSWORD{ben}, 'office');
    my @two = ($ben, Lab::Smb::hold('ben', $PASSWORD{ben}, 'Lab Süd'));
    my $r = Lab::Product::call(['session', 'close', '--user', 'ben']);
    call_ok("ben's sessions", $r);
    is(scalar(@{ $r->{data}->{ended} }), 2, 'both are named');
    ok($_->wait_end(), 'ended') for @two;
    $r = Lab::Product::call(['session', 'close', '--user', 'fred']);
    is($r->{rc}, 3, "the foreign share's is refused");
    like(Lab::Product::words_of($r), qr/foreign share.*smbcontrol \d+ shutdown/s, 'with what an administrator can do');
    ok($fred->goes_on(), 'and goes on') or diag($fred->ended());
    is(Lab::Product::call(['session', 'close', '--user', 'ben'])->{rc}, 2, 'then ben has none');
    is(Lab::Product::call(['session', 'close'])->{rc}, 64, 'one has to be named');
    $_->stop() for @two, $again, $anna, $fred;
};

Lab::Smb::stop();
is_deeply(sessions()->{'not-running'}, ['native'], 'an smbd that does not run is said');
like(Lab::Product::call(['file', 'list'], text => 1)->{err}, qr/Samba of gateway native does not run/, '... in words');

done_testing();
