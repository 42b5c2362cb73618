# SPDX-License-Identifier: MIT OR Apache-2.0

# The doctor on a real machine: a healthy one with a share has nothing worse than notes; what is broken is named by its code, with a
# remedy that helps where it is a command of ours.

use strict;
use warnings;
use utf8;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use Test::More;

use Lab::Box;
use Lab::Product;
use Lab::Smb;

Lab::Product::enter();

sub call_ok {
    my ($name, $r) = @_;
    return ok(defined($r->{rc}) && $r->{rc} == 0, $name) || !diag(Lab::Product::words_of($r));
}

# { code => finding } of what is not well, and the exit status.
sub doctor {
    my $r = Lab::Product::call(['doctor']);
    return ({ map { $_->{code} => $_ } grep { $_->{code} ne 'ok' } @{ $r->{data}->{findings} } }, $r->{rc}, $r);
}

my ($found, $rc, $r) = doctor();
is($rc, 0, 'a machine without shares needs nothing') or diag(Lab::Product::words_of($r));

mkdir('/srv/office');
call_ok('a share', Lab::Product::create('office', { path => '/srv/office', username => 'anna' }, password => 'anna-anna-anna'));
call_ok('the worker comes by', Lab::Product::call(['reconcile']));
($found, $rc, $r) = doctor();
is($rc, 0, 'a healthy machine with a share') or diag(explain($found));
is_deeply([grep { $found->{$_}->{severity} !~ m/\Anote\z/ } sort keys %$found], [], 'has nothing worse than notes');
my %check = map { $_->{check} => $_ } @{ $r->{data}->{findings} };
is(scalar(keys %check), 11, 'each check is told of');
my ($version) = Lab::Box::run(['smbd', '--version'])->{out} =~ m/(\d[\d.]+)/;
like($check{version}->{saw}, qr/\bSamba \Q$version\E/, 'the version is that of smbd');
my $text = Lab::Product::call(['doctor'], text => 1);
like($text->{out}, qr/^ok +samba +gateway native: smbd runs/m, 'in words');
like($text->{out}, qr/^NOTE .*\n +means: .*\n +remedy: /m, 'a note with meaning and remedy');

# --- broken ---------------------------------------------------------------------------------------------------------------

chmod(0644, "$Lab::Product::STATE/gateways/" . File::Basename::basename((glob("$Lab::Product::STATE/gateways/*.json"))[0])) or die;
Lab::Box::run(['smbpasswd', '-x', 'anna']);
Lab::Smb::stop();
my $main = Lab::Box::slurp(Lab::Smb::CONF);
# the marker and the line; of the two alone repair would not make sense, and says so
Lab::Box::spew(Lab::Smb::CONF, $main =~ s/^.*\n(?=.*smbgw\.conf)//mr =~ s/^.*smbgw\.conf.*\n//mr, 0644);
($found, $rc, $r) = doctor();
is($rc, 10, 'broken: exit 10');
for my $code (qw(mode-too-open smbd-down include-missing repair-due)) {
    ok($found->{$code}, "$code is found") or diag(join(' ', sort keys %$found));
    like($found->{$code}->{remedy} // '', qr/\S/, '... with a remedy');
}
like(Lab::Product::call(['doctor'], text => 1)->{out}, qr/^ERROR +samba .*\n +means: smbd does not run.*\(smbd-down\)\n +remedy: pve-smbgateway repair native$/m, 'in words');
unlike($text->{out} . $r->{out}, qr/anna-anna-anna/, 'no password is told');

call_ok('the remedy that is named', Lab::Product::call(['repair', 'native']));
chmod(0600, glob("$Lab::Product::STATE/gateways/*.json"));
($found, $rc) = doctor();
is($rc, 0, 'then all is well again') or diag(explain($found));

call_ok('removed', Lab::Product::remove('office'));
($found, $rc) = doctor();
is($rc, 0, 'and without the share') or diag(explain($found));

done_testing();
