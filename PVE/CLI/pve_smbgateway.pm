# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::CLI::pve_smbgateway;

# The `pve-smbgateway` command: the table of its commands, the words of a command line -> one of them, its answer -> text, JSON or YAML. It
# runs on core Perl; on Proxmox it changes storages through Proxmox's own API. It must not know how an operation is carried out, and takes
# no secret from argv. What several commands need, and subjects of their own, are in PVE::SMBGateway::CLI::*.

use strict;
use warnings;
use utf8;

use Getopt::Long ();
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

use PVE::SMBGateway::CLI::Apply qw(cmd_show cmd_apply each_of);
use PVE::SMBGateway::CLI::Domain qw(cmd_ad cmd_ad_check cmd_ad_test cmd_ad_act cmd_ad_accounts cmd_ad_whoami);
use PVE::SMBGateway::CLI::Monitor qw(cmd_metrics cmd_openmetrics cmd_report cmd_retention cmd_alerts cmd_silence cmd_unsilence cmd_rules);
use PVE::SMBGateway::CLI::Output qw(print_warnings table tree size_text);
use PVE::SMBGateway::CLI::Shares qw(cmd_create cmd_set cmd_delete cmd_plan cmd_quota_user no_share);
use PVE::SMBGateway::CLI::Work qw(watcher run_op with_signals password usage_error);
use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;
use PVE::SMBGateway::Schema;
use PVE::SMBGateway::Worker;

