# SPDX-License-Identifier: MIT OR Apache-2.0
# Memory stays flat: a daemon calls this for months.
use strict;
use warnings;

use lib 't/lib';
use Test::More;

use SMBGW;
use SMBGWTest;

plan(skip_all => 'under valgrind, which counts better') if $ENV{SMBGW_UNDER_VALGRIND};

my $ctx = context();
my %calls = (
    'usage'            => sub { my @usage = $ctx->usage('office') },
    'usage, refused'   => sub { eval { $ctx->usage('no/id') } },
    'query'            => sub { $ctx->query('users') },
    'query, refused'   => sub { eval { $ctx->query('no.such.query') } },
    'begin, refused'   => sub { eval { $ctx->begin('no.such.operation', {}) } },
    'context'          => sub { context() },
    'context, logging' => sub { context(log => { to => 'buffer' }) },
    'context, refused' => sub { eval { context(log => { to => 'printer' }) } },
);
for my $name (sort keys %calls) {
    my $call = $calls{$name};
    $call->() for 1 .. 500;    # what is kept once is kept now
    my $before = rss_kib();
    $call->() for 1 .. 10_000;
    my $grown = rss_kib() - $before;
    cmp_ok($grown, '<', 512, "$name: 10,000 calls add $grown KiB");
}

done_testing();
