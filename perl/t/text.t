# SPDX-License-Identifier: MIT OR Apache-2.0
# Text is characters, both ways, whatever Perl keeps it in; bytes are bytes.
use strict;
use warnings;
use utf8;

use lib 't/lib';
use Test::More;

use SMBGW;
use SMBGWTest;

binmode($_, ':encoding(UTF-8)') for Test::More->builder->output, Test::More->builder->failure_output;

my $ctx = context();

for my $name ('Büro', '事務所', "\x{1f4c1}") {
    refused { $ctx->query($name) } 'invalid', qr/\Q$name\E/, "text, as an argument: $name";
    my $section = { type => 'smbgateway', path => '/srv/office', share => $name, 'smbgw-mode' => 'native', nodes => 'testnode' };
    my $effective = $ctx->query(check => { id => 'office', section => $section })->{effective};
    is($effective->{share}, $name, "text, in a document and back: $name");
}

# One text, two ways to keep it.
my $latin = "caf\xe9";
utf8::downgrade($latin);
utf8::upgrade(my $wide = $latin);
for ($latin, $wide) {
    refused { $ctx->query($_) } 'invalid', qr/caf\xe9/, 'the same characters, ' . (utf8::is_utf8($_) ? 'wide' : 'narrow');
}
is($latin, $wide, 'and they are still the same');

refused { $ctx->usage("of\0fice") } 'argument', qr/NUL inside, at byte 2/, 'a NUL inside';
refused { $ctx->usage('') } 'argument', qr/empty/, 'no id';
refused { $ctx->usage("\x{d800}") } 'argument', qr/UTF-8/, 'a lone surrogate';
refused { $ctx->query("li\0st") } 'argument', qr/NUL inside/, 'a NUL in an operation';

my $check = eval { $ctx->query(status => { id => "a\nb\t\"c\"" }) };
isa_ok($@, 'SMBGW::Error', 'control characters go through JSON');

for my $call (sub { $ctx->usage(undef) }, sub { $ctx->resume(undef) }, sub { $ctx->query(undef) }) {
    eval { $call->() };
    like($@, qr/is not defined at/, 'undef is a bug of the caller, with its place');
}
eval { $ctx->usage() };
like($@, qr/^Usage: /, 'so is a missing argument');

# Objects that become text when asked, tied ones, numbers.
{
    package Stringy;
    use overload '""' => sub { return 'from/object' };
}
{
    package Tied;
    sub TIESCALAR { return bless [], shift }
    sub FETCH     { my @grow = map { [$_] } 1 .. 5000; return 'from/tie' }
}
refused { $ctx->usage(bless [], 'Stringy') } 'invalid', qr{from/object}, 'an object as id';
tie my $tied, 'Tied';
refused { $ctx->usage($tied) } 'invalid', qr{from/tie}, 'a tied scalar as id';
refused { $ctx->usage(47.11) } 'invalid', qr/47\.11/, 'a number as id';

done_testing();
