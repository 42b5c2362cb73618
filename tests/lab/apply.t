# SPDX-License-Identifier: MIT OR Apache-2.0

# Fifty shares by one document on a real smbd: refused as a whole, created, left alone, changed, removed. A session in one of them that
# nothing is changed about goes on all the time.

use strict;
use warnings;
use utf8;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use JSON::PP ();
use Test::More;
use Time::HiRes ();

use Lab::Box;
use Lab::Product;
use Lab::Smb;

Lab::Product::enter();
binmode(Test::More->builder->$_(), ':utf8') for qw(output failure_output todo_output);

# Fewer on a machine that has no time, but ten at least.
use constant MANY => $ENV{SMBGW_LAB_SHARES} // ($ENV{SMBGW_ALL} ? 50 : 12);
my $PASSWORD = 'fünfzig & "eine"';
my @ids = map { sprintf('share%02d', $_) } 1 .. MANY;

my $before = Lab::Product::footprint();
mkdir("/srv/$_") for @ids;
Lab::Box::spew('/root/anna.pw', do { my $p = "$PASSWORD\n"; utf8::encode($p); $p }, 0600);

my %shares = map { ($_ => { path => "/srv/$_", 'smbgw-mode' => 'native', 'smbgw-access' => 'rw:anna' }) } @ids;
$shares{ $ids[0] } = { %{ $shares{ $ids[0] } }, username => 'anna', 'password-file' => '/root/anna.pw' };

sub apply {
    my ($shares, @words) = @_;
    Lab::Box::spew('/root/doc', JSON::PP->new->utf8->canonical->encode({ version => 1, shares => $shares }), 0600);
    my $began = Time::HiRes::time();
    my $r = Lab::Product::call(['apply', '-f', '/root/doc', @words], timeout => 600);
    diag(sprintf('apply %s: %.1f s', join(' ', @words), Time::HiRes::time() - $began));
    return $r;
}

sub counts { my ($r) = @_; return { map { ($_ => $r->{data}->{$_}) } grep { $r->{data}->{$_} } qw(ok unchanged failed skipped) } }
sub stanzas { return [sort grep { m/\Ashare\d/ } keys %{ Lab::Smb::effective() }] }
sub octets { my ($text) = @_; utf8::encode($text); return $text }

# --- all of it is looked at first
my $r = apply({ %shares, share07 => { %{ $shares{share07} }, path => '/etc' }, share08 => { %{ $shares{share08} }, path => '/srv/nosuch' }, share09 => { %{ $shares{share09} }, share => 'a/b' } });
is($r->{rc}, 1, 'three impossible shares of fifty') or diag(Lab::Product::words_of($r));
is_deeply([map { $_->{property} } @{ $r->{error}->{problems} }], ['shares.share07.path', 'shares.share08.path', 'shares.share09.share'], 'all of them are named');
is_deeply([Lab::Product::left_behind($before, Lab::Product::footprint())], [], 'nothing was done');

# --- created
$r = apply(\%shares);
is($r->{rc}, 0, 'fifty shares are created') or diag(Lab::Product::words_of($r));
is_deeply(counts($r), { ok => MANY }, 'each of them');
is_deeply(stanzas(), \@ids, 'and served');
is(Lab::Smb::round_trip('anna', octets($PASSWORD), $_, 'a.txt', "to $_\n"), 'OK', "anna works in $_") for @ids[0, MANY / 2, MANY - 1];
unlike(Lab::Box::slurp($Lab::Product::SECTIONS) . $r->{out}, qr/nfzig|anna\.pw/, 'the password and its file are named nowhere');
my %state = map { ($_->{id} => $_->{state}) } @{ Lab::Product::call(['status'])->{data} };
is_deeply(\%state, { map { ($_ => 'ready') } @ids }, 'status: all are ready');
my $session = Lab::Smb::hold('anna', octets($PASSWORD), 'share02');
ok($session->writes(), 'a session is open') or diag($session->ended());

# --- the same again
my $conf = Lab::Box::slurp($Lab::Product::OWN_CONF);
$r = apply(\%shares);
is_deeply(counts($r), { unchanged => MANY }, 'the same document again: unchanged') or diag(Lab::Product::words_of($r));
is(Lab::Box::slurp($Lab::Product::OWN_CONF), $conf, 'the configuration is as it was');
my $shown = Lab::Product::call(['show']);
$r = apply($shown->{data}->{shares}, '--dry-run');
is_deeply(counts($r), { unchanged => MANY }, 'and so is what show prints') or diag(Lab::Product::words_of($r));

