# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::CLI::Document;

# The document that `show` prints and `apply` takes: text to data, data to what is wanted, and the differences to what is there. Pure: no
# file, no library, no process. It must not know how a difference is carried out.
#
#   { version: 1,
#     shares:   { ID: { PROPERTY: value, …, password-file: PATH } },
#     gateways: { NAME: { users: { NAME: { disabled: bool, password-file: PATH } }, groups: { NAME: [MEMBER, …] } } } }
#
# It is the whole truth about each share that it names: a property that it does not name is taken out, but for those that a create decides
# itself. About what it does not name it says nothing.

use strict;
use warnings;
use utf8;

use JSON::PP ();

use PVE::SMBGateway::CLI::Output;
use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Schema;

use constant VERSION => 1;

# What stays as it is where the document does not name it: decided at create, or never to be changed.
my %KEEPS = map { $_ => 1 } qw(path nodes share smbgw-mode smbgw-gateway);
# Lists in which order means nothing.
my %SETS = map { $_ => 1 } qw(nodes content);

# Octets of YAML or JSON -> document. An answer of `show` in its envelope is taken as well.
sub parse {
    my ($octets, $name) = @_;
    my $wrong = sub { PVE::SMBGateway::Error->throw('invalid', "$name $_[0]", remedy => "'pve-smbgateway show' prints such a document") };
    my $doc = $octets =~ m/\A\s*\{/ ? eval { JSON::PP->new->utf8->decode($octets) } : undef;
    if (!defined($doc)) {
        my $json_error = $octets =~ m/\A\s*\{/ ? $@ : undef;
        $doc = eval { PVE::SMBGateway::CLI::Output::load_yaml($octets) };
        if (my $error = $@) {
            die $error if ref($error) && !defined($json_error);
            $error = $json_error if defined($json_error);
            $wrong->('cannot be read: ' . ("$error" =~ s/ at \S+ line \d+\.?//r =~ s/\s+/ /gr =~ s/ \z//r));
        }
    }
    $wrong->('is not a document with shares') if ref($doc) ne 'HASH';
    $doc = $doc->{data} if exists($doc->{success}) && ref($doc->{data}) eq 'HASH';
    my $version = $doc->{version};
    $wrong->("has no 'version: " . VERSION . "'") if !defined($version) || ref($version);
    PVE::SMBGateway::Error->throw('unsupported', "$name is of version $version, and this command knows version " . VERSION, remedy => 'use a newer pve-smbgateway')
        if $version ne VERSION;
    return $doc;
}

# The document's shares as sections of strings, its passwords' files and its gateways; each problem goes to $problem->(place, text).
# Returns { shares => { id => { property => string } }, files => { id => path }, gateways => … }.
sub wanted {
    my ($doc, $problem) = @_;
    $problem->($_, 'is no part of the document') for grep { !m/\A(?:version|shares|gateways)\z/ } sort keys %$doc;
    my %want = (shares => {}, files => {}, gateways => {});
    my $hash = sub {
        my ($value, $where) = @_;
        return $value // {} if !defined($value) || ref($value) eq 'HASH';
        $problem->($where, 'must be a map of names');
        return {};
    };
    my $shares = $hash->($doc->{shares}, 'shares');
    for my $id (sort keys %$shares) {
        my $given = $hash->($shares->{$id}, "shares.$id");
        my $section = $want{shares}->{$id} = {};
        for my $name (sort keys %$given) {
            my $where = "shares.$id.$name";
            if ($name eq 'password-file') {
                ref($given->{$name}) || !defined($given->{$name}) ? $problem->($where, 'must be a path') : ($want{files}->{$id} = $given->{$name});
                next;
            }
            my $p = PVE::SMBGateway::Schema::property($name);
            if (!$p) { $problem->($where, 'there is no such property'); next }
            if ($p->{sensitive}) { $problem->($where, 'a secret does not belong into a document: name its file by password-file'); next }
            my ($string, $why) = _string($p, $given->{$name});
            if (defined($why)) { $problem->($where, $why); next }
            $section->{$name} = $string if defined($string) && $string ne '';
        }
    }
    my $gateways = $hash->($doc->{gateways}, 'gateways');
    for my $name (sort keys %$gateways) {
        my $given = $hash->($gateways->{$name}, "gateways.$name");
        my $gateway = $want{gateways}->{$name} = { users => {}, groups => {} };
        $problem->("gateways.$name.$_", 'is no part of a gateway: it has users and groups') for grep { !m/\A(?:users|groups)\z/ } sort keys %$given;
        my $users = $hash->($given->{users}, "gateways.$name.users");
        for my $user (sort keys %$users) {
            my $u = $hash->($users->{$user}, "gateways.$name.users.$user");
            $problem->("gateways.$name.users.$user.$_", 'is no part of a user: it has disabled and password-file') for grep { !m/\A(?:disabled|password-file)\z/ } sort keys %$u;
            $gateway->{users}->{$user} = { disabled => _true($u->{disabled}), file => $u->{'password-file'} };
            $problem->("gateways.$name.users.$user.password-file", 'must be a path') if ref($u->{'password-file'});
        }
        my $groups = $hash->($given->{groups}, "gateways.$name.groups");
        for my $group (sort keys %$groups) {
            my $members = $groups->{$group} // [];
            if (ref($members) ne 'ARRAY' || grep { !defined($_) || ref($_) } @$members) { $problem->("gateways.$name.groups.$group", "must be a list of users' names"); next }
            $gateway->{groups}->{$group} = $members;
        }
    }
    return \%want;
}

sub _true { my ($v) = @_; return defined($v) && !ref($v) && $v =~ m/\A(?:0|false|no|)\z/ ? 0 : $v ? 1 : 0 }

# One value as a section has it: (string or undef for none, problem).
sub _string {
    my ($p, $value) = @_;
    return undef if !defined($value);
    if (JSON::PP::is_bool($value)) {
        return (undef, "must not be true or false: put text in quotation marks") if $p->{type} ne 'boolean' && ($p->{format} // '') !~ m/\Aboolean/;
        return $value ? '1' : '0';
    }
    if (ref($value) eq 'ARRAY') {
        return (undef, 'must be one value') if $p->{type} ne 'string' || ($p->{format} // '') !~ m/list|sizes|dirs|net/;
        return (undef, 'must be a list of words') if grep { !defined($_) || ref($_) } @$value;
        return join(',', @$value);
    }
    return (undef, 'must be one value') if ref($value);
    return (undef, 'contains a line feed') if $value =~ m/[\r\n]/;
    return "$value";
}

# A value in the form in which two of them are compared: what is the default and what is not there are the same.
sub _canonical {
    my ($name, $value) = @_;
    my $p = PVE::SMBGateway::Schema::property($name) // {};
    $value //= $p->{default} // (($p->{type} // '') eq 'boolean' ? '0' : '');
    return $value =~ m/\A(?:1|on|yes|true)\z/i ? '1' : '0' if ($p->{type} // '') eq 'boolean';
    return join(',', sort grep { length } split(/[\s,;]+/, $value)) if $SETS{$name};
    return $value;
}

# What has to be changed in a section: [[sign, property, old, new], …] by name; sign is '+', '-' or '~'.
sub difference {
    my ($old, $new) = @_;
    my @changes;
    my %names = map { $_ => 1 } grep { my $p = PVE::SMBGateway::Schema::property($_); $p && !$p->{sensitive} } keys %$old, keys %$new;
    for my $name (sort keys %names) {
        my ($was, $is) = ($old->{$name}, $new->{$name});
        next if !defined($is) && $KEEPS{$name} && defined($was);
        # the account that joins a domain is used once and not kept
        next if $name eq 'username' && !defined($was) && %$old && defined($new->{domain});
        next if %$old && _canonical($name, $was) eq _canonical($name, $is);
        push @changes, [!defined($was) ? '+' : !defined($is) ? '-' : '~', $name, $was, $is];
    }
    return \@changes;
}

# The section that results: what the document says, and what it leaves alone.
sub result {
    my ($old, $new) = @_;
    my %kept = map { $_ => $old->{$_} } grep { $KEEPS{$_} || !PVE::SMBGateway::Schema::property($_) } keys %$old;
    return { type => PVE::SMBGateway::Config::TYPE, %kept, %$new };
}

# A section as a part of the document: switches as booleans, numbers as numbers, the rest as it is written.
sub share {
    my ($section) = @_;
    my %out;
    for my $name (sort keys %$section) {
        my $p = PVE::SMBGateway::Schema::property($name);
        next if !$p || $p->{sensitive} || !defined($section->{$name});
        my $value = $section->{$name};
        $out{$name} = $p->{type} eq 'boolean' ? (_canonical($name, $value) eq '1' ? JSON::PP::true() : JSON::PP::false())
            : $p->{type} eq 'integer' && $value =~ m/\A(?:0|[1-9]\d{0,14})\z/ ? $value + 0 : "$value";
    }
    return \%out;
}

1;
