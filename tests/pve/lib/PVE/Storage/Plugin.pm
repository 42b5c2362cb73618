# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::Storage::Plugin;

# Stand-in: the base class of storage types. A type with a `path` gets the behaviour of a directory: list, alloc, free, path;
# activation and status ask a forked child, as the original does.

use strict;
use warnings;

use File::Path ();

use PVE::Cluster qw(cfs_register_file);
use PVE::JSONSchema qw(get_standard_option register_format);
use PVE::SectionConfig;
use PVE::Tools;

use base qw(PVE::SectionConfig);

use constant NOTES_EXT => '.notes';

our @SHARED_STORAGE = qw(iscsi nfs cifs rbd cephfs iscsidirect zfs drbd pbs);

my $data = {
    propertyList => {
        type => { description => 'Storage type.' },
        storage => get_standard_option('pve-storage-id'),
        nodes => get_standard_option('pve-node-list', { optional => 1 }),
        content => { type => 'string', format => 'pve-storage-content-list', optional => 1, description => 'Allowed content types.' },
        disable => { type => 'boolean', optional => 1, description => 'Flag to disable the storage.' },
        'prune-backups' => { type => 'string', optional => 1, description => 'Retention.' },
        'max-protected-backups' => { type => 'integer', minimum => -1, optional => 1, description => 'Protected backups per guest.' },
        shared => { type => 'boolean', optional => 1, description => 'Same contents on all nodes.' },
        subdir => { type => 'string', format => 'pve-storage-path', optional => 1, description => 'Subdir to mount.' },
        format => { type => 'string', enum => [qw(raw qcow2 subvol vmdk)], optional => 1, description => 'Default image format.' },
        preallocation => { type => 'string', enum => [qw(off metadata falloc full)], optional => 1, description => 'Preallocation mode.' },
        'content-dirs' => { type => 'string', format => 'pve-dir-override-list', optional => 1, description => 'Content directories.' },
        options => { type => 'string', format => 'pve-storage-options', optional => 1, description => 'Mount options.' },
        port => { type => 'integer', minimum => 1, maximum => 65535, optional => 1, description => 'Port.' },
    },
};
$data->{propertyList}->{'snapshot-as-volume-chain'} = { type => 'boolean', optional => 1, description => 'Snapshots as chain.' }
    if PVE::Storage::APIVER() >= 12;

sub private { return $data }

cfs_register_file('storage.cfg', sub { __PACKAGE__->parse_config(@_) }, sub { __PACKAGE__->write_config(@_) });

my %subdir = (images => 'images', rootdir => 'private', vztmpl => 'template/cache', iso => 'template/iso', backup => 'dump', snippets => 'snippets');
$subdir{import} = 'import' if PVE::Storage::APIVER() >= 11;

sub _format {
    my ($name, $ok, $what) = @_;
    register_format($name, sub {
        my ($value, $noerr) = @_;
        return $value if $ok->($value);
        return undef if $noerr;
        die "$what\n";
    });
    return;
}
_format('pve-storage-path', sub { $_[0] =~ m!\A/[^;()]+! }, 'value does not look like a valid absolute path');
_format('pve-storage-content', sub { $_[0] eq 'none' || $subdir{ $_[0] } }, 'invalid content type');
_format('pve-storage-options', sub { $_[0] =~ m/\A\S+\z/ }, 'invalid options');
_format('pve-storage-server', sub { $_[0] =~ m/\A[\w.:-]+\z/ }, 'value does not look like a valid server name or IP address');
_format('pve-dir-override', sub { $_[0] =~ m!\A([a-z]+)=[^.]*(?:\.?[^.]+)+\z! && $subdir{$1} }, 'invalid override');

