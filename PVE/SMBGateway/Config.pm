# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::Config;

# The sections: on Proxmox through PVE::Storage and its lock, elsewhere in a file of our own in the same format. It knows the
# text format and the lock; it must not know what the properties mean, nor call the library.
#
# In the own file every byte that is not part of a changed property stays as it is: foreign sections, unknown types,
# comments, blank lines, odd indentation.

use strict;
use warnings;

use Encode ();
use Errno ();
use Fcntl qw(:DEFAULT :flock);
use File::Basename ();
use IO::Handle;
use Time::HiRes ();

use PVE::SMBGateway::Error;

use constant TYPE => 'smbgateway';
our $LOCK_WAIT = 10;    # seconds, like Proxmox's own lock on storage.cfg

# The own file. Naming one (the command's --config) also switches Proxmox's storage stack off.
our $FILE;
my $default_file = '/etc/smbgw/storage.cfg';

# --- where the sections are -------------------------------------------------------------------------------------------

my $proxmox;

# 1 if this machine has Proxmox's storage stack. A stack that is there but does not load is an error: falling back to a file of
# our own would split the truth in two.
sub on_proxmox {
    return 0 if defined($FILE);
    return $proxmox if defined($proxmox);
    $proxmox = 0;
    for my $dir (grep { !ref($_) } @INC) {
        next if !-e "$dir/PVE/Storage.pm";
        local $@;
        eval { require PVE::Storage; require PVE::API2::Storage::Config; 1 }
            or PVE::SMBGateway::Error->throw('unreachable', 'the storage stack of Proxmox VE does not load: ' . _line($@),
                remedy => "try 'pvesm status' and repair what it names");
        $proxmox = 1;
        last;
    }
    return $proxmox;
}

