# SPDX-License-Identifier: MIT OR Apache-2.0
# A handle cannot be forged, copied, stored, or taken to another thread.
use strict;
use warnings;

use Config;
use lib 't/lib';
use Storable qw(dclone freeze);
use Test::More;

# threads has to be there before Test::More can count in them; nothing is counted in one here.
use SMBGW;
use SMBGWTest;

my $ctx = context();

for my $forged (
    bless(\(my $number = 4711), 'SMBGW::Context'), bless(\(my $none), 'SMBGW::Context'), bless({}, 'SMBGW::Context'),
    bless([], 'SMBGW::Context'), bless(\(my $copy = $$ctx), 'SMBGW::Context'),
) {
    eval { $forged->query('schema') };
    like($@, qr/^not a live SMBGW::Context/, 'a forged object is refused');
}
for my $self (undef, 4711, 'SMBGW::Context', \my $x) {
    eval { SMBGW::Context::usage($self, 'office') };
    like($@, qr/^not a live SMBGW::Context/, 'and what is no object');
}
eval { SMBGW::Run::unwind($ctx) };
like($@, qr/^not a live SMBGW::Run/, 'a context is no run');
eval { SMBGW::Run->step };
like($@, qr/^not a live SMBGW::Run/, 'a class is no run');

ok(!defined $$ctx, 'there is no pointer to be seen');
eval { $$ctx = 1 };
like($@, qr/read-only/, 'or to be changed');

eval { dclone($ctx) };
like($@, qr/cannot be copied or stored/, 'dclone is refused');
eval { freeze({ deep => [$ctx] }) };
like($@, qr/cannot be copied or stored/, 'so is freeze, from deep inside');
ok($ctx->query('schema'), 'and the original is as good as before');

my $err = eval { $ctx->query('no.such.query'); 1 } ? undef : $@;
is_deeply(dclone($err), $err, 'an error is data and can be copied');

{
    package Mine;
    our @ISA = ('SMBGW::Context');
}
my $mine = Mine->new({ log => { to => 'none' } });
isa_ok($mine, 'Mine');
ok($mine->query('schema'), 'a subclass works');
is(Mine->CLONE_SKIP, 1, 'and is not cloned either');

eval { bless $mine, 'Somewhere::Else' };
like($@, qr/read-only/, 'an object keeps its class');

SKIP: {
    skip('THIS PERL HAS NO THREADS: cloning is not tried', 2) if !$Config{useithreads};
    require threads;
    {
        package Cloned;
        our @ISA = ('SMBGW::Context');
        sub CLONE_SKIP { return 0 }
    }
    my $cloned = Cloned->new({ log => { to => 'none' } });
    my $seen = threads->create(sub {
        # A subclass that undoes CLONE_SKIP: its clone is an object, but has no handle.
        my $lost = eval { $cloned->query('schema'); 1 } ? 'works' : $@;
        my $own = eval { context()->query('schema'); 1 } ? 'works' : $@;
        return join '|', ref $ctx, (eval { $ctx->query('schema'); 1 } ? 'works' : 'dies'), $lost =~ /^not a live/ ? 'none' : $lost, $own;
    })->join;
    is($seen, 'SCALAR|dies|none|works', 'in a thread: no object, no handle, but a new context works');
    ok($ctx->query('schema') && $cloned->query('schema'), 'and after it all is as before');
}

done_testing();
