# SPDX-License-Identifier: MIT OR Apache-2.0
# Loads the library and says which one it is. It knows nothing of shares; see SMBGW::Context.
package SMBGW;

use strict;
use warnings;

our $VERSION = '0.1.0';

use SMBGW::Context;
use SMBGW::Error;
use SMBGW::Run;

require XSLoader;
XSLoader::load('SMBGW', $VERSION);

1;

__END__

=encoding utf8

=head1 NAME

SMBGW - turn a directory into an SMB share, and keep it right

=head1 SYNOPSIS

    use SMBGW;

    my $ctx = SMBGW::Context->new({ log => { to => 'journald' } });

    my $run = $ctx->begin('share.create', { id => 'office', section => { ... }, actor => 'root@pam' });
    $run->secret(password => $bytes);
    while (1) {
        my $step = $run->step;
        print "$_->{event} $_->{step}\n" for @{ $step->{events} };
        die $step->{error} if $step->{state} eq 'failed';
        last if $step->{state} eq 'done';
    }

    my $status = $ctx->query(status => { id => 'office' });
    my ($total, $avail, $used, $active, $age_ms) = $ctx->usage('office');

=head1 DESCRIPTION

The Perl side of C<libsmbgw>. It has handles, text and errors, and no policy: what the operations and queries are, and what their documents
hold, is said by the library (C<< $ctx->query('schema') >>).

Loading this module opens, starts and locks nothing. It dies, catchably, when the library is missing, lacks a symbol, or has another binary
interface than the module was built for.

=head2 Text and bytes

Names, identifiers and documents are text: Perl strings of characters. A secret is bytes: encode it first; a secret with a wide
character is refused. What comes back is text.

=head2 Fork and threads

An object belongs to the process that made it. In a child its methods die with an error of the kind C<forked>; make a new context
there. Dropping the object in a child touches nothing. A new thread gets no objects of the old one (they are C<undef> there), and
copies (L<Storable>) are refused.

=head1 FUNCTIONS

=over

=item SMBGW::version()

The version of the loaded library, for example C<0.1.0>.

=item SMBGW::abi_version()

The number of its binary interface.

=back

=head1 ERRORS

Everything the library refuses is thrown as a L<SMBGW::Error>. An object that is none of ours, and an argument that is
not defined, is a plain message: that is a bug of the caller.

=head1 SEE ALSO

L<SMBGW::Context>, L<SMBGW::Run>, L<SMBGW::Error>, F<smbgw.h>

=head1 LICENSE

MIT OR Apache-2.0

=cut
