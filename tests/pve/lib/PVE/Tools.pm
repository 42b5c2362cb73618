# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::Tools;

# Stand-in: the helpers that the storage modules need, and no more.

use strict;
use warnings;

use POSIX ();

use base 'Exporter';
our @EXPORT_OK = qw(split_list extract_param extract_sensitive_params run_fork_with_timeout df file_get_contents file_set_contents);

sub split_list {
    my ($text) = @_;
    return grep { length } split(/[\s,;\0]+/, $text // '');
}

sub extract_param {
    my ($param, $key) = @_;
    return delete($param->{$key});
}

# Deleting a sensitive property shows as its key with the value undef.
sub extract_sensitive_params {
    my ($param, $names, $delete) = @_;
    my %deleted = map { $_ => 1 } @{ $delete // [] };
    my $sensitive = {};
    for my $name (@$names) {
        $sensitive->{$name} = undef if $deleted{$name};
        my $value = delete($param->{$name});
        $sensitive->{$name} = $value if defined($value);
    }
    return $sensitive;
}

# Runs code in a forked child, which is killed after the time; returns what it returned (a line of text), or undef.
sub run_fork_with_timeout {
    my ($timeout, $code) = @_;
    pipe(my $read, my $write) or die "pipe: $!\n";
    my $pid = fork() // die "fork: $!\n";
    if (!$pid) {
        my $value = eval { $code->() };
        syswrite($write, defined($value) ? $value : '');
        POSIX::_exit(0);
    }
    close($write);
    my $result = '';
    my $rin = '';
    vec($rin, fileno($read), 1) = 1;
    my $got = select($rin, undef, undef, $timeout);
    sysread($read, $result, 4096) if $got > 0;
    kill('KILL', $pid);
    waitpid($pid, 0);
    return length($result) ? $result : undef;
}

sub df {
    my ($path, $timeout) = @_;
    my $text = run_fork_with_timeout($timeout // 2, sub {
        open(my $df, '-|', '/usr/bin/df', '-B1', '--output=size,used,avail', $path) or return undef;
        my @lines = <$df>;
        return $lines[-1];
    });
    my ($total, $used, $avail) = ($text // '') =~ m/(\d+)\s+(\d+)\s+(\d+)/ or return undef;
    return { total => $total, used => $used, avail => $avail };
}

sub file_get_contents {
    my ($file) = @_;
    open(my $fh, '<', $file) or die "can't open '$file' - $!\n";
    local $/;
    return scalar(<$fh>);
}

sub file_set_contents {
    my ($file, $data, $perm) = @_;
    my $temp = "$file.tmp.$$";
    open(my $fh, '>', $temp) or die "unable to open '$temp' - $!\n";
    (print {$fh} $data) && close($fh) or die "unable to write '$temp' - $!\n";
    rename($temp, $file) or die "unable to rename '$temp' - $!\n";
    return;
}

1;
