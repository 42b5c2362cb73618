# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::Storage;

# Stand-in: the loader of storage types with its API range, and what the status cycle does with each storage.
# PVE_STANDIN_APIVER and PVE_STANDIN_APIAGE choose the release: 10/1 = PVE 8.0, 11/2 = PVE 8.4, 13/4 and 15/6 = PVE 9.

use strict;
use warnings;

use PVE::StandIn;

use constant APIVER => $ENV{PVE_STANDIN_APIVER} // 15;
use constant APIAGE => $ENV{PVE_STANDIN_APIAGE} // (APIVER() - 9);

use PVE::Cluster qw(cfs_read_file cfs_write_file cfs_lock_file);
use PVE::INotify;
use PVE::JSONSchema;
use PVE::RPCEnvironment;
use PVE::Storage::Plugin;
use PVE::Storage::DirPlugin;
use PVE::Storage::NFSPlugin;
use PVE::Storage::CIFSPlugin;
use PVE::Storage::RBDPlugin;

PVE::Storage::DirPlugin->register();
PVE::Storage::NFSPlugin->register();
PVE::Storage::CIFSPlugin->register();
PVE::Storage::RBDPlugin->register();

# Third-party types: every Custom/*.pm. A failure here costs only that type.
my %seen;
for my $dir (grep { !ref($_) && -d "$_/PVE/Storage/Custom" } @INC) {
    for my $file (sort glob("$dir/PVE/Storage/Custom/*.pm")) {
        my ($name) = $file =~ m!([^/]+)\.pm\z!;
        next if $seen{$name}++;
        my $class = "PVE::Storage::Custom::$name";
        eval {
            require "PVE/Storage/Custom/$name.pm";
            die "not derived from PVE::Storage::Plugin\n" if !$class->isa('PVE::Storage::Plugin');
            die "does not provide an api() method\n" if !$class->can('api');
            my $version = $class->api();
            die "implements an API version newer than current ($version > " . APIVER . ")\n" if $version > APIVER;
            die "API version too old, please update the plugin ($version < " . (APIVER - APIAGE) . ")\n" if $version < APIVER - APIAGE;
            $class->register();
            warn "Plugin \"$class\" is implementing an older storage API, an upgrade is recommended\n" if $version != APIVER;
            1;
        } or warn "Error loading storage plugin \"$class\": $@";
    }
}

# A failure here costs everything.
PVE::Storage::Plugin->init();

sub config { return cfs_read_file('storage.cfg') }
sub write_config { my ($cfg) = @_; return cfs_write_file('storage.cfg', $cfg) }

sub lock_storage_config {
    my ($code, $what) = @_;
    cfs_lock_file('storage.cfg', undef, $code);
    my $error = $@;
    die defined($what) ? "$what: $error" : $error if $error;
    return;
}

sub storage_config {
    my ($cfg, $id, $noerr) = @_;
    my $section = $cfg->{ids}->{$id};
    die "storage '$id' does not exist\n" if !$section && !$noerr;
    return $section;
}

sub storage_check_enabled {
    my ($cfg, $id, $node, $noerr) = @_;
    my $section = storage_config($cfg, $id);
    my $why =
          $section->{disable} ? 'is disabled'
        : $section->{nodes} && !$section->{nodes}->{ $node // PVE::INotify::nodename() } ? 'is not available on node \'' . ($node // PVE::INotify::nodename()) . "'"
        : undef;
    return $section if !defined($why);
    die "storage '$id' $why\n" if !$noerr;
    return undef;
}

sub activate_storage {
    my ($cfg, $id, $cache) = @_;
    my $section = storage_check_enabled($cfg, $id);
    return if $cache && $cache->{activated}->{$id};
    my $plugin = PVE::Storage::Plugin->lookup($section->{type});
    if (!eval { $plugin->check_connection($id, $section) }) {
        die "connection check for storage '$id' failed - $@\n" if $@;
        die "storage '$id' is not online\n";
    }
    $plugin->activate_storage($id, $section, $cache // {});
    $cache->{activated}->{$id} = 1 if $cache;
    return;
}

# One cycle over all storages: what fails is inactive with a warning, the others go on.
sub storage_info {
    my ($cfg) = @_;
    my %info;
    my $cache = {};
    for my $id (sort keys %{ $cfg->{ids} }) {
        my $section = $cfg->{ids}->{$id};
        my $enabled = storage_check_enabled($cfg, $id, undef, 1) ? 1 : 0;
        my $entry = $info{$id} = {
            type => $section->{type}, total => 0, avail => 0, used => 0, active => 0, enabled => $enabled,
            content => PVE::Storage::Plugin::content_hash_to_string($section->{content}),
        };
        next if !$enabled;
        if (!eval { activate_storage($cfg, $id, $cache); 1 }) { warn $@; next }
        my $plugin = PVE::Storage::Plugin->lookup($section->{type});
        my ($total, $avail, $used, $active) = eval { $plugin->status($id, $section, $cache) };
        warn $@ if $@;
        next if !$active;
        @$entry{qw(total avail used active)} = (int($total), int($avail), int($used), $active);
    }
    return \%info;
}

sub parse_volume_id {
    my ($volid) = @_;
    $volid =~ m/\A([a-z][a-z0-9\-_.]*[a-z0-9]):(.+)\z/i or die "unable to parse volume ID '$volid'\n";
    return ($1, $2);
}

sub path {
    my ($cfg, $volid) = @_;
    my ($id, $volname) = parse_volume_id($volid);
    my $section = storage_config($cfg, $id);
    return scalar(PVE::Storage::Plugin->lookup($section->{type})->path($section, $volname, $id));
}

# Without a type: every content the storage is configured for, as in the original.
sub volume_list {
    my ($cfg, $id, $vmid, $content) = @_;
    my $section = storage_config($cfg, $id);
    activate_storage($cfg, $id);
    my @types = grep { $_ ne 'none' && $section->{content}->{$_} } defined($content) ? ($content) : sort keys %{ $section->{content} };
    return PVE::Storage::Plugin->lookup($section->{type})->list_volumes($id, $section, $vmid, \@types);
}

sub vdisk_alloc {
    my ($cfg, $id, $vmid, $format, $name, $size) = @_;
    my $section = storage_config($cfg, $id);
    activate_storage($cfg, $id);
    return "$id:" . PVE::Storage::Plugin->lookup($section->{type})->alloc_image($id, $section, $vmid, $format // 'raw', $name, $size);
}

sub vdisk_free {
    my ($cfg, $volid) = @_;
    my ($id, $volname) = parse_volume_id($volid);
    my $section = storage_config($cfg, $id);
    activate_storage($cfg, $id);
    my $plugin = PVE::Storage::Plugin->lookup($section->{type});
    die "cannot remove protected volume '$volname' on '$id'\n" if $plugin->get_volume_attribute($section, $id, $volname, 'protected');
    $plugin->free_image($id, $section, $volname, 0);
    return;
}

1;
