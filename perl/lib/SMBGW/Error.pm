# SPDX-License-Identifier: MIT OR Apache-2.0
# What the library refuses, as an exception object. It knows the error document; it must not know what callers make of it.
package SMBGW::Error;

use strict;
use warnings;

use overload
    '""'     => sub { return $_[0]->{message} },
    'bool'   => sub { return 1 },
    fallback => 1;

# Called by SMBGW.xs with what the library gave: code, message, and the document as JSON.
sub from_library {
    my ($class, $code, $message, $json) = @_;
    local ($@, $SIG{__DIE__});
    my $detail = eval { SMBGW::Context::codec()->decode($json) };
    $detail = {} if ref $detail ne 'HASH';
    return bless {
        code    => $code,
        kind    => $detail->{kind} // 'internal',
        message => $message,
        remedy  => $detail->{remedy},
        detail  => $detail,
    }, $class;
}

sub code     { return $_[0]->{code} }
sub kind     { return $_[0]->{kind} }
sub message  { return $_[0]->{message} }
sub remedy   { return $_[0]->{remedy} }
sub detail   { return $_[0]->{detail} }
sub problems { return $_[0]->{detail}->{problems} // [] }

1;

__END__

=encoding utf8

=head1 NAME

SMBGW::Error - what the library refused, and why

=head1 SYNOPSIS

    my $status = eval { $ctx->query(status => { id => 'office' }) };
    if (my $err = $@) {
        die $err if !ref $err;
        warn "$err\n";
        warn "what to do: ", $err->remedy, "\n" if defined $err->remedy;
    }

=head1 METHODS

=over

=item code

The number, one of C<SMBGW_E_*> of F<smbgw.h>; also the exit status of the command.

=item kind

The same as a word: C<invalid>, C<not-found>, C<conflict>, C<busy>, C<stuck>, C<unsupported>, C<timeout>, C<drift>, C<service>, C<io>, C<corrupt>, C<interrupted>,
C<unsafe>, C<forked>, C<argument>, C<internal>.

=item message

One line; also what the object is as a string.

=item remedy

What to do, or undef.

=item detail

The whole document: besides these C<class>, C<problems>, C<op>, C<step>, C<command>, C<exit>, C<stderr>, C<undone> where known.

=item problems

C<[{ property => ..., message => ... }, ...]>, empty unless the request was wrong.

=back

The object is plain data: it may be copied, stored, and taken over a fork.

=cut
