# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::Exception;

# Stand-in: the exception class by which Proxmox's API knows parameter errors. Only the shape is modelled.

use strict;
use warnings;

use base 'Exporter';
our @EXPORT_OK = qw(raise raise_param_exc);

use overload '""' => sub { local $@; $_[0]->stringify() }, 'cmp' => sub { local $@; "$_[0]" cmp "$_[1]" };

sub new {
    my ($class, $msg, %param) = @_;
    return bless { %param, msg => $msg }, $class;
}

sub raise { die __PACKAGE__->new(@_) }

sub raise_param_exc {
    my ($errors, $usage) = @_;
    die __PACKAGE__->new("Parameter verification failed.\n", code => 400, errors => { %$errors }, usage => $usage);
}

sub is_param_exc { return ($_[0]->{code} // 0) == 400 }

sub stringify {
    my ($self) = @_;
    my $text = ($self->{code} ? "$self->{code} " : '') . $self->{msg};
    $text .= "\n" if $text !~ m/\n\z/;
    $text .= "$_: $self->{errors}->{$_}\n" for sort keys %{ $self->{errors} // {} };
    return $text;
}

1;
