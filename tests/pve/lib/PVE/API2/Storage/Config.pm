# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::API2::Storage::Config;

# Stand-in: the life of a storage definition: in which order the checks, the lock, the hooks, the activation and the write come,
# and who is called when one of them dies.

use strict;
use warnings;

use PVE::RESTHandler;
use PVE::SectionConfig;
use PVE::Storage;
use PVE::Storage::Plugin;
use PVE::Tools qw(extract_param extract_sensitive_params);

use base qw(PVE::RESTHandler);

__PACKAGE__->register_method({
    name => 'create',
    parameters => PVE::Storage::Plugin->createSchema(),
    code => sub {
        my ($param) = @_;
        my $type = extract_param($param, 'type');
        my $id = extract_param($param, 'storage');
        delete($param->{nodes}) if !$param->{nodes};
        my $sensitive = extract_sensitive_params($param, PVE::Storage::Plugin::sensitive_properties($type), []);
        my $plugin = PVE::Storage::Plugin->lookup($type);
        my $section = $plugin->check_config($id, $param, 1, 1);
        my $answer;
        PVE::Storage::lock_storage_config(sub {
            my $cfg = PVE::Storage::config();
            die "storage ID '$id' already defined\n" if PVE::Storage::storage_config($cfg, $id, 1);
            $cfg->{ids}->{$id} = $section;
            $answer = $plugin->on_add_hook($id, $section, %$sensitive);
            if (!eval { PVE::Storage::activate_storage($cfg, $id) if PVE::Storage::storage_check_enabled($cfg, $id, undef, 1); 1 }) {
                my $error = $@;
                eval { $plugin->on_delete_hook($id, $section); 1 } or warn "$@\n";
                die $error;
            }
            PVE::Storage::write_config($cfg);
        }, 'create storage failed');
        return { storage => $id, type => $type, $answer ? (config => $answer) : () };
    },
});

__PACKAGE__->register_method({
    name => 'update',
    parameters => PVE::Storage::Plugin->updateSchema(),
    code => sub {
        my ($param) = @_;
        my $id = extract_param($param, 'storage');
        my $digest = extract_param($param, 'digest');
        my $delete = extract_param($param, 'delete');
        $delete = [PVE::Tools::split_list($delete)] if $delete;
        my ($type, $answer);
        PVE::Storage::lock_storage_config(sub {
            my $cfg = PVE::Storage::config();
            PVE::SectionConfig::assert_if_modified($cfg, $digest);
            my $section = PVE::Storage::storage_config($cfg, $id);
            $type = $section->{type};
            my $sensitive = extract_sensitive_params($param, PVE::Storage::Plugin::sensitive_properties($type), $delete);
            my $plugin = PVE::Storage::Plugin->lookup($type);
            my $changed = $plugin->check_config($id, $param, 0, 1);
            my $full = PVE::Storage::APIVER() >= 13;
            my $check_delete = sub {
                my $options = $plugin->private()->{options}->{$type};
                for my $key (@{ $delete // [] }) {
                    my $option = $options->{$key} or die "no such option '$key'\n";
                    die "unable to delete required option '$key'\n" if !$option->{optional};
                    die "unable to delete fixed option '$key'\n" if $option->{fixed};
                    die "cannot set and delete property '$key' at the same time!\n" if defined($changed->{$key});
                }
            };
            $check_delete->() if $full;
            $answer =
                $full && $plugin->can('api') && $plugin->api() >= 13
                ? $plugin->on_update_hook_full($id, $section, $changed, $delete, $sensitive)
                : $plugin->on_update_hook($id, $changed, %$sensitive);
            $check_delete->() if !$full;
            delete($section->{$_}) for @{ $delete // [] };
            $section->{$_} = $changed->{$_} for keys %$changed;
            PVE::Storage::write_config($cfg);
        }, 'update storage failed');
        return { storage => $id, type => $type, $answer ? (config => $answer) : () };
    },
});

# Neither a deactivation nor an activation happens here.
__PACKAGE__->register_method({
    name => 'delete',
    parameters => { properties => { storage => PVE::JSONSchema::get_standard_option('pve-storage-id') } },
    code => sub {
        my ($param) = @_;
        my $id = $param->{storage};
        PVE::Storage::lock_storage_config(sub {
            my $cfg = PVE::Storage::config();
            my $section = PVE::Storage::storage_config($cfg, $id);
            PVE::Storage::Plugin->lookup($section->{type})->on_delete_hook($id, $section);
            delete($cfg->{ids}->{$id});
            PVE::Storage::write_config($cfg);
        }, 'delete storage failed');
        return undef;
    },
});

1;
