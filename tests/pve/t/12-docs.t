# SPDX-License-Identifier: AGPL-3.0-or-later
# The table of commands is complete and is what the documents say: every operation of the library has a command, and docs/CLI.md, the
# manual page and the completions are those that PVE/gen-docs writes.

use strict;
use warnings;
use utf8;

use File::Temp ();
use Test::More;
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;
use lib $Harness::TOP;

use Pod::Checker ();

use PVE::CLI::pve_smbgateway;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Schema;

# --- every operation has a command

# Operations whose command has another name, and those that are only used by commands.
my %BY = (
    'share.create' => 'create', 'share.update' => 'set', 'share.delete' => 'delete', 'share.repair' => 'repair', 'share.limits' => 'limits',
    'tree.shift' => 'shift', quota => 'quota report', users => 'user list', groups => 'group list', gateways => 'gateway list',
    templates => 'template list', sessions => 'session list', files => 'file list', 'metrics.share' => 'metrics', 'metrics.export' => 'metrics', alerts => 'alert list', retention => 'retention show',
);
my %INTERNAL = (
    sections => 'repair --restore puts back what it tells; show prints the sections of the storage configuration',
    refresh => 'the agent keeps figures fresh by it', turns => 'the agent asks by it whose turn it is',
    scrape => 'the agent looks by it', 'alert.delivered' => 'the agent notes by it what it has told',
    'gateway.reload' => 'apply, and set of several shares, end with it',
);

my %command = map { $_->{name} => $_ } @{ PVE::CLI::pve_smbgateway::commands() };
my @missing;
for my $op (@PVE::SMBGateway::Schema::OPERATIONS) {
    next if $INTERNAL{ $op->{name} };
    my $name = $BY{ $op->{name} } // $op->{name} =~ s/\./ /r;
    push @missing, "$op->{name} ($name)" if !$command{$name};
}
is_deeply(\@missing, [], 'every operation of the library is reached by a command');
my %operation = map { $_->{name} => 1 } @PVE::SMBGateway::Schema::OPERATIONS;
is_deeply([grep { !$operation{$_} } sort keys %BY, keys %INTERNAL], [], 'and this list names no operation that is gone');

