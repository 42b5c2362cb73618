# SPDX-License-Identifier: MIT OR Apache-2.0
# Objects go in any order, at any time, also at the very end of a process.
use strict;
use warnings;

use lib 't/lib';
use Test::More;

use SMBGW;
use SMBGWTest;

{
    my $ctx = context(log => { to => 'buffer' });
    my $again = $ctx;
    undef $ctx;
    ok($again->query('schema'), 'the last reference counts');
}

# An object that goes while the arguments of its own method are read: the handle is looked at last.
{
    my $ctx = context();
    {
        package Killer;
        use overload '""' => sub { undef ${ $_[0]{victim} }; return 'office' };
    }
    my $kept = $ctx;
    eval { $ctx->usage(bless { victim => \$ctx }, 'Killer') };
    like($@, qr/^not a live SMBGW::Context/, 'a variable that is undefined while its arguments are read');
    ok($kept->query('schema'), 'the object lives on in another');
}

# Errors outlive everything.
{
    my $ctx = context();
    my $err = eval { $ctx->query('no.such.query'); 1 } ? undef : $@;
    undef $ctx;
    is($err->kind, 'invalid', 'an error outlives its context');
}

# In a die that unwinds through DESTROY.
{
    package Guard;
    sub DESTROY { my ($self) = @_; local $@; eval { $self->{ctx}->query('no.such.query') }; $self->{seen}->(ref $@) }
}
my $seen;
eval {
    my $guard = bless { ctx => context(), seen => sub { $seen = shift } }, 'Guard';
    die "outer\n";
};
is($@, "outer\n", 'an outer exception survives');
is($seen, 'SMBGW::Error', 'a call in a destructor during it works');

# Global destruction: in a variable of a package, in a cycle, in a closure.
my $pid = open(my $out, '-|') // die "fork: $!";
if (!$pid) {
    open(STDERR, '>&', \*STDOUT);
    exec { $^X } $^X, (map { "-I$_" } @INC), '-we', <<'END';
use SMBGW;
our $global = SMBGW::Context->new({ log => { to => 'none' } });
my $cycle = { ctx => SMBGW::Context->new({ log => { to => 'buffer' } }) };
$cycle->{self} = $cycle;
our $closure = sub { $global };
our $err = eval { $global->query('no.such.query'); 1 } ? undef : $@;
print "end\n";
END
}
my $text = do { local $/; <$out> };
close $out;
is($?, 0, 'a process with objects everywhere ends well');
is($text, "end\n", 'and quietly');

done_testing();
