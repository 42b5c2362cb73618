# SPDX-License-Identifier: MIT OR Apache-2.0
# A run, as far as it goes without a Samba: it is refused, and how.
use strict;
use warnings;

use lib 't/lib';
use Test::More;

use SMBGW;
use SMBGWTest;

my $ctx = context();

# The library may refuse when it begins or when it looks at the machine; both are right.
my ($err, @steps);
eval {
    my $run = $ctx->begin('share.create', {
        id => 'office', actor => 'test', section => { type => 'smbgateway', path => '/etc', 'smbgw-mode' => 'native', nodes => 'testnode' },
    });
    isa_ok($run, 'SMBGW::Run');
    eval { $run->secret(password => "wide \x{1f511}") };
    like($@, qr/the secret has to be bytes/, 'a secret with a wide character is refused');
    eval { $run->secret(password => undef) };
    like($@, qr/the secret is not defined/, 'no secret too');
    do { push @steps, $run->step } while $steps[-1]{state} eq 'working' && @steps < 100;
    $err = $steps[-1]{error};
    1;
} or $err = $@;

isa_ok($err, 'SMBGW::Error', 'the reason');
is($err->kind, 'invalid', 'as invalid');
is($err->problems->[0]{property}, 'path', 'the property is named') or diag(explain($err));
if (@steps) {
    is($steps[-1]{state}, 'failed', 'the last state');
    is((grep { ref $_->{events} ne 'ARRAY' } @steps), 0, 'each step has events');
}

done_testing();
