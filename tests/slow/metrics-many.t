# SPDX-License-Identifier: MIT OR Apache-2.0

# Figures of a real smbd with many sessions and open files on two shares: each is counted exactly, nothing fails or hides, and when the clients
# are gone nothing is left but what was counted. 2,000 sessions (SMBGW_SESSIONS: another number, a multiple of 4), five open files each, and
# some with locks.

use strict;
use warnings;
use utf8;

use Cwd ();
use File::Basename ();
use lib File::Basename::dirname(Cwd::realpath(__FILE__)) . '/../lab/lib';

use Test::More;

use Lab::Box;
use Lab::Figures;
use Lab::Product;
use Lab::RawClient;
use Lab::Smb;

Lab::Product::enter();
binmode(Test::More->builder->$_(), ':utf8') for qw(output failure_output todo_output);

my $SESSIONS = $ENV{SMBGW_SESSIONS} // 2000;
my $FILES = 5;
my %PASSWORD = map { $_ => "$_-$_-$_" } qw(anna ben);
my @COUNTERS = qw(read_bytes written_bytes read_operations write_operations operations);

sub value { return Lab::Figures::value(@_) }
sub values_of { my ($object, @names) = @_; return { map { $_ => value($object, $_) } @names } }

# Smaller values of a counter than before, of what has a counter at all.
my %seen;