# Before API 11 the list is the same for every type.
sub sensitive_properties {
    my ($type) = @_;
    my $own = ($data->{plugindata}->{$type} // {})->{'sensitive-properties'};
    return [sort keys %$own] if $own && PVE::Storage::APIVER() >= 11;
    return [qw(encryption-key keyring master-pubkey password)];
}

sub content_hash_to_string {
    my ($content) = @_;
    return join(',', grep { $content->{$_} } sort keys %{ $content // {} });
}

sub parse_section_header {
    my ($class, $line) = @_;
    my ($type, $id) = $line =~ m/\A(\S+):\s*(\S+)\s*\z/ or return;
    my $error = eval { PVE::JSONSchema::parse_storage_id($id); 1 } ? undef : $@;
    return (lc($type), $id, $error, {});
}

# Values that are sets or maps. What a type does not support is dropped with a warning; some mixes die.
sub decode_value {
    my ($class, $type, $key, $value) = @_;
    my $allowed = ($data->{plugindata}->{$type}->{content} // [{}])->[0];
    if ($key eq 'content') {
        my %set;
        for my $c (PVE::Tools::split_list($value)) {
            if ($allowed->{$c}) { $set{$c} = 1 }
            else { warn "storage does not support content type '$c'\n" }
        }
        die "unable to combine 'none' with other content types\n" if $set{none} && keys %set > 1;
        die "storage does not support content type 'none'\n" if !%set && !$allowed->{none};
        return \%set;
    }
    if ($key eq 'nodes') {
        return { map { PVE::JSONSchema::pve_verify_node_name($_) => 1 } PVE::Tools::split_list($value) };
    }
    if ($key eq 'content-dirs') {
        my %map;
        for my $entry (PVE::Tools::split_list($value)) {
            my ($c, $dir) = split(/=/, $entry, 2);
            if ($allowed->{$c}) { $map{$c} = $dir }
            else { warn "storage does not support content type '$c'\n" }
        }
        return \%map;
    }
    return $value;
}

sub encode_value {
    my ($class, $type, $key, $value) = @_;
    return join(',', sort keys %$value) if $key eq 'nodes';
    return content_hash_to_string($value) || 'none' if $key eq 'content';
    return join(',', map { "$_=$value->{$_}" } sort keys %$value) if $key eq 'content-dirs';
    return $value;
}

# The storage 'local' is always there; content gets the type's default on reading; some types are always shared.
sub parse_config {
    my ($class, $file, $raw) = @_;
    my $cfg = $class->SUPER::parse_config($file, $raw);
    my $ids = $cfg->{ids};
    # (in the original its path is /var/lib/vz; tests must not touch that of the machine)
    $ids->{local} = { type => 'dir', path => "$ENV{PVE_STANDIN_DIR}/vz", content => { map { $_ => 1 } qw(backup iso vztmpl) } }
        if (($ids->{local} // {})->{type} // '') ne 'dir';
    for my $id (keys %$ids) {
        my $section = $ids->{$id};
        my $type = $section->{type};    # dies here if check_config died: one bad section, no storage at all
        my $known = $data->{plugindata}->{$type}->{content};
        $section->{content} //= $known->[1] if $known;
        $section->{shared} = 1 if grep { $_ eq $type } @SHARED_STORAGE;
    }
    return $cfg;
}

# Hooks: a type may override them.
sub on_add_hook { return undef }
sub on_update_hook { return undef }

sub on_update_hook_full {
    my ($class, $id, $scfg, $changed, $delete, $sensitive) = @_;
    return $class->on_update_hook($id, $changed, %$sensitive);
}
sub on_delete_hook { return undef }

sub check_connection { return 1 }
sub deactivate_storage { return }

sub activate_storage {
    my ($class, $id, $scfg) = @_;
    my $path = $scfg->{path} or die "storage definition has no path\n";
    PVE::Tools::run_fork_with_timeout(2, sub { -d $path ? 1 : undef })
        or die "unable to activate storage '$id' - directory '$path' does not exist or is unreachable\n";
    if ($scfg->{'create-subdirs'} // 1) {
        for my $type (grep { $subdir{$_} } sort keys %{ $scfg->{content} // {} }) {
            File::Path::make_path($class->get_subdir($scfg, $type));
        }
    }
    return;
}

sub status {
    my ($class, $id, $scfg) = @_;
    my $df = PVE::Tools::df($scfg->{path}, 2) or return undef;
    return ($df->{total}, $df->{avail}, $df->{used}, 1);
}

# Volumes of a directory.
sub get_subdir {
    my ($class, $scfg, $type) = @_;
    my $path = $scfg->{path} or die "storage definition has no path\n";
    my $dir = $subdir{$type} or die "unknown vtype '$type'\n";
    return "$path/" . (($scfg->{'content-dirs'} // {})->{$type} // $dir);
}

sub parse_volname {
    my ($class, $volname) = @_;
    return ('images', $2, $1, undef, undef, 0, $3) if $volname =~ m!\A(\d+)/(\S+?\.(raw|qcow2|vmdk|subvol))\z!;
    return ('iso', $1, undef, undef, undef, undef, 'raw') if $volname =~ m!\Aiso/([^/]+\.(?:iso|img))\z!i;
    return ('vztmpl', $1, undef, undef, undef, undef, 'raw') if $volname =~ m!\Avztmpl/([^/]+\.tar\.[gx]z)\z!;
    return ('backup', $1, $2, undef, undef, undef, 'raw') if $volname =~ m!\Abackup/(vzdump-\w+-(\d+)-[^/]+\.(?:tgz|tar|vma)(?:\.\w+)?)\z!;
    return ('snippets', $1, undef, undef, undef, undef, 'raw') if $volname =~ m!\Asnippets/([^/]+)\z!;
    die "unable to parse directory volume name '$volname'\n";
}

sub filesystem_path {
    my ($class, $scfg, $volname) = @_;
    my ($type, $name, $vmid) = $class->parse_volname($volname);
    my $path = $class->get_subdir($scfg, $type) . ($type eq 'images' ? "/$vmid" : '') . "/$name";
    return wantarray ? ($path, $vmid, $type) : $path;
}

sub path {
    my ($class, $scfg, $volname, $id, $snap) = @_;
    return $class->filesystem_path($scfg, $volname, $snap);
}

sub alloc_image {
    my ($class, $id, $scfg, $vmid, $format, $name, $size) = @_;
    $name //= "vm-$vmid-disk-0.$format";
    my $dir = $class->get_subdir($scfg, 'images') . "/$vmid";
    File::Path::make_path($dir);
    open(my $fh, '>', "$dir/$name") or die "cannot create '$dir/$name' - $!\n";
    truncate($fh, $size * 1024) or die "cannot extend '$dir/$name' - $!\n";
    return "$vmid/$name";
}

sub free_image {
    my ($class, $id, $scfg, $volname) = @_;
    my $path = $class->filesystem_path($scfg, $volname);
    unlink($path) or die "unlink '$path' failed - $!\n";
    return undef;
}

sub list_images {
    my ($class, $id, $scfg, $vmid) = @_;
    my $dir = $class->get_subdir($scfg, 'images');
    return [map { my ($v, $n) = m!/(\d+)/([^/]+)\z!; { volid => "$id:$v/$n", vmid => $v, size => -s $_ } }
        grep { !defined($vmid) || m!/\Q$vmid\E/[^/]+\z! } glob("$dir/*/*")];
}

sub list_volumes {
    my ($class, $id, $scfg, $vmid, $types) = @_;
    my @list;
    for my $type (@$types) {
        if ($type eq 'images' || $type eq 'rootdir') {
            push @list, map { { %$_, content => 'images' } } @{ $class->list_images($id, $scfg, $vmid) };
            next;
        }
        my $dir = $class->get_subdir($scfg, $type);
        for my $file (glob("$dir/*")) {
            my ($name) = $file =~ m!([^/]+)\z!;
            my @parsed = eval { $class->parse_volname("$type/$name") } or next;
            next if defined($vmid) && ($parsed[2] // '') ne $vmid;
            push @list, { volid => "$id:$type/$name", content => $type, size => -s $file, format => 'raw' };
        }
    }
    return \@list;
}

# The base class has neither notes nor protection.
sub get_volume_attribute { return }
sub update_volume_attribute { my ($class, $scfg, $id, $volname, $attribute) = @_; die "attribute '$attribute' is not supported for storage type '$scfg->{type}'\n" }
sub get_volume_notes { return '' }
sub update_volume_notes { die "volume notes are not supported\n" }

sub clone_image { die "not modelled\n" }
sub create_base { die "not modelled\n" }
sub volume_import { die "not modelled\n" }
sub volume_import_formats { return ('raw+size') }

1;
