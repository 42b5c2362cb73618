# SPDX-License-Identifier: MIT OR Apache-2.0

# A password that goes through every flow is found nowhere afterwards: in no argument list and no environment of any process
# (all execve calls are recorded, and /proc is sampled), no log, no journal, no file.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use Test::More;

use Lab::Box;
use Lab::Canary;
use Lab::Product;
use Lab::Smb;

Lab::Canary::ready();
Lab::Product::enter();

my $log = Lab::Box::listen_to_log();
mkdir("/srv/$_") for qw(office other broken killed);

# Two canaries, so that changing a password is a flow of its own. ASCII without anything that strace would escape.
my @CANARY = ('Kanarienvogel-4711-gelb', 'Kanarienvogel-0815-blau');
my $canary = Lab::Canary::watch('Kanarienvogel', pause => 0.005);

# Runs one call of the command, recorded.
sub traced {
    my ($name, $expected, $call) = @_;
    my $r = $call->(wrap => [$canary->recorder()], timeout => 120);
    is(($r->{rc} // -1) == 0 ? 'works' : 'fails', $expected, $name) or diag(Lab::Product::words_of($r));
    $canary->heard($name, $r->{all});
    return $r;
}

traced('create with a first user', 'works', sub { Lab::Product::create('office', { path => '/srv/office', username => 'anna' }, password => $CANARY[0], @_) });
is(Lab::Smb::round_trip('anna', $CANARY[0], 'office', 'a.txt', "a\n"), 'OK', 'the password is the one given');
traced('plan', 'works', sub { Lab::Product::call(['plan', 'create', 'other', '--path', '/srv/other', '--smbgw-mode', 'native', '--username', 'anna'], @_) });
traced('user create', 'works', sub { Lab::Product::user('create', 'ben', password => $CANARY[0], @_) });
traced('user password', 'works', sub { Lab::Product::user('password', 'ben', password => $CANARY[1], @_) });
traced('access', 'works', sub { Lab::Product::set('office', { 'smbgw-access' => 'rw:anna,rw:ben' }, @_) });
is(Lab::Smb::round_trip('ben', $CANARY[1], 'office', 'b.txt', "b\n"), 'OK', 'the new password works');
traced('disable', 'works', sub { Lab::Product::user('disable', 'ben', @_) });
traced('enable', 'works', sub { Lab::Product::user('enable', 'ben', @_) });
is(Lab::Smb::round_trip('ben', $CANARY[1], 'office', 'b.txt', "b\n"), 'OK', 'and still works after disable and enable');
traced('a user that exists', 'fails', sub { Lab::Product::user('create', 'ben', password => $CANARY[1], @_) });
traced('a create that is refused', 'fails', sub { Lab::Product::create('bad', { path => '/etc', username => 'carl' }, password => $CANARY[1], @_) });

# a create that fails half way and is undone: Samba's password tool breaks
Lab::Box::hide_programs('/usr/bin/smbclient');
traced('a create that fails at its proof', 'fails', sub { Lab::Product::create('broken', { path => '/srv/broken', username => 'dora' }, password => $CANARY[1], @_) });
Lab::Box::restore_programs();

# one that is killed half way, and finished by the worker
Lab::Product::create('killed', { path => '/srv/killed', username => 'emil' }, password => $CANARY[1],
    wrap => ['strace', '-o', '/dev/null', '-e', 'trace=fdatasync', '-e', 'inject=fdatasync:signal=KILL:when=9']);
my @during = files('during an interrupted create');
is_deeply([grep { !m!\A/run/smbgw/pending/! } @during], [], 'an interrupted create keeps it nowhere but in pending');
traced('the worker', 'works', sub { Lab::Product::call(['reconcile', '--once', '--wait', '0'], @_) });

traced('user remove', 'works', sub { Lab::Product::user('remove', 'ben', @_) });
traced('status', 'works', sub { Lab::Product::call(['status', 'office', '--fresh'], @_) });
traced('audit', 'works', sub { Lab::Product::call(['audit'], @_) });
my $users = traced('user list', 'works', sub { Lab::Product::user('list', undef, @_) });

sub files { return grep { !m!\A/run/lab/! } map { Lab::Box::files_with($_, qw(/etc /run /srv /tmp /var/lib /var/log /var/cache/samba)) } @CANARY }

# The NT hash is as good as the password for SMB: only in the root-only gateway record (and in Samba's database).
my $hash = Lab::Smb::accounts()->{anna}->{hash};
my @with_hash = grep { !m!\A/run/lab/! } map { Lab::Box::files_with($_, qw(/etc /run /srv /tmp /var/lib /var/log)) } uc($hash), lc($hash);
ok(!(grep { !m!/gateways/[^/]+\.json\z! } @with_hash), 'the NT hash lies in the gateway record only') or diag(explain(\@with_hash));
for my $file (@with_hash) {
    my @st = stat($file);
    is(sprintf('%04o %d', $st[2] & 07777, $st[4]), '0600 0', "$file is for root only");
}
unlike($canary->printed(), qr/\Q$hash\E/i, 'and no command printed it');

traced('delete', 'works', sub { Lab::Product::remove('office', @_) });

my $calls = () = $canary->recorded() =~ m/execve\(/g;
cmp_ok($calls, '>', 20, "$calls execve calls were recorded");
$canary->silent(@CANARY);
ok(index($log->(), $_) < 0, 'not in the system log') for @CANARY;
is_deeply([files()], [], 'in no file');

done_testing();
