# SPDX-License-Identifier: MIT OR Apache-2.0

# Fifty shares by one document on a real smbd: refused as a whole, created, left alone, changed, removed. A session in one of them that
# nothing is changed about goes on all the time. Shares that come in addition have one reload of smbd together, whatever fails or dies on the way.

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
Lab::Box::spew('/run/lab/anna.pw', do { my $p = "$PASSWORD\n"; utf8::encode($p); $p }, 0600);

my %shares = map { ($_ => { path => "/srv/$_", 'smbgw-mode' => 'native', 'smbgw-access' => 'rw:anna' }) } @ids;
$shares{ $ids[0] } = { %{ $shares{ $ids[0] } }, username => 'anna', 'password-file' => '/run/lab/anna.pw' };

sub apply {
    my ($shares, @words) = @_;
    my $gateways = ref($words[0]) ? { gateways => shift(@words) } : {};
    Lab::Box::spew('/run/lab/doc', JSON::PP->new->utf8->canonical->encode({ version => 1, shares => $shares, %$gateways }), 0600);
    my $began = Time::HiRes::time();
    my $r = Lab::Product::call(['apply', '-f', '/run/lab/doc', @words], timeout => 600);
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

# How often operations had smbd read its configuration: steps that were done, forwards or back, by the journals.
sub reloads {
    my ($n, $json) = (0, JSON::PP->new->utf8);
    for my $journal (glob("$Lab::Product::STATE/ops/*.jsonl")) {
        my @steps;
        for my $event (map { $json->decode(s/\A\S+ //r) } split(/\n/, Lab::Box::slurp($journal))) {
            push @steps, map { $_->{id} } @{ $event->{steps} } if $event->{event} eq 'planned';
            $n++ if $event->{event} eq 'done' && $steps[ $event->{step} ] eq 'samba/reload';
        }
    }
    return $n;
}
sub operations { my ($op) = @_; return scalar(grep { $_->{op} eq $op } @{ Lab::Product::call(['audit', '--limit', 1000])->{data}->{entries} }) }

# --- created
$r = apply(\%shares);
is($r->{rc}, 0, 'fifty shares are created') or diag(Lab::Product::words_of($r));
is_deeply(counts($r), { ok => MANY }, 'each of them');
is_deeply(stanzas(), \@ids, 'and served');
is_deeply([reloads(), operations('gateway.reload')], [1, 1], 'smbd was started with the first and told of all others at once');
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
is_deeply([reloads(), operations('gateway.reload')], [6, 1], 'each with its own reload, for it takes something away');
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
my @left = grep { !m!/run/lab/! } Lab::Product::left_behind($before, Lab::Product::footprint());
is(join("\n", grep { !m/anna/ } @left), '', 'and nothing is left but the account that owns files') or diag(join("\n", @left));

# --- what smbd itself says of its reloads, and what a session knows that was open before
my %few = map { ($_ => { path => "/srv/$_", 'smbgw-mode' => 'native', 'smbgw-access' => 'rw:anna' }) } @ids[0 .. 6];
$few{ $ids[0] } = { %{ $few{ $ids[0] } }, username => 'anna', 'password-file' => '/run/lab/anna.pw' };
my $stock = Lab::Box::slurp(Lab::Smb::CONF);
Lab::Smb::foreign("   log level = 10\n   max log size = 0\n");
my $document = sub { return { map { ($ids[$_] => $few{ $ids[$_] }) } @_ } };

# smbd with one share, which tells of each reload, and a session in it; gives a look at what it knows, and the count of reloads since.
sub one_share {
    my $r = apply($document->(0));
    is_deeply(counts($r), { ok => 1 }, 'one share') or diag(Lab::Product::words_of($r));
    my $told = sub { return scalar(() = Lab::Box::slurp('/var/log/samba/log.smbd') =~ m/Got message saying smb\.conf was updated/g) };
    Lab::Box::run(['smbcontrol', 'all', 'reload-config']);
    ok(Lab::Box::until_true($told), 'smbd says when it is told');
    my $before = $told->();
    my $visit = Lab::Smb::visit('anna', octets($PASSWORD), $ids[0]);
    is($visit->{status}, 'OK', 'a session is open');
    return ($visit, sub { Time::HiRes::sleep(0.3); return $told->() - $before });
}

sub none_left {
    my ($visit) = @_;
    $visit->stop();
    my $r = apply({}, '--prune');
    is($r->{rc}, 0, 'all of it is removed') or diag(Lab::Product::words_of($r));
    Lab::Box::until_true(sub { !Lab::Smb::listening() }, 5);
    unlink('/var/log/samba/log.smbd');
    return;
}

sub all_seen { my ($visit, @n) = @_; return join(' ', map { $visit->sees($ids[$_]) } @n) }

subtest 'one reload' => sub {
    my ($visit, $told) = one_share();
    is($visit->sees($ids[1]), 'NT_STATUS_BAD_NETWORK_NAME', 'what is not there yet it does not see');
    my $r = apply($document->(0 .. 6));
    is_deeply(counts($r), { ok => 6, unchanged => 1 }, 'six more') or diag(Lab::Product::words_of($r));
    is($told->(), 1, 'smbd was told once');
    is(all_seen($visit, 1 .. 6), join(' ', ('OK') x 6), 'the session sees all of them');

    my $wider = $document->(0 .. 6);
    $wider->{$_} = { %{ $wider->{$_} }, 'smbgw-access' => 'rw:anna,rw:ben' } for keys %$wider;
    $r = apply($wider, { native => { users => { ben => { 'password-file' => '/run/lab/anna.pw' } } } });
    is_deeply(counts($r), { ok => 8 }, 'somebody new in all of them') or diag(Lab::Product::words_of($r));
    is($told->(), 2, 'smbd was told once');
    is(Lab::Smb::round_trip('ben', octets($PASSWORD), $ids[$_], 'ben.txt', "ben\n"), 'OK', "ben works in $ids[$_]") for 0, 6;
    my $ben = Lab::Smb::visit('ben', octets($PASSWORD), $ids[2]);
    $r = apply({ %$wider, map { ($ids[$_] => { %{ $wider->{ $ids[$_] } }, 'smbgw-access' => 'rw:anna' }) } 1, 2 });
    is_deeply(counts($r), { ok => 2, unchanged => 5 }, 'not in two of them any more') or diag(Lab::Product::words_of($r));
    is($told->(), 4, 'smbd was told of each at once');
    is($ben->sees($ids[2]), 'NT_STATUS_ACCESS_DENIED', 'and so was a session that was open');
    $ben->stop();
    none_left($visit);
};

subtest 'one of them fails' => sub {
    my ($visit, $told) = one_share();
    # the proof cannot write its file
    mkdir("/srv/$ids[3]/.smbgw-probe");
    my $r = apply($document->(0 .. 6));
    is_deeply(counts($r), { ok => 5, failed => 1, unchanged => 1 }, 'it is the only one') or diag(Lab::Product::words_of($r));
    is_deeply([map { $_->{id} } grep { $_->{result} eq 'failed' } @{ $r->{data}->{items} }], [$ids[3]], 'by its name');
    is($told->(), 2, 'smbd was told when it was taken back, and once of the others');
    is(all_seen($visit, 1 .. 6), join(' ', map { $_ == 3 ? 'NT_STATUS_BAD_NETWORK_NAME' : 'OK' } 1 .. 6), 'the session sees the others');
    is(Lab::Smb::client('anna', octets($PASSWORD), $ids[3], 'ls')->{status}, 'NT_STATUS_BAD_NETWORK_NAME', 'nobody sees it');
    none_left($visit);

    ($visit, $told) = one_share();
    $r = apply($document->(0 .. 6), '--on-error', 'stop');
    is_deeply(counts($r), { ok => 2, failed => 1, skipped => 3, unchanged => 1 }, '--on-error stop: nothing after it') or diag(Lab::Product::words_of($r));
    is($told->(), 2, 'and smbd is told of those before');
    is(all_seen($visit, 1 .. 6), join(' ', map { $_ < 3 ? 'OK' : 'NT_STATUS_BAD_NETWORK_NAME' } 1 .. 6), 'which the session sees');
    rmdir("/srv/$ids[3]/.smbgw-probe");
    none_left($visit);
};

subtest 'killed in the middle' => sub {
    my ($visit, $told) = one_share();
    Lab::Box::spew('/run/lab/doc', JSON::PP->new->utf8->canonical->encode({ version => 1, shares => $document->(0 .. 6) }), 0600);
    my $record = sub { return eval { JSON::PP->new->utf8->decode(Lab::Box::slurp((glob("$Lab::Product::STATE/gateways/*.json"))[0])) } // {} };
    my $pid = Lab::Product::spawn(['apply', '-f', '/run/lab/doc']);
    my $third = Lab::Box::until_true(sub { (($record->()->{shares}->{ $ids[3] } // {})->{state} // '') eq 'building' }, 60);
    my $processes = Lab::Box::processes();
    kill('KILL', $pid, grep { $processes->{$_}->{ppid} == $pid } keys %$processes);
    waitpid($pid, 0);
    ok($third, 'while the third is built');
    ok(defined($record->()->{'reload-due'}), 'somebody has to tell smbd');
    is($told->(), 0, 'nobody has');
    is(Lab::Smb::client('anna', octets($PASSWORD), $ids[1], 'ls')->{status}, 'OK', 'who connects now is served');
    # the worker gives others half a minute
    my ($file) = glob("$Lab::Product::STATE/gateways/*.json");
    Lab::Box::spew($file, Lab::Box::slurp($file) =~ s/("reload-due"\s*:\s*)(\d+)/$1 . ($2 - 31_000)/er, 0600);
    my $r = Lab::Product::call(['reconcile']);
    is($r->{rc}, 0, 'the worker comes by') or diag(Lab::Product::words_of($r));
    ok(!defined($record->()->{'reload-due'}), 'and tells');
    is(all_seen($visit, 1, 2, 3), 'OK OK NT_STATUS_BAD_NETWORK_NAME', 'the session sees what is there, and not what was taken back');
    $r = apply($document->(0 .. 6));
    is(all_seen($visit, 1 .. 6), join(' ', ('OK') x 6), 'the same document again: all of it') or diag(Lab::Product::words_of($r));
    none_left($visit);
};

Lab::Box::spew(Lab::Smb::CONF, $stock, 0644);

# --- the same through Proxmox's storage stack
subtest 'on Proxmox' => sub {
    Lab::Product::through_proxmox() or return plan(skip_all => 'there is no tests/pve');
    my $reloads = reloads();
    my %three = map { ($_ => { path => "/srv/$_", 'smbgw-mode' => 'native' }) } @ids[0 .. 2];
    $three{ $ids[0] } = { %{ $three{ $ids[0] } }, username => 'anna', 'password-file' => '/run/lab/anna.pw' };
    $r = apply(\%three);
    is_deeply(counts($r), { ok => 3 }, 'three shares are created') or diag(Lab::Product::words_of($r));
    is(reloads() - $reloads, 1, 'with one reload');
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
