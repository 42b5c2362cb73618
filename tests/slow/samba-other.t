# SPDX-License-Identifier: MIT OR Apache-2.0

# Another Samba than this machine's, that of the other Debian that the product is for, in a real container: two shares, a client that uses both on one
# connection, and what is counted of each. What a Samba does not count is absent.

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use lib File::Basename::dirname(Cwd::realpath(__FILE__)) . '/../lab/lib';

use Test::More;
use Time::HiRes ();

use Lab::Box;
use Lab::Figures;
use Lab::Guests;
use Lab::Product;
use Lab::RawClient;
use Lab::Smb;

BEGIN { $ENV{SMBGW_TEMPLATE_SUITE} //= Lab::Guests::own_suite() eq 'bookworm' ? 'trixie' : 'bookworm' }

Lab::Product::enter_node();
END { Lab::Guests::stop_all() if defined($ENV{SMBGW_LAB_BOX}) }

my $PASSWORD = 'another Samba 1';
my $ADDRESS = '192.0.2.40';
my @NET = ('smbgw-mode' => 'lxc', 'smbgw-gateway' => 'files', 'smbgw-net' => "ip=$ADDRESS/24,gw=$Lab::Guests::HOST,ip6=none");
my @COUNTED = qw(written_bytes read_bytes write_operations read_operations);
mkdir("/srv/$_") for qw(office lab);

sub value { return Lab::Figures::value(@_) }
sub of { my ($object) = @_; return [map { value($object, $_) } @COUNTED] }

sub is_made {
    my ($id, %o) = @_;
    my $r = Lab::Product::create($id, { path => "/srv/$id", @NET, %{ $o{properties} } }, password => $o{password}, timeout => 180);
    is($r->{rc}, 0, "$id is made") or BAIL_OUT(Lab::Product::words_of($r));
    return;
}

is_made('office', properties => { username => 'anna' }, password => $PASSWORD);
is_made('lab', properties => { 'smbgw-access' => 'rw:anna' });
my ($gateway) = grep { $_->{gateway} eq 'files' } @{ Lab::Product::call(['gateway', 'list'])->{data}->{gateways} };
my $vmid = $gateway->{container}->{vmid};
my ($version) = Lab::Guests::exec($vmid, ['/usr/sbin/smbd', '--version'])->{out} =~ m/^Version (\d+\.\d+)/;
my $by_share = $version >= 4.23;
note("Samba $version in container $vmid");
cmp_ok($version, '!=', Lab::Box::run(['/usr/sbin/smbd', '--version'])->{out} =~ m/^Version (\d+\.\d+)/, 'it is another Samba than the machine\'s');

subtest 'it is as the product wants it' => sub {
    is(Lab::Product::status($_)->{state}, 'ready', "$_ is ready") for qw(office lab);
    is(Lab::Smb::client('anna', $PASSWORD, 'office', 'put /etc/hostname a; get a /run/lab/a; del a', extra => ['-I', $ADDRESS])->{status}, 'OK', 'a client writes and reads');
    my $drift = Lab::Product::call(['reconcile', '--once'], timeout => 120);
    is($drift->{rc}, 0, 'the worker finds nothing wrong') or diag($drift->{all});
    my $testparm = Lab::Guests::exec($vmid, ['testparm', '-s'])->{all};
    unlike($testparm, qr/unknown parameter|ignoring|deprecated/i, 'its Samba knows every parameter that was written');
    like($testparm, $by_share ? qr/smbd profiling share = Yes/ : qr/smbd profiling level = on/, 'and counts');
    my $doctor = Lab::Product::call(['doctor', '--gateway', 'files'], timeout => 120);
    is_deeply([grep { m/samba/ } map { $_->{code} } @{ $doctor->{data}->{findings} // [] }], [], 'the doctor has nothing against it') or diag(explain($doctor->{data}));
};

subtest 'full control' => sub {
    my $acl = sub { return join("\n", Lab::Guests::exec($vmid, ['sharesec', '--configfile=/etc/samba/smbgw.conf', 'office', '--view'])->{out} =~ m/^ACL:(.*)/mg) };
    my $before = $acl->();
    my $r = Lab::Product::set('office', { 'smbgw-access' => 'full:anna' }, timeout => 60);
    is($r->{rc}, 0, 'it is given') or diag(Lab::Product::words_of($r));
    like($acl->(), qr!^S-1-22-1-\d+:ALLOWED/0x0/FULL!m, '... by a share ACL');
    is(Lab::Product::call(['reconcile', '--once'], timeout => 120)->{rc}, 0, '... which the worker finds as it was left');
    $r = Lab::Product::set('office', { 'smbgw-access' => 'rw:anna' }, timeout => 60);
    is($r->{rc}, 0, 'it is taken away') or diag(Lab::Product::words_of($r));
    is($acl->(), $before, '... with the ACL');
};

# A machine has one connection for all shares.
my $client = Lab::RawClient::arrive(host => $ADDRESS, user => 'anna', password => $PASSWORD, share => 'office');

sub traffic {
    my ($share, $writes, $size, $reads) = @_;
    my $file = $client->in($share)->open_file("$share.dat");
    is($client->write_file($file, 'x' x $size), 'OK', "$share: a write") for 1 .. $writes;
    is($client->read_file($file, $size), 'OK', "$share: a read") for 1 .. $reads;
    return $file;
}

# smbd writes its counters down at most half a second late.
sub look { Time::HiRes::sleep(1.5); Lab::Figures::scrape_all(); is_deeply([Lab::Figures::silent()], [], 'every source tells'); return }

subtest 'a client with one share' => sub {
    look();
    traffic('office', 1, 100, 1);
    look();
    my $before = of('office');
    my $whole = of('files');
    is(value('files', 'sessions'), 1, 'its session');
    is_deeply([map { value($_, 'tree_connects') } qw(office lab)], [1, 0], '... is with one of the shares');
    traffic('office', 3, 1000, 2);
    look();
    my $grown = sub { my ($object, $from) = @_; my $now = of($object); return [map { $now->[$_] - $from->[$_] } 0 .. $#COUNTED] };
    is_deeply($grown->('office', $before), [3000, 2000, 3, 2], 'all that it did is that share\'s, exactly');
    is_deeply($grown->('files', $whole), [3000, 2000, 3, 2], '... and the gateway\'s');
};

subtest 'and with two on one connection' => sub {
    traffic('lab', 1, 100, 1);
    look();
    is_deeply([map { value($_, 'tree_connects') } qw(office lab)], [1, 1], 'it is with both');
    my %before = map { $_ => of($_) } qw(office lab files);
    traffic('office', 2, 500, 4);
    traffic('lab', 5, 300, 1);
    look();
    my %grown = map { my $o = $_; my $now = of($o); $o => [map { $now->[$_] - $before{$o}->[$_] } 0 .. $#COUNTED] } keys %before;
    is_deeply($grown{files}, [2500, 2300, 7, 5], 'the gateway has all of it');
    is_deeply($grown{office}, $by_share ? [1000, 2000, 2, 4] : [0, 0, 0, 0], $by_share ? 'the first share its part' : 'whose it was nobody knows');
    is_deeply($grown{lab}, $by_share ? [1500, 300, 5, 1] : [0, 0, 0, 0], $by_share ? 'the second its own' : '... of the second neither');
};

subtest 'what fails' => sub {
    my $failed = value('office', 'failed_operations');
    if (!$by_share) {
        is_deeply([$failed, value('files', 'failed_operations')], [undef, undef], 'is not counted by this Samba, and so absent');
        return;
    }
    my ($one, $other) = map { $client->in('office')->open_file('office.dat') } 1 .. 2;
    is($client->write_file($one, 'x' x 10), 'OK', 'somebody writes');
    isnt($client->in('lab')->read_file($client->open_file('empty.dat'), 4), 'OK', 'a read behind the end of a file is no failure');
    $client->in('office')->lock_file($one, 0, 10);
    isnt($client->read_file($other, 4), 'OK', 'a read of what another one has locked is') for 1 .. 3;
    isnt($client->write_file($other, 'y'), 'OK', '... and so is a write');
    look();
    is(value('office', 'failed_operations') - $failed, 4, 'four are counted');
    is(value('lab', 'failed_operations'), 0, '... for the share that it was, and no other');
};

done_testing();
