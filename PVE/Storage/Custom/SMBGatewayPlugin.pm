# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::Storage::Custom::SMBGatewayPlugin;

# Storage type 'smbgateway'. It knows when Proxmox calls what and hands every decision to the library; it must not know how a
# share is made. It loads and registers without the library: a node on which a storage plugin is missing drops that
# plugin's sections from storage.cfg at its next write.

use strict;
use warnings;

use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;
use PVE::SMBGateway::Schema;
use PVE::SMBGateway::Worker;
use PVE::Storage::Plugin;

use base qw(PVE::Storage::Plugin);

# Storage API versions this plugin is tested with.
use constant MIN_API => 10;
use constant MAX_API => 15;

# Hooks run under the cluster's lock on storage.cfg, which is taken away after 60 s; the API's caller is gone after 30 s.
our $HOOK_SECONDS = 19;
# The agent's worker holds the gateway's lock for moments; a hook waits that long for it, no longer.
use constant LOCK_WAIT_MS => 3000;
# An older snapshot says nothing about now.
use constant STALE_MS => 60_000;

# Content that must never be on a tree which SMB users can write. 'import' exists from PVE 8.3 on.
my %REFUSED = map { $_ => 1 } qw(images rootdir snippets vztmpl import);

# What check_config() noticed, by storage id, for the hook that follows it in the same process. check_config() itself must
# not die: it runs for stored sections too, and there a die breaks every storage of the node.
my %complaints;

# When a message about a storage was last given, by id: pvestatd asks every ten seconds.
my %said;

# --- registration -----------------------------------------------------------------------------------------------------

sub api {
    my $running = eval { PVE::Storage::APIVER() } // MIN_API;
    return $running < MIN_API ? MIN_API : $running > MAX_API ? MAX_API : $running;
}

sub type { return PVE::SMBGateway::Config::TYPE }

# /nodes/{node}/smbgateway. There is no place for the API of others, but Proxmox's function can be called for its class: as a function, because
# that class may still be in the making, and says then that it inherits nothing. What goes wrong must not keep the plugin from
# registering: then there is no API of ours, and everything else works.
our $API = eval {
    local $SIG{__DIE__} = 'DEFAULT';
    require PVE::RESTHandler;
    require PVE::API2::SMBGateway;
    PVE::RESTHandler::register_method('PVE::API2::Nodes::Nodeinfo', { subclass => 'PVE::API2::SMBGateway', path => 'smbgateway' });
    1;
} || do { warn "the API of the SMB gateway is not available: $@"; 0 };

sub plugindata {
    return {
        content => [{ none => 1, iso => 1, backup => 1 }, { none => 1 }],
        format => [{ raw => 1 }, 'raw'],
        'sensitive-properties' => { map { $_ => 1 } PVE::SMBGateway::Schema::sensitive() },
    };
}

sub properties { return PVE::SMBGateway::Schema::declared() }

sub options { return PVE::SMBGateway::Schema::options() }

# --- sections ---------------------------------------------------------------------------------------------------------

# A stored value of ours that this version does not know (written by a newer one on another node) is kept: a value that fails
# here would be gone at the next write, and the base class would turn what is no number into 0.
sub check_value {
    my ($class, $type, $key, $value, $storeid, $skip) = @_;
    my $ours = $key =~ m/\Asmbgw-/ ? PVE::SMBGateway::Schema::property($key) : undef;
    if ($ours && $ours->{type} eq 'integer' && defined($value) && $value !~ m/\A[-+]?\d+\z/) {
        die "property contains a line feed\n" if $value =~ m/[\n\r]/;
        return $value;
    }
    return $class->SUPER::check_value($type, $key, $value, $storeid, $skip || $key =~ m/\Asmbgw-/);
}