# name => [code, arguments for the usage, options beyond the common ones, one line of help]; 'properties' stands for the table.
my %COMMANDS = (
    plan => [\&cmd_plan, '[create|set|delete] ID', ['properties', 'delete=s'], 'show what an operation would do; nothing is changed'],
    create => [\&cmd_create, 'ID', ['properties', 'password-stdin', 'no-wait'], 'create a share'],
    set => [\&cmd_sets, 'ID…', ['properties', 'delete=s', 'password-stdin', 'no-wait', 'jobs=i', 'on-error=s'], 'change a share, or several in the same way'],
    delete => [\&cmd_deletes, 'ID…', ['no-wait', 'jobs=i', 'on-error=s'], 'remove shares; their data stays'],
    status => [\&cmd_status, '[ID…]', ['fresh', 'jobs=i', 'on-error=s'], 'state of one share, of several, or of all'],
    show => [\&cmd_show, '[GATEWAY|ID…]', [], 'the document that apply takes: shares, users and groups as they are'],
    apply => [\&cmd_apply, '', ['file|f=s', 'dry-run|n', 'prune', 'no-wait', 'jobs=i', 'on-error=s'], 'bring shares, users and groups to what a document says'],
    check => [\&cmd_check, 'ID', ['properties', 'delete=s'], 'all problems of a share as it is, or as it would be; nothing is changed'],
    limits => [\&cmd_limits, 'ID', [], 'set the limits of a share again where somebody changed them'],
    render => [\&cmd_render, '[GATEWAY]', [], 'the Samba configuration that the sections give'],
    list => [\&cmd_list, '', [], 'shares of this node'],
    'quota report' => [\&cmd_quota_report, '[ID]', [], 'limits of shares, and what is used of them'],
    'quota user' => [\&cmd_quota_user, 'ID NAME SIZE|none', ['no-wait'], 'limit what a user may own in a share'],
    'user create' => [\&cmd_user, 'NAME', ['gateway=s', 'password-stdin'], 'create a local user'],
    'user password' => [\&cmd_user, 'NAME', ['gateway=s', 'password-stdin'], 'set the password of a local user'],
    'user disable' => [\&cmd_users_act, 'NAME…', ['gateway=s', 'jobs=i', 'on-error=s'], 'disable a local user and end its sessions'],
    'user enable' => [\&cmd_users_act, 'NAME…', ['gateway=s', 'jobs=i', 'on-error=s'], 'enable a disabled user'],
    'user remove' => [\&cmd_users_act, 'NAME…', ['gateway=s', 'jobs=i', 'on-error=s'], 'remove a local user; its files stay'],
    'user list' => [\&cmd_users, '', ['gateway=s'], 'local users'],
    'group create' => [\&cmd_group, 'NAME', ['gateway=s'], 'create a local group'],
    'group remove' => [\&cmd_group, 'NAME', ['gateway=s'], 'remove a local group'],
    'group add-member' => [\&cmd_group, 'NAME USER', ['gateway=s'], 'put a user into a group'],
    'group remove-member' => [\&cmd_group, 'NAME USER', ['gateway=s'], 'take a user out of a group'],
    'group list' => [\&cmd_groups, '', ['gateway=s'], 'local groups'],
    'session list' => [\&cmd_sessions, '[GATEWAY]', ['share=s', 'user=s'], 'who is connected, and to which shares'],
    'session close' => [\&cmd_session_close, '[SESSION]', ['user=s', 'gateway=s'], 'end a session, or all of a user'],
    'file list' => [\&cmd_files, '[GATEWAY]', ['share=s', 'user=s', 'limit=i'], 'open files, and by whom'],
    metrics => [\&cmd_metrics, '[ID]', ['gateway=s', 'metric=s', 'from=s', 'to=s', 'points=i', 'follow', 'form=s'], 'figures of a share, a gateway or the node: now, or one of them over time'],
    report => [\&cmd_report, '', ['from=s', 'to=s', 'form=s'], 'the report of this node: use, growth, traffic, alerts'],
    openmetrics => [\&cmd_openmetrics, '', ['form=s'], 'all figures as they are now, as Prometheus reads them'],
    'retention show' => [\&cmd_retention, '', [], 'for how long figures are kept on this node, and who said so'],
    'retention set' => [\&cmd_retention, '', ['raw=s', 'minutes=s', 'hours=s', 'all-nodes'], 'keep figures for other lengths of time; what is older goes'],
    'retention reset' => [\&cmd_retention, '', ['all-nodes'], 'keep figures as is said for all nodes, or by default'],
    'alert list' => [\&cmd_alerts, '', [], 'alerts, silences, and how alerts are told'],
    'alert silence' => [\&cmd_silence, 'UNTIL', ['code=s', 'object=s', 'comment=s'], 'keep alerts to oneself until a time: 2h, 7d, or a date'],
    'alert rules' => [\&cmd_rules, 'FILE', [], "judge by other rules: a JSON document, '-' is standard input"],
    'alert unsilence' => [\&cmd_unsilence, 'SILENCE', [], 'end a silence before its time'],
    doctor => [\&cmd_doctor, '[GATEWAY]', [], 'look at everything that shares of this node need, and say what helps'],
    'gateway list' => [\&cmd_gateways, '', [], 'gateways, and the containers of this node'],
    'gateway start' => [\&cmd_gateways_act, 'NAME…', ['jobs=i', 'on-error=s'], "start a gateway's container"],
    'gateway stop' => [\&cmd_gateways_act, 'NAME…', ['jobs=i', 'on-error=s'], "stop a gateway's container until somebody starts it"],
    'gateway restart' => [\&cmd_gateways_act, 'NAME…', ['jobs=i', 'on-error=s'], 'stop and start it: what waits for its next start takes effect'],
    'gateway upgrade' => [\&cmd_gateways_act, 'NAME…', ['template=s', 'jobs=i', 'on-error=s'], 'replace the container by one from a newer template; users, SID and data stay'],
    'gateway adopt' => [\&cmd_gateway, 'NAME VMID', [], 'take the number that an administrator gave the container'],
    'ad join' => [\&cmd_ad, '[GATEWAY]', ['username=s', 'password-stdin', 'ticket=s', 'offline-join=s', 'domain=s', 'smbgw-ad-ou=s', 'smbgw-idmap=s', 'smbgw-ad-dns=s'], 'make a gateway a member of a domain, or one again'],
    'ad leave' => [\&cmd_ad, '[GATEWAY]', ['username=s', 'password-stdin', 'ticket=s', 'keep-account'], 'take a gateway out of its domain and delete its computer account'],
    'ad check' => [\&cmd_ad_check, '[GATEWAY]', ['domain=s'], 'whether a domain can be joined, or a membership is good, look by look'],
    'ad dns' => [\&cmd_ad_check, '[GATEWAY]', ['domain=s'], 'name service and ports of the domain controllers alone'],
    'ad kerberos' => [\&cmd_ad_check, '[GATEWAY]', [], 'secret, keytab and names of the gateway alone'],
    'ad time' => [\&cmd_ad_check, '[GATEWAY]', [], 'the clocks of gateway and domain controller alone'],
    'ad report' => [\&cmd_ad_check, '[GATEWAY]', [], "everything about a gateway's membership"],
    'ad test-user' => [\&cmd_ad_test, 'NAME [GATEWAY]', ['share=s', 'ntlm', 'password-stdin'], 'let a user of the domain log in to the shares, to see whether he can'],
    'ad repair' => [\&cmd_ad_act, 'keytab|rotate|names [GATEWAY]', [], "write the keytab anew, change the computer's password, or register its names again"],
    'ad fallback' => [\&cmd_ad_act, 'on|off [GATEWAY]', [], 'let the local users of smbgw-ad-fallback log in, or not any more'],
    'ad users' => [\&cmd_ad_accounts, '[GATEWAY]', ['match=s', 'limit=i'], 'users of the domain'],
    'ad groups' => [\&cmd_ad_accounts, '[GATEWAY]', ['match=s', 'limit=i'], 'groups of the domain'],
    'ad whoami' => [\&cmd_ad_whoami, 'NAME [GATEWAY]', [], 'who an account of the domain is, and which shares it may use and why'],
    'template list' => [\&cmd_templates, '', [], 'templates for containers'],
    'template build' => [\&cmd_template, '', ['suite=s', 'storage=s', 'mirror=s', 'name=s'], 'build a template'],
    'template prune' => [\&cmd_template, '', ['keep=i'], 'remove templates that no gateway uses, the newest excepted'],
    shift => [\&cmd_shift, 'PATH', ['back'], 'give a tree the numbers of an unprivileged container, or take them back'],
    audit => [\&cmd_audit, '[ID]', ['since=s', 'limit=i'], 'who did what, when, with which result'],
    resume => [\&cmd_resume, 'OPERATION', ['password-stdin'], 'continue an interrupted operation'],
    repair => [\&cmd_repair, '[ID]', ['gateway=s', 'overwrite', 'restore', 'password-stdin'], 'finish or undo what is stuck, put back drift or lost sections'],
    reconcile => [\&cmd_reconcile, '[ID…]', ['once', 'wait=i'], "bring this node to the wanted state (the agent's work)"],
    schema => [\&cmd_schema, '', [], 'the tables of properties and operations'],
    names => [\&cmd_names, 'shares|gateways|users|groups|templates', ['gateway=s'], 'names, one a line, as the completion of shells wants them'],
    version => [\&cmd_version, '', [], 'versions of command and library'],
);

my @ORDER = ('plan', 'create', 'set', 'delete', 'status', 'list', 'show', 'apply', 'check', 'limits', 'render', 'quota report', 'quota user', 'user create', 'user password', 'user disable', 'user enable',
    'user remove', 'user list', 'group create', 'group remove', 'group add-member', 'group remove-member', 'group list',
    'session list', 'session close', 'file list', 'metrics', 'openmetrics', 'report', 'retention show', 'retention set', 'retention reset', 'alert list', 'alert silence', 'alert unsilence', 'alert rules', 'doctor',
    'gateway list', 'gateway start', 'gateway stop', 'gateway restart', 'gateway upgrade', 'gateway adopt', 'ad join', 'ad leave', 'ad check', 'ad dns',
    'ad kerberos', 'ad time', 'ad report', 'ad test-user', 'ad repair', 'ad fallback', 'ad users', 'ad groups', 'ad whoami', 'template list',
    'template build', 'template prune', 'shift', 'audit', 'resume', 'repair', 'reconcile', 'schema', 'names', 'version');

