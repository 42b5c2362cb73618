# SPDX-License-Identifier: MIT OR Apache-2.0
# One operation under way. The work is done in SMBGW.xs; here its documents become a hash.
package SMBGW::Run;

use strict;
use warnings;

my @STATES = qw(working done failed);

sub step {
    my ($self) = @_;
    my ($state, $json, $error) = $self->_step;
    my $doc = SMBGW::Context::codec()->decode($json);
    my $step = { state => $STATES[$state] // 'failed', events => $doc->{events} // [] };
    $step->{opid}   = $doc->{opid}   if defined $doc->{opid};
    $step->{result} = $doc->{result} if exists $doc->{result};
    $step->{error}  = $error         if defined $error;
    return $step;
}

# A handle cannot be in two places.
sub CLONE_SKIP { return 1 }

sub STORABLE_freeze { die "a SMBGW::Run cannot be copied or stored\n" }

1;

__END__

=encoding utf8

=head1 NAME

SMBGW::Run - one operation under way

=head1 METHODS

All of them die with a L<SMBGW::Error> when the library refuses.

=over

=item $run->secret($name, $bytes)

Gives the operation a secret, before the first step. Bytes: C<Encode::encode('UTF-8', $password)>.

=item $run->step

Works for at most about a second and returns C<< { state => 'working'|'done'|'failed', events => [...], opid => ..., result => ..., error => ... } >>.
The C<opid> is what C<< $ctx->resume >> takes. When the
operation failed it has been undone already and C<error> is a L<SMBGW::Error>; C<step> itself dies only when it could not be made.

=item $run->unwind

Asks it to stop and to undo what it has done; the undoing is done by the following steps, until C<failed>.

=item $run->interrupt

Ends it where it is, to be resumed later, perhaps by another process; for a process that was told to end.

=back

A run that goes out of scope before it is done can be resumed as well.

=cut
