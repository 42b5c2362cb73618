# SPDX-License-Identifier: MIT OR Apache-2.0

# Figures of a real smbd: known traffic of real clients on two shares at once, compared with what was counted; sessions, files, refused log-ins;
# a restart of smbd; what cannot be known is absent and says why.

use strict;
use warnings;
no warnings 'exec';    # what follows an exec is there for its failure
use utf8;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes ();

use Lab::Box;
use Lab::Product;
use Lab::Smb;

Lab::Product::enter();
binmode(Test::More->builder->$_(), ':utf8') for qw(output failure_output todo_output);

my %PASSWORD = map { $_ => "$_-$_-$_" } qw(anna ben);
my $MIB = 1 << 20;
my $FILE = "$Lab::Product::RUN/metrics/current.json";

# Looks once; the numbers of the table are known by name from the document.
my %METRIC;
my $current = {};

sub scrape {
    my $r = Lab::Product::native('scrape');
    $current = JSON::PP->new->utf8->decode(Lab::Box::slurp($FILE));
    return $r;
}

# A value of the last look, or undef where it is not known.
sub value_in {
    my ($list, $object, $name) = @_;
    my ($found) = grep { $_->{object} eq $object && ($METRIC{$name} // {})->{ $_->{metric} } } @{ $current->{$list} };
    return $found ? $found->{value} : undef;
}
sub value { return value_in('samples', @_) }
sub rate { return value_in('rates', @_) }
sub why { my ($source) = @_; return (grep { $_->{source} eq $source } @{ $current->{sources} })[0]->{why} }

# A client whose connection stays: commands go to its standard input.
sub session {
    my ($user, $share) = @_;
    my $credentials = "/run/lab/metrics.$user";
    Lab::Box::spew($credentials, "username = $user\npassword = $PASSWORD{$user}\n", 0600);
    my $pid = open(my $to, '|-') // die "cannot fork: $!\n";
    if (!$pid) {
        open(STDOUT, '>', "/run/lab/metrics.$user.log") && open(STDERR, '>&', \*STDOUT) or POSIX::_exit(126);
        exec('smbclient', '-s', '/dev/null', "//127.0.0.1/$share", '-A', $credentials, '-m', 'SMB3_11');
        POSIX::_exit(127);
    }
    $to->autoflush(1);
    return $to;
}

sub size_is { my ($file, $size) = @_; return Lab::Box::until_true(sub { (-s $file // -1) == $size }, 30) ? 1 : 0 }

Lab::Smb::start();
mkdir("/srv/$_") for qw(office lab);
my $r = Lab::Product::create('office', { path => '/srv/office', username => 'anna' }, password => $PASSWORD{anna});
is($r->{rc}, 0, 'a share') or BAIL_OUT(Lab::Product::words_of($r));
is(Lab::Product::user('create', 'ben', password => $PASSWORD{ben})->{rc}, 0, 'ben');
is(Lab::Product::create('lab', { path => '/srv/lab', share => 'Lab Süd', 'smbgw-access' => 'rw:ben' })->{rc}, 0, 'another one');
for my $m (@{ Lab::Product::native('schema')->{metrics} }) { $METRIC{ $m->{name} }->{ $m->{number} } = 1 }

subtest 'at rest' => sub {
    scrape();
    is_deeply([grep { defined($_->{why}) } @{ $current->{sources} }], [], 'all sources answer');
    is_deeply([map { value('native', $_) } qw(up sessions users open_files failed_logins)], [1, 0, 0, 0, 0], 'nobody is there');
    is_deeply([map { value($_, 'ready') } qw(office lab)], [1, 1], 'both are served');
    cmp_ok(value('office', 'available_bytes'), '>', 0, 'space');
    is(value('office', 'limit_bytes'), undef, 'what is not there has no figure');
    is(value('native', 'winbind_up'), undef, 'nor has what is not used');
    is(value('native', 'read_latency'), undef, 'nothing was read: there is no latency, not 0');
};

Lab::Box::spew('/root/eight', 'x' x (8 * $MIB));
Lab::Box::spew('/root/three', 'y' x (3 * $MIB));
my %to = (anna => session('anna', 'office'), ben => session('ben', 'Lab Süd'));
ok(Lab::Box::until_true(sub { scrape(); (value('office', 'sessions') // 0) == 1 && (value('lab', 'sessions') // 0) == 1 }, 30), 'two clients');

subtest 'known traffic' => sub {
    is_deeply([map { value('native', $_) } qw(sessions tree_connects users signed_sessions encrypted_sessions legacy_sessions)], [2, 2, 2, 2, 2, 0], 'who is there, and how');
    is_deeply([map { value('office', $_) } qw(tree_connects users)], [1, 1], 'of one share');
    my %before = map { my $o = $_; $o => { map { $_ => value($o, $_) } qw(read_bytes written_bytes read_operations write_operations operations) } } qw(office lab native);
    my $at = $current->{at};
    print { $to{anna} } "put /root/eight e\nget e /root/eight.back\n";
    print { $to{ben} } "put /root/three t\nget t /root/three.1\nget t /root/three.2\n";
    ok(size_is('/root/eight.back', 8 * $MIB) && size_is('/root/three.2', 3 * $MIB), 'two clients write and read at once');
    # smbd writes its counters down at most half a second late
    Time::HiRes::sleep(1.5);
    scrape();
    my $grown = sub { my ($o, $m) = @_; return value($o, $m) - $before{$o}->{$m} };
    is_deeply([map { $grown->('office', $_) } qw(written_bytes read_bytes)], [8 * $MIB, 8 * $MIB], 'bytes of the first share, exactly');
    is_deeply([map { $grown->('lab', $_) } qw(written_bytes read_bytes)], [3 * $MIB, 6 * $MIB], 'bytes of the second');
    is_deeply([map { $grown->('native', $_) } qw(written_bytes read_bytes)], [11 * $MIB, 14 * $MIB], 'bytes of the gateway');
    for my $o (qw(office lab)) {
        my ($w, $rd, $all) = map { $grown->($o, $_) } qw(write_operations read_operations operations);
        ok($w >= 1 && $rd >= 1 && $all > $w + $rd && $all < 200, "$o: $w WRITEs, $rd READs, $all requests");
        ok(value($o, 'read_latency') > 0 && value($o, 'read_latency') < 10, "$o: a READ took " . value($o, 'read_latency') . ' s');
    }
    is($grown->('native', 'write_operations'), $grown->('office', 'write_operations') + $grown->('lab', 'write_operations'), 'the parts make the whole');
    my $seconds = ($current->{at} - $at) / 1000;
    my $rate = rate('office', 'written_bytes');
    cmp_ok(abs($rate * $seconds - 8 * $MIB), '<', $MIB / 100, "as a rate: $rate bytes/s over $seconds s");
};

subtest 'open files and locks' => sub {
    print { $to{anna} } "open e\n";
    # they are looked at once a minute, unless nothing is remembered
    ok(Lab::Box::until_true(sub { unlink("$Lab::Product::RUN/metrics/memory.json"); scrape(); (value('office', 'open_files') // 0) >= 1 }, 20), 'the open file is seen');
    is(value('lab', 'open_files'), 0, 'in its share');
    is(value('office', 'written_bytes'), 0, 'without a memory counters begin anew');
    is_deeply($current->{rates}, [grep { $_->{value} >= 0 } @{ $current->{rates} }], 'and no rate is negative');
};

subtest 'refused log-ins' => sub {
    my $before = value('native', 'failed_logins');
    is(Lab::Smb::round_trip('anna', 'wrong', 'office', 'f', "f\n"), 'NT_STATUS_LOGON_FAILURE', 'a wrong password') for 1 .. 2;
    is(Lab::Smb::round_trip('nobody-here', 'wrong', 'office', 'f', "f\n"), 'NT_STATUS_LOGON_FAILURE', 'an unknown user');
    is(Lab::Smb::round_trip('anna', $PASSWORD{anna}, 'office', 'f', "f\n"), 'OK', 'a right one');
    scrape();
    is(value('native', 'failed_logins') - $before, 3, 'three are counted');
    rename('/var/log/samba/smbgw-auth.json', '/var/log/samba/smbgw-auth.json.old');
    Lab::Smb::round_trip('anna', 'wrong', 'office', 'f', "f\n");
    scrape();
    cmp_ok(value('native', 'failed_logins') - $before, '>=', 3, 'a rotation loses none');
};

subtest 'a client that ends, and smbd started anew' => sub {
    scrape();
    my ($office, $all) = (value('office', 'written_bytes'), value('native', 'written_bytes'));
    print { $to{ben} } "put /root/three u\n";
    close($to{ben});
    Time::HiRes::sleep(1.5);
    scrape();
    is(value('native', 'written_bytes') - $all, 3 * $MIB, 'what a client wrote just before its end is in the figures of the gateway');
    is(value('lab', 'sessions'), 0, 'it is gone');
    $all = value('native', 'written_bytes');
    Lab::Smb::stop();
    scrape();
    is(value('native', 'up'), 0, 'smbd does not run');
    is_deeply([map { value('native', $_) } qw(sessions written_bytes)], [undef, undef], 'what it would have to tell is absent');
    like(why($_), qr/smbd does not run/, "$_ says why") for qw(sessions profile);
    Lab::Smb::start();
    is(Lab::Smb::round_trip('anna', $PASSWORD{anna}, 'office', 'f', "f\n"), 'OK', 'it runs again');
    Time::HiRes::sleep(1.5);
    scrape();
    is(value('native', 'up'), 1, 'up');
    cmp_ok(value('native', 'written_bytes'), '>=', $all, 'a counter never goes back: it was ' . $all);
    cmp_ok(value('native', 'written_bytes'), '<', $all + $MIB, 'nor does it jump');
};

subtest 'a source that hangs' => sub {
    Lab::Box::spew('/root/hang', "#!/bin/sh\nexec sleep 7777\n", 0755);
    Lab::Box::run(['mount', '--bind', '/root/hang', '/usr/bin/smbstatus']);
    my $began = Time::HiRes::time();
    scrape();
    my $took = Time::HiRes::time() - $began;
    cmp_ok($took, '<', 8, "the look comes back after $took s");
    like(why('sessions'), qr/did not answer within 3 s/, 'sessions say why');
    is(value('native', 'sessions'), undef, 'and are absent');
    ok(defined(value('native', 'written_bytes')) && defined(value('office', 'used_bytes')) && defined(value('native', 'failed_logins')), 'all else is there');
    is(Lab::Product::status('office')->{state}, 'ready', 'the share knows nothing of it');
    $began = Time::HiRes::time();
    scrape();
    cmp_ok(Time::HiRes::time() - $began, '<', 2, 'the next look does not wait for it again');
    Lab::Box::run(['umount', '/usr/bin/smbstatus']);
};
done_testing();
