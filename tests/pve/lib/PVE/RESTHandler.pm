# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::RESTHandler;

# Stand-in: a class's table of API methods: registered under paths with the rules that make a daemon refuse to start, found by path or by
# name, and called with the parameters checked first.

use strict;
use warnings;

use PVE::JSONSchema;

# by class: methods by name, and the tree of paths: { fixed => { word => node }, any => [name, node], GET|PUT|POST|DELETE|SUBCLASS => info }
my (%method, %tree);
our $AUTOLOAD;

sub register_method {
    my ($class, $info) = @_;
    my $kind = $info->{subclass} ? 'SUBCLASS' : ($info->{method} //= 'GET');
    my $where = "register method $class/" . ($info->{path} // '?') . ' -';
    if (defined($info->{path})) {
        my $node = $tree{$class} //= {};
        for my $part (split(m!/+!, $info->{path})) {
            die "$where path match error - regex and fixed items\n" if $part =~ m/\A\{/ ? $node->{fixed} : $node->{any};
            if (my ($name) = $part =~ m/\A\{([\w-]+)\}\z/) {
                die "$where found changed regex match name\n" if $node->{any} && $node->{any}->[0] ne $name;
                $node = ($node->{any} //= [$name, {}])->[1];
            } else {
                $node = $node->{fixed}->{$part} //= {};
            }
        }
        die "$where duplicate method definition\n" if $node->{$kind};
        die "$where duplicate method definition SUBCLASS\n" if $kind eq 'SUBCLASS' && grep { $node->{$_} } qw(GET PUT POST DELETE);
        $node->{$kind} = $info;
    }
    if (defined($info->{name})) {
        die "duplicate method definition '$class/$info->{name}'\n" if $method{$class}->{ $info->{name} };
        $method{$class}->{ $info->{name} } = $info;
    }
    return;
}

# All methods of a class, in the order of their names.
sub method_attributes { my ($class) = @_; return [map { $method{$class}->{$_} } sort keys %{ $method{$class} }] }

# (class, method) that answer for a path; what stands in the path for a parameter goes into $in_path.
sub find_handler {
    my ($class, $verb, $path, $in_path) = @_;
    my $node = $tree{$class};
    my @parts = grep { length } split(m!/+!, $path);
    while (defined(my $part = shift(@parts))) {
        return if !$node;
        if ($node->{any}) { $in_path->{ $node->{any}->[0] } = $part; $node = $node->{any}->[1] }
        else { $node = ($node->{fixed} // {})->{$part} }
        ($class, $node) = ($node->{SUBCLASS}->{subclass}, $tree{ $node->{SUBCLASS}->{subclass} }) if $node && $node->{SUBCLASS};
    }
    return $node && $node->{$verb} ? ($class, $node->{$verb}) : ();
}

sub handle {
    my ($class, $info, $param) = @_;
    my %copy = %{ $param // {} };
    my $schema = ref($info->{parameters}) eq 'CODE' ? $info->{parameters}->() : $info->{parameters};
    PVE::JSONSchema::validate(\%copy, $schema);
    return $info->{code}->(\%copy);
}

sub AUTOLOAD {
    my ($class, $param) = @_;
    my ($name) = $AUTOLOAD =~ m/([^:]+)\z/;
    return if $name eq 'DESTROY';
    my $info = $method{$class}->{$name} or die "no such method '${class}::$name'\n";
    return $class->handle($info, $param);
}

1;