my %OPTION_HELP = (
    'no-wait' => 'return when it is recorded, while the container is still being built or changed (on Proxmox)',
    'password-stdin' => 'read the password from standard input (one line)',
    gateway => 'the gateway, if this node has several',
    fresh => 'look now; otherwise the last snapshot',
    overwrite => 'put back what was changed by hand',
    restore => 'put lost sections back into the storage configuration',
    template => 'its name; default: the newest',
    suite => "Debian's release; default: that of this node",
    storage => 'where it is kept; default: the first storage for templates',
    mirror => "Debian's mirror; default: that of this node",
    name => 'its name; default: version and date',
    keep => 'how many of the newest stay; default: 1',
    username => 'the account of the domain that may do it; its password is read from standard input or asked for',
    domain => 'the domain, by its DNS name; default: the one that the gateway is, or shall be, in',
    'smbgw-ad-ou' => 'where the computer account is made, as Servers/Files',
    'smbgw-idmap' => "numbers of the domain's accounts, as FIRST-LAST",
    ticket => 'a file with a Kerberos ticket of that account, instead of a password',
    'offline-join' => 'a file that net offlinejoin provision or djoin wrote; no account is needed then',
    'smbgw-ad-dns' => "0: do not register the gateway's addresses in the domain's DNS",
    'keep-account' => 'the computer account stays, disabled',
    share => 'one share; default: all of the gateway',
    user => 'one user, as DOMAIN\\NAME where he is of a domain',
    ntlm => 'by NTLM instead of Kerberos',
    match => 'only names with this in them; * stands for any text',
    file => "the document, YAML or JSON; '-' is standard input",
    'dry-run' => 'show what would be changed, and change nothing',
    prune => 'also remove every share that the document does not name (their data stays)',
    jobs => 'how many gateways are worked on at once; default: 4',
    'on-error' => 'stop or continue (default): whether anything is begun after the first failure',
    back => 'take the numbers back',
    since => 'only what began after this moment, in milliseconds since the epoch',
    limit => 'at most so many; default: 200',
    metric => 'one metric, by its name',
    from => 'from when: 1h, 7d, 2026-11-01, or seconds since the epoch',
    to => 'until when; default: now',
    points => 'at most so many points; default: 300',
    follow => 'go on with each new look, until it is interrupted',
    form => 'of metrics with --metric: csv or json; of openmetrics: openmetrics or node-exporter; of report: text, json or html',
    raw => 'how long each value is kept: 12h, 7d; default: 7d',
    minutes => 'how long what became of each minute is kept: 30d, 6w; default: 30d',
    hours => 'how long what became of each hour is kept: 90d, 2y; default: 2y',
    'all-nodes' => 'for all nodes of the cluster that have nothing of their own',
    code => 'only this code, or a pattern with * and ?',
    object => 'only this object, or a pattern; share:, gateway: or node: before it means one kind',
    comment => 'why',
    once => 'accepted for the units; it always runs once',
    wait => 'seconds to wait for the sections of the named shares; default: 180',
    delete => 'properties to take out, separated by commas',
);

our $VERSION = '0.1.0';