sub check_config {
    my ($class, $storeid, $config, $create, $skip) = @_;

    my %complaint;
    if (defined($config->{content}) && !ref($config->{content})) {
        my @refused = grep { $REFUSED{$_} } split(/[\s,;]+/, $config->{content});
        $complaint{content} = join(', ', @refused)
            . ' cannot be kept on a tree that SMB users can write: allowed are none, or iso and backup in explicit content-dirs'
            if @refused;
    }
    $complaints{$storeid} = \%complaint;

    return $class->SUPER::check_config($storeid, $config, $create, $skip) if !$create;

    my $settings = eval { local $SIG{__DIE__}; $class->SUPER::check_config($storeid, $config, $create, $skip) };
    if (!$settings) {
        # key by key, to keep what is good and to know which is not
        my $options = $class->options();
        $settings = { type => $class->type() };
        for my $key (keys %$config) {
            my $value = eval {
                local $SIG{__DIE__};
                my $checked = $class->check_value($class->type(), $key, $config->{$key}, $storeid, $skip);
                $class->decode_value($class->type(), $key, $checked);
            };
            if (defined($value)) { $settings->{$key} = $value }
            else { ($complaint{$key} = $@ || 'is not usable') =~ s/\s+\z// }
        }
        for my $key (grep { !$options->{$_}->{optional} && !defined($settings->{$_}) } keys %$options) {
            $complaint{$key} //= 'missing value for required option';
            $settings->{$key} = '';    # undefined, it would stop every write of storage.cfg
        }
    }
    $settings->{path} =~ s!(?<=.)/+\z!! if defined($settings->{path});
    return $settings;
}

# --- hooks: validate, run, within $HOOK_SECONDS ----------------------------------------------------------------------------
#
# With `defer` the library does at once what takes seconds. What takes longer (a container is made, restarted, destroyed) it records,
# says so by `state` (provisioning, recorded, deleting), and the worker does it once Proxmox has written storage.cfg.

sub on_add_hook {
    my ($class, $storeid, $scfg, %sensitive) = @_;

    my $complaint = _complaints($storeid, \%sensitive);
    my ($result, $error);
    my $ok = eval {
        my $sections = PVE::SMBGateway::Config::sections();
        delete $sections->{$storeid};
        my $section = PVE::SMBGateway::Config::to_strings($scfg);
        _refuse($complaint, $storeid, $section, $sections, 1);
        $result = PVE::SMBGateway::Native::run(
            'share.create',
            { id => $storeid, section => $section, sections => $sections, defer => 1, PVE::SMBGateway::Worker::together(), _who() },
            secrets => _secrets(\%sensitive),
            deadline => $HOOK_SECONDS,
        );
        1;
    };
    _fail($@, $storeid) if !$ok;

    # From here on the share exists, and nobody calls on_delete_hook when we die.
    if (!eval { _write_back($scfg, $result->{section}); _content_dirs($scfg) if _here($result); 1 }) {
        $error = $@;
        eval { _delete($storeid) };
        $error .= " (and undoing it failed: $@)" if $@;
        _fail($error, $storeid);
    }
    _warnings($storeid, $result);
    PVE::SMBGateway::Worker::start($storeid);
    return undef;
}

# PVE 8, or api() below 13: deletions of ordinary properties are not visible; the worker sees them in the committed section.
sub on_update_hook {
    my ($class, $storeid, $changed, %sensitive) = @_;
    return _update($storeid, undef, $changed, undef, \%sensitive);
}

sub on_update_hook_full {
    my ($class, $storeid, $scfg, $changed, $delete, $sensitive) = @_;
    return _update($storeid, $scfg, $changed, $delete, $sensitive // {});
}

sub _update {
    my ($storeid, $scfg, $changed, $delete, $sensitive) = @_;

    my $complaint = _complaints($storeid, $sensitive);    # before the sections are read, which checks them again
    my $result;
    my $ok = eval {
        my $sections = PVE::SMBGateway::Config::sections();
        my $current = $scfg ? PVE::SMBGateway::Config::to_strings($scfg) : $sections->{$storeid} // {};
        my $section = { %$current, %{ PVE::SMBGateway::Config::to_strings($changed) } };
        delete $section->{$_} for @{ $delete // [] };
        $sections->{$storeid} = $section;
        _refuse($complaint, $storeid, $section, $sections, 0);
        $result = PVE::SMBGateway::Native::run(
            'share.update',
            { id => $storeid, section => $section, sections => $sections, defer => 1, PVE::SMBGateway::Worker::together(), _who() },
            secrets => _secrets($sensitive),
            deadline => $HOOK_SECONDS,
        );
        _write_back($changed, $result->{section}, $current);
        _content_dirs({ %{ $scfg // {} }, %$section }) if _here($result);
        1;
    };
    _fail($@, $storeid) if !$ok;
    _warnings($storeid, $result);
    PVE::SMBGateway::Worker::start($storeid);
    return undef;
}

# Also called to clean up when the activation after on_add_hook fails: then the library drops what it kept for the worker. A removal that
# is only recorded is the worker's, which waits until the section is gone: it still can stay, when Proxmox fails after this hook.
sub on_delete_hook {
    my ($class, $storeid, $scfg) = @_;
    my $result = eval { _delete($storeid) };
    _fail($@, $storeid) if !$result;
    _warnings($storeid, $result);
    PVE::SMBGateway::Worker::start($storeid) if ($result->{state} // 'removed') ne 'removed';
    return undef;
}

sub _delete {
    my ($storeid) = @_;
    my $result = eval {
        PVE::SMBGateway::Native::run('share.delete', { id => $storeid, defer => 1, _who() }, deadline => $HOOK_SECONDS);
    };
    return $result if $result;
    my $error = PVE::SMBGateway::Error->from($@);
    # a section that never became a share can always be removed
    return {} if $error->kind() eq 'not-found';
    die $error;
}

sub _who {
    my $user = eval {
        local $SIG{__DIE__};
        PVE::RPCEnvironment->can('get') ? PVE::RPCEnvironment::get()->get_user() : undef;
    };
    return (actor => $user // 'root@pam', 'lock-wait-ms' => LOCK_WAIT_MS);
}

sub _secrets {
    my ($sensitive) = @_;
    my $password = $sensitive->{password};
    return {} if !defined($password) || $password eq '';
    return { password => PVE::SMBGateway::Config::octets($password) };
}

sub _complaints {
    my ($storeid, $sensitive) = @_;
    my %complaint = %{ delete($complaints{$storeid}) // {} };
    my %known = map { $_ => 1 } PVE::SMBGateway::Schema::sensitive();
    # before API 11 Proxmox takes these out of every request, whatever the type allows
    for my $key (grep { !$known{$_} && defined($sensitive->{$_}) } keys %$sensitive) {
        $complaint{$key} = 'a storage of type smbgateway has no such property';
    }
    return \%complaint;
}

# Dies with our own complaints and those of the library together, if there are any of ours.
sub _refuse {
    my ($complaint, $storeid, $section, $sections, $create) = @_;
    return if !%$complaint;
    my %problems;
    my $checked = eval {
        PVE::SMBGateway::Native::query('check', { id => $storeid, section => $section, sections => $sections, create => $create });
    };
    $problems{ $_->{property} } //= $_->{message} for @{ ($checked // {})->{problems} // [] };
    %problems = (%problems, %$complaint);
    PVE::SMBGateway::Error->throw('invalid', "storage '$storeid' cannot be set up like this", problems => \%problems);
}

# What the library decided for the administrator goes into the section that Proxmox is about to write, as octets. Sets and maps of
# the request stay as Proxmox decoded them.
my @DECIDED = qw(nodes share smbgw-mode smbgw-gateway);

sub _write_back {
    my ($scfg, $effective, $current) = @_;
    for my $key (@DECIDED) {
        my $value = ($effective // {})->{$key};
        next if !defined($value) || $value eq '';
        next if $current && ($current->{$key} // '') eq $value && !exists($scfg->{$key});
        $scfg->{$key} = $key eq 'nodes' ? { map { $_ => 1 } grep { length } split(/[\s,;]+/, $value) } : $value;
    }
    # the account that joins a domain is used once; on an update Proxmox has no way to take it out again, and the library passes it by
    delete $scfg->{username} if %{ $effective // {} } && !defined($effective->{username});
    for my $key (keys %$scfg) {
        $scfg->{$key} = PVE::SMBGateway::Config::octets($scfg->{$key}) if defined($scfg->{$key}) && !ref($scfg->{$key});
    }
    return;
}

# Whether this node serves the share, or will when its container is built. 'recorded' may mean another node.
sub _here {
    my ($result) = @_;
    return ($result->{state} // '') =~ m/\A(?:ready|provisioning)\z/;
}

# Directories of allowed content: activate_storage() must not touch the tree, so they are made here. Never through a symlink.
sub _content_dirs {
    my ($scfg) = @_;
    my %section = %{ PVE::SMBGateway::Config::to_strings($scfg) };
    my %enabled = map { $_ => 1 } split(/[\s,;]+/, $section{content} // 'none');
    for my $entry (split(/[\s,;]+/, $section{'content-dirs'} // '')) {
        my ($content, $subdir) = split(/=/, $entry, 2);
        next if !$enabled{$content} || !defined($subdir) || $subdir =~ m!(?:\A|/)\.\.(?:/|\z)!;
        my $dir = PVE::SMBGateway::Config::octets($section{path});
        for my $part (grep { length && $_ ne '.' } split(m!/!, PVE::SMBGateway::Config::octets($subdir))) {
            ($dir) = "$dir/$part" =~ m/\A(.*)\z/s;    # came through the storage API's own check of content-dirs
            next if mkdir($dir, 0755);
            next if !-l $dir && -d _;
            warn "cannot create the $content directory '$dir': $!\n";
            last;
        }
    }
    return;
}

my %GOES_ON = (
    provisioning => 'it is being built in the background',
    deleting => 'its removal goes on in the background',
);

sub _warnings {
    my ($storeid, $result) = @_;
    warn "storage '$storeid': $_\n" for @{ ($result // {})->{warnings} // [] };
    my $later = $GOES_ON{ ($result // {})->{state} // '' };
    # a command that holds the worker back shows all of it itself
    warn "storage '$storeid': $later, see 'pve-smbgateway status $storeid'\n" if defined($later) && !$PVE::SMBGateway::Worker::HELD;
    return;
}

# Problems of properties become the exception that the API turns into messages beside the fields.
sub _fail {
    my ($thrown, $storeid) = @_;
    my $error = ref($thrown) || ($thrown // '') ne '' ? $thrown : 'unknown failure';
    die $error if !ref($error);
    $error = PVE::SMBGateway::Error->from($error);
    PVE::SMBGateway::Worker::start($storeid) if $error->kind() eq 'interrupted';
    my %problems = %{ $error->problems() };
    # the exception has no place for what helps
    my ($first) = sort keys %problems;
    $problems{$first} .= '; ' . $error->remedy() if defined($first) && length($error->remedy() // '');
    if (%problems && eval { local $SIG{__DIE__}; require PVE::Exception; 1 }) {
        PVE::Exception::raise_param_exc(\%problems);
    }
    die "storage '$storeid': " . $error->text();
}

# --- the hot path: no child process, network, lock, or call on the tree ------------------------------------------------------

sub check_connection { return 1 }

# Must not die while the share is being provisioned: the add would be rolled back.
sub activate_storage {
    my ($class, $storeid, $scfg, $cache) = @_;
    PVE::SMBGateway::Native::usable()
        or die "storage '$storeid': the SMB gateway library cannot be used: " . PVE::SMBGateway::Native::why() . "\n";
    return 1;
}

sub deactivate_storage { return 1 }

sub status {
    my ($class, $storeid, $scfg, $cache) = @_;

    my ($total, $avail, $used, $active, $age) = eval { local $SIG{__DIE__}; PVE::SMBGateway::Native::usage($storeid) };
    if (!defined($total) || $age < 0) {
        my $text = defined($total) ? "not set up on this node, or the worker has not run" : ref($@) ? $@->message() : "$@";
        $text =~ s/\s+\z//;
        _say($storeid, "no status yet: $text");
        return (0, 0, 0, 0);
    }
    if ($age > STALE_MS) {
        _say($storeid, sprintf('the last status is %d s old: is pve-smbgateway-agent running?', $age / 1000));
        return (0, 0, 0, 0);
    }
    if (!$active) {
        _say($storeid, _inactive($storeid) . ", see 'pve-smbgateway status $storeid'");
        return (0, 0, 0, 0);
    }
    return ($total, $avail, $used, 1);
}

# Why, from the same small file.
sub _inactive {
    my ($storeid) = @_;
    my $doc = eval { local $SIG{__DIE__}; PVE::SMBGateway::Native::query('status', { id => $storeid }) } // {};
    my $state = $doc->{state} // '';
    return 'the tree is not served' if $state !~ m/\A(?:failed|provisioning|deleting)\z/;
    return $state eq 'deleting' ? 'it is being removed' : 'it is being built' if $state ne 'failed';
    my $why = (ref($doc->{error}) eq 'HASH' ? $doc->{error}->{message} : undef) // 'unknown failure';
    $why =~ s/\s+/ /g;
    return "it could not be built: $why";
}

sub _say {
    my ($storeid, $text) = @_;
    my $now = time();
    my $last = $said{$storeid};
    return if $last && $last->[0] eq substr($text, 0, 12) && $now - $last->[1] < 300 && $now >= $last->[1];
    $said{$storeid} = [substr($text, 0, 12), $now];
    warn "storage '$storeid': $text\n";
    return;
}

# --- volumes: iso and backup by the base class, guest disks never ---------------------------------------------------------

sub _no_guest_disks {
    my ($storeid) = @_;
    die "storage '$storeid' is an SMB share: guest disks cannot be kept on a tree that its users can write\n";
}

sub alloc_image { my ($class, $storeid) = @_; return _no_guest_disks($storeid) }
sub clone_image { my ($class, $scfg, $storeid) = @_; return _no_guest_disks($storeid) }
sub create_base { my ($class, $storeid) = @_; return _no_guest_disks($storeid) }
sub volume_import { my ($class, $scfg, $storeid) = @_; return _no_guest_disks($storeid) }
sub volume_import_formats { return () }

# Notes and the protection flag of backups: the base class has neither, the directory plugin does.
sub _by_dir_plugin {
    my ($method, @args) = @_;
    require PVE::Storage::DirPlugin;
    my $code = PVE::Storage::DirPlugin->can($method) or die "this version of Proxmox VE has no $method\n";
    return $code->(@args);
}

sub get_volume_notes { return _by_dir_plugin('get_volume_notes', @_) }
sub update_volume_notes { return _by_dir_plugin('update_volume_notes', @_) }
sub get_volume_attribute { return _by_dir_plugin('get_volume_attribute', @_) }
sub update_volume_attribute { return _by_dir_plugin('update_volume_attribute', @_) }

1;
