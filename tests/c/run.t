#!/usr/bin/perl
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds the C programs against a staged installation and runs them: shared and static, plain, under the address and
# undefined-behaviour sanitizers, and under valgrind. `make test-c` calls it; SMBGW_STAGE names the installation.
use strict;
use warnings;

use POSIX ();

use File::Temp qw(tempdir);
use FindBin;
use Test::More;

my $stage  = $ENV{SMBGW_STAGE}  or BAIL_OUT('SMBGW_STAGE does not name a staged installation: run make test-c');
my $prefix = $ENV{SMBGW_PREFIX} // '/usr';
my $libdir = $ENV{SMBGW_LIBDIR} or BAIL_OUT('SMBGW_LIBDIR is not set: run make test-c');
my ($include, $lib) = ("$stage$prefix/include", "$stage$libdir");
my $here = $FindBin::Bin;
my $work = tempdir(CLEANUP => 1);

# Lists of words with commas in them, on purpose.
no warnings 'qw';
my @warnings = qw(-Wall -Wextra -Werror -pedantic -g -O1);
my @c        = ('gcc', '-std=c11', '-Wmissing-prototypes', '-Wshadow', @warnings);
my @cxx      = ('g++', '-std=c++17', '-Wshadow', @warnings);
my @san      = qw(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer);
my @private  = qw(-lsqlite3 -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc);
my %link     = (shared => ["-L$lib", '-lsmbgw'], static => ["$lib/libsmbgw.a", @private]);

my %source = (
    basics      => [@c,   "$here/basics.c"],
    mistakes    => [@c,   "$here/mistakes.c"],
    forked      => [@c,   "$here/forked.c"],
    double_free => [@c,   "$here/double_free.c"],
    cpp         => [@cxx, "$here/cpp.cpp"],
    provision   => [@c,   "$here/provision.c"],
);

sub have { my ($program) = @_; return scalar grep { -x "$_/$program" } split /:/, $ENV{PATH} }

# Runs a program; returns (status, all output).
sub run {
    my ($env, @argv) = @_;
    my $pid = open(my $out, '-|') // die "fork: $!";
    if (!$pid) {
        open(STDERR, '>&', \*STDOUT);
        open(STDIN, '<', '/dev/null');
        @ENV{keys %$env} = values %$env;
        exec { $argv[0] } @argv or do { print "# $argv[0]: $!\n"; POSIX::_exit(127) };
    }
    my $text = do { local $/; <$out> } // '';
    close $out;
    return ($?, $text);
}

sub build {
    my ($name, $kind, $binary, @more) = @_;
    my ($compiler, @rest) = @{ $source{$name} };
    my ($status, $text) = run({}, $compiler, @rest, @more, "-I$include", '-o', $binary, @{ $link{$kind} });
    ok($status == 0, "$name builds without a warning, $kind @more") or diag($text);
    return $status == 0;
}

# A test program prints TAP; each of its lines is one of ours.
sub tap {
    my ($what, $env, @argv) = @_;
    my $dir = tempdir(DIR => $work);
    my ($status, $text) = run($env, @argv, $dir);
    my $planned;
    my $seen = 0;
    for (split /\n/, $text) {
        if    (/^(not )?ok \d+ - (.*)/) { $seen++; ok(!$1, "$what: $2") }
        elsif (/^1\.\.(\d+)$/)         { $planned = $1 }
    }
    ok($status == 0 && defined $planned && $planned == $seen, "$what ends as it should") or diag("status $status\n$text");
}

my @valgrind = qw(valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect,possible
    --errors-for-leak-kinds=definite,indirect,possible --child-silent-after-fork=yes);
my %sanenv = (ASAN_OPTIONS => 'detect_leaks=1:abort_on_error=0', UBSAN_OPTIONS => 'print_stacktrace=1');

for my $kind (qw(shared static)) {
    my %env = $kind eq 'shared' ? (LD_LIBRARY_PATH => $lib) : ();
    for my $name (qw(basics mistakes forked cpp double_free)) {
        my $binary = "$work/$name-$kind";
        build($name, $kind, $binary) or next;
        tap("$name, $kind", {%env}, $binary);
        next if $name eq 'double_free';
        SKIP: {
            skip('NO VALGRIND HERE: leaks and bad accesses are not looked for', 1) if !have('valgrind');
            tap("$name, $kind, valgrind", {%env}, @valgrind, $binary);
        }
        if (build($name, $kind, "$binary-san", @san)) {
            tap("$name, $kind, sanitizers", { %env, %sanenv }, "$binary-san");
        }
    }

    # The example: here only what it does without a Samba; the lab provisions with it.
    my $binary = "$work/provision-$kind";
    if (build('provision', $kind, $binary, @san)) {
        my $dir = tempdir(DIR => $work);
        my $options = qq({"state-dir": "$dir/state", "run-dir": "$dir/run", "record-dir": "$dir/record", "smb-conf": "$dir/smb.conf",)
            . qq( "own-conf": "$dir/smbgw.conf", "node": "testnode", "log": {"to": "none"}});
        my ($status, $text) = run({ %env, %sanenv }, $binary);
        is($status >> 8, 64, "provision, $kind: says how it is used");
        ($status, $text) = run({ %env, %sanenv }, $binary, 'office', '{"type": "smbgateway"}', '{"no-such-option": 1}');
        is($status >> 8, 1, "provision, $kind: an unknown option is an invalid request");
        like($text, qr/no-such-option/, "provision, $kind: and named");
        my $section = '{"type": "smbgateway", "path": "/etc", "smbgw-mode": "native", "nodes": "testnode"}';
        ($status, $text) = run({ %env, %sanenv }, $binary, 'office', $section, $options);
        is($status >> 8, 1, "provision, $kind: /etc is no tree to share") or diag($text);
        like($text, qr/"property":"path"/, "provision, $kind: and the property is named") or diag($text);
    }
}

# What a program links with is the package's name, and pkg-config knows how.
{
    my ($status, $text) = run({}, 'readelf', '-d', '-W', "$work/basics-shared");
    like($text, qr/NEEDED.*\[libsmbgw\.so\.0\]/, 'a program needs libsmbgw.so.0');
    SKIP: {
        skip('NO PKG-CONFIG HERE: smbgw.pc is not tried', 2) if !have('pkg-config');
        my %env = (PKG_CONFIG_PATH => "$lib/pkgconfig", PKG_CONFIG_SYSROOT_DIR => $stage, PKG_CONFIG_ALLOW_SYSTEM_CFLAGS => 1,
            PKG_CONFIG_ALLOW_SYSTEM_LIBS => 1);
        ($status, $text) = run(\%env, qw(pkg-config --cflags --libs smbgw));
        is($status, 0, 'pkg-config finds smbgw') or diag($text);
        my ($built, $said) = run({}, 'gcc', "$here/basics.c", '-o', "$work/basics-pc", split ' ', $text);
        is($built, 0, 'and a program builds with what it says') or diag($said);
    }
}

done_testing();
