# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SectionConfig;

# Stand-in: the section format, the one space of property names, and the checks at each parse.

use strict;
use warnings;

use Digest::SHA;

use PVE::JSONSchema;

sub private { die "must be overridden" }
sub type { die "must be overridden" }
sub properties { return {} }
sub options { return {} }
sub plugindata { return {} }

sub register {
    my ($class) = @_;
    my ($type, $data) = ($class->type(), $class->private());
    die "duplicate plugin registration (type = $type)" if $data->{plugins}->{$type};
    my $plugindata = $class->plugindata();
    $data->{plugindata}->{$type} = $plugindata;
    $data->{plugins}->{$type} = $class;
    return;
}

# One space of names for all types: declared twice, or used without a declaration, and the whole stack does not load.
sub init {
    my ($class) = @_;
    my $data = $class->private();
    my $list = $data->{propertyList};
    for my $type (sort keys %{ $data->{plugins} }) {
        my $declared = $data->{plugins}->{$type}->properties();
        for my $name (sort keys %$declared) {
            die "duplicate property '$name'" if $list->{$name};
            $list->{$name} = { %{ $declared->{$name} }, optional => 1 };
        }
    }
    for my $type (sort keys %{ $data->{plugins} }) {
        my $options = $data->{plugins}->{$type}->options();
        for my $name (sort keys %$options) {
            die "undefined property '$name'" if !$list->{$name};
        }
        $data->{options}->{$type} = { %$options };
    }
    $list->{type} = { %{ $list->{type} // {} }, type => 'string', enum => [sort keys %{ $data->{plugins} }] };
    return;
}

sub lookup {
    my ($class, $type) = @_;
    return $class->private()->{plugins}->{ $type // '' } // die "unknown section type '$type'\n";
}

sub lookup_types { return [sort keys %{ $_[0]->private()->{plugins} }] }

# Required at create is what no type may leave out.
sub createSchema {
    my ($class) = @_;
    return { additionalProperties => 0, properties => { %{ $class->private()->{propertyList} } } };
}

# A property that is fixed in every type that has it is no parameter of an update.
sub updateSchema {
    my ($class) = @_;
    my $data = $class->private();
    my %props = (
        digest => { type => 'string', optional => 1, maxLength => 64 },
        delete => { type => 'string', format => 'pve-configid-list', optional => 1 },
    );
    for my $name (keys %{ $data->{propertyList} }) {
        next if $name eq 'type';
        my $schema = $data->{propertyList}->{$name};
        my $changeable = !$schema->{optional};
        for my $options (values %{ $data->{options} }) {
            $changeable = 1 if $options->{$name} && !$options->{$name}->{fixed};
        }
        $props{$name} = $schema if $changeable;
    }
    return { additionalProperties => 0, properties => \%props };
}

sub decode_value { return $_[3] }
sub encode_value { return $_[3] }

sub check_value {
    my ($class, $type, $key, $value, $id, $skip) = @_;
    my $data = $class->private();
    return $value if $key eq 'type' && $value eq $type;
    my $options = $data->{options}->{$type} or die "unknown section type '$type'\n";
    die "unexpected property '$key'\n" if !$options->{$key};
    my $schema = $data->{propertyList}->{$key} or die "unknown property type\n";
    my $kind = $schema->{type} // 'string';
    $value = 1 if $kind eq 'boolean' && !defined($value);
    die "got undefined value\n" if !defined($value);
    die "property contains a line feed\n" if $value =~ m/[\n\r]/;
    if (!$skip) {
        my %errors;
        PVE::JSONSchema::check_prop($value, $schema, '', \%errors);
        die "$errors{_root}\n" if defined($errors{_root});
    }
    return $kind =~ m/\A(?:boolean|integer|number)\z/ ? $value + 0 : $value;
}

sub check_config {
    my ($class, $id, $config, $create, $skip) = @_;
    my $type = $class->type();
    my $options = $class->private()->{options}->{$type};
    my $settings = { type => $type };
    for my $key (sort keys %$config) {
        die "can't change value of fixed parameter '$key'\n" if !$create && $options->{$key} && $options->{$key}->{fixed};
        die "got undefined value for option '$key'\n" if !defined($config->{$key});
        my $value = $class->check_value($type, $key, $config->{$key}, $id, $skip);
        $settings->{$key} = $class->decode_value($type, $key, $value);
    }
    if ($create) {
        for my $key (sort keys %$options) {
            die "missing value for required option '$key'\n" if !$options->{$key}->{optional} && !defined($config->{$key});
        }
    }
    return $settings;
}

sub parse_section_header {
    my ($class, $line) = @_;
    my ($type, $id) = $line =~ m/\A(\S+):\s*(\S+)\s*\z/ or return;
    return ($type, $id, undef, {});
}

sub format_section_header {
    my ($class, $type, $id) = @_;
    return "$type: $id\n";
}

sub parse_config {
    my ($class, $file, $raw) = @_;
    $raw //= '';
    my $data = $class->private();
    my (%ids, %order);
    my $pri = 0;
    my $no = 0;
    my @lines = split(/\n/, $raw);
    my $next = sub {
        while (@lines) {
            my $line = shift(@lines);
            $no++;
            return $line if $line !~ m/\A\s*#/;
        }
        return undef;
    };
    while (defined(my $line = $next->())) {
        next if $line eq '';
        my $where = "file $file line $no";
        my ($type, $id, $error, $config) = $class->parse_section_header($line);
        if (!$config) { warn "$where - ignore config line: $line\n"; next }
        my $plugin = $data->{plugins}->{$type};
        my $skip = defined($error) ? $error : $plugin ? undef : "unsupported type '$type'";
        if (defined($skip)) { $skip =~ s/\s+\z//; warn "$where (skip section '$id'): $skip\n" }
        while (defined($line = $next->()) && $line ne '') {
            next if defined($skip);
            $where = "file $file line $no";
            my ($key, undef, $value) = $line =~ m/\A\s+(\S+)(\s+(.*\S))?\s*\z/;
            if (!defined($key)) { warn "$where (section '$id') - ignore config line: $line\n"; next }
            eval {
                die "duplicate attribute\n" if defined($config->{$key});
                $config->{$key} = $plugin->check_value($type, $key, $value, $id);
                1;
            } or warn "$where (section '$id') - unable to parse value of '$key': $@";
        }
        next if defined($skip);
        $config->{type} = $type;
        # as in the original, a die here leaves an undefined entry behind, over which everything else stumbles
        $ids{$id} = eval { $plugin->check_config($id, $config, 1, 1) };
        warn "$where (skip section '$id'): $@" if $@;
        $order{$id} = ++$pri;
    }
    return { ids => \%ids, order => \%order, digest => Digest::SHA::sha1_hex($raw) };
}

sub write_config {
    my ($class, $file, $cfg) = @_;
    my $data = $class->private();
    my ($ids, $order) = @$cfg{qw(ids order)};
    my $last = 0;
    for (values %$order) { $last = $_ if $_ > $last }
    my $out = '';
    for my $id (sort { ($order->{$a} // $last + 1) <=> ($order->{$b} // $last + 1) || $a cmp $b } keys %$ids) {
        my $section = $ids->{$id};
        my $type = $section->{type};
        my $options = $data->{options}->{$type} or die "unknown section type '$type'\n";
        $out .= $class->format_section_header($type, $id);
        $out .= "\tdisable\n" if $section->{disable};
        my %done = (type => 1, disable => 1);
        my @required = grep { !$options->{$_}->{optional} } sort keys %$options;
        for my $key (@required, sort keys %$section) {
            next if $done{$key}++;
            my $value = $section->{$key};
            if (!defined($value)) { die "section '$id' - missing value for required option '$key'\n" if grep { $_ eq $key } @required; next }
            $value = $class->encode_value($type, $key, $value);
            die "property '$key' contains a line feed\n" if "$key$value" =~ m/[\n\r]/;
            $value = $value ? 1 : 0 if ($data->{propertyList}->{$key}->{type} // '') eq 'boolean';
            $out .= "\t$key $value\n" if "$value" ne '';
        }
        $out .= "\n";
    }
    return $out;
}

sub assert_if_modified {
    my ($cfg, $digest) = @_;
    die "detected modified configuration - file changed by other user? Try again.\n" if defined($digest) && $cfg->{digest} ne $digest;
    return;
}

1;
