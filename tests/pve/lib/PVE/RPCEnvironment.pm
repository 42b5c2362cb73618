# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::RPCEnvironment;

# Stand-in: who is asking, and what he may. PVE_STANDIN_ACL: "USER PATH PRIVILEGE,PRIVILEGE;…"; a privilege holds for everything below its
# path. root@pam may everything.

use strict;
use warnings;

use PVE::Exception qw(raise);
use PVE::RESTEnvironment;

use base qw(PVE::RESTEnvironment);

sub setup_default_cli_env {
    my ($class) = @_;
    die "please run as root\n" if $> != 0;
    $class->set(bless { user => 'root@pam' }, $class);
    return;
}

# A request of somebody, as the HTTP server makes its environment.
sub for_user { my ($class, $user) = @_; return $class->set(bless { user => $user }, $class) }

sub get { return PVE::RESTEnvironment::get() }

sub permissions {
    my ($self, $user, $path) = @_;
    my %has;
    for my $entry (split(/;/, $ENV{PVE_STANDIN_ACL} // '')) {
        my ($who, $where, $privileges) = split(' ', $entry);
        next if $who ne $user || index("$path/", $where eq '/' ? '/' : "$where/") != 0;
        $has{$_} = 1 for split(/,/, $privileges);
    }
    return \%has;
}

sub check {
    my ($self, $user, $path, $privileges, $noerr) = @_;
    return 1 if $user eq 'root@pam';
    my $has = $self->permissions($user, $path);
    my @missing = grep { !$has->{$_} } @$privileges or return 1;
    return undef if $noerr;
    return raise("Permission check failed ($path, " . join('|', @missing) . ")\n", code => 403);
}

sub check_any {
    my ($self, $user, $path, $privileges, $noerr) = @_;
    return 1 if grep { $self->check($user, $path, [$_], 1) } @$privileges;
    return undef if $noerr;
    return raise("Permission check failed ($path, " . join('|', @$privileges) . ")\n", code => 403);
}

# What the HTTP server does with the key 'permissions' of a method.
sub check_api2_permissions {
    my ($self, $permissions, $user, $param) = @_;
    return 1 if $user eq 'root@pam';
    raise("Permission check failed (user != root\@pam)\n", code => 403) if !$permissions;
    return 1 if ($permissions->{user} // '') eq 'all';
    my ($kind, $path, $privileges, %o) = @{ $permissions->{check} };
    die "unknown kind of permission '$kind'\n" if $kind ne 'perm';
    $path =~ s/\{([\w-]+)\}/$param->{$1} \/\/ die "no parameter '$1' for the permission\n"/ge;
    return $o{any} ? $self->check_any($user, $path, $privileges) : $self->check($user, $path, $privileges);
}

1;
