# SPDX-License-Identifier: AGPL-3.0-or-later
package Harness;

# Common ground of the plugin tests: each case runs in a Perl process of its own (modules register once per process) on a fresh
# cluster directory, either on the stand-ins or, when SMBGW_PVE_PERL5LIB names them, on the real Proxmox modules. It knows where
# things are; it must not know what a test wants.
#
# On real modules a shim is expected among the directories that maps the cluster file system to PVE_STANDIN_DIR, and the
# release is what it is: PVE_STANDIN_APIVER has no effect, see api_versions().

use strict;
use warnings;

use Config;
use Cwd ();
use File::Basename ();
use File::Temp ();
use JSON::PP ();
use POSIX ();

our $HERE = Cwd::realpath(File::Basename::dirname(__FILE__) . '/..');
our $TOP = Cwd::realpath("$HERE/../..");
our $TOOL = "$TOP/PVE/bin/pve-smbgateway";

# Directories of real Proxmox modules, or nothing.
sub real { return grep { length } split(/:/, $ENV{SMBGW_PVE_PERL5LIB} // '') }

# [APIVER, APIAGE] of the releases to test: PVE 8.4 and the last 9.x; 13 is where the update hook changed, 10 is the oldest.
sub api_versions { return real() ? (['real', '']) : ([11, 2], [15, 6], [13, 4], [10, 1]) }

# A fresh world: a directory with cluster file system, tree to export and state.
sub world {
    my (%o) = @_;
    my $dir = File::Temp::tempdir('smbgw-pve-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    mkdir("$dir/$_") for qw(pve pve/priv tree state run);
    my $self = bless { dir => $dir, api => $o{api} // [15, 6], inc => $o{inc} // [], env => $o{env} // {} }, __PACKAGE__;
    $self->write('pve/storage.cfg', $o{cfg} // '');
    return $self;
}

sub dir { return $_[0]->{dir} }

sub write {
    my ($self, $name, $text) = @_;
    open(my $fh, '>:raw', "$self->{dir}/$name") or die "$name: $!";
    (print {$fh} $text) && close($fh) or die "$name: $!";
    return "$self->{dir}/$name";
}

sub read {
    my ($self, $name) = @_;
    open(my $fh, '<:raw', "$self->{dir}/$name") or return undef;
    local $/;
    return scalar(<$fh>);
}

sub storage_cfg { return $_[0]->read('pve/storage.cfg') }

sub inc {
    my ($self) = @_;
    my @real = real();
    return (@{ $self->{inc} }, @real ? @real : "$HERE/lib", $TOP);
}

# Runs Perl code in a process of its own; returns { out, err, status }. `$code` is a program text.
sub perl {
    my ($self, $code, %o) = @_;
    my $file = $self->write('case.pl', $code);
    return $self->command([$^X, ($o{switches} ? @{ $o{switches} } : ()), map({ "-I$_" } $self->inc()), $file, @{ $o{args} // [] }], %o);
}

sub command {
    my ($self, $argv, %o) = @_;
    my ($out, $err, $in) = map { "$self->{dir}/$_" } qw(stdout stderr stdin);
    $self->write('stdin', $o{stdin} // '');
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        my %env = (%{ $self->{env} }, %{ $o{env} // {} });
        delete(@ENV{ grep { m/\A(?:SMBGW_|PVE_STANDIN_|FAKE_)/ && $_ ne 'SMBGW_PVE_PERL5LIB' } keys %ENV });
        $ENV{PVE_STANDIN_DIR} = "$self->{dir}/pve";
        $ENV{PVE_STANDIN_NODE} = 'pve1';
        @ENV{qw(PVE_STANDIN_APIVER PVE_STANDIN_APIAGE)} = @{ $self->{api} } if $self->{api}->[0] ne 'real';
        $ENV{SMBGW_OPTIONS} = "$self->{dir}/options.json";
        $ENV{SMBGW_COMMAND} = '/bin/true';
        $ENV{PERL5LIB} = join(':', $self->inc());
        @ENV{ keys %env } = values %env;
        open(STDIN, '<', $in) && open(STDOUT, '>', $out) && open(STDERR, '>', $err) or POSIX::_exit(126);
        exec { $argv->[0] } @$argv or POSIX::_exit(127);
    }
    waitpid($pid, 0);
    return { out => $self->read('stdout'), err => $self->read('stderr'), status => $? };
}

# Runs the command on the fake library: on plain Debian, where there are only our own modules and sections in own.cfg, or with proxmox => 1.
# Beside what command() gives: code, json (the answer), calls.
sub tool {
    my ($self, $argv, %o) = @_;
    unlink(map { "$self->{dir}/$_" } qw(log log.busy));
    my @config = $o{proxmox} ? () : ('--config', "$self->{dir}/own.cfg");
    my $got = $self->command([$^X, ($o{proxmox} ? () : ('-I', "$HERE/fake", '-I', $TOP)), $TOOL, map({ my $a = $_; utf8::encode($a); $a } @$argv), @config], %o);
    $got->{code} = $got->{status} >> 8;
    utf8::decode($got->{$_}) for qw(out err);
    $got->{json} = eval { JSON::PP->new->decode($got->{out}) };
    $got->{calls} = $self->calls();
    return $got;
}

# What the fake library was asked since its log was removed.
sub calls { my ($self) = @_; return [map { JSON::PP->new->utf8->decode($_) } split(/\n/, $self->read('log') // '')] }

# Runs Perl code that ends with a value; returns what it evaluates to, with warnings and error:
# { value, error (string or undef), problems (of a parameter error), warnings }.
sub case {
    my ($self, $code, %o) = @_;
    my $answer = $self->perl(<<"CODE" . "$code\n" . <<'TAIL', %o);
use strict; use warnings; use utf8; use JSON::PP ();
my (\@warnings, \%answer);
\$SIG{__WARN__} = sub { push \@warnings, \$_[0] };
sub load_stack { require PVE::Storage; require PVE::API2::Storage::Config; require PVE::RPCEnvironment; eval { PVE::RPCEnvironment->setup_default_cli_env() }; return }
sub api { return 'PVE::API2::Storage::Config' }
my \$value = eval {
CODE
};
my $error = $@;
if (ref($error) || $error ne '') { $answer{error} = "$error"; $answer{problems} = $error->{errors} if ref($error) && eval { $error->isa('PVE::Exception') } }
$answer{value} = $value;
$answer{warnings} = \@warnings;
print "\n" . JSON::PP->new->utf8->canonical->allow_nonref->allow_blessed->encode(\%answer) . "\n";
TAIL
    my ($json) = ($answer->{out} // '') =~ m/^(\{.*\})$/m;
    my $doc = $json && eval { JSON::PP->new->utf8->decode($json) };
    return $doc // { error => "no answer (status $answer->{status}): $answer->{err}", warnings => [], dead => 1 };
}

# The library staged by `make install DESTDIR=…`: [directories for @INC, directory of the shared library], or nothing.
sub staged {
    my $stage = $ENV{SMBGW_STAGE} or return;
    my ($so) = glob("$stage/usr/lib/*/libsmbgw.so.0") or return;
    my @inc = grep { -e "$_/SMBGW.pm" } ("$stage$Config{vendorarch}", glob("$stage/usr/lib/*/perl5/*"));
    return @inc ? ([$inc[0]], File::Basename::dirname($so)) : ();
}

1;