# Runs one command line; returns the exit status: 0, or the number of the error's kind.
sub main {
    my (@argv) = map { PVE::SMBGateway::Config::characters($_) } @_;
    $PVE::SMBGateway::CLI::Work::STARTED = Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC());
    local $| = 1;
    binmode(STDOUT, ':utf8');
    binmode(STDERR, ':utf8');

    my %run = (format => 'text');
    my ($data, $error);
    if (!eval { $data = _dispatch(\%run, @argv); 1 }) {
        $error = _with_usage(PVE::SMBGateway::Error->from($@));
    }
    # a command that does all it can has an answer, and a failure beside it
    my $failed = ($run{failed} // [])->[0];
    my $beside = $run{error} // ($failed ? PVE::SMBGateway::Error->from_document($failed) : undef);
    if ($run{format} ne 'text') {
        print STDOUT PVE::SMBGateway::CLI::Output::answer($run{format}, $data, $error // $beside);
    } else {
        $run{print}->($data) if !$error && $run{print};
        print STDERR 'pve-smbgateway: ' . $_->text() for grep { defined } $error // $run{error};
    }
    $error //= $beside;
    if ($error && $run{signal}) {
        $SIG{ $run{signal} } = 'DEFAULT';
        kill($run{signal}, $$);
    }
    return $error ? $error->code() || 16 : 0;
}

sub _dispatch {
    my ($run, @argv) = @_;

    # the form of the answer counts for errors of the command line too
    for my $i (0 .. $#argv) {
        my $format = $argv[$i] =~ m/\A--output-format=(.*)\z/ ? $1 : $argv[$i] eq '--output-format' ? $argv[$i + 1] // '' : next;
        usage_error('--output-format is one of ' . join(', ', @PVE::SMBGateway::CLI::Output::FORMATS) . ", not '$format'") if !grep { $_ eq $format } @PVE::SMBGateway::CLI::Output::FORMATS;
        PVE::SMBGateway::CLI::Output::need($format);
        $run->{format} = $format;
    }
    # whoever looks at the process list has seen it already, but at least it is not used
    if (grep { m/\A--?password(?:=|\z)/ } @argv) {
        PVE::SMBGateway::Error->throw('invalid', 'a password on the command line is visible to every user of this machine',
            remedy => 'pass it by --password-stdin (one line), or leave it out on a terminal to be asked; change the one just shown');
    }

    my $name = '';
    if (!@argv || $argv[0] =~ m/\A(?:help|--help|-h)\z/) {
        my @about = @argv[1 .. $#argv];
        for my $i (reverse 0 .. $#about) { splice(@about, $i) if $about[$i] =~ m/\A-/ }
        my $about = join(' ', @about);
        usage_error("unknown command '$about'") if $about ne '' && !$COMMANDS{$about};
        my $text = $about eq '' ? _help() : _help($about);
        $run->{print} = sub { print $text };
        return { usage => $text };
    }
    $name = shift(@argv);
    if (grep { m/\A\Q$name\E / } @ORDER) {
        my $sub = shift(@argv) // '';
        usage_error("'$name' needs one of: " . join(', ', map { m/\A\Q$name\E (.+)/ ? $1 : () } @ORDER)) if !$COMMANDS{"$name $sub"};
        $name = "$name $sub";
    }
    my $command = $COMMANDS{$name} or usage_error("unknown command '$name'");
    my ($code, $args, $options) = @$command;

    my %opt;
    my @spec = ('output-format=s', 'config=s', 'quiet', 'help|h');
    my %bool;
    for my $option (@$options) {
        if ($option ne 'properties') { push @spec, $option; next }
        for my $p (grep { !$_->{sensitive} } @PVE::SMBGateway::Schema::PROPERTIES) {
            $bool{ $p->{name} } = 1 if $p->{type} eq 'boolean';
            push @spec, $p->{name} . ($p->{type} eq 'boolean' ? ':s' : '=s');
        }
    }
    my $parser = Getopt::Long::Parser->new(config => [qw(no_auto_abbrev no_ignore_case gnu_compat permute no_getopt_compat)]);
    my @complaints;
    {
        local $SIG{__WARN__} = sub { push @complaints, $_[0] };
        local @ARGV = @argv;
        $parser->getoptionsfromarray(\@argv, \%opt, @spec) or usage_error(lcfirst($complaints[0] // 'bad option') =~ s/\s+\z//r, $name);
    }
    if ($opt{help}) {
        $run->{print} = sub { print _help($name) };
        return { usage => _help($name) };
    }
    $opt{$_} = 1 for grep { exists($opt{$_}) && $opt{$_} eq '' } keys %bool;
    my @words = split(/ /, $args);
    my $least = grep { !m/\A\[/ } @words;
    my $most = grep({ m/…/ } @words) ? 1000 : scalar(@words);
    usage_error('too few arguments', $name) if @argv < $least;
    usage_error("unexpected argument '$argv[$most]'", $name) if @argv > $most;

    $PVE::SMBGateway::Config::FILE = $opt{config} if defined($opt{config});
    $run->{opt} = \%opt;
    $run->{name} = $name;
    $run->{given} = { map { $_->{name} => $opt{ $_->{name} } } grep { exists($opt{ $_->{name} }) } @PVE::SMBGateway::Schema::PROPERTIES };
    return $code->($run, @argv);
}

# Wrong usage, with how it would be right.
sub _with_usage {
    my ($error) = @_;
    return $error if $error->kind() ne 'usage' || defined($error->remedy());
    my $name = $error->{command};
    $error->{remedy} = defined($name) && $COMMANDS{$name} ? _usage($name) : "see 'pve-smbgateway help'";
    return $error;
}

# The table for those that describe it: [{ name, arguments, options, help }, …] in its order, with what options mean.
sub commands {
    return [map { { name => $_, arguments => $COMMANDS{$_}->[1], options => $COMMANDS{$_}->[2], help => $COMMANDS{$_}->[3] } } @ORDER];
}

sub option_help { return \%OPTION_HELP }

sub _usage {
    my ($name) = @_;
    my ($code, $args, $options) = @{ $COMMANDS{$name} };
    my $text = "usage: pve-smbgateway $name" . ($args eq '' ? '' : " $args");
    for my $option (@$options) {
        if ($option eq 'properties') { $text .= ' [--PROPERTY VALUE …]'; next }
        my ($word, $form) = $option =~ m/\A([\w-]+)(?:\|\w)?(.*)\z/;
        $text .= " [--$word" . ($form eq '' ? '' : $form eq '=i' ? ' N' : ' TEXT') . ']';
    }
    return $text;
}

sub _help {
    my ($name) = @_;
    my $text;
    if (defined($name)) {
        $text = _usage($name) . "\n\n  $COMMANDS{$name}->[3]\n";
        my @options = map { m/\A([\w-]+)/ && $OPTION_HELP{$1} ? sprintf("  --%-17s %s\n", $1, $OPTION_HELP{$1}) : () } @{ $COMMANDS{$name}->[2] };
        $text .= "\noptions:\n" . join('', @options) if @options;
    } else {
        $text = "usage: pve-smbgateway COMMAND …\n\n" . join('', map { sprintf("  %-46s %s\n", $_ . ($COMMANDS{$_}->[1] eq '' ? '' : " $COMMANDS{$_}->[1]"), $COMMANDS{$_}->[3]) } @ORDER);
    }
    if (!defined($name) || grep { $_ eq 'properties' } @{ $COMMANDS{$name}->[2] }) {
        $text .= "\nproperties:\n" . join('', map {
            sprintf("  --%-17s %s%s%s\n", $_->{name}, $_->{description}, $_->{enum} ? ' One of: ' . join(', ', @{ $_->{enum} }) . '.' : '',
                defined($_->{default}) && $_->{description} !~ m/default/ ? " Default: $_->{default}." : '')
        } grep { !$_->{sensitive} && !($_->{fixed} && ($name // '') eq 'set') } @PVE::SMBGateway::Schema::PROPERTIES);
    }
    $text .= "\ncommon options: --output-format text|json|json-pretty|yaml  --quiet  --config FILE (sections in FILE, not in Proxmox's storage.cfg)\n";
    return $text;
}

# --- shares -------------------------------------------------------------------------------------------------------------

sub cmd_sets {
    my ($run, @ids) = @_;
    if (@ids > 1) {
        my ($given, $delete) = PVE::SMBGateway::CLI::Shares::asked($run);
        usage_error('nothing to change', 'set') if !%$given && !@$delete;
        usage_error('one password is for one share', 'set') if $run->{opt}->{'password-stdin'};
    }
    return each_of($run, \@ids, kind => 'share', action => 'change', gateway => _gateway_of(\@ids), code => \&cmd_set);
}

sub cmd_deletes {
    my ($run, @ids) = @_;
    return each_of($run, \@ids, kind => 'share', action => 'remove', gateway => _gateway_of(\@ids), code => \&cmd_delete);
}

# For several shares their gateways are looked up; one needs none.
sub _gateway_of {
    my ($ids) = @_;
    return @$ids > 1 ? PVE::SMBGateway::CLI::Apply::gateway_of(PVE::SMBGateway::Config::sections()) : undef;
}

sub cmd_status {
    my ($run, @ids) = @_;
    my %fresh = $run->{opt}->{fresh} ? (fresh => JSON::PP::true()) : ();
    my $one = sub {
        my ($r, $id) = @_;
        my $doc = PVE::SMBGateway::Native::query('status', { id => $id, %fresh });
        $r->{print} = sub { print tree($_[0]) };
        return $doc;
    };
    if (@ids) {
        $run->{opt}->{quiet} = 1 if @ids > 1;    # the table is the answer
        my $answer = each_of($run, \@ids, kind => 'share', action => 'status', gateway => _gateway_of(\@ids), code => $one, data => 1);
        return $answer if ref($answer->{items}) ne 'ARRAY';
        $run->{print} = sub { print table([map { $_->{data} // { id => $_->{id}, error => $_->{error}->{message} // $_->{result} } } @{ $answer->{items} }]) };
        return $answer;
    }
    # one look answers for all: a look at each would read all of its gateway as often as there are shares
    return cmd_list($run);
}

# A share's section as it is, or with what the options change.
sub _candidate {
    my ($run, $id) = @_;
    my $sections = PVE::SMBGateway::Config::sections();
    my $old = PVE::SMBGateway::Config::ours($sections)->{$id};
    my ($given, $delete) = PVE::SMBGateway::CLI::Shares::asked($run);
    no_share($id) if !$old && !%$given;
    my %section = (%{ $old // { type => PVE::SMBGateway::Config::TYPE } }, %$given);
    delete @section{@$delete};
    return { id => $id, section => \%section, sections => $sections };
}

sub cmd_check {
    my ($run, $id) = @_;
    my $doc = PVE::SMBGateway::Native::query('check', _candidate($run, $id));
    my @problems = @{ $doc->{problems} // [] };
    $run->{error} = PVE::SMBGateway::Error->from_document({ kind => 'invalid', message => "share '$id' cannot be like this", problems => \@problems }) if @problems;
    $run->{print} = sub { print "share '$id' can be like this\n" if !@problems && !$run->{opt}->{quiet}; print_warnings($doc) };
    return $doc;
}

sub cmd_limits {
    my ($run, $id) = @_;
    my $result = run_op($run, 'share.limits', { id => $id });
    $run->{print} = sub { print "the limits of share '$id' are set again\n" if !$run->{opt}->{quiet}; print_warnings($result) };
    return $result;
}

sub cmd_render {
    my ($run, $gateway) = @_;
    my $doc = PVE::SMBGateway::Native::query('render', { sections => PVE::SMBGateway::Config::sections(), defined($gateway) ? (gateway => $gateway) : () });
    $run->{print} = sub { print $_[0]->{text} =~ s/\n*\z/\n/r };
    return $doc;
}

# What concerns the node and no single share, on standard error.
sub _with_warnings {
    my ($doc) = @_;
    print STDERR "pve-smbgateway: warning: $_\n" for ref($doc) eq 'HASH' ? @{ $doc->{warnings} // [] } : ();
    return $doc;
}

sub _shares {
    my ($doc) = @_;
    return $doc if ref($doc) eq 'ARRAY';
    return $doc->{shares} // [];
}

sub cmd_list {
    my ($run) = @_;
    my $list = _shares(_with_warnings(PVE::SMBGateway::Native::query('list')));
    $run->{print} = sub { print table($_[0]) };
    return $list;
}

# --- users and groups -----------------------------------------------------------------------------------------------------

sub _gateway { my ($run) = @_; return defined($run->{opt}->{gateway}) ? (gateway => $run->{opt}->{gateway}) : () }

sub cmd_quota_report {
    my ($run, $id) = @_;
    my $doc = PVE::SMBGateway::Native::query('quota', defined($id) ? { id => $id } : {});
    $run->{print} = sub {
        my @rows = map { _quota_row($_) } @{ $doc->{shares} };
        print @rows ? table(\@rows, qw(id limit used % free files by age)) : "no shares on this node\n";
        my @users = map { my $s = $_; map { { id => $s->{id}, user => $_->{name}, limit => size_text($_->{limit}), used => defined($_->{used}) ? size_text($_->{used}) : '?' } } @{ $s->{users} } } @{ $doc->{shares} };
        print "\n", table(\@users, qw(id user limit used)) if @users;
    };
    return $doc;
}

# How old figures are at most: counted late, or of a share that is not there.
sub _quota_row {
    my ($s) = @_;
    my $lag = ($s->{'lag-ms'} // 0) / 1000;
    my $known = defined($s->{used});
    return {
        id => $s->{id},
        limit => defined($s->{limit}) ? size_text($s->{limit}) : 'none',
        used => $known ? size_text($s->{used}) : '?',
        '%' => $known && $s->{limit} ? sprintf('%.1f', 100 * $s->{used} / $s->{limit}) : '',
        free => defined($s->{free}) ? size_text($s->{free}) : '?',
        files => $s->{files} // '',
        by => $s->{object} // $s->{'file-system'},
        age => !$s->{reachable} ? 'not there' : $lag ? "up to ${lag} s" : 'now',
    };
}

sub cmd_user {
    my ($run, $name) = @_;
    my ($verb) = $run->{name} =~ m/\Auser (.+)\z/;
    my $password = $verb =~ m/\A(?:create|password)\z/ ? password($run, 1) : undef;
    my $result = run_op($run, "user.$verb", { name => $name, _gateway($run) }, secrets => defined($password) ? { password => $password } : undef);
    my $past = { create => 'created', password => 'given another password', disable => 'disabled', enable => 'enabled', remove => 'removed' }->{$verb};
    $run->{print} = sub { print "user '$name' is $past\n" if !$run->{opt}->{quiet}; print_warnings($result) };
    return $result;
}

sub cmd_users_act {
    my ($run, @names) = @_;
    my ($verb) = $run->{name} =~ m/\Auser (.+)\z/;
    # users belong to one gateway: one after the other
    return each_of($run, \@names, kind => 'user', action => $verb, gateway => sub { $run->{opt}->{gateway} // '' }, code => \&cmd_user);
}

sub cmd_group {
    my ($run, $name, $user) = @_;
    my ($verb) = $run->{name} =~ m/\Agroup (.+)\z/;
    my $result = run_op($run, "group.$verb", { name => $name, (defined($user) ? (user => $user) : ()), _gateway($run) });
    my $text = {
        create => "group '$name' is created",
        remove => "group '$name' is removed",
        'add-member' => "user '" . ($user // '') . "' is in group '$name'",
        'remove-member' => "user '" . ($user // '') . "' is not in group '$name' any more",
    }->{$verb};
    $run->{print} = sub { print "$text\n" if !$run->{opt}->{quiet}; print_warnings($result) };
    return $result;
}

sub cmd_users {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('users', { _gateway($run) });
    $run->{print} = sub { print table(ref($_[0]) eq 'HASH' ? $_[0]->{users} // [] : $_[0]) };
    return $doc;
}

sub cmd_groups {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('groups', { _gateway($run) });
    $run->{print} = sub { print table(ref($_[0]) eq 'HASH' ? $_[0]->{groups} // [] : $_[0]) };
    return $doc;
}

# --- sessions and open files ----------------------------------------------------------------------------------------------

# What both lists can be narrowed to.
sub _of {
    my ($run, $gateway, @more) = @_;
    my %name = (share => 'id', map { $_ => $_ } 'user', @more);
    return { (defined($gateway) ? (gateway => $gateway) : ()), map { $name{$_} => $run->{opt}->{$_} } grep { defined($run->{opt}->{$_}) } keys %name };
}

sub _not_running {
    my ($doc) = @_;
    print STDERR "the Samba of gateway $_ does not run, or cannot be looked at\n" for @{ $doc->{'not-running'} };
    return;
}

sub cmd_sessions {
    my ($run, $gateway) = @_;
    my $doc = PVE::SMBGateway::Native::query('sessions', _of($run, $gateway));
    $run->{print} = sub {
        my @rows = map {
            my $s = $_;
            my @shares = map { $_->{share} } grep { $_->{share} ne 'IPC$' } @{ $s->{shares} };
            +{ %$s, from => $s->{machine}, shares => \@shares, encrypted => $s->{encryption}->{degree}, signed => $s->{signing}->{degree}, since => _second($s->{since}) };
        } @{ $doc->{sessions} };
        print @rows ? table(\@rows, qw(id user from gateway shares dialect encrypted signed since pid)) : "nobody is connected\n";
        print STDERR "$doc->{foreign} more of foreign shares of this node: smbstatus\n" if $doc->{foreign};
        _not_running($doc);
    };
    return $doc;
}

# A moment of Samba without fractions: '' for none.
sub _second { my ($time) = @_; return defined($time) ? $time =~ s/\.\d+//r : '' }

sub cmd_session_close {
    my ($run, $id) = @_;
    my $user = $run->{opt}->{user};
    usage_error('name a session or a user', $run->{name}) if defined($id) == defined($user);
    my $result = run_op($run, 'session.close', { (defined($id) ? (id => $id) : (user => $user)), _gateway($run) });
    $run->{print} = sub {
        if (!$run->{opt}->{quiet}) { print "session $_->{id} of $_->{user} from $_->{machine} is ended\n" for @{ $result->{ended} } }
        print_warnings($result);
    };
    return $result;
}

sub cmd_files {
    my ($run, $gateway) = @_;
    my $doc = PVE::SMBGateway::Native::query('files', _of($run, $gateway, 'limit'));
    $run->{print} = sub {
        my @rows = map { +{ %$_, share => $_->{id}, user => $_->{user} // $_->{uid}, session => $_->{sessions}, denies => lc($_->{'share-mode'}) =~ s/\Adeny_//r } } @{ $doc->{files} };
        print @rows ? table(\@rows, qw(share path user machine access denies caching since session)) : "nothing is open\n";
        print STDERR "$doc->{total} are open: --share and --user narrow it down, --limit shows more\n" if $doc->{more};
        _not_running($doc);
    };
    return $doc;
}

# --- doctor -------------------------------------------------------------------------------------------------------------

sub cmd_doctor {
    my ($run, $gateway) = @_;
    my $doc = PVE::SMBGateway::Native::query('doctor', { sections => PVE::SMBGateway::Config::sections(), (defined($gateway) ? (gateway => $gateway) : ()) });
    $run->{failed} = [{ code => 10 }] if !$doc->{ok};
    $run->{print} = sub {
        for my $f (@{ $doc->{findings} }) {
            my $well = $f->{severity} eq 'ok';
            printf("%-8s %-12s %s\n", $well ? 'ok' : uc($f->{severity}), $f->{check}, $f->{saw});
            print "         means: $f->{means} ($f->{code})\n         remedy: $f->{remedy}\n" if !$well;
        }
    };
    return $doc;
}

# --- gateways and templates ------------------------------------------------------------------------------------------------

sub cmd_gateways {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('gateways');
    $run->{print} = sub {
        my @rows;
        for my $g (@{ $_[0]->{gateways} // [] }) {
            my $ct = ref($g->{container}) eq 'HASH' ? $g->{container} : {};
            my $state = !%$ct ? '' : !defined($ct->{vmid}) ? 'none' : $ct->{running} ? 'running' : $ct->{stopped} ? 'stopped' : 'down';
            push @rows, {
                name => $g->{gateway}, mode => $g->{mode}, node => $g->{node}, vmid => $ct->{vmid}, container => $state,
                samba => exists($g->{'samba-running'}) ? ($g->{'samba-running'} ? 'running' : 'down') : '',
                template => $ct->{template}, pending => $ct->{pending}, users => $g->{users}, shares => $g->{shares},
            };
        }
        print table(\@rows, qw(name mode node vmid container samba template pending users shares));
    };
    return $doc;
}

sub cmd_gateway {
    my ($run, $name, $vmid) = @_;
    my ($verb) = $run->{name} =~ m/\Agateway (.+)\z/;
    my $template = $run->{opt}->{template};
    my $result = run_op($run, "gateway.$verb", { name => $name, (defined($vmid) ? (vmid => $vmid) : ()), (defined($template) ? (template => $template) : ()) });
    my $ct = ref($result->{container}) eq 'HASH' ? $result->{container} : {};
    my $past = {
        start => 'is started', stop => 'is stopped', restart => 'is restarted', adopt => 'is adopted',
        upgrade => 'is upgraded' . (defined($ct->{template}) ? " to $ct->{template}" : ''),
    }->{$verb};
    $run->{print} = sub {
        print "gateway '$name' $past", (defined($ct->{vmid}) ? " (container $ct->{vmid})" : ''), "\n" if !$run->{opt}->{quiet};
        print_warnings($result);
    };
    return $result;
}

sub cmd_gateways_act {
    my ($run, @names) = @_;
    my ($verb) = $run->{name} =~ m/\Agateway (.+)\z/;
    return each_of($run, \@names, kind => 'gateway', action => $verb, gateway => sub { $_[0] }, code => \&cmd_gateway);
}

sub cmd_templates {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('templates');
    $run->{print} = sub {
        my @rows = map {
            {
                %$_, 'in use' => $_->{'in-use'} ? 'yes' : 'no', archive => $_->{present} ? $_->{path} : 'missing',
                built => defined($_->{'built-ms'}) ? POSIX::strftime('%Y-%m-%d %H:%M', localtime($_->{'built-ms'} / 1000)) : '',
            }
        } @{ $_[0]->{templates} // [] };
        print table(\@rows, 'name', 'suite', 'arch', 'samba', 'version', 'built', 'in use', 'storage', 'archive');
    };
    return $doc;
}

sub cmd_template {
    my ($run) = @_;
    my ($verb) = $run->{name} =~ m/\Atemplate (.+)\z/;
    my $opt = $run->{opt};
    my $result = run_op($run, "template.$verb", { map { defined($opt->{$_}) ? ($_ => $opt->{$_}) : () } qw(suite storage mirror name keep) });
    my $text = $verb eq 'build' ? "template '" . ($result->{template} // $opt->{name} // '?') . "' is built" : 'templates that nobody uses are removed';
    $run->{print} = sub { print "$text\n" if !$opt->{quiet}; print_warnings($result) };
    return $result;
}

sub cmd_shift {
    my ($run, $path) = @_;
    my $back = $run->{opt}->{back};
    my $result = run_op($run, 'tree.shift', { path => $path, ($back ? (back => JSON::PP::true()) : ()) });
    $run->{print} = sub {
        print "$path has ", ($back ? 'its own numbers again' : 'the numbers of an unprivileged container'), "\n" if !$run->{opt}->{quiet};
        print_warnings($result);
    };
    return $result;
}

# --- the record of what was done, and its repair ---------------------------------------------------------------------------

sub cmd_audit {
    my ($run, $id) = @_;
    my $opt = $run->{opt};
    my $doc = PVE::SMBGateway::Native::query('audit', { map({ defined($opt->{$_}) ? ($_ => $opt->{$_}) : () } qw(since limit)), (defined($id) ? (id => $id) : ()) });
    $run->{print} = sub {
        my ($data) = @_;
        my @rows;
        for my $entry (@{ (ref($data) eq 'HASH' ? $data->{entries} : $data) // [] }) {
            my %row = %$entry;
            for my $key (grep { defined($row{$_}) && $row{$_} =~ m/\A\d{12,}\z/ } qw(at until)) {
                $row{$key} = POSIX::strftime('%Y-%m-%d %H:%M:%S', localtime($row{$key} / 1000));
            }
            $row{changed} = scalar(@{ $row{changed} }) if ref($row{changed}) eq 'ARRAY';
            delete($row{$_}) for grep { !defined($row{$_}) || (ref($row{$_}) eq 'ARRAY' && !@{ $row{$_} }) } keys %row;
            push @rows, \%row;
        }
        my $entries = \@rows;
        print table($entries // []);
    };
    return $doc;
}

sub cmd_resume {
    my ($run, $opid) = @_;
    my $password = password($run, 0);
    my $result = with_signals($run, sub {
        PVE::SMBGateway::Native::resume($opid, secrets => defined($password) ? { password => $password } : undef, on_event => watcher($run), keep_signal => 1);
    });
    $run->{print} = sub { print "operation $opid is finished\n" if !$run->{opt}->{quiet}; print_warnings($result) };
    return $result;
}

sub cmd_repair {
    my ($run, $id) = @_;
    my $opt = $run->{opt};
    my $password = password($run, 0);
    my @restored = $opt->{restore} ? _restore($id) : ();
    my %params = (sections => PVE::SMBGateway::Config::sections(), _gateway($run));
    $params{id} = $id if defined($id);
    $params{$_} = JSON::PP::true() for grep { $opt->{$_} } qw(overwrite restore);
    my $result = run_op($run, 'share.repair', \%params, secrets => defined($password) ? { password => $password } : undef);
    $result->{restored} = \@restored if @restored;
    $run->{print} = sub {
        print "section of '$_' is back\n" for @restored;
        if (exists($result->{repaired}) && !$result->{repaired}) {
            print "kept as it is: $result->{why}\n" if defined($result->{why});
            print $result->{diff} =~ s/\n*\z/\n/r if defined($result->{diff}) && !ref($result->{diff});
            print "to put it back: $result->{remedy}\n" if defined($result->{remedy});
        } elsif (!$opt->{quiet}) {
            print "repaired\n";
        }
        print_warnings($result);
    };
    return $result;
}

# Puts sections back that the gateway record knows and storage.cfg has lost. Returns their ids.
sub _restore {
    my ($id) = @_;
    my $kept = PVE::SMBGateway::Native::query('sections');
    $kept = $kept->{sections} if ref($kept->{sections}) eq 'HASH';
    my @restored;
    my $missing = sub {
        my ($have) = @_;
        return grep { !$have->{$_} && (!defined($id) || $_ eq $id) && ref($kept->{$_}) eq 'HASH' } sort keys %$kept;
    };
    if (PVE::SMBGateway::Config::on_proxmox()) {
        PVE::Storage::lock_storage_config(sub {
            my $cfg = PVE::Storage::config();
            my $plugin = PVE::Storage::Plugin->lookup(PVE::SMBGateway::Config::TYPE);
            for my $lost ($missing->($cfg->{ids})) {
                my %section = map { $_ => PVE::SMBGateway::Config::octets($kept->{$lost}->{$_}) } grep { $_ ne 'type' } keys %{ $kept->{$lost} };
                $cfg->{ids}->{$lost} = $plugin->check_config($lost, \%section, 1, 1);
                push @restored, $lost;
            }
            PVE::Storage::write_config($cfg) if @restored;
        }, 'restoring sections failed');
    } else {
        PVE::SMBGateway::Config::locked(sub {
            for my $lost ($missing->(PVE::SMBGateway::Config::sections())) {
                PVE::SMBGateway::Config::put($lost, $kept->{$lost});
                push @restored, $lost;
            }
        });
    }
    return @restored;
}

sub cmd_reconcile {
    my ($run, @ids) = @_;
    my $result = with_signals($run, sub {
        PVE::SMBGateway::Worker::reconcile(ids => \@ids, wait => $run->{opt}->{wait}, on_event => watcher($run), keep_signal => 1);
    });
    $run->{failed} = [map { $_->{error} } grep { ref($_->{error}) eq 'HASH' } @{ $result->{shares} // [] }];
    $run->{print} = sub {
        for my $share (grep { !$_->{error} } @{ $result->{shares} // [] }) {
            my @did = @{ $share->{did} // [] };
            my $state = $share->{state} // ($share->{reloaded} ? 'smbd told of new shares' : $share->{repaired} ? 'repaired' : '?');
            printf("%s: %s%s\n", $share->{id} // $share->{gateway} // 'gateway', $state, @did ? ' (' . join('; ', @did) . ')' : '') if @did || !$run->{opt}->{quiet};
            print_warnings($share);
        }
        print_warnings($result);
    };
    return $result;
}

sub cmd_schema {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('schema');
    $run->{print} = sub {
        my ($data) = @_;
        print "properties:\n", table([map { { name => $_->{name}, type => $_->{format} // $_->{type}, default => $_->{default} // '', description => $_->{description} } } @{ $data->{properties} // [] }], qw(name type default description));
        print "\noperations:\n", table([map { { name => $_->{name}, description => $_->{description} } } @{ $data->{operations} // [] }], qw(name description));
    };
    return $doc;
}

# For the completion of shells. Quick: shares come from the sections, and the rest is read from records.
sub cmd_names {
    my ($run, $what) = @_;
    my %of = (
        shares => sub { sort keys %{ PVE::SMBGateway::Config::ours() } },
        gateways => sub { map { $_->{gateway} } @{ PVE::SMBGateway::Native::query('gateways')->{gateways} // [] } },
        users => sub { map { $_->{name} } @{ PVE::SMBGateway::Native::query('users', { _gateway($run) })->{users} // [] } },
        groups => sub { map { $_->{name} } @{ PVE::SMBGateway::Native::query('groups', { _gateway($run) })->{groups} // [] } },
        templates => sub { map { $_->{name} } @{ PVE::SMBGateway::Native::query('templates')->{templates} // [] } },
    );
    my $code = $of{$what} or usage_error("'$what' is none of " . join(', ', sort keys %of), $run->{name});
    my @names = $code->();
    $run->{print} = sub { print map { "$_\n" } @names };
    return \@names;
}

sub cmd_version {
    my ($run) = @_;
    my $library = PVE::SMBGateway::Native::version();
    $run->{print} = sub {
        my ($data) = @_;
        print "pve-smbgateway $data->{command}\nlibrary ", $data->{library} // 'unusable: ' . $data->{problem}, "\n";
    };
    return { command => $VERSION, library => $library, defined($library) ? () : (problem => PVE::SMBGateway::Native::why()) };
}

1;
