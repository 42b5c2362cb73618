# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::Error;

# The one error object of the Perl side. It knows a kind, a sentence and what helps; it must not know where the error came
# from (library, Proxmox or this code) nor how it is shown.
#
#   kind      word, for example 'invalid' (the kinds of the C library, and those that only the command has)
#   code      its number, which is the exit status of the command
#   message   lower case, no full stop, names the object; characters, not octets
#   remedy    what to do about it, or undef
#   problems  { property => message }, possibly empty
#   detail    the library's error document, or undef

use strict;
use warnings;

use overload
    '""' => sub { $_[0]->text() },
    'bool' => sub { 1 },
    'eq' => sub { "$_[0]" eq "$_[1]" },
    fallback => 1;

# The numbers of the C library (SMBGW_E_*). They are part of its ABI: additions only.
my %CODE = (
    invalid => 1,
    'not-found' => 2,
    conflict => 3,
    busy => 4,
    stuck => 5,
    unsupported => 6,
    timeout => 7,
    drift => 8,
    service => 9,
    io => 10,
    corrupt => 11,
    interrupted => 12,
    unsafe => 13,
    forked => 14,
    argument => 15,
    internal => 16,
);

# Those of the command alone, far from the library's: its next ones are 17 and so on.
my %OURS = (
    usage => 64,
    partial => 65,
    unreachable => 69,
);

# Every kind and its number.
sub kinds { return (%CODE, %OURS) }

sub new {
    my ($class, $kind, $message, %more) = @_;
    my $self = { %more, kind => $kind, message => $message };
    $self->{code} ||= $CODE{$kind} // $OURS{$kind} // $CODE{internal};
    $self->{problems} //= {};
    return bless $self, $class;
}

sub throw { my $class = shift; die $class->new(@_) }

sub kind { $_[0]->{kind} }
sub code { $_[0]->{code} }
sub message { $_[0]->{message} }
sub remedy { $_[0]->{remedy} }
sub problems { $_[0]->{problems} }
sub detail { $_[0]->{detail} }

# One error per failure, whatever was thrown: plain text and foreign objects become kind 'internal' unless they say better.
sub from {
    my ($class, $err, $kind) = @_;
    return $err if ref($err) && eval { $err->isa($class) };
    if (ref($err) && eval { $err->isa('PVE::Exception') }) {
        my $errors = $err->{errors};
        my $message = $err->{msg} // "$err";
        $message =~ s/\s+\z//;
        return $class->new($errors ? 'invalid' : $kind // 'internal', $message, problems => { %{ $errors // {} } });
    }
    my $message = "$err";
    $message =~ s/\s+\z//;
    return $class->new($kind // 'internal', $message);
}

# Everything an administrator needs, ends with a line feed so that `die` adds no source line.
sub text {
    my ($self) = @_;
    my $text = $self->{message};
    my $problems = $self->{problems};
    $text .= "\n  $_: $problems->{$_}" for sort keys %$problems;
    $text .= "\n  $self->{remedy}" if defined($self->{remedy}) && length($self->{remedy});
    return "$text\n";
}

# An error from what document() made of one.
sub from_document {
    my ($class, $doc) = @_;
    my %problems;
    for my $p (@{ $doc->{problems} // [] }) {
        my $old = $problems{ $p->{property} };
        $problems{ $p->{property} } = defined($old) ? "$old; $p->{message}" : $p->{message};
    }
    return $class->new($doc->{kind} // 'internal', $doc->{message} // 'unknown failure',
        code => $doc->{code}, remedy => $doc->{remedy}, problems => \%problems, detail => $doc->{detail});
}

sub document {
    my ($self) = @_;
    my $doc = { kind => $self->{kind}, code => $self->{code} + 0, message => $self->{message} };
    $doc->{remedy} = $self->{remedy} if defined($self->{remedy});
    $doc->{problems} = [map { { property => $_, message => $self->{problems}->{$_} } } sort keys %{ $self->{problems} }]
        if %{ $self->{problems} };
    $doc->{detail} = $self->{detail} if defined($self->{detail});
    return $doc;
}

1;
