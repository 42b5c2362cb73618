# SPDX-License-Identifier: MIT OR Apache-2.0
# The paths and options of one installation, and what can be asked of it. The work is done in SMBGW.xs; here is the JSON.
package SMBGW::Context;

use strict;
use warnings;

# One codec per process. The C one where somebody has loaded it already: it is never loaded on our account.
my $codec;

sub codec {
    return $codec //= do {
        my $class = $INC{'JSON/XS.pm'} ? 'JSON::XS' : do { require JSON::PP; 'JSON::PP' };
        $class->new->allow_nonref;
    };
}

sub _params {
    my ($params) = @_;
    return defined $params ? codec()->encode($params) : '{}';
}

sub new {
    my ($class, $options) = @_;
    return _new($class, _params($options));
}

sub query {
    my ($self, $op, $params) = @_;
    return codec()->decode($self->_query($op, _params($params)));
}

sub begin {
    my ($self, $op, $params) = @_;
    return $self->_begin($op, _params($params));
}

# A handle cannot be in two places.
sub CLONE_SKIP { return 1 }

sub STORABLE_freeze { die "a SMBGW::Context cannot be copied or stored\n" }

1;

__END__

=encoding utf8

=head1 NAME

SMBGW::Context - one installation of smbgw

=head1 METHODS

All of them die with a L<SMBGW::Error> when the library refuses.

=over

=item SMBGW::Context->new(\%options)

Options are those of C<smbgw_context_new()> in F<smbgw.h>: C<state-dir>, C<run-dir>, C<record-dir>, C<smb-conf>, C<own-conf>, C<node>, C<log>. All are optional.

=item $ctx->query($op, \%params)

The answer to a query (C<check>, C<plan>, C<render>, C<status>, C<list>, C<quota>, C<users>, C<groups>, C<audit>, C<schema>, C<sections>) as a hash.

=item $ctx->usage($id)

C<($total, $avail, $used, $active, $age_ms, $limit, $lag_ms)> in bytes, 0 or 1, and milliseconds. C<$limit> is 0 where the share has none;
C<$lag_ms> is how much older than C<$age_ms> the numbers may be, because some file systems count late. Starts no process and waits for nothing that may hang; meant
to be called every few seconds.

=item $ctx->begin($op, \%params)

Prepares an operation that changes something; returns a L<SMBGW::Run>.

=item $ctx->resume($opid)

Takes up an interrupted operation; returns a L<SMBGW::Run>.

=item $ctx->log_take

The text logged since the last time, of a context made with C<< log => { to => 'buffer' } >>.

=back

=cut
