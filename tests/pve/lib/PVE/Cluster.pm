# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::Cluster;

# Stand-in: files of the cluster file system in a local directory (PVE_STANDIN_DIR), and its lock with the two time limits:
# so many seconds to get it, so many in total to hold it (PVE_STANDIN_LOCK_SECONDS, 60 as in the original).

use strict;
use warnings;

use PVE::StandIn;

use base 'Exporter';
our @EXPORT_OK = qw(cfs_read_file cfs_write_file cfs_register_file cfs_lock_file);

use Time::HiRes ();

my %file;

sub _dir { return $ENV{PVE_STANDIN_DIR} // die "PVE_STANDIN_DIR is not set\n" }

sub cfs_update { return }

sub cfs_register_file {
    my ($name, $parse, $write) = @_;
    die "file '$name' already registered\n" if $file{$name};
    $file{$name} = [$parse, $write];
    return;
}

sub cfs_read_file {
    my ($name) = @_;
    my $raw;
    if (open(my $fh, '<:raw', _dir() . "/$name")) {
        local $/;
        $raw = <$fh>;
    }
    return $file{$name}->[0]->($name, $raw);
}

sub cfs_write_file {
    my ($name, $data) = @_;
    my $raw = $file{$name}->[1]->($name, $data);
    my $temp = _dir() . "/.$name.$$";
    open(my $fh, '>:raw', $temp) or die "cannot write '$temp' - $!\n";
    # the original takes the octets of the string as they are; a wide character would be an error here and is one in spirit
    (print {$fh} $raw) && close($fh) or die "cannot write '$temp' - $!\n";
    rename($temp, _dir() . "/$name") or die "cannot rename '$temp' - $!\n";
    return;
}

# Returns the code's result; on failure undef with the reason in $@, an alarm's included.
sub cfs_lock_file {
    my ($name, $timeout, $code, @param) = @_;
    my $outer = alarm(0);
    my $lockdir = _dir() . '/priv/lock';
    my $lock = "$lockdir/file-" . ($name =~ s/[.\/]/_/gr);
    my ($result, $held);
    my $in_code = 0;
    eval {
        mkdir(_dir() . '/priv');
        mkdir($lockdir);
        my $end = Time::HiRes::time() + ($timeout || 10);
        until ($held = mkdir($lock)) {
            die "got lock request timeout\n" if Time::HiRes::time() > $end;
            Time::HiRes::sleep(0.1);
        }
        my $budget = $ENV{PVE_STANDIN_LOCK_SECONDS} // 60;
        local $SIG{ALRM} = sub { die "'file-$name'-locked command timed out - aborting\n" };
        alarm($budget);
        $in_code = 1;
        $result = $code->(@param);
        alarm(0);
        1;
    };
    my $error = $@;
    alarm(0);
    rmdir($lock) if $held;
    alarm($outer) if $outer;
    $@ = $error eq '' ? '' : ref($error) || $in_code ? $error : "cfs-lock 'file-$name' error: $error";
    return $error eq '' ? $result : undef;
}

sub cfs_lock_storage {
    my ($storeid, $timeout, $code, @param) = @_;
    return cfs_lock_file("storage-$storeid", $timeout, $code, @param);
}

sub get_vmlist { return { ids => {} } }

1;
