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
my ($scrape, $current);

sub scrape {
    my $r = Lab::Product::native('scrape', {});
    $scrape = $r;
    $current = JSON::PP->new->utf8->decode(Lab::Box::slurp("$Lab::Product::RUN/metrics/current.json"));
    return $current;
}

print STDERR "start\n";
Lab::Smb::start();
mkdir("/srv/$_") for qw(office lab);
my $r = Lab::Product::create('office', { path => '/srv/office', username => 'anna' }, password => $PASSWORD{anna});
is($r->{rc}, 0, 'a share') or BAIL_OUT(Lab::Product::words_of($r));
is(Lab::Product::user('create', 'ben', password => $PASSWORD{ben})->{rc}, 0, 'ben');
is(Lab::Product::create('lab', { path => '/srv/lab', share => 'Lab Süd', 'smbgw-access' => 'rw:ben' })->{rc}, 0, 'another one');
scrape();
diag(JSON::PP->new->pretty->canonical->encode($current));
done_testing();
