# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::JSONSchema;

# Stand-in: formats, standard options and the checks of values that sections and requests go through.

use strict;
use warnings;

use JSON::PP ();

use PVE::Exception qw(raise_param_exc);
use PVE::Tools;

use base 'Exporter';
our @EXPORT_OK = qw(register_format get_standard_option register_standard_option parse_boolean);

my (%format, %standard);

sub register_format {
    my ($name, $code) = @_;
    die "JSON schema format '$name' already registered\n" if $format{$name};
    $format{$name} = $code;
    return;
}

sub register_standard_option {
    my ($name, $schema) = @_;
    die "standard option '$name' already registered\n" if $standard{$name};
    $standard{$name} = $schema;
    return;
}

sub get_standard_option {
    my ($name, $more) = @_;
    my $schema = $standard{$name} or die "no such standard option '$name'\n";
    return { %$schema, %{ $more // {} } };
}

sub _matching {
    my ($re, $what) = @_;
    return sub {
        my ($value, $noerr) = @_;
        return $value if $value =~ $re;
        return undef if $noerr;
        die "$what\n";
    };
}

register_format('pve-storage-id', \&parse_storage_id);
register_format('pve-node', \&pve_verify_node_name);
register_format('pve-configid', _matching(qr/\A[a-z][a-z0-9_-]+\z/i, 'invalid configuration ID'));

register_standard_option('pve-storage-id', { type => 'string', format => 'pve-storage-id', description => 'The storage identifier.' });
register_standard_option('pve-node', { type => 'string', format => 'pve-node', description => 'The cluster node name.' });
register_standard_option('pve-node-list', { type => 'string', format => 'pve-node-list', description => 'List of cluster node names.' });

sub parse_storage_id {
    my ($id, $noerr) = @_;
    return $id if $id =~ m/\A[a-z][a-z0-9\-_.]*[a-z0-9]\z/i;
    return undef if $noerr;
    die "storage ID '$id' contains illegal characters\n";
}

sub pve_verify_node_name {
    my ($node, $noerr) = @_;
    return $node if $node =~ m/\A[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\z/i;
    return undef if $noerr;
    die "value does not look like a valid node name\n";
}

sub parse_boolean {
    my ($value) = @_;
    return 1 if $value =~ m/\A(?:1|on|yes|true)\z/i;
    return 0 if $value =~ m/\A(?:0|off|no|false)\z/i;
    return undef;
}

# An unknown format is not noticed at load, only when a value is checked.
sub check_format {
    my ($name, $value) = @_;
    if (my $code = $format{$name}) { $code->($value); return }
    if ($name =~ m/\A(.*)-list\z/ && $format{$1}) {
        my $code = $format{$1};
        $code->($_) for PVE::Tools::split_list($value);
        return;
    }
    die "undefined format '$name'\n";
}

# Adds to $errors under $path (or _root) what is wrong with one value.
sub check_prop {
    my ($value, $schema, $path, $errors) = @_;
    my $key = length($path) ? $path : '_root';
    my $type = $schema->{type} // 'string';
    my $complain = sub { $errors->{$key} //= $_[0] };
    if ($type eq 'boolean') {
        return if defined(parse_boolean($value));
        return $complain->("type check ('boolean') failed - got '$value'");
    }
    if ($type eq 'integer' || $type eq 'number') {
        return $complain->("type check ('$type') failed - got '$value'")
            if $value !~ ($type eq 'integer' ? qr/\A[-+]?\d+\z/ : qr/\A[-+]?\d+(?:\.\d+)?\z/);
        return $complain->("value must have a minimum value of $schema->{minimum}") if defined($schema->{minimum}) && $value < $schema->{minimum};
        return $complain->("value must have a maximum value of $schema->{maximum}") if defined($schema->{maximum}) && $value > $schema->{maximum};
        return;
    }
    return $complain->("value does not have a value in the enumeration '" . join(', ', @{ $schema->{enum} }) . "'")
        if $schema->{enum} && !grep { $_ eq $value } @{ $schema->{enum} };
    return $complain->("value may only be $schema->{maxLength} characters long")
        if defined($schema->{maxLength}) && length($value) > $schema->{maxLength};
    if (defined($schema->{format}) && !ref($schema->{format})) {
        eval { check_format($schema->{format}, $value); 1 } or $complain->("invalid format - $@" =~ s/\s+\z//r);
    }
    return;
}

# What a method gives against what it says that it gives; dies with the first thing that differs.
sub check_returned {
    my ($value, $schema, $path) = @_;
    $path //= 'result';
    my $type = ($schema // {})->{type} // return;
    return if $type eq 'any';
    return if !defined($value) && $schema->{optional};
    die "$path is missing\n" if !defined($value) && $type ne 'null';
    if ($type eq 'object') {
        die "$path is no object\n" if ref($value) ne 'HASH';
        my $properties = $schema->{properties} // return;
        check_returned($value->{$_}, $properties->{$_}, "$path.$_") for sort keys %$properties;
        my @unknown = grep { !$properties->{$_} } sort keys %$value;
        die "$path has '$unknown[0]', of which the schema does not know\n" if @unknown && defined($schema->{additionalProperties}) && !$schema->{additionalProperties};
    } elsif ($type eq 'array') {
        die "$path is no list\n" if ref($value) ne 'ARRAY';
        check_returned($value->[$_], $schema->{items}, $path . "[$_]") for 0 .. $#$value;
    } else {
        die "$path is no $type\n" if ref($value) && !JSON::PP::is_bool($value);
        my %errors;
        check_prop($value, $schema, $path, \%errors) if $type ne 'null';
        die "$_: $errors{$_}\n" for sort keys %errors;
    }
    return;
}

# A request against its schema; dies with all complaints, by parameter.
sub validate {
    my ($param, $schema) = @_;
    my %errors;
    for my $key (sort keys %$param) {
        my $prop = $schema->{properties}->{$key};
        if (!$prop) {
            $errors{$key} = 'property is not defined in schema and the schema does not allow additional properties';
            next;
        }
        check_prop($param->{$key}, $prop, $key, \%errors);
    }
    for my $key (sort keys %{ $schema->{properties} }) {
        $errors{$key} = 'property is missing and it is not optional' if !$schema->{properties}->{$key}->{optional} && !defined($param->{$key});
    }
    raise_param_exc(\%errors) if %errors;
    return;
}

1;
