# SPDX-License-Identifier: MIT OR Apache-2.0
# A library that is missing, no library at all, of another binary interface, or lacks a symbol: loading dies, and eval catches it.
use strict;
use warnings;

use Config;
use File::Temp qw(tempdir);
use Test::More;

my $dir = tempdir(CLEANUP => 1);
my @inc = map { "-I$_" } @INC;

# Loads the module in a process of its own whose libraries come from $dir first; returns what it says.
sub load {
    my $pid = open(my $out, '-|') // die "fork: $!";
    if (!$pid) {
        open(STDERR, '>&', \*STDOUT);
        $ENV{LD_LIBRARY_PATH} = $dir;
        exec { $^X } $^X, @inc, '-e', 'print eval { require SMBGW; 1 } ? "loaded\n" : "caught: $@"; print "alive\n"';
    }
    my $text = do { local $/; <$out> };
    close $out;
    return $text;
}

sub write_to { my ($name, $text) = @_; open(my $fh, '>', "$dir/$name") or die "$name: $!"; print $fh $text; close $fh or die "$name: $!" }

sub library {
    my ($source) = @_;
    write_to('fake.c', $source);
    return system($Config{cc}, '-shared', '-fPIC', '-Wl,-soname,libsmbgw.so.0', '-o', "$dir/libsmbgw.so.0", "$dir/fake.c") == 0;
}

SKIP: {
    # With the library installed on this machine, the loader would find that one.
    skip('THE LIBRARY IS INSTALLED HERE: a missing one is not tried', 1) if glob('/usr/lib/*/libsmbgw.so.0 /usr/lib/libsmbgw.so.0');
    like(load(), qr/^caught: .*libsmbgw\.so\.0.*^alive$/ms, 'missing: caught');
}

write_to('libsmbgw.so.0', "this is no library\n");
like(load(), qr/^caught: .*libsmbgw\.so\.0.*^alive$/ms, 'broken: caught');

SKIP: {
    skip('NO COMPILER HERE: libraries of another interface are not tried', 2)
        if system("$Config{cc} --version >/dev/null 2>&1") != 0;

    library("int smbgw_abi_version(void) { return 1; }\n") or die 'the compiler fails';
    like(load(), qr/^caught: .*undefined symbol: smbgw_.*^alive$/ms, 'lacks symbols: caught when it is loaded');

    # All functions the module uses, and another number.
    my $module = (grep { -e } map { "$_/auto/SMBGW/SMBGW.so" } @INC)[0];
    open(my $nm, '-|', 'nm', '-D', '--undefined-only', $module) or die "nm: $!";
    my @names = map { /\b(smbgw_\w+)/ ? $1 : () } <$nm>;
    my %special = (smbgw_abi_version => 'return 999;', smbgw_version => 'return (long)"9.9.9";');
    library(join '', map { "long $_(void) { @{[ $special{$_} // 'return 0;' ]} }\n" } @names) or die 'the compiler fails';
    my $said = load();
    like($said, qr/^caught: .*binary interface.*9\.9\.9.*999.*^alive$/ms, 'another binary interface: caught, and both are named') or diag($said);
}

done_testing();
