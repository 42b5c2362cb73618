# SPDX-License-Identifier: MIT OR Apache-2.0
# A child may not use what its parent made, may let go of it, and can make its own.
use strict;
use warnings;

use POSIX ();
use lib 't/lib';
use Test::More;

use SMBGW;
use SMBGWTest;

my $ctx = context();
my $err = eval { $ctx->query('no.such.query'); 1 } ? undef : $@;

# Runs code in a child and returns what it says. With $exit the child ends as Perl ends, destroying all objects.
sub in_child {
    my ($exit, $code) = @_;
    my $pid = open(my $out, '-|') // die "fork: $!";
    if (!$pid) {
        print eval { $code->() } // "died: $@";
        STDOUT->flush;
        POSIX::_exit(0) if !$exit;
        # Without the end blocks of the test itself.
        Test::More->builder->no_ending(1);
        exit 0;
    }
    my $text = do { local $/; <$out> } // '';
    close $out;
    return ($text, $?);
}

for my $call (query => sub { $ctx->query('schema') }, usage => sub { $ctx->usage('office') }, begin => sub { $ctx->begin('share.create', {}) },
    resume => sub { $ctx->resume('x') }, log_take => sub { $ctx->log_take }) {
    next if !ref $call;
    my ($text) = in_child(0, sub { $call->(); 'works' });
    like($text, qr/^died: .*belongs to process $$, this is process \d+/, 'refused in a child, and both processes named');
}

is_deeply([in_child(0, sub { eval { $ctx->query('schema') }; return $@->kind . ' ' . $@->code . ' ' . ($@->remedy // '') })],
    ['forked 14 make a new context after fork', 0], 'the error says what to do');
is_deeply([in_child(0, sub { undef $ctx; return 'let go' })], ['let go', 0], 'letting go in a child is fine');
is_deeply([in_child(1, sub { return 'end' })], ['end', 0], 'so is ending with it');
is_deeply([in_child(1, sub { return ref(context()->query('schema')) })], ['HASH', 0], 'an own context works');
is_deeply([in_child(1, sub { return $err->kind })], ['invalid', 0], 'an error from before the fork can be read');

ok($ctx->query('schema'), 'the parent goes on');

# A run holds locks; a child that lets go of it, or ends with it, does not let go of them.
{
    my %nothing = (sections => {}, 'lock-wait-ms' => 0);
    my $run = $ctx->begin('reconcile', \%nothing);
    is_deeply([in_child(0, sub { eval { $run->step }; return $@->kind })], ['forked', 0], 'a run is refused in a child');
    is_deeply([in_child(1, sub { undef $run; return 'let go' })], ['let go', 0], 'and let go there');
    refused { $ctx->begin('reconcile', \%nothing) } 'busy', qr/\b$$\b/, 'its locks are still held, and the holder is named';
    undef $run;
    ok($ctx->begin('reconcile', \%nothing), 'until the parent lets go');
}

# As Proxmox does: a worker that forks a task that forks.
my ($text) = in_child(1, sub {
    my $mine = context();
    my ($deep) = in_child(1, sub { eval { $mine->query('schema') }; return $@->kind });
    return $deep . ' ' . ref($mine->query('schema'));
});
is($text, 'forked HASH', 'a child of a child');

done_testing();
