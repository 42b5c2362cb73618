# SPDX-License-Identifier: MIT OR Apache-2.0

# The same share as Proxmox's storage command makes it: pvesm -> plugin hooks -> library -> a real smbd. Stand-in modules play
# Proxmox's part; everything else is real.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use Test::More;

use Lab::Box;
use Lab::Product;
use Lab::Smb;

Lab::Product::enter();
Lab::Product::through_proxmox() or Lab::Box::skip_all('there is no tests/pve');

my $PASSWORD = 'pvesm asks for it';
mkdir('/srv/office');

sub pvesm_ok {
    my ($name, @call) = @_;
    my $r = Lab::Product::pvesm(@call);
    my $ok = ok(defined($r->{rc}) && $r->{rc} == 0, $name) or diag($r->{all});
    return $ok;
}

sub works { my ($user) = @_; return Lab::Smb::round_trip($user // 'anna', $PASSWORD, 'office', 'x.txt', "x\n") }

pvesm_ok('a storage of another type', ['add', 'dir', 'backup', '--path', '/srv/backup', '--content', 'images']);
my $before = Lab::Product::footprint();
my $sections = Lab::Box::slurp($Lab::Product::SECTIONS);

pvesm_ok('pvesm add', ['add', 'smbgateway', 'office', '--path', '/srv/office', '--smbgw-mode', 'native', '--username', 'anna'], password => $PASSWORD) or BAIL_OUT('no share to test');
is(Lab::Box::until_true(sub { works() eq 'OK' }) ? 'OK' : works(), 'OK', 'the user logs in, writes and reads');
my $text = Lab::Box::slurp($Lab::Product::SECTIONS);
like($text, qr/^smbgateway: office$/m, 'the section is there');
unlike($text, qr/\Q$PASSWORD\E/, 'without the password');
like($text, qr/^\tnodes box$/m, 'and names the one node that serves it');
is(index($text, $sections =~ s/\n+\z//r) >= 0 ? 1 : 0, 1, 'the foreign sections are as they were');
my $r = Lab::Product::pvesm(['status']);
like($r->{out}, qr/^office\s+smbgateway\s+active\s+[1-9]\d*\s+\d+\s+[1-9]\d*/m, 'pvesm status: active, with numbers') or diag($r->{all});

is(Lab::Product::user('create', 'ben', password => $PASSWORD)->{rc}, 0, 'a second user');
pvesm_ok('pvesm set --smbgw-access', ['set', 'office', '--smbgw-access', 'rw:anna,rw:ben']);
is(Lab::Box::until_true(sub { works('ben') eq 'OK' }) ? 'OK' : works('ben'), 'OK', 'ben writes too');

my $held = Lab::Smb::hold('ben', $PASSWORD, 'office');
pvesm_ok('pvesm set --disable', ['set', 'office', '--disable', '1']);
is($held->wait_end(15), 'NT_STATUS_NETWORK_NAME_DELETED', 'it is not served any more');
$held->stop();
pvesm_ok('pvesm set --disable 0', ['set', 'office', '--disable', '0']);
is(Lab::Box::until_true(sub { works() eq 'OK' }) ? 'OK' : works(), 'OK', 'and is again');

$r = Lab::Product::pvesm(['add', 'smbgateway', 'inside', '--path', '/srv/office/sub', '--smbgw-mode', 'native']);
isnt($r->{rc}, 0, 'a second storage inside the tree is refused');
unlike(Lab::Box::slurp($Lab::Product::SECTIONS), qr/inside/, 'and leaves no section');

pvesm_ok('pvesm remove', ['remove', 'office']);
my @left;
Lab::Box::until_true(sub { !(@left = Lab::Product::left_behind($before, Lab::Product::footprint())) });
is(join('', map { "$_\n" } @left), '', 'nothing is left');
is(Lab::Box::slurp($Lab::Product::SECTIONS) =~ s/\s+\z//r, $sections =~ s/\s+\z//r, 'the other sections are as before');
ok(-e '/srv/office/x.txt', 'the data is still there');

# a hook that fails must take back its own work: Samba's client, needed for the proof, is away
Lab::Box::hide_programs('/usr/bin/smbclient');
$r = Lab::Product::pvesm(['add', 'smbgateway', 'office', '--path', '/srv/office', '--smbgw-mode', 'native', '--username', 'anna'], password => $PASSWORD);
Lab::Box::restore_programs();
isnt($r->{rc}, 0, 'an add that fails at its proof fails');
like($r->{all}, qr/smbclient/, 'and says why') or diag($r->{all});
Lab::Box::until_true(sub { !(@left = Lab::Product::left_behind($before, Lab::Product::footprint())) }, 5);
is(join('', map { "$_\n" } @left), '', 'and leaves nothing');

done_testing();
