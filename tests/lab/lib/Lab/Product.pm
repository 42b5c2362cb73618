# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Product;

# How the product is put into a box and called: the one place that knows its command line and its files. It must not know what
# a test wants to show.

use strict;
use warnings;

use JSON::PP ();

use Lab::Box;
use Lab::Smb;

our $COMMAND = '/usr/sbin/pve-smbgateway';
our $SECTIONS = '/etc/smbgw/storage.cfg';
our $OWN_CONF = '/etc/samba/smbgw.conf';
our $STATE = '/var/lib/smbgw';
our $RUN = '/run/smbgw';

# A staged installation (`make stage`), or the installed product if SMBGW_STAGE is '/'.
sub _stage { return $ENV{SMBGW_STAGE} // "$Lab::Box::ROOT/.cache/stage" }

sub missing {
    my $stage = _stage();
    return "the product is not staged in $stage ('make stage')" if !-x ($stage eq '/' ? '' : $stage) . $COMMAND;
    return undef;
}

# Starts a test file: in a box, with Samba and the product or not at all. Samba is as freshly installed.
sub enter {
    my (%o) = @_;
    my $why = Lab::Smb::missing() // missing();
    if (defined($why)) {
        if ($o{tool}) { print STDERR "$why\n"; exit(77) }
        Lab::Box::skip_all($why);
    }
    Lab::Box::enter(%o);
    install();
    Lab::Smb::fresh();
    return;
}

# Installs the staged product in the box: its /usr lies over the machine's.
my %env;

sub install {
    my $stage = _stage();
    return if $stage eq '/';
    # at a path without colons and commas, which mean something in mount options and search paths
    mkdir('/run/lab/stage');
    my $r = Lab::Box::run(['mount', '--bind', $stage, '/run/lab/stage']);
    die "cannot bind $stage: $r->{all}" if $r->{rc} != 0;
    $stage = '/run/lab/stage';
    $r = Lab::Box::run(['mount', '-t', 'overlay', 'overlay', '-o', "lowerdir=$stage/usr:/usr", '/usr']);
    if ($r->{rc} == 0) {
        Lab::Box::run(['ldconfig']);
        return;
    }
    # no overlay file system here: run it from where it lies
    $COMMAND = "$stage$COMMAND";
    my ($lib) = glob("$stage/usr/lib/*/libsmbgw.so.0");
    $lib =~ s!/[^/]+\z!!;
    %env = (LD_LIBRARY_PATH => $lib, PERL5LIB => join(':', "$stage/usr/share/perl5", glob("$stage/usr/lib/*/perl5/*")), SMBGW_COMMAND => $COMMAND);
    return;
}

# From here on the box is a Proxmox node as far as the storage stack goes: sections are in Proxmox's storage.cfg and changed
# through its API, which calls the plugin's hooks. The stand-in modules of tests/pve play that part.
my $PVESM = "$Lab::Box::ROOT/tests/pve/pvesm";

sub through_proxmox {
    return 0 if !-e $PVESM;
    mkdir($_, 0755) for '/etc/pve', '/etc/pve/priv';
    chmod(0700, '/etc/pve/priv');
    $SECTIONS = '/etc/pve/storage.cfg';
    $env{PVE_STANDIN_DIR} = '/etc/pve';
    $env{PERL5LIB} = join(':', "$Lab::Box::ROOT/tests/pve/lib", grep { defined } $env{PERL5LIB});
    pvesm(['status']);    # Proxmox makes the directories of its own storages
    return 1;
}

# Starts a test file on a node with containers: the product, a template of its own making, LXC, and Proxmox's storage stack.
sub enter_node {
    require Lab::Guests;
    Lab::Guests::ready();    # before the box, which has no network
    enter();
    Lab::Guests::prepare();
    Lab::Guests::storage();
    through_proxmox() or Lab::Box::skip_all('there is no tests/pve');
    return;
}

# Calls Proxmox's storage command. Options as call(); a password is read by it from standard input.
sub pvesm {
    my ($words, %o) = @_;
    my @words = @$words;
    if (defined($o{password})) {
        push @words, '--password';
        $o{stdin} = "$o{password}\n";
    }
    return Lab::Box::run([@{ $o{wrap} // [] }, $^X, $PVESM, @words], stdin => $o{stdin}, timeout => $o{timeout} // 60, env => { %env, %{ $o{env} // {} } });
}

# Calls Proxmox's API shell, as pvesm().
my $PVESH = "$Lab::Box::ROOT/tests/pve/pvesh";

sub pvesh {
    my ($words, %o) = @_;
    my @words = @$words;
    if (defined($o{password})) {
        push @words, '--password', '-';
        $o{stdin} = "$o{password}\n";
    }
    return Lab::Box::run([@{ $o{wrap} // [] }, $^X, $PVESH, @words], stdin => $o{stdin}, timeout => $o{timeout} // 60, env => { %env, %{ $o{env} // {} } });
}

# Calls the command with words, and gives what Lab::Box::run() gives, and the parts of its JSON answer: success, data, error
# (hash with message, kind, …). Options: stdin => text, password => text (by --password-stdin), wrap => [words] before the
# command, text => 1 for the answer as people see it, timeout.
sub call {
    my ($words, %o) = @_;
    my @words = @$words;
    if (defined($o{password})) {
        push @words, '--password-stdin';
        $o{stdin} = "$o{password}\n";
    }
    push @words, '--output-format', 'json' if !$o{text};
    my $r = Lab::Box::run([@{ $o{wrap} // [] }, $COMMAND, @words], stdin => $o{stdin}, timeout => $o{timeout} // 60, env => { %env, %{ $o{env} // {} } });
    return $r if $o{text};
    my $doc = eval { JSON::PP->new->utf8->decode($r->{out}) } // {};
    return { %$r, success => $doc->{success} ? 1 : 0, data => $doc->{data}, error => $doc->{error} // {}, doc => $doc };
}

# Starts the command with words, and returns its pid.
sub spawn { my ($words) = @_; return Lab::Box::spawn([$COMMAND, @$words], out => '/dev/null', err => '/dev/null', env => {%env}) }

# Starts the node agent; its pid. `times` replaces seconds of its %TIME, `log` is the file for what it says.
sub agent {
    my (%o) = @_;
    my @argv = "$COMMAND-agent";
    if ($o{times}) {
        my $set = join('', map { "\$PVE::SMBGateway::Agent::TIME{$_} = $o{times}->{$_}; " } sort keys %{ $o{times} });
        @argv = ($^X, '-MPVE::SMBGateway::Agent', '-e', "${set}exit(PVE::SMBGateway::Agent::main())");
        $argv[0] = Lab::Box::which('perl') if $argv[0] !~ m!\A/!;
    }
    return Lab::Box::spawn(\@argv, err => $o{log}, env => {%env});
}

# What a failed call says, in one line for a diagnosis.
# What the library answers to a question, asked without the command: what is for the agent alone.
sub native {
    my ($op, $params) = @_;
    my $code = 'use PVE::SMBGateway::Native; use JSON::PP; print JSON::PP->new->canonical->utf8->encode(PVE::SMBGateway::Native::query($ARGV[0], JSON::PP->new->utf8->decode($ARGV[1])))';
    my $r = Lab::Box::run([$^X, '-e', $code, $op, JSON::PP->new->utf8->encode($params // {})], timeout => 60);
    return eval { JSON::PP->new->utf8->decode($r->{out}) } // die "$op: $r->{all}\n";
}

sub words_of {
    my ($r) = @_;
    my $e = $r->{error} // {};
    return "rc " . ($r->{rc} // "signal $r->{signal}") . " | $r->{all}" if !defined($e->{message});
    return join(' | ', 'rc ' . ($r->{rc} // "signal $r->{signal}"), grep { defined && length } $e->{message}, $e->{remedy}, $r->{err}, %$e ? JSON::PP->new->canonical->utf8->encode($e) : $r->{out});
}

# A section, as the command line of create and set wants it.
sub properties {
    my (%p) = @_;
    return map { ("--$_", $p{$_}) } sort keys %p;
}

sub create {
    my ($id, $properties, %o) = @_;
    return call(['create', $id, properties('smbgw-mode' => 'native', %$properties)], %o);
}

sub set {
    my ($id, $properties, %o) = @_;
    return call(['set', $id, properties(%$properties), $o{delete} ? ('--delete', $o{delete}) : ()], %o);
}

sub remove { my ($id, %o) = @_; return call(['delete', $id], %o) }

sub status { my ($id) = @_; return call(['status', $id])->{data} // {} }

sub user { my ($verb, $name, %o) = @_; return call(['user', $verb, defined($name) ? $name : ()], %o) }

sub group { my (@words) = @_; return call(['group', @words]) }

# Everything that is as before once the last share is removed, comparable by is_deeply: configuration files byte for byte,
# accounts in content, files of the product. Journals (the audit trail) and backups of passwd are left out.
sub footprint {
    my $files = Lab::Box::snapshot('/etc');
    # shadow keeps the last version beside its files; the lock file stays; our sections file may stay, empty
    # the gateway record stays, so that numbers are not given twice; Proxmox's locks and logs of tasks are its own
    delete(@$files{ grep { m!\A/etc/pve/(?:priv/smbgw|priv/lock|tasks|storage\.cfg)(?:/|\z)! } keys %$files });
    delete(@$files{ grep { m!\A/etc/(?:passwd|group|shadow|gshadow|subuid|subgid)-\z! || $_ eq '/etc/.pwd.lock' || m!\A/etc/smbgw(?:/storage\.cfg)?\z! } keys %$files });
    my $sections = Lab::Box::slurp($SECTIONS);
    my $accounts = Lab::Smb::accounts();
    return {
        files => $files,
        lines => { map { $_ => [split(/^/m, Lab::Box::slurp($_))] } grep { m!\A/etc/(?:passwd|group|shadow|gshadow|subuid|subgid|samba/\w+\.conf)\z! } keys %$files },
        sections => join('', $sections =~ m/^smbgateway:.*\n(?:[ \t].*\n)*/mg),
        accounts => $accounts,
        permissions => Lab::Smb::share_permissions(),
        # figures stay until the machine starts anew
        run => [grep { !m!/(?:lock|status|pending|probe|check)\z! && !m!/metrics/! } map { $_ } sort grep { !-d } keys %{ Lab::Box::snapshot($RUN) }],
    };
}

# The differences of two footprints, one line each.
sub left_behind {
    my ($old, $new) = @_;
    my @d = Lab::Box::differences($old->{files}, $new->{files});
    # for the account files, what the difference is
    for my $file (sort keys %{ $new->{lines} }) {
        my %count;
        $count{$_}++ for @{ $new->{lines}->{$file} };
        $count{$_}-- for @{ $old->{lines}->{$file} // [] };
        push @d, map { "$file: " . ($count{$_} > 0 ? '+' : '-') . $_ } grep { $count{$_} } sort keys %count;
    }
    push @d, "sections: $new->{sections}" if $old->{sections} ne $new->{sections};
    my $json = JSON::PP->new->canonical->utf8;
    for my $part (qw(accounts permissions)) {
        for my $name (sort keys %{ { %{ $old->{$part} }, %{ $new->{$part} } } }) {
            my ($x, $y) = map { defined($_) ? $json->allow_nonref->encode($_) : 'absent' } $old->{$part}->{$name}, $new->{$part}->{$name};
            push @d, "$part: $name was $x, is $y" if $x ne $y;
        }
    }
    # locks are files that stay
    my %was = map { $_ => 1 } @{ $old->{run} };
    push @d, map { "new: $_" } grep { !$was{$_} && !m!/lock/! } @{ $new->{run} };
    return @d;
}

# Makes shares that nobody committed older than they are, as if so many seconds had passed.
sub age_uncommitted {
    my ($seconds) = @_;
    for my $record (glob("$STATE/gateways/*.json /etc/pve/priv/smbgw/gateways/*.json")) {
        my $text = Lab::Box::slurp($record);
        $text =~ s/("since-ms"\s*:\s*)(\d+)/$1 . ($2 - $seconds * 1000)/ge or die "no time in $record\n";
        Lab::Box::spew($record, $text, 0600);
    }
    return;
}

1;
