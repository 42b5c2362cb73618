# SPDX-License-Identifier: MIT OR Apache-2.0
# What can be asked of a context, and what its errors are.
use strict;
use warnings;

use lib 't/lib';
use Test::More;

use SMBGW;
use SMBGWTest;

my $ctx = context();
isa_ok($ctx, 'SMBGW::Context');
isa_ok(SMBGW::Context->new, 'SMBGW::Context', 'with all defaults');

my $schema = $ctx->query('schema');
is(ref $schema->{properties}, 'ARRAY', 'a query answers with a hash');
is(ref $ctx->query(list => {}), 'HASH', 'with parameters too');

my $err = refused { $ctx->query(status => { id => 'no-such-share' }) } 'not-found', qr/no-such-share/, 'a share that is not there';
is($err->code, 2, 'the code is the number of the header');
is($err->message, "$err", 'the message is what it is as a string');
is($err->detail->{class}, 'configuration', 'the document has more');
is_deeply($err->problems, [], 'no problems by property');
ok(!ref $err->message && $err eq $err->message, 'it compares as a string');
is($err->{code}, 2, 'and can be read as a hash');

is_deeply([$ctx->usage('no-such-share')], [0, 0, 0, 0, -1, 0, 0], 'usage of a share that nobody has looked at: no numbers, not active');
refused { $ctx->usage('no/id') } 'invalid', qr{no/id}, 'usage of what cannot be an id';
refused { $ctx->query('no.such.query') } 'invalid', qr/no\.such\.query/, 'a query that is not there';
refused { $ctx->begin('no.such.operation', {}) } 'invalid', qr/no\.such\.operation/, 'an operation that is not there';
refused { $ctx->resume('no-such-operation') } 'not-found', qr/no-such-operation/, 'an operation that never was';
refused { context('no-such-option' => 1) } 'invalid', qr/no-such-option/, 'an option that is not there';
refused { SMBGW::Context->new([]) } 'argument', qr/not an object/, 'options that are no hash';
refused { $ctx->query(list => [1]) } 'argument', qr/params is JSON, but not an object/, 'parameters that are no hash';

my $bad = refused { context(log => { to => 'printer' }) } 'invalid', qr/printer/, 'a log that is not there';
is($bad->problems->[0]->{property}, 'log.to', 'the problem names the property');

# An error is an ordinary exception: __DIE__ sees it, $@ of the caller survives where nothing died.
{
    my $seen;
    local $SIG{__DIE__} = sub { $seen = $_[0] };
    eval { $ctx->query('no.such.query') };
    isa_ok($seen, 'SMBGW::Error', 'what __DIE__ is given');
}
eval { die "before\n" };
$ctx->query('schema');
is($@, "before\n", 'a call that works leaves $@ alone');

my $logging = context(log => { to => 'buffer', level => 'trace' });
ok(defined $logging->log_take, 'the log can be taken');
is($logging->log_take, '', 'and is empty then');
refused { $ctx->log_take } 'invalid', qr/buffer/, 'a log that is elsewhere cannot';

done_testing();