# --- parameters and secrets of operations are options, arguments, or come from elsewhere
my %ELSEWHERE = map { $_ => 1 } qw(id section sections defer name user vmid path op params ids gateway what by worker on create mark reload until silence actor after rules);
my %optional;
for my $op (@PVE::SMBGateway::Schema::OPERATIONS) {
    my $c = $command{ $BY{ $op->{name} } // $op->{name} =~ s/\./ /r } or next;
    my %has = map { m/\A([\w-]+)/ ? ($1 => 1) : () } @{ $c->{options} };
    push @{ $optional{ $op->{name} } }, $_ for grep { !$ELSEWHERE{$_} && !$has{$_} } @{ $op->{required} }, @{ $op->{optional} };
    push @{ $optional{ $op->{name} } }, 'password' if grep({ $_ eq 'password' } @{ $op->{secrets} }) && !$has{'password-stdin'};
}
is_deeply(\%optional, {}, 'and each of its parameters by an option');

# --- options are described
my $help = PVE::CLI::pve_smbgateway::option_help();
my %undescribed = map { my ($n) = m/\A([\w-]+)/; $help->{$n} || $n eq 'properties' ? () : ($n => 1) } map { @{ $_->{options} } } values %command;
is_deeply([sort keys %undescribed], [], 'every option is described');

# --- kinds of errors
my %kinds = PVE::SMBGateway::Error::kinds();
my %seen;
is_deeply([grep { $seen{ $kinds{$_} }++ } sort keys %kinds], [], 'no two kinds have one exit status');
if (open(my $fh, '<', "$Harness::TOP/include/smbgw.h")) {
    local $/;
    my %c = map { lc($_->[0]) =~ tr/_/-/r => $_->[1] } do { my $text = <$fh>; my @all; push @all, [$1, $2] while $text =~ m/\bSMBGW_E_([A-Z_]+)\s*=?\s*(\d+)/g; @all };
    ok(scalar(keys %c) > 10, 'the header has codes');
    is_deeply({ map { $_ => $kinds{$_} } keys %c }, \%c, 'those of the library are its numbers');
}

# --- what is written from the table
my $dir = File::Temp::tempdir(CLEANUP => 1);
is(system($^X, "$Harness::TOP/PVE/gen-docs", $dir), 0, 'gen-docs');
sub text { my ($name) = @_; open(my $fh, '<:raw', $name) or return ''; local $/; return <$fh> }
for my $name (qw(docs/CLI.md docs/API.md docs/ALERTS.md docs/MONITORING.md PVE/doc/pve-smbgateway.pod PVE/completion/pve-smbgateway PVE/completion/_pve-smbgateway)) {
    ok(length(text("$dir/$name")) > 1000 && text("$dir/$name") eq text("$Harness::TOP/$name"), "$name is up to date (else run PVE/gen-docs)");
}
my $alerts = text("$dir/docs/ALERTS.md");
for my $a (@PVE::SMBGateway::Schema::ALERTS) { like($alerts, qr/^### \Q$a->{code}\E$/m, "ALERTS.md has $a->{code}") or last }
my $checker = Pod::Checker->new(-warnings => 1);
open(my $null, '>', \my $complaints);
$checker->parse_from_file("$dir/PVE/doc/pve-smbgateway.pod", $null);
is($checker->num_errors(), 0, 'the manual page is good POD') or diag($complaints);
my $cli = text("$dir/docs/CLI.md");
for my $name (sort keys %command) {
    like($cli, qr/^### \Q$name\E$/m, "CLI.md has $name") or last;
}

# --- bash completes by it
SKIP: {
    skip 'bash is not here', 1 if !-x '/bin/bash';
    mkdir("$dir/bin");
    open(my $fh, '>', "$dir/bin/pve-smbgateway") or die $!;
    print {$fh} "#!/bin/sh\ncase \"\$1 \$2\" in 'names shares') echo office; echo plans;; 'names users') echo anna;; 'names gateways') echo native;; esac\n";
    close($fh);
    chmod(0755, "$dir/bin/pve-smbgateway");
    my $complete = sub {
        my (@words) = @_;
        local $ENV{PATH} = "$dir/bin:$ENV{PATH}";
        open(my $pipe, '-|', '/bin/bash', '-c', '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _pve_smbgateway; echo "${COMPREPLY[*]}"', "$dir/PVE/completion/pve-smbgateway", 'pve-smbgateway', @words) or die $!;
        my $line = <$pipe> // '';
        return $line =~ s/\s+\z//r;
    };
    for my $case (
        [['stat'], 'status'], [['user', ''], 'create password disable enable remove list'], [['delete', ''], 'office plans'],
        [['delete', 'office', 'p'], 'plans'], [['delete', '--jobs', '3', 'p'], 'plans'], [['delete', 'x', '--on-error', ''], 'stop continue'],
        [['user', 'disable', ''], 'anna'], [['user', 'create', ''], ''], [['create', 'x', '--smbgw-mode', 'l'], 'lxc'], [['create', 'x', '--smbgw-q'], '--smbgw-quota'],
        [['ad', 'repair', ''], 'keytab rotate names'], [['ad', 'repair', 'keytab', ''], 'native'], [['list', '--output-format', '=', 'y'], 'yaml'],
        [['apply', '-f', "$dir/docs/C"], "$dir/docs/CLI.md"], [['apply', '--file', "$dir/docs/C"], "$dir/docs/CLI.md"], [['gateway', 'restart', 'n'], 'native'], [['nonsense', ''], ''],
    ) {
        is($complete->(@{ $case->[0] }), $case->[1], "bash: @{ $case->[0] }");
    }
}
SKIP: {
    my ($zsh) = grep { -x } qw(/bin/zsh /usr/bin/zsh);
    skip 'zsh is not here', 1 if !$zsh;
    is(system($zsh, '-n', "$dir/PVE/completion/_pve-smbgateway"), 0, 'zsh reads its completion');
}

done_testing();