sub went_back {
    my @back;
    for my $what (map({ my $o = $_; map { [$o, $_] } @COUNTERS } qw(native office lab)), map { ['native', $_] } qw(connections smbd_cpu failed_logins)) {
        my ($value, $before) = (value(@$what), $seen{"@$what"});
        push @back, "@$what: $before, now " . ($value // 'absent') if defined($before) && (!defined($value) || $value < $before);
        $seen{"@$what"} = $value if defined($value);
    }
    return \@back;
}

sub look {
    my ($when) = @_;
    Lab::Figures::scrape_all();
    is_deeply([Lab::Figures::silent()], [], "$when: every source tells");
    is_deeply(went_back(), [], "$when: no counter went back");
    my @negative = grep { $_->{value} < 0 } @{ Lab::Figures::current()->{rates} };
    is_deeply(\@negative, [], "$when: no rate is negative");
    return;
}

Lab::Smb::start();
mkdir("/srv/$_") for qw(office lab);
my $r = Lab::Product::create('office', { path => '/srv/office', username => 'anna' }, password => $PASSWORD{anna});
is($r->{rc}, 0, 'a share') or BAIL_OUT(Lab::Product::words_of($r));
is(Lab::Product::user('create', 'ben', password => $PASSWORD{ben})->{rc}, 0, 'ben');
is(Lab::Product::create('lab', { path => '/srv/lab', share => 'Lab Süd', 'smbgw-access' => 'rw:anna,rw:ben' })->{rc}, 0, 'another one');
my @ALL = qw(sessions tree_connects users open_files locks);

# Half of them anna's on the first share, a quarter each hers and ben's on the second.
my %share = (office => 'office', lab => 'Lab Süd');
my @groups = (['anna', 'office', $SESSIONS / 2], ['ben', 'lab', $SESSIONS / 4], ['anna', 'lab', $SESSIONS / 4]);
my @held;

sub hold {
    my ($user, $id, $sessions, %o) = @_;
    return Lab::RawClient::hold(user => $user, password => $PASSWORD{$user}, share => $share{$id}, sessions => $sessions, files => $FILES, tag => "$user-$id", %o);
}

subtest 'at rest' => sub {
    look('at rest');
    is_deeply(values_of('native', @ALL), { map { $_ => 0 } @ALL }, 'nobody is there');
};

subtest "$SESSIONS sessions" => sub {
    my $connections = value('native', 'connections');
    for my $group (@groups) {
        # one group after the other: each has processes of its own
        push @held, eval { hold(@$group)->ready(600) } // BAIL_OUT($@);
    }
    look('many');
    my $half = $SESSIONS / 2;
    is_deeply(values_of('office', @ALL), { sessions => $half, tree_connects => $half, users => 1, open_files => $half * $FILES, locks => 0 }, 'all of the first share');
    is_deeply(values_of('lab', @ALL), { sessions => $half, tree_connects => $half, users => 2, open_files => $half * $FILES, locks => 0 }, 'all of the second');
    is_deeply(values_of('native', @ALL), { sessions => $SESSIONS, tree_connects => $SESSIONS, users => 2, open_files => $SESSIONS * $FILES, locks => 0 }, 'all of the gateway');
    my @how = qw(signed_sessions encrypted_sessions legacy_sessions);
    is_deeply(values_of('native', @how), { signed_sessions => $SESSIONS, encrypted_sessions => 0, legacy_sessions => 0 }, 'and how they speak');
    cmp_ok(value('native', 'connections') - $connections, '>=', $SESSIONS, 'each was counted as it came');
    note("a look took " . Lab::Figures::current()->{'took-ms'} . ' ms, of it ' . join(', ', map { "$_ " . Lab::Figures::took($_) . ' ms' } qw(sessions files profile)));
    for my $id (qw(office lab)) {
        my $status = Lab::Product::status($id);
        is($status->{state}, 'ready', "$id is ready");
        cmp_ok($status->{space}->{total} // 0, '>', 0, 'and has its space');
    }
};

subtest 'a write among so many' => sub {
    my $before = value('lab', 'written_bytes');
    my $all = value('native', 'written_bytes');
    Lab::Box::spew('/run/lab/three', 'y' x (3 << 20));
    is(Lab::Smb::client('ben', $PASSWORD{ben}, $share{lab}, 'put /run/lab/three three; sleep 0', timeout => 60)->{status}, 'OK', 'one more client writes and goes');
    look('a write');
    is(value('native', 'written_bytes') - $all, 3 << 20, 'what it wrote is in the gateway\'s figures');
    cmp_ok(value('lab', 'written_bytes'), '>=', $before, 'and those of its share did not go back');
};

subtest 'locks' => sub {
    my $on_office = hold('anna', 'office', 2, locks => 3, tag => 'locks')->ready();
    my $on_lab = hold('ben', 'lab', 1, locks => 1, tag => 'locks')->ready();
    look('locked');
    is_deeply([map { value($_, 'locks') } qw(office lab native)], [6, 1, 7], 'ranges of bytes that are locked');
    is(value('native', 'open_files'), ($SESSIONS + 3) * $FILES, 'are no open files');

    # what the count reads, as this Samba prints it
    my $text = Lab::Box::run(['smbstatus', '-L', '-B', '-n'], timeout => 60)->{out};
    utf8::decode($text);
    my ($part) = $text =~ m/^Byte range locks:\n(.*)\z/ms;
    my ($head, $rule, @lines) = grep { m/\S/ } split(/\n/, $part // '');
    like($head // '', qr/\APid\s+dev:inode\s+R\/W\s+start\s+size\s+SharePath\s+Name\s*\z/, 'the heading of the locks');
    like($rule // '', qr/\A-{5,}\z/, 'a rule of dashes');
    is(scalar(@lines), 7, 'a line for each');
    is(scalar(grep { m!\A\d+\s+[0-9a-f]+:\d+:\d+\s+W\s+[123]000\s+10\s+/srv/(?:office|lab)\s+locks-0-\d+-1\s*\z! } @lines), 7, 'in the form that is read') or diag($part);
    $_->end() for $on_office, $on_lab;
    ok(Lab::Box::until_true(sub { Lab::Figures::scrape_all(); (value('native', 'locks') // -1) == 0 }, 60), 'they end with their clients');
    is_deeply(went_back(), [], 'and no counter went back');
};

subtest 'an smbd that is killed' => sub {
    my $held = hold('anna', 'office', 1, locks => 2, tag => 'killed')->ready();
    Lab::Figures::scrape_all();
    is(value('native', 'locks'), 2, 'it has locks');
    my $list = sub { return Lab::Box::run(['smbstatus', '-L', '-B', '-n'], timeout => 60)->{out} };
    my ($pid) = $list->() =~ m/^(\d+) .* \/srv\/office +killed-0-1-1 *$/m or BAIL_OUT('no lock of it is listed');
    kill('KILL', $pid);
    ok(Lab::Box::until_true(sub { Lab::Figures::scrape_all(); (value('native', 'sessions') // -1) == $SESSIONS }, 60), 'it is gone');
    like($list->(), qr/^$pid .* killed-0-1-1 *$/m, 'its locks stay in the list of Samba');
    is_deeply([map { value($_, 'locks') } qw(office native)], [0, 0], 'but nobody has them');
    $held->end();
};

subtest 'all of them end' => sub {
    splice(@held, 0, 1)->end();
    ok(Lab::Box::until_true(sub { Lab::Figures::scrape_all(); (value('office', 'sessions') // -1) == 0 && (value('office', 'open_files') // -1) == 0 }, 240), 'those of the first share');
    look('half');
    my $half = $SESSIONS / 2;
    is_deeply(values_of('lab', @ALL), { sessions => $half, tree_connects => $half, users => 2, open_files => $half * $FILES, locks => 0 }, 'those of the second stay');
    $_->end() for splice(@held);
    ok(Lab::Box::until_true(sub { Lab::Figures::scrape_all(); (value('native', 'sessions') // -1) == 0 && (value('native', 'open_files') // -1) == 0 }, 240), 'all');
    look('gone');
    is_deeply(values_of($_, @ALL), { map { $_ => 0 } @ALL }, "$_: nobody is there") for qw(native office lab);
    is(value('native', 'up'), 1, 'smbd runs');
};
done_testing();