sub file { return $FILE // $default_file }

# All sections by id, each a hash of character strings with 'type': the form the library takes.
sub sections {
    if (on_proxmox()) {
        PVE::Cluster::cfs_update(1) if PVE::Cluster->can('cfs_update');
        my $ids = eval { local $SIG{__DIE__}; PVE::Storage::config()->{ids} }
            or PVE::SMBGateway::Error->throw('unreachable', 'the storage configuration of Proxmox VE cannot be read: ' . _line($@ || 'it is empty'),
                remedy => "look at 'systemctl status pve-cluster' and 'pvecm status'");
        return { map { $_ => to_strings($ids->{$_}) } grep { ref($ids->{$_}) eq 'HASH' } keys %$ids };
    }
    return _as_sections(_read(file()));
}

# A number that is another one as soon as anything in the sections' file is changed; cheaper than reading them.
sub digest {
    require Digest::SHA;
    if (on_proxmox()) {
        my $text = eval { PVE::Cluster::cfs_update(1) if PVE::Cluster->can('cfs_update'); PVE::Cluster->can('get_config') ? PVE::Cluster::get_config('storage.cfg') : undef };
        return Digest::SHA::sha256_hex(octets($text)) if defined($text);
        my $sections = sections();
        my $all = join("\0", map { my $id = $_; ($id, map { ($_, $sections->{$id}->{$_}) } sort keys %{ $sections->{$id} }) } sort keys %$sections);
        return Digest::SHA::sha256_hex(octets($all));
    }
    open(my $fh, '<:raw', file()) or do {
        return '' if $!{ENOENT};
        PVE::SMBGateway::Error->throw('io', "cannot read '" . file() . "': $!");
    };
    local $/;
    return Digest::SHA::sha256_hex(readline($fh) // '');
}

# The sections of our type.
sub ours {
    my ($sections) = @_;
    $sections //= sections();
    return { map { $_ => $sections->{$_} } grep { ($sections->{$_}->{type} // '') eq TYPE } keys %$sections };
}

# Proxmox hands values over as characters (from a request) or as octets (from the file); these two make either form of both.
sub characters {
    my ($value) = @_;
    return $value if !defined($value) || utf8::is_utf8($value);
    my $text = eval { Encode::decode('UTF-8', "$value", Encode::FB_CROAK() | Encode::LEAVE_SRC()) };
    return $text // Encode::decode('ISO-8859-1', "$value");
}

sub octets {
    my ($value) = @_;
    return $value if !defined($value) || ref($value);
    my $bytes = characters($value);
    utf8::encode($bytes);
    return $bytes;
}

# A section as Proxmox decodes it (sets and maps as hashes) -> strings.
sub to_strings {
    my ($scfg) = @_;
    my %section;
    for my $key (keys %$scfg) {
        my $value = $scfg->{$key};
        next if !defined($value);
        if (ref($value) eq 'HASH') {
            $value = $key eq 'content-dirs'
                ? join(',', map { "$_=$value->{$_}" } sort keys %$value)
                : join(',', sort grep { $value->{$_} } keys %$value);
            next if $value eq '' && $key ne 'content';
            $value = 'none' if $value eq '';
        } elsif (ref($value) eq 'ARRAY') {
            $value = join(',', @$value);
        } elsif (ref($value)) {
            next;
        }
        $section{ characters($key) } = characters($value);
    }
    return \%section;
}

# --- changing the own file --------------------------------------------------------------------------------------------

# Runs $code with the file locked; what it returns is returned. Not for Proxmox, whose own commands take their own lock.
sub locked {
    my ($code) = @_;
    my $dir = File::Basename::dirname(file());
    mkdir($dir, 0755) or $!{EEXIST} or PVE::SMBGateway::Error->throw('io', "cannot create '$dir': $!");
    # the directory is locked, not a file beside the configuration: nothing is left behind, and a rename cannot split the lock
    sysopen(my $lock, $dir, O_RDONLY | O_DIRECTORY) or PVE::SMBGateway::Error->throw('io', "cannot open '$dir': $!");
    my $end = Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) + $LOCK_WAIT;
    while (!flock($lock, LOCK_EX | LOCK_NB)) {
        PVE::SMBGateway::Error->throw('io', "cannot lock '$dir': $!") if !$!{EWOULDBLOCK} && !$!{EINTR};
        PVE::SMBGateway::Error->throw('busy', "'" . file() . "' is locked by another command",
            remedy => 'wait for it to end, then try again')
            if Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) > $end;
        Time::HiRes::sleep(0.05);
    }
    return $code->();
}

# Adds or replaces one section; keys with the value undef are dropped. Call it inside locked().
sub put {
    my ($id, $section) = @_;
    $id =~ m/\A[A-Za-z][A-Za-z0-9\-_.]*[A-Za-z0-9]\z/
        or PVE::SMBGateway::Error->throw('invalid', "'$id' is not a storage id", problems => { storage => 'must start with a letter, end with a letter or digit, and hold only letters, digits, -, _ and .' });
    my $type = $section->{type} // TYPE;
    my %want;
    for my $key (keys %$section) {
        next if $key eq 'type' || !defined($section->{$key}) || $section->{$key} eq '';
        PVE::SMBGateway::Error->throw('invalid', "property '$key' of '$id' contains a line feed",
            problems => { $key => 'contains a line feed' })
            if "$key$section->{$key}" =~ m/[\n\r]/;
        $want{ octets($key) } = octets($section->{$key});
    }

    my $blocks = _read(file());
    my ($block) = grep { defined($_->{id}) && $_->{id} eq $id } reverse @$blocks;
    if ($block) {
        my $out = '';
        my %done;
        for my $line (split(/(?<=\n)/, $block->{text})) {
            if ($line =~ m/\A\s+(\S+)(?:\s+(.*\S))?\s*\z/s && $line !~ m/\A\s*#/) {
                my ($key, $old) = ($1, $2);
                next if !exists($want{$key}) || $done{$key}++;
                $line = _line_of($key, $want{$key}) if _canonical($key, $old) ne _canonical($key, $want{$key});
            }
            $out .= $line;
        }
        $out .= "\n" if $out !~ m/\n\z/;
        my $tail = $out =~ s/(\n)\n\z/$1/ ? "\n" : '';    # new lines go before the blank line that ends the section
        $out .= _line_of($_, $want{$_}) for grep { !$done{$_} } _ordered(keys %want);
        $block->{text} = $out . $tail;
    } else {
        my $new = { id => $id, type => $type, text => join('', "$type: $id\n", map({ _line_of($_, $want{$_}) } _ordered(keys %want)), "\n") };
        # Behind a last section that no empty line ends, one would have to be added, and would stay when ours is dropped.
        my $clean = !@$blocks || $blocks->[-1]->{text} =~ m/(?:\A|\n)\n\z/;
        $clean ? push(@$blocks, $new) : unshift(@$blocks, $new);
    }
    _write(file(), $blocks);
    return;
}

# Takes one section out. Returns 1 if it was there.
sub drop {
    my ($id) = @_;
    my $blocks = _read(file());
    my @keep = grep { !defined($_->{id}) || $_->{id} ne $id } @$blocks;
    return 0 if @keep == @$blocks;
    _write(file(), \@keep);
    return 1;
}

sub _ordered { return sort { ($b eq 'path') <=> ($a eq 'path') || $a cmp $b } @_ }

sub _line_of {
    my ($key, $value) = @_;
    return $key eq 'disable' && $value eq '1' ? "\tdisable\n" : "\t$key $value\n";
}

sub _canonical { my ($key, $value) = @_; return defined($value) ? $value : $key eq 'disable' || $key eq 'shared' ? '1' : '' }

# The file as blocks { id?, type?, text }: their texts joined are the file. Sections end at an empty line, as in Proxmox.
sub _read {
    my ($file) = @_;
    open(my $fh, '<:raw', $file) or do {
        return [] if $!{ENOENT};
        PVE::SMBGateway::Error->throw('io', "cannot read '$file': $!");
    };
    local $/ = "\n";
    my @blocks;
    my $section;
    while (defined(my $line = <$fh>)) {
        if ($section) {
            $section->{text} .= $line;
            $section = undef if $line =~ m/\A\n?\z/;
        } elsif ($line !~ m/\A\s*#/ && $line =~ m/\A(\S+):\s*(\S+)\s*\z/) {
            push @blocks, $section = { type => lc($1), id => $2, text => $line };
        } elsif (@blocks && !defined($blocks[-1]->{id})) {
            $blocks[-1]->{text} .= $line;
        } else {
            push @blocks, { text => $line };
        }
    }
    PVE::SMBGateway::Error->throw('io', "cannot read '$file': $!") if $fh->error;
    return \@blocks;
}

sub _as_sections {
    my ($blocks) = @_;
    my %sections;
    for my $block (grep { defined($_->{id}) } @$blocks) {
        my %section = (type => characters($block->{type}));
        for my $line (split(/\n/, $block->{text})) {
            next if $line =~ m/\A\s*#/ || $line !~ m/\A\s+(\S+)(?:\s+(.*\S))?\s*\z/;
            my ($key, $value) = ($1, $2);
            $section{ characters($key) } //= characters(_canonical($key, $value));
        }
        $sections{ characters($block->{id}) } = \%section;
    }
    return \%sections;
}

# Atomic and durable: a reader sees the old file or the new one, also after a power cut.
sub _write {
    my ($file, $blocks) = @_;
    if (-l $file) {
        require Cwd;
        $file = Cwd::realpath($file) // PVE::SMBGateway::Error->throw('io', "'$file' is a dangling symlink");
    }
    if (!grep { length($_->{text}) } @$blocks) {
        unlink($file) or $!{ENOENT} or PVE::SMBGateway::Error->throw('io', "cannot remove '$file': $!");
        return;
    }
    my $dir = File::Basename::dirname($file);
    my @old = stat($file);
    my $temp = "$dir/." . File::Basename::basename($file) . ".$$.tmp";
    my $fail = sub { my ($what) = @_; my $err = "$!"; unlink($temp); PVE::SMBGateway::Error->throw('io', "cannot $what '$temp': $err") };
    unlink($temp);
    sysopen(my $fh, $temp, O_WRONLY | O_CREAT | O_EXCL, 0600) or $fail->('create');
    binmode($fh);
    (print {$fh} map { $_->{text} } @$blocks) && $fh->flush && $fh->sync or $fail->('write');
    chown($old[4], $old[5], $fh) or $fail->('set the owner of') if @old;
    chmod(@old ? $old[2] & 07777 : 0644, $fh) or $fail->('set the mode of');
    close($fh) or $fail->('write');
    rename($temp, $file) or $fail->('put in place');
    if (sysopen(my $d, $dir, O_RDONLY | O_DIRECTORY)) { $d->sync }
    return;
}

sub _line { my ($text) = @_; $text =~ s/\s+\z//; $text =~ s/\n.*//s; return $text }

1;
