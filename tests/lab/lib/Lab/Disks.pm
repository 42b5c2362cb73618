# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Disks;

# File systems of their own in a box, on loop devices. It knows how to make and to end them; it must not know what they are for.
#
# Loop devices belong to the whole machine, so each is detached by its name when the test ends, or with its mount (`losetup` marks it so)
# if the test cannot.

use strict;
use warnings;

use Lab::Box;

my (@mounted, $base);

# Makes a file system in a sparse file of so many MiB and mounts it. Options: size, mkfs => [words], options => mount options.
sub mount {
    my ($at, %o) = @_;
    $base //= '/var/tmp';
    my $image = "$base/disk" . scalar(@mounted) . '.img';
    open(my $fh, '>', $image) or die "cannot make $image: $!\n";
    truncate($fh, $o{size} << 20) or die "cannot make $image: $!\n";
    close($fh);
    for my $cmd ([@{ $o{mkfs} }, $image], ['mount', '-o', join(',', 'loop', $o{options} // ()), $image, $at]) {
        mkdir($at);
        my $r = Lab::Box::run($cmd, timeout => 60);
        die "@$cmd: $r->{all}" if !defined($r->{rc}) || $r->{rc} != 0;
    }
    push @mounted, $at;
    return;
}

# Unmounts what was mounted; the loop devices go with it.
sub detach {
    Lab::Box::run(['umount', '-l', $_]) for reverse splice(@mounted);
    return;
}

1;
