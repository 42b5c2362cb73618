# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::CLI::Output;

# How answers look: text, JSON, YAML, and the envelope around the last two. It must not know what an answer is about.

use strict;
use warnings;

use Encode ();
use Exporter qw(import);
use JSON::PP ();
use POSIX ();

use PVE::SMBGateway::Error;

our @EXPORT_OK = qw(print_warnings cell table tree size_text answer load_yaml);

# Forms of answers, and the version of the envelope: keys may be added, a known key keeps its meaning.
our @FORMATS = qw(text json json-pretty yaml);
use constant VERSION => 1;

# The complete answer but for text: { version, success, timestamp, data and/or error }.
sub answer {
    my ($format, $data, $error) = @_;
    my $doc = { version => VERSION, timestamp => POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime()), success => $error ? JSON::PP::false() : JSON::PP::true() };
    $doc->{error} = $error->document() if $error;
    $doc->{data} = $data if defined($data) || !$error;
    my $text;
    if ($format eq 'yaml') {
        $text = _dump($doc);
    } else {
        my $json = JSON::PP->new->canonical->allow_nonref;
        $json->pretty if $format eq 'json-pretty';
        $text = $json->encode($doc);
    }
    return $text =~ s/\n*\z/\n/r;
}

# A document alone, for people and for a file: YAML where it can be written, else JSON, which is YAML as well.
sub document {
    my ($doc) = @_;
    return JSON::PP->new->canonical->pretty->encode($doc) if !eval { _yaml(); 1 };
    return _dump($doc) =~ s/\A---\n//r;
}

sub _dump {
    my ($doc) = @_;
    no warnings 'once';
    local $YAML::XS::Boolean = 'JSON::PP';
    local $YAML::XS::QuoteNumericStrings = 1;
    return Encode::decode('UTF-8', YAML::XS::Dump($doc));
}

# Whether an answer can be given in a form; dies with what is missing.
sub need { my ($format) = @_; _yaml() if $format eq 'yaml'; return }

# YAML (octets) as plain data: no code, no objects, no key twice. Dies with a sentence.
sub load_yaml {
    my ($octets) = @_;
    _yaml();
    no warnings 'once';
    local $YAML::XS::LoadBlessed = 0;
    local $YAML::XS::LoadCode = 0;
    local $YAML::XS::Boolean = 'JSON::PP';
    local $YAML::XS::ForbidDuplicateKeys = 1;
    my @docs = YAML::XS::Load($octets);
    die "holds several documents\n" if @docs > 1;
    return $docs[0];
}

# libyaml is what Proxmox itself uses. Nothing of ours needs it but this form.
sub _yaml {
    eval { local $SIG{__DIE__}; require YAML::XS; 1 }
        or PVE::SMBGateway::Error->throw('unsupported', 'YAML needs the Perl module YAML::XS, which is not installed',
            remedy => "install the package libyaml-libyaml-perl ('apt install libyaml-libyaml-perl'), or use JSON");
    return;
}

sub print_warnings {
    my ($result, $said) = @_;
    print STDERR "warning: $_\n" for grep { !$said || !$said->{$_} } @{ (ref($result) eq 'HASH' ? $result->{warnings} : undef) // [] };
    return;
}

sub cell {
    my ($v) = @_;
    return '' if !defined($v);
    return $v ? 'yes' : 'no' if JSON::PP::is_bool($v);
    return join(', ', map { cell($_) } @$v) if ref($v) eq 'ARRAY';
    return join(' ', map { "$_=" . cell($v->{$_}) } sort keys %$v) if ref($v) eq 'HASH';
    $v =~ s/\s+/ /g;
    return $v;
}

# Rows of hashes as columns; the first ones are those people look for.
sub table {
    my ($rows, @columns) = @_;
    return '' if !@$rows;
    $rows = [map { ref($_) eq 'HASH' ? $_ : { name => $_ } } @$rows];
    if (!@columns) {
        my %seen;
        $seen{$_}++ for map { keys %$_ } @$rows;
        my @first = grep { delete($seen{$_}) } qw(time at id name share state op who actor result path);
        @columns = (@first, sort grep { my $c = $_; !grep { ref($_->{$c}) eq 'HASH' } @$rows } keys %seen);
    }
    my %width = map { $_ => length } @columns;
    for my $row (@$rows) {
        for my $c (@columns) { my $l = length(cell($row->{$c})); $width{$c} = $l if $l > $width{$c} }
    }
    my $line = sub { join('  ', @_) =~ s/\s+\z//r . "\n" };
    return $line->(map { sprintf("%-*s", $width{$_}, uc($_)) } @columns)
        . join('', map { my $row = $_; $line->(map { sprintf("%-*s", $width{$_}, cell($row->{$_})) } @columns) } @$rows);
}

sub tree {
    my ($v, $indent) = @_;
    $indent //= '';
    my $out = '';
    for my $key (sort keys %$v) {
        my $x = $v->{$key};
        if (ref($x) eq 'HASH' && %$x) {
            $out .= "$indent$key:\n" . tree($x, "$indent  ");
        } elsif (ref($x) eq 'ARRAY' && grep { ref($_) eq 'HASH' } @$x) {
            $out .= "$indent$key:\n";
            $out .= "$indent  - " . cell($_) . "\n" for @$x;
        } else {
            $out .= "$indent$key: " . cell($x) . "\n";
        }
    }
    return $out;
}

# Bytes as people read them.
sub size_text {
    my ($bytes) = @_;
    my @units = ('bytes', qw(KiB MiB GiB TiB PiB));
    my $n = $bytes;
    while ($n >= 1024 && @units > 1) { $n /= 1024; shift @units }
    return sprintf($n == int($n) || $units[0] eq 'bytes' ? '%d %s' : '%.1f %s', $n, $units[0]);
}

1;
