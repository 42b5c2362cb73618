# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::RESTHandler;

# Stand-in: a class's table of API methods, callable by name with the parameters checked first.

use strict;
use warnings;

use PVE::JSONSchema;

my %method;
our $AUTOLOAD;

sub register_method {
    my ($class, $info) = @_;
    die "duplicate method definition '$class/$info->{name}'\n" if $method{$class}->{ $info->{name} };
    $method{$class}->{ $info->{name} } = $info;
    return;
}

sub AUTOLOAD {
    my ($class, $param) = @_;
    my ($name) = $AUTOLOAD =~ m/([^:]+)\z/;
    return if $name eq 'DESTROY';
    my $info = $method{$class}->{$name} or die "no such method '${class}::$name'\n";
    my %copy = %{ $param // {} };
    my $schema = ref($info->{parameters}) eq 'CODE' ? $info->{parameters}->() : $info->{parameters};
    PVE::JSONSchema::validate(\%copy, $schema);
    return $info->{code}->(\%copy);
}

1;
