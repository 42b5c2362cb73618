# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::Storage::DirPlugin;

# Stand-in: the directory type. It declares `path` and its companions, and keeps notes and protection of backups.

use strict;
use warnings;

use Encode ();

use PVE::Storage::Plugin;
use PVE::Tools;

use base qw(PVE::Storage::Plugin);

sub type { return 'dir' }

sub plugindata {
    return {
        content => [{ map { $_ => 1 } qw(images rootdir vztmpl iso backup snippets none), PVE::Storage::APIVER() >= 12 ? 'import' : () }, { images => 1, rootdir => 1 }],
        format => [{ raw => 1, qcow2 => 1, vmdk => 1, subvol => 1 }, 'raw'],
        'sensitive-properties' => {},
    };
}

sub properties {
    return {
        path => { type => 'string', format => 'pve-storage-path', description => 'File system path.' },
        mkdir => { type => 'boolean', description => 'Deprecated.' },
        'create-base-path' => { type => 'boolean', description => 'Create the base directory.' },
        'create-subdirs' => { type => 'boolean', description => 'Create the content directories.' },
        is_mountpoint => { type => 'string', description => 'The path must be a mount point.' },
        bwlimit => { type => 'string', description => 'I/O limit.' },
    };
}

sub options {
    return {
        path => { fixed => 1 },
        map { $_ => { optional => 1 } } qw(content-dirs nodes shared disable prune-backups max-protected-backups content format mkdir create-base-path create-subdirs is_mountpoint bwlimit preallocation),
    };
}

sub activate_storage {
    my ($class, $id, $scfg, $cache) = @_;
    mkdir($scfg->{path}) if $scfg->{'create-base-path'} // $scfg->{mkdir} // 1;
    return $class->SUPER::activate_storage($id, $scfg, $cache);
}

sub _backup_file {
    my ($class, $scfg, $volname) = @_;
    my ($type) = $class->parse_volname($volname);
    return $type eq 'backup' ? scalar($class->filesystem_path($scfg, $volname)) : undef;
}

sub get_volume_attribute {
    my ($class, $scfg, $id, $volname, $attribute) = @_;
    my $file = _backup_file($class, $scfg, $volname) // return;
    return -e "$file.protected" ? 1 : 0 if $attribute eq 'protected';
    return if $attribute ne 'notes';
    return -f $file . $class->SUPER::NOTES_EXT ? Encode::decode('UTF-8', PVE::Tools::file_get_contents($file . $class->SUPER::NOTES_EXT)) : '';
}

sub update_volume_attribute {
    my ($class, $scfg, $id, $volname, $attribute, $value) = @_;
    my $file = _backup_file($class, $scfg, $volname) // die "only backups support attribute '$attribute'\n";
    if ($attribute eq 'notes') {
        PVE::Tools::file_set_contents($file . $class->SUPER::NOTES_EXT, Encode::encode('UTF-8', $value // ''));
    } elsif ($attribute eq 'protected') {
        if ($value) { open(my $fh, '>', "$file.protected") or die "unable to create '$file.protected' - $!\n" }
        else { unlink("$file.protected") }
    } else {
        die "attribute '$attribute' is not supported for storage type '$scfg->{type}'\n";
    }
    return;
}

sub get_volume_notes { my ($class, $scfg, $id, $volname) = @_; return get_volume_attribute($class, $scfg, $id, $volname, 'notes') }
sub update_volume_notes { my ($class, $scfg, $id, $volname, $notes) = @_; return update_volume_attribute($class, $scfg, $id, $volname, 'notes', $notes) }

1;
