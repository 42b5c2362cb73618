# SPDX-License-Identifier: AGPL-3.0-or-later
# Sections survive: whatever stands in storage.cfg, the stack works, other storages work, and a write keeps what was there.

use strict;
use warnings;
use utf8;

use Test::More;
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;

my $rewrite = 'load_stack(); my $ids; PVE::Storage::lock_storage_config(sub { my $cfg = PVE::Storage::config(); $ids = [sort keys %{ $cfg->{ids} }]; PVE::Storage::write_config($cfg) }); return { ids => $ids, info => PVE::Storage::storage_info(PVE::Storage::config()) };';
my $local = "dir: local\n\tpath %s\n\tcontent iso\n\n";

sub lines { my ($text, $id) = @_; my ($s) = $text =~ m/^(\w+: \Q$id\E\n(?:\t.*\n)*)/m; return join('', sort split(/(?<=\n)/, $s // '')) }

for my $api (Harness::api_versions()) {
    note("API $api->[0]");
    my $section = "smbgateway: office\n\tpath /srv/office\n\tcontent none\n\tnodes pve1\n\tshare B\xc3\xbcro\n\tsmbgw-access rw:\@staff,ro:anna\n\tsmbgw-gateway native\n\tsmbgw-mode native\n";
    my %case = (
        'complete' => [$section, $section],
        'disabled' => [$section . "\tdisable\n", $section . "\tdisable\n"],
        'a value of a later version' => [$section . "\tsmbgw-profile hologram\n\tsmbgw-security paranoid\n", $section . "\tsmbgw-profile hologram\n\tsmbgw-security paranoid\n"],
        'numbers' => [$section . "\tsmbgw-memory 512\n\tsmbgw-vmid 100\n", $section . "\tsmbgw-memory 512\n\tsmbgw-vmid 100\n"],
        'numbers of a later version' => [$section . "\tsmbgw-memory 512M\n\tsmbgw-cores auto\n\tsmbgw-swap -1\n", $section . "\tsmbgw-memory 512M\n\tsmbgw-cores auto\n\tsmbgw-swap -1\n"],
        'two content types that exclude each other' => [$section =~ s/content none/content none,iso/r, undef],
        'refused content' => [$section =~ s/content none/content images,rootdir/r, undef],
        'no path' => ["smbgateway: office\n\tshare x\n", undef],
        'nothing at all' => ["smbgateway: office\n", undef],
        'garbage lines' => [$section . "nonsense\n\tno-such-property 1\n", $section],
        'a wrong node name' => [$section =~ s/nodes pve1/nodes !!/r, undef],
        'a wrong boolean' => [$section . "\tshared perhaps\n", undef],
        'octets that are no UTF-8' => [$section =~ s/B\xc3\xbcro/B\xfcro/r, $section =~ s/B\xc3\xbcro/B\xfcro/r],
    );
    for my $name (sort keys %case) {
        my $world = Harness::world(api => $api);
        my $own = sprintf($local, $world->dir() . '/tree');
        $world->write('pve/storage.cfg', "$own$case{$name}->[0]\nnfs: other\n\tpath " . $world->dir() . "/tree\n\tserver nas\n\texport /x\n\tcontent images\n\n");
        my $got = $world->case($rewrite);
        is($got->{error}, undef, "$name: the configuration is read and written");
        is_deeply($got->{value}->{ids}, [qw(local office other)], 'no section is lost');
        is($got->{value}->{info}->{local}->{active}, 1, 'the other storages work');
        is($got->{value}->{info}->{office}->{active}, 0, 'this one is inactive') if ($case{$name}->[1] // '') !~ m/disable/;
        if (defined($case{$name}->[1])) {
            is(lines($world->storage_cfg(), 'office'), lines($case{$name}->[1], 'office'), 'the section is written as it was');
        }
    }

    # what must never be honoured is not, even when somebody writes it into the file
    my $world = Harness::world(api => $api, cfg => $section =~ s/content none/content images,rootdir,iso/r);
    my $got = $world->case('load_stack(); return PVE::Storage::config()->{ids}->{office}->{content};');
    is_deeply($got->{value}, { iso => 1 }, 'guest disks on the tree stay off');

    # no library on this node: everything but the methods works
    $got = $world->case($rewrite);
    like(join('', @{ $got->{warnings} }), qr/storage 'office': the SMB gateway library cannot be used: .*SMBGW/, 'the status says what is wrong');
    my $before = $world->storage_cfg();
    for my $op (q[update({ storage => 'office', disable => 1 })], q[delete({ storage => 'office' })], q[create({ type => 'smbgateway', storage => 'second', path => '/srv/second' })]) {
        $got = $world->case("load_stack(); api()->$op;");
        like($got->{error}, qr/the SMB gateway library cannot be used: .*install or repair the smbgw packages/s, "$op says what is wrong and what to do");
    }
    is($world->storage_cfg(), $before, 'and nothing is changed');
}

done_testing();