# --- changed
my @changed = @ids[2 .. 6];
$shares{$_} = { %{ $shares{$_} }, share => "Ablage $_", 'smbgw-access' => 'ro:anna' } for @changed;
$r = apply(\%shares);
is_deeply(counts($r), { ok => 5, unchanged => MANY - 5 }, 'five are changed') or diag(Lab::Product::words_of($r));
like(Lab::Smb::client('anna', octets($PASSWORD), "Ablage $changed[0]", 'mkdir x')->{status}, qr/\ANT_STATUS_(?:ACCESS_DENIED|MEDIA_WRITE_PROTECTED)\z/, 'anna may only read there now');
is(Lab::Smb::client('anna', octets($PASSWORD), $changed[0], 'ls')->{status}, 'NT_STATUS_BAD_NETWORK_NAME', 'under the new name alone');
ok($session->goes_on(), 'the session in another share goes on') or diag($session->ended());

# --- half of it removed
my %half = map { ($_ => $shares{$_}) } @ids[0 .. MANY / 2 - 1];
$r = apply(\%half);
is_deeply(counts($r), { unchanged => MANY / 2 }, 'what is not named stays') or diag(Lab::Product::words_of($r));
$r = apply(\%half, '--prune');
is_deeply(counts($r), { ok => MANY / 2, unchanged => MANY / 2 }, 'unless --prune is said') or diag(Lab::Product::words_of($r));
is(Lab::Smb::client('anna', octets($PASSWORD), $ids[-1], 'ls')->{status}, 'NT_STATUS_BAD_NETWORK_NAME', 'a removed share is not served');
ok(-e "/srv/$ids[-1]/a.txt", 'its data is there');
ok($session->goes_on(), 'the session goes on') or diag($session->ended());
$session->stop();

# --- nothing is left
$r = Lab::Product::call(['delete', @ids[0 .. MANY / 2 - 1]], timeout => 600);
is($r->{rc}, 0, 'the rest is removed by one command') or diag(Lab::Product::words_of($r));
Lab::Box::until_true(sub { !Lab::Smb::listening() }, 5);
my @left = grep { !m!/root/! } Lab::Product::left_behind($before, Lab::Product::footprint());
is(join("\n", grep { !m/anna/ } @left), '', 'and nothing is left but the account that owns files') or diag(join("\n", @left));

# --- the same through Proxmox's storage stack
subtest 'on Proxmox' => sub {
    Lab::Product::through_proxmox() or return plan(skip_all => 'there is no tests/pve');
    my %three = map { ($_ => { path => "/srv/$_", 'smbgw-mode' => 'native' }) } @ids[0 .. 2];
    $three{ $ids[0] } = { %{ $three{ $ids[0] } }, username => 'anna', 'password-file' => '/root/anna.pw' };
    $r = apply(\%three);
    is_deeply(counts($r), { ok => 3 }, 'three shares are created') or diag(Lab::Product::words_of($r));
    is(Lab::Smb::round_trip('anna', octets($PASSWORD), $ids[0], 'b.txt', "again\n"), 'OK', 'anna works in hers');
    $r = apply(\%three);
    is_deeply(counts($r), { unchanged => 3 }, 'again: unchanged') or diag(Lab::Product::words_of($r));
    is_deeply(counts(apply(Lab::Product::call(['show'])->{data}->{shares})), { unchanged => 3 }, 'and what show prints');
    $three{ $ids[1] }->{share} = 'Ablage';
    delete($three{ $ids[2] });
    $r = apply(\%three, '--prune');
    is_deeply({ map { ($_->{id} => "$_->{action} $_->{result}") } @{ $r->{data}->{items} } }, { $ids[0] => 'none unchanged', $ids[1] => 'change ok', $ids[2] => 'remove ok' }, 'changed and removed') or diag(Lab::Product::words_of($r));
    is_deeply([Lab::Box::slurp($Lab::Product::SECTIONS) =~ m/^smbgateway: (\S+)/mg], [@ids[0, 1]], 'so says storage.cfg');
    $r = apply({}, '--prune');
    is_deeply(counts($r), { ok => 2 }, 'an empty document with --prune removes all') or diag(Lab::Product::words_of($r));
};

done_testing();
