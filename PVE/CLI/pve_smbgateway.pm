# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::CLI::pve_smbgateway;

# The `pve-smbgateway` command: words on a command line -> operations of the library -> text or JSON. It runs on core Perl;
# on Proxmox it changes storages through Proxmox's own API. It must not know how an operation is carried out, and takes no
# secret from argv.

use strict;
use warnings;
use utf8;

use Encode ();
use Getopt::Long ();
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;
use PVE::SMBGateway::Schema;
use PVE::SMBGateway::Worker;

# name => [code, arguments for the usage, options beyond the common ones, one line of help]; 'properties' stands for the table.
my %COMMANDS = (
    plan => [\&cmd_plan, '[create|set|delete] ID', ['properties', 'delete=s'], 'show what an operation would do; nothing is changed'],
    create => [\&cmd_create, 'ID', ['properties', 'password-stdin', 'no-wait'], 'create a share'],
    set => [\&cmd_set, 'ID', ['properties', 'delete=s', 'password-stdin', 'no-wait'], 'change a share'],
    delete => [\&cmd_delete, 'ID', ['no-wait'], 'remove a share; its data stays'],
    status => [\&cmd_status, '[ID]', ['fresh'], 'state of one share, or of all'],
    list => [\&cmd_list, '', [], 'shares of this node'],
    'quota report' => [\&cmd_quota_report, '[ID]', [], 'limits of shares, and what is used of them'],
    'quota user' => [\&cmd_quota_user, 'ID NAME SIZE|none', ['no-wait'], 'limit what a user may own in a share'],
    'user create' => [\&cmd_user, 'NAME', ['gateway=s', 'password-stdin'], 'create a local user'],
    'user password' => [\&cmd_user, 'NAME', ['gateway=s', 'password-stdin'], 'set the password of a local user'],
    'user disable' => [\&cmd_user, 'NAME', ['gateway=s'], 'disable a local user and end its sessions'],
    'user enable' => [\&cmd_user, 'NAME', ['gateway=s'], 'enable a disabled user'],
    'user remove' => [\&cmd_user, 'NAME', ['gateway=s'], 'remove a local user; its files stay'],
    'user list' => [\&cmd_users, '', ['gateway=s'], 'local users'],
    'group create' => [\&cmd_group, 'NAME', ['gateway=s'], 'create a local group'],
    'group remove' => [\&cmd_group, 'NAME', ['gateway=s'], 'remove a local group'],
    'group add-member' => [\&cmd_group, 'NAME USER', ['gateway=s'], 'put a user into a group'],
    'group remove-member' => [\&cmd_group, 'NAME USER', ['gateway=s'], 'take a user out of a group'],
    'group list' => [\&cmd_groups, '', ['gateway=s'], 'local groups'],
    'session list' => [\&cmd_sessions, '[GATEWAY]', ['share=s', 'user=s'], 'who is connected, and to which shares'],
    'session close' => [\&cmd_session_close, '[SESSION]', ['user=s', 'gateway=s'], 'end a session, or all of a user'],
    'file list' => [\&cmd_files, '[GATEWAY]', ['share=s', 'user=s', 'limit=i'], 'open files, and by whom'],
    doctor => [\&cmd_doctor, '[GATEWAY]', [], 'look at everything that shares of this node need, and say what helps'],
    'gateway list' => [\&cmd_gateways, '', [], 'gateways, and the containers of this node'],
    'gateway start' => [\&cmd_gateway, 'NAME', [], "start a gateway's container"],
    'gateway stop' => [\&cmd_gateway, 'NAME', [], "stop a gateway's container until somebody starts it"],
    'gateway restart' => [\&cmd_gateway, 'NAME', [], 'stop and start it: what waits for its next start takes effect'],
    'gateway upgrade' => [\&cmd_gateway, 'NAME', ['template=s'], 'replace the container by one from a newer template; users, SID and data stay'],
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
    reconcile => [\&cmd_reconcile, '[ID…]', ['once', 'wait=i'], "bring this node to the wanted state (the timer's work)"],
    schema => [\&cmd_schema, '', [], 'the tables of properties and operations'],
    version => [\&cmd_version, '', [], 'versions of command and library'],
);

my @ORDER = ('plan', 'create', 'set', 'delete', 'status', 'list', 'quota report', 'quota user', 'user create', 'user password', 'user disable', 'user enable',
    'user remove', 'user list', 'group create', 'group remove', 'group add-member', 'group remove-member', 'group list',
    'session list', 'session close', 'file list', 'doctor',
    'gateway list', 'gateway start', 'gateway stop', 'gateway restart', 'gateway upgrade', 'gateway adopt', 'ad join', 'ad leave', 'ad check', 'ad dns',
    'ad kerberos', 'ad time', 'ad report', 'ad test-user', 'ad repair', 'ad fallback', 'ad users', 'ad groups', 'ad whoami', 'template list',
    'template build', 'template prune', 'shift', 'audit', 'resume', 'repair', 'reconcile', 'schema', 'version');

our $VERSION = '0.1.0';

my $started;

# Runs one command line; returns the exit status: 0, or the number of the error's kind.
sub main {
    my (@argv) = map { PVE::SMBGateway::Config::characters($_) } @_;
    $started = _now();
    local $| = 1;
    binmode(STDOUT, ':utf8');
    binmode(STDERR, ':utf8');

    my %run = (format => 'text');
    my ($data, $error);
    if (!eval { $data = _dispatch(\%run, @argv); 1 }) {
        $error = PVE::SMBGateway::Error->from($@);
    }
    if ($run{format} ne 'text') {
        my $json = JSON::PP->new->canonical->allow_nonref;
        $json->pretty if $run{format} eq 'json-pretty';
        my $doc = { timestamp => POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime()) };
        $doc->{success} = $error ? JSON::PP::false() : JSON::PP::true();
        $error ? ($doc->{error} = $error->document()) : ($doc->{data} = $data);
        my $text = $json->encode($doc);
        $text =~ s/\n*\z/\n/;
        print STDOUT $text;
    } elsif ($error) {
        print STDERR 'pve-smbgateway: ' . $error->text();
    } elsif ($run{print}) {
        $run{print}->($data);
    }
    if ($error && $run{signal}) {
        $SIG{ $run{signal} } = 'DEFAULT';
        kill($run{signal}, $$);
    }
    return $error->code() || 16 if $error;
    # a reconcile does all it can; what failed on the way is still a failure
    return ($run{failed} // [])->[0] ? $run{failed}->[0]->{code} || 16 : 0;
}

sub _dispatch {
    my ($run, @argv) = @_;

    # the form of the answer counts for errors of the command line too
    for my $i (0 .. $#argv) {
        my $format = $argv[$i] =~ m/\A--output-format=(.*)\z/ ? $1 : $argv[$i] eq '--output-format' ? $argv[$i + 1] // '' : next;
        _usage_error("--output-format is text, json or json-pretty, not '$format'") if $format !~ m/\A(?:text|json|json-pretty)\z/;
        $run->{format} = $format;
    }
    # whoever looks at the process list has seen it already, but at least it is not used
    if (grep { m/\A--?password(?:=|\z)/ } @argv) {
        PVE::SMBGateway::Error->throw('invalid', 'a password on the command line is visible to every user of this machine',
            remedy => 'pass it by --password-stdin (one line), or leave it out on a terminal to be asked; change the one just shown');
    }

    my $name = '';
    if (!@argv || $argv[0] =~ m/\A(?:help|--help|-h)\z/) {
        $run->{print} = sub { print _help() };
        return { usage => _help() };
    }
    $name = shift(@argv);
    if (grep { m/\A\Q$name\E / } @ORDER) {
        my $sub = shift(@argv) // '';
        _usage_error("'$name' needs one of: " . join(', ', map { m/\A\Q$name\E (.+)/ ? $1 : () } @ORDER)) if !$COMMANDS{"$name $sub"};
        $name = "$name $sub";
    }
    my $command = $COMMANDS{$name} or _usage_error("unknown command '$name'");
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
        $parser->getoptionsfromarray(\@argv, \%opt, @spec) or _usage_error(lcfirst($complaints[0] // 'bad option') =~ s/\s+\z//r, $name);
    }
    if ($opt{help}) {
        $run->{print} = sub { print _help($name) };
        return { usage => _help($name) };
    }
    $opt{$_} = 1 for grep { exists($opt{$_}) && $opt{$_} eq '' } keys %bool;
    my @words = split(/ /, $args);
    my $least = grep { !m/\A\[/ } @words;
    my $most = grep({ m/…/ } @words) ? 1000 : scalar(@words);
    _usage_error('too few arguments', $name) if @argv < $least;
    _usage_error("unexpected argument '$argv[$most]'", $name) if @argv > $most;

    $PVE::SMBGateway::Config::FILE = $opt{config} if defined($opt{config});
    $run->{opt} = \%opt;
    $run->{name} = $name;
    $run->{given} = { map { $_->{name} => $opt{ $_->{name} } } grep { exists($opt{ $_->{name} }) } @PVE::SMBGateway::Schema::PROPERTIES };
    return $code->($run, @argv);
}

sub _usage_error {
    my ($message, $name) = @_;
    PVE::SMBGateway::Error->throw('invalid', $message, remedy => $name ? _usage($name) : "see 'pve-smbgateway help'");
}

sub _usage {
    my ($name) = @_;
    my ($code, $args, $options) = @{ $COMMANDS{$name} };
    my $text = "usage: pve-smbgateway $name" . ($args eq '' ? '' : " $args");
    for my $option (@$options) {
        if ($option eq 'properties') { $text .= ' [--PROPERTY VALUE …]'; next }
        my ($word, $form) = $option =~ m/\A([\w-]+)(.*)\z/;
        $text .= " [--$word" . ($form eq '' ? '' : $form eq '=i' ? ' N' : ' TEXT') . ']';
    }
    return $text;
}

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
    back => 'take the numbers back',
    since => 'only what began after this moment, in milliseconds since the epoch',
    limit => 'at most so many; default: 200',
    once => 'accepted for the units; it always runs once',
    wait => 'seconds to wait for the sections of the named shares; default: 180',
    delete => 'properties to take out, separated by commas',
);

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
    $text .= "\ncommon options: --output-format text|json|json-pretty  --quiet  --config FILE (sections in FILE, not in Proxmox's storage.cfg)\n";
    return $text;
}

# --- runs ---------------------------------------------------------------------------------------------------------------

# Shows the events of a run: on standard output as text, on standard error beside JSON, or not at all.
sub _watcher {
    my ($run) = @_;
    return undef if $run->{opt}->{quiet};
    my $out = $run->{format} eq 'text' ? \*STDOUT : \*STDERR;
    return undef if $run->{format} ne 'text' && !-t STDERR;
    my %title;
    return sub {
        my ($e) = @_;
        my $event = $e->{event} // '';
        my $step = $e->{step} // '';
        $title{$step} = $e->{title} if defined($e->{title});
        my $what = $title{$step} // $step;
        my $line =
              $event eq 'planned' ? sprintf("%s: %d step%s", $e->{phase} // 'plan', $e->{steps} // 0, ($e->{steps} // 0) == 1 ? '' : 's')
            : $event eq 'done' ? sprintf("  %-8s %s  (%s ms)", exists($e->{changed}) && !$e->{changed} ? 'as is' : 'done', $what, $e->{ms} // '?')
            : $event eq 'replanned' ? "  planned anew: the machine has changed meanwhile"
            : $event eq 'progress' ? sprintf("  %d entries: %s", $e->{entries} // 0, $what)
            : $event eq 'elsewhere' ? "  elsewhere $what"
            : $event eq 'failed' ? '  FAILED   ' . ($what eq '' ? '' : "$what: ") . _brief($e->{error})
            : $event eq 'undo-done' ? sprintf("  undone   %s%s", $what, defined($e->{ms}) ? "  ($e->{ms} ms)" : '')
            : $event eq 'undo-failed' ? "  UNDO FAILED  $what: " . _brief($e->{error})
            : return;
        printf {$out} "%7.3f s  %s\n", _now() - $started, $line;
        return;
    };
}

sub _brief {
    my ($error) = @_;
    return ref($error) eq 'HASH' ? $error->{message} // 'unknown' : $error // 'unknown';
}

# A run of the library with signals, steps and secrets wired up. After TERM or INT the run is interrupted and we end by the signal.
sub _do {
    my ($run, $op, $params, %o) = @_;
    return _signals($run, sub {
        PVE::SMBGateway::Native::run($op, { %$params, actor => _actor(), %{ $o{extra} // {} } }, secrets => $o{secrets}, on_event => _watcher($run), keep_signal => 1);
    });
}

sub _signals {
    my ($run, $code) = @_;
    my $result = eval { $code->() };
    return $result if defined($result);
    my $error = PVE::SMBGateway::Error->from($@);
    $run->{signal} = $1 if $error->kind() eq 'interrupted' && $error->message() =~ m/by SIG(TERM|INT|HUP)\b/;
    die $error;
}

sub _actor {
    return 'root@pam' if $> == 0 && !$ENV{SUDO_USER};
    my $name = $ENV{SUDO_USER} // getpwuid($<) // $<;
    return "$name\@pam";
}

# The secret of a command: one line of standard input, or a question on a terminal. undef if none was offered.
sub _password {
    my ($run, $required) = @_;
    my $password;
    if ($run->{opt}->{'password-stdin'}) {
        binmode(STDIN, ':raw');
        $password = readline(STDIN);
        $password = '' if !defined($password);
        $password =~ s/\r?\n\z//;
    } elsif ($required && -t STDIN) {
        $password = _ask('Password: ');
        PVE::SMBGateway::Error->throw('invalid', 'the two passwords differ') if $password ne _ask('Again: ');
    } elsif ($required) {
        PVE::SMBGateway::Error->throw('invalid', 'this needs a password', remedy => 'pass it by --password-stdin (one line)');
    } else {
        return undef;
    }
    PVE::SMBGateway::Error->throw('invalid', 'the password is empty', problems => { password => 'is empty' }) if $password eq '';
    return $password;
}

sub _ask {
    my ($prompt) = @_;
    my $fd = fileno(STDIN);
    my $tty = POSIX::Termios->new();
    $tty->getattr($fd);
    my $old = $tty->getlflag();
    my $restore = sub { $tty->setlflag($old); $tty->setattr($fd, POSIX::TCSANOW()); print STDERR "\n" };
    local $SIG{INT} = sub { $restore->(); $SIG{INT} = 'DEFAULT'; kill('INT', $$) };
    $tty->setlflag($old & ~POSIX::ECHO());
    $tty->setattr($fd, POSIX::TCSAFLUSH());
    print STDERR $prompt;
    binmode(STDIN, ':raw');
    my $line = readline(STDIN);
    $restore->();
    $line = '' if !defined($line);
    $line =~ s/\r?\n\z//;
    return $line;
}

# --- shares -------------------------------------------------------------------------------------------------------------

sub cmd_create {
    my ($run, $id) = @_;
    my %section = %{ $run->{given} };
    my $password = _password($run, defined($section{username}));

    if (PVE::SMBGateway::Config::on_proxmox()) {
        return _created($run, $id, _proxmox($run, 'create', { storage => $id, type => PVE::SMBGateway::Config::TYPE, %section, defined($password) ? (password => PVE::SMBGateway::Config::characters($password)) : () }));
    }

    my $result = PVE::SMBGateway::Config::locked(sub {
        my $sections = PVE::SMBGateway::Config::sections();
        PVE::SMBGateway::Error->throw('conflict', "storage '$id' is defined already") if $sections->{$id};
        $section{type} = PVE::SMBGateway::Config::TYPE;
        my $done = _do($run, 'share.create', { id => $id, section => \%section, sections => $sections },
            secrets => defined($password) ? { password => $password } : undef);
        if (!eval { PVE::SMBGateway::Config::put($id, _accepted(\%section, $done)); 1 }) {
            my $error = $@;
            eval { _do($run, 'share.delete', { id => $id }) };
            die $error;
        }
        return $done;
    });
    # nothing waits for us here, so what the create only recorded is carried out at once
    my $worked = _do($run, 'reconcile', { ids => [$id], sections => PVE::SMBGateway::Config::sections() });
    push @{ $result->{warnings} }, map { @{ $_->{warnings} // [] } } @{ $worked->{shares} // [] };
    my ($now) = grep { ($_->{id} // '') eq $id } @{ $worked->{shares} // [] };
    $result->{state} = $now->{state} if $now && defined($now->{state});
    return _created($run, $id, $result);
}

sub _created {
    my ($run, $id, $result) = @_;
    $result //= { id => $id };
    $run->{print} = sub {
        printf("share '%s' (%s) is %s\n", $result->{share} // $id, $id, $result->{state} // 'in storage.cfg') if !$run->{opt}->{quiet};
        _print_warnings($result, $run->{said});
    };
    return $result;
}

# A section as the library accepted it: what it decided is in it, and the account that joins a domain is not.
sub _accepted {
    my ($section, $done) = @_;
    my %accepted = (%$section, %{ $done->{section} // {} });
    delete $accepted{username} if $done->{section} && !defined($done->{section}->{username});
    return \%accepted;
}

sub cmd_set {
    my ($run, $id) = @_;
    my %given = %{ $run->{given} };
    my @delete = grep { length } split(/[\s,;]+/, $run->{opt}->{delete} // '');
    my $password = _password($run, 0);
    _usage_error('nothing to change', 'set') if !%given && !@delete && !defined($password);

    if (PVE::SMBGateway::Config::on_proxmox()) {
        return _created($run, $id, _proxmox($run, 'update', { storage => $id, %given, (@delete ? (delete => join(',', @delete)) : ()), defined($password) ? (password => PVE::SMBGateway::Config::characters($password)) : () }));
    }
    for my $key (@delete, keys %given) {
        my $p = PVE::SMBGateway::Schema::property($key) or PVE::SMBGateway::Error->throw('invalid', "there is no property '$key'");
        PVE::SMBGateway::Error->throw('invalid', "'$key' cannot be changed", problems => { $key => 'is fixed at create' }) if $p->{fixed};
    }
    my $result = PVE::SMBGateway::Config::locked(sub {
        my $sections = PVE::SMBGateway::Config::sections();
        my $old = PVE::SMBGateway::Config::ours($sections)->{$id} or _no_share($id);
        my %section = (%$old, %given);
        delete @section{@delete};
        $sections->{$id} = \%section;
        my $done = _do($run, 'share.update', { id => $id, section => \%section, sections => $sections },
            secrets => defined($password) ? { password => $password } : undef);
        PVE::SMBGateway::Config::put($id, _accepted(\%section, $done));
        return $done;
    });
    return _created($run, $id, $result);
}

sub cmd_delete {
    my ($run, $id) = @_;
    return _removed($run, $id, _proxmox($run, 'delete', { storage => $id })) if PVE::SMBGateway::Config::on_proxmox();
    my $result = PVE::SMBGateway::Config::locked(sub {
        my $sections = PVE::SMBGateway::Config::sections();
        _no_share($id) if $sections->{$id} && ($sections->{$id}->{type} // '') ne PVE::SMBGateway::Config::TYPE;
        # a section may have been lost while its share is still served: that share can be removed too
        _no_share($id) if !$sections->{$id} && !grep { ($_->{id} // '') eq $id } @{ _shares(PVE::SMBGateway::Native::query('list')) };
        my $done = _do($run, 'share.delete', { id => $id });
        PVE::SMBGateway::Config::drop($id);
        return $done;
    });
    return _removed($run, $id, $result);
}

sub _removed {
    my ($run, $id, $result) = @_;
    $run->{print} = sub {
        my $kept = $result->{kept} // {};
        my $state = $result->{state} // 'removed';
        my $what = $state eq 'deleting' ? 'is being removed' : $state eq 'recorded' ? 'will be removed by its node' : 'is removed';
        print "share '$id' $what; its data stays\n" if !$run->{opt}->{quiet};
        print "  data kept in $kept->{tree}\n" if defined($kept->{tree}) && !$run->{opt}->{quiet};
        for my $account (@{ $kept->{accounts} // [] }) {
            print '  account kept: ', ref($account) eq 'HASH' ? join(', ', map { $account->{$_} } grep { defined($account->{$_}) && !ref($account->{$_}) } sort keys %$account) : $account, "\n"
                if !$run->{opt}->{quiet};
        }
        _print_warnings($result, $run->{said});
    };
    return $result;
}

sub _no_share {
    my ($id) = @_;
    PVE::SMBGateway::Error->throw('not-found', "there is no SMB share with the storage id '$id'", remedy => "see 'pve-smbgateway list'");
}

# Through Proxmox's own API, so that storage.cfg, its lock and the order of hooks are Proxmox's. Hooks run in this process. Returns the
# result of the share's operation; what the hook left to the worker is done here, unless --no-wait.
sub _proxmox {
    my ($run, $method, $param) = @_;
    eval { require PVE::RPCEnvironment; PVE::RPCEnvironment->setup_default_cli_env(); 1 }
        or PVE::SMBGateway::Error->throw('service', 'cannot act as root@pam: ' . ($@ =~ s/\s+\z//r), remedy => 'run it as root')
        if PVE::SMBGateway::Config::on_proxmox() && !$ENV{SMBGW_NO_RPCENV};
    if ($method ne 'create') {
        my $section = PVE::SMBGateway::Config::sections()->{ $param->{storage} };
        _no_share($param->{storage}) if !$section || $section->{type} ne PVE::SMBGateway::Config::TYPE;
    }
    my ($id, $result, @held) = ($param->{storage});
    my $ok = eval {
        local $PVE::SMBGateway::Native::ON_EVENT = _watcher($run);
        local $PVE::SMBGateway::Native::ON_RESULT = sub { my ($op, $done) = @_; $result = { %$done } if $op =~ m/\Ashare\./ };
        local $PVE::SMBGateway::Worker::HELD = \@held;
        _signals($run, sub { PVE::API2::Storage::Config->$method($param) // {} });
        1;
    };
    my $error = $@;
    $result //= { id => $id };
    # the hook has said these
    $run->{said} = { map { $_ => 1 } @{ $result->{warnings} // [] } };
    my $waits = $ok && ($result->{state} // '') =~ m/\A(?:provisioning|recorded|deleting)\z/;
    if (!$waits || $run->{opt}->{'no-wait'}) {
        PVE::SMBGateway::Worker::start($_) for @held;
        die $error if !$ok;
        return $result;
    }
    return _follow($run, $id, $result);
}

# The worker's work for one share, in the foreground. Whoever is at its gateway already is watched.
sub _follow {
    my ($run, $id, $result) = @_;
    my $gateway = ($result->{section} // {})->{'smbgw-gateway'};
    my $shown = '';
    while (1) {
        my $worked = eval { _do($run, 'reconcile', { ids => [$id], sections => PVE::SMBGateway::Config::sections(), 'lock-wait-ms' => 500 }) };
        if (!$worked) {
            my $error = PVE::SMBGateway::Error->from($@);
            die $error if $error->kind() ne 'busy';
        }
        my ($done) = reverse grep { ref($_) eq 'HASH' && ($_->{id} // '') eq $id } @{ ($worked // {})->{shares} // [] };
        _unfinished($id, $result, $done->{error}) if $done && ref($done->{error}) eq 'HASH';
        return { %$result, %$done, warnings => [@{ $result->{warnings} // [] }, @{ $done->{warnings} // [] }] } if $done;

        my $doc = eval { PVE::SMBGateway::Native::query('status', { id => $id }) };
        my $state = ($doc // {})->{state} // ($result->{state} eq 'deleting' ? 'removed' : $result->{state});
        _unfinished($id, $result, $doc->{error}) if $state eq 'failed';
        $gateway //= ($doc // {})->{gateway};
        my $busy = !$worked || grep { !defined($gateway) || $_ eq $gateway } @{ $worked->{busy} // [] };
        return { %$result, state => $state } if !$busy;

        my $step = (ref(($doc // {})->{operation}) eq 'HASH' ? $doc->{operation}->{step} : undef) // 'waiting for the gateway';
        my $watcher = $step ne $shown ? _watcher($run) : undef;
        $watcher->({ event => 'elsewhere', step => $shown = $step }) if $watcher;
        Time::HiRes::sleep(1);
    }
}

# What was recorded could not be done. It stays wanted.
sub _unfinished {
    my ($id, $result, $doc) = @_;
    my %problems = map { $_->{property} => $_->{message} } @{ $doc->{problems} // [] };
    PVE::SMBGateway::Error->throw(
        $doc->{kind} // 'internal', $doc->{message} // 'unknown failure',
        code => $doc->{code}, problems => \%problems, detail => $doc,
        remedy => join("\n  ", grep { defined } $doc->{remedy}, $result->{state} eq 'deleting'
            ? "the storage is removed from the configuration; the worker tries again, 'pve-smbgateway reconcile $id' does it now"
            : "the storage is in the configuration; the worker tries again, 'pve-smbgateway reconcile $id' does it now, 'pve-smbgateway delete $id' gives up"),
    );
}

sub cmd_plan {
    my ($run, @args) = @_;
    my $verb = $args[0] =~ m/\A(?:create|set|delete)\z/ && @args == 2 ? shift(@args) : undef;
    _usage_error('which storage?', 'plan') if @args != 1;
    my ($id) = @args;
    my $sections = PVE::SMBGateway::Config::sections();
    my $old = PVE::SMBGateway::Config::ours($sections)->{$id};
    $verb //= $old ? 'set' : 'create';
    my $op = { create => 'share.create', set => 'share.update', delete => 'share.delete' }->{$verb};
    my $params = { id => $id };
    if ($verb ne 'delete') {
        _no_share($id) if $verb eq 'set' && !$old;
        my %section = ($verb eq 'set' ? %$old : (type => PVE::SMBGateway::Config::TYPE), %{ $run->{given} });
        delete @section{ grep { length } split(/[\s,;]+/, $run->{opt}->{delete} // '') };
        $params->{section} = \%section;
        $params->{sections} = $sections;
    }
    my $plan = PVE::SMBGateway::Native::query('plan', { op => $op, params => $params });
    $run->{print} = sub {
        my ($data) = @_;
        my $text = $data->{text} // JSON::PP->new->canonical->pretty->encode($data);
        $text =~ s/\n*\z/\n/;
        print $text;
    };
    return $plan;
}

sub cmd_status {
    my ($run, $id) = @_;
    my %fresh = $run->{opt}->{fresh} ? (fresh => JSON::PP::true()) : ();
    if (defined($id)) {
        my $doc = PVE::SMBGateway::Native::query('status', { id => $id, %fresh });
        $run->{print} = sub { print _tree($_[0]) };
        return $doc;
    }
    my @docs;
    my $list = _shares(PVE::SMBGateway::Native::query('list'));
    for my $share (@$list) {
        my $doc = eval { PVE::SMBGateway::Native::query('status', { id => $share->{id}, %fresh }) };
        push @docs, $doc // { id => $share->{id}, error => PVE::SMBGateway::Error->from($@)->document() };
    }
    $run->{print} = sub { print _table($_[0]) };
    return \@docs;
}

sub _shares {
    my ($doc) = @_;
    return $doc if ref($doc) eq 'ARRAY';
    return $doc->{shares} // [];
}

sub cmd_list {
    my ($run) = @_;
    my $list = _shares(PVE::SMBGateway::Native::query('list'));
    $run->{print} = sub { print _table($_[0]) };
    return $list;
}

# --- users and groups -----------------------------------------------------------------------------------------------------

sub _gateway { my ($run) = @_; return defined($run->{opt}->{gateway}) ? (gateway => $run->{opt}->{gateway}) : () }

sub cmd_quota_report {
    my ($run, $id) = @_;
    my $doc = PVE::SMBGateway::Native::query('quota', defined($id) ? { id => $id } : {});
    $run->{print} = sub {
        my @rows = map { _quota_row($_) } @{ $doc->{shares} };
        print @rows ? _table(\@rows, qw(id limit used % free files by age)) : "no shares on this node\n";
        my @users = map { my $s = $_; map { { id => $s->{id}, user => $_->{name}, limit => _size($_->{limit}), used => defined($_->{used}) ? _size($_->{used}) : '?' } } @{ $s->{users} } } @{ $doc->{shares} };
        print "\n", _table(\@users, qw(id user limit used)) if @users;
    };
    return $doc;
}

# One user of the list that the section has; the rest is `set`.
sub cmd_quota_user {
    my ($run, $id, $name, $size) = @_;
    my $section = PVE::SMBGateway::Config::sections()->{$id} or _usage_error("there is no share '$id' in the storage configuration", $run->{name});
    my %limit = map { m/\A\s*([^=]+?)\s*=\s*(.+?)\s*\z/ ? ($1 => $2) : () } split(/,/, $section->{'smbgw-user-quota'} // '');
    $size eq 'none' ? delete($limit{$name}) : ($limit{$name} = $size);
    my $list = join(',', map { "$_=$limit{$_}" } sort keys %limit);
    $list eq '' ? ($run->{opt}->{delete} = 'smbgw-user-quota') : ($run->{given}->{'smbgw-user-quota'} = $list);
    return cmd_set($run, $id);
}

# How old figures are at most: counted late, or of a share that is not there.
sub _quota_row {
    my ($s) = @_;
    my $lag = ($s->{'lag-ms'} // 0) / 1000;
    my $known = defined($s->{used});
    return {
        id => $s->{id},
        limit => defined($s->{limit}) ? _size($s->{limit}) : 'none',
        used => $known ? _size($s->{used}) : '?',
        '%' => $known && $s->{limit} ? sprintf('%.1f', 100 * $s->{used} / $s->{limit}) : '',
        free => defined($s->{free}) ? _size($s->{free}) : '?',
        files => $s->{files} // '',
        by => $s->{object} // $s->{'file-system'},
        age => !$s->{reachable} ? 'not there' : $lag ? "up to ${lag} s" : 'now',
    };
}

# Bytes as people read them.
sub _size {
    my ($bytes) = @_;
    my @units = ('bytes', qw(KiB MiB GiB TiB PiB));
    my $n = $bytes;
    while ($n >= 1024 && @units > 1) { $n /= 1024; shift @units }
    return sprintf($n == int($n) || $units[0] eq 'bytes' ? '%d %s' : '%.1f %s', $n, $units[0]);
}

sub cmd_user {
    my ($run, $name) = @_;
    my ($verb) = $run->{name} =~ m/\Auser (.+)\z/;
    my $password = $verb =~ m/\A(?:create|password)\z/ ? _password($run, 1) : undef;
    my $result = _do($run, "user.$verb", { name => $name, _gateway($run) }, secrets => defined($password) ? { password => $password } : undef);
    my $past = { create => 'created', password => 'given another password', disable => 'disabled', enable => 'enabled', remove => 'removed' }->{$verb};
    $run->{print} = sub { print "user '$name' is $past\n" if !$run->{opt}->{quiet}; _print_warnings($result) };
    return $result;
}

sub cmd_group {
    my ($run, $name, $user) = @_;
    my ($verb) = $run->{name} =~ m/\Agroup (.+)\z/;
    my $result = _do($run, "group.$verb", { name => $name, (defined($user) ? (user => $user) : ()), _gateway($run) });
    my $text = {
        create => "group '$name' is created",
        remove => "group '$name' is removed",
        'add-member' => "user '" . ($user // '') . "' is in group '$name'",
        'remove-member' => "user '" . ($user // '') . "' is not in group '$name' any more",
    }->{$verb};
    $run->{print} = sub { print "$text\n" if !$run->{opt}->{quiet}; _print_warnings($result) };
    return $result;
}

sub cmd_users {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('users', { _gateway($run) });
    $run->{print} = sub { print _table(ref($_[0]) eq 'HASH' ? $_[0]->{users} // [] : $_[0]) };
    return $doc;
}

sub cmd_groups {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('groups', { _gateway($run) });
    $run->{print} = sub { print _table(ref($_[0]) eq 'HASH' ? $_[0]->{groups} // [] : $_[0]) };
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
        print @rows ? _table(\@rows, qw(id user from gateway shares dialect encrypted signed since pid)) : "nobody is connected\n";
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
    _usage_error('name a session or a user', $run->{name}) if defined($id) == defined($user);
    my $result = _do($run, 'session.close', { (defined($id) ? (id => $id) : (user => $user)), _gateway($run) });
    $run->{print} = sub {
        if (!$run->{opt}->{quiet}) { print "session $_->{id} of $_->{user} from $_->{machine} is ended\n" for @{ $result->{ended} } }
        _print_warnings($result);
    };
    return $result;
}

sub cmd_files {
    my ($run, $gateway) = @_;
    my $doc = PVE::SMBGateway::Native::query('files', _of($run, $gateway, 'limit'));
    $run->{print} = sub {
        my @rows = map { +{ %$_, share => $_->{id}, user => $_->{user} // $_->{uid}, session => $_->{sessions}, denies => lc($_->{'share-mode'}) =~ s/\Adeny_//r } } @{ $doc->{files} };
        print @rows ? _table(\@rows, qw(share path user machine access denies caching since session)) : "nothing is open\n";
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

# --- domains ------------------------------------------------------------------------------------------------------------

sub cmd_ad {
    my ($run, $gateway) = @_;
    my ($verb) = $run->{name} =~ m/\Aad (.+)\z/;
    my %params = map { $_ => $run->{opt}->{$_} } grep { defined($run->{opt}->{$_}) } qw(username domain smbgw-ad-ou smbgw-idmap smbgw-ad-dns keep-account);
    $params{gateway} = $gateway if defined($gateway);
    my ($by, @more) = grep { defined($run->{opt}->{$_}) } qw(ticket offline-join);
    _usage_error("--$by and --$more[0] are two ways of one thing", $run->{name}) if @more;
    PVE::SMBGateway::Error->throw('invalid', "this needs --username: an account of the domain that may $verb computers")
        if !defined($params{username}) && ($by // '') ne 'offline-join';
    $params{by} = $by if defined($by);
    my $secret = defined($by) ? _secret_file($run->{opt}->{$by}) : _password($run, 1);
    my $result = _do($run, "ad.$verb", \%params, secrets => { ($by // 'password') => $secret });
    $run->{print} = sub {
        my $m = $result->{member} // {};
        print "gateway '$result->{gateway}' ", ($verb eq 'join' ? "is a member of $m->{domain} ($m->{workgroup}) as $m->{computer}" : "has left $m->{domain}"), "\n" if !$run->{opt}->{quiet};
        _print_warnings($result, $run->{said});
    };
    return $result;
}

# A file with a ticket or a blob, both as good as a password.
sub _secret_file {
    my ($path) = @_;
    open(my $fh, '<:raw', $path) or PVE::SMBGateway::Error->throw('invalid', "cannot read '$path': $!");
    my @st = stat($fh);
    warn "others can read '$path', which is as good as a password: remove it when it was used\n" if $st[2] & 0077;
    local $/;
    return readline($fh) // '';
}

sub cmd_ad_check {
    my ($run, $gateway) = @_;
    my ($what) = $run->{name} =~ m/\Aad (.+)\z/;
    my %params = (what => $what, (defined($gateway) ? (gateway => $gateway) : ()), (defined($run->{opt}->{domain}) ? (domain => $run->{opt}->{domain}) : ()));
    delete $params{what} if $what eq 'report';
    my $doc = PVE::SMBGateway::Native::query($what eq 'report' ? 'ad.report' : 'ad.check', \%params);
    $run->{failed} = [{ code => 10 }] if !$doc->{ok};
    $run->{print} = sub {
        for my $c (@{ $doc->{checks} }) {
            printf("%-5s %-12s %s\n", $c->{ok} ? 'ok' : 'WRONG', $c->{check}, $c->{did});
            print "      saw: $c->{saw}\n";
            print "      means: $c->{means}", (defined($c->{reason}) ? " ($c->{reason})" : ''), "\n";
            print "      remedy: $c->{remedy}\n" if !$c->{ok};
        }
        print "\n", _tree({ map { $_ => $doc->{$_} } qw(directory accounts numbers shares fallback-users) }) if $what eq 'report';
    };
    return $doc;
}

sub cmd_ad_test {
    my ($run, $name, $gateway) = @_;
    my %params = (name => $name, (defined($gateway) ? (gateway => $gateway) : ()), map { $_ => $run->{opt}->{$_} } grep { defined($run->{opt}->{$_}) } qw(share ntlm));
    my $result = _do($run, 'ad.test-user', \%params, secrets => { password => _password($run, 1) });
    $run->{print} = sub { print "$result->{name} can log in\n" if !$run->{opt}->{quiet} };
    return $result;
}

sub cmd_ad_act {
    my ($run, $word, $gateway) = @_;
    my ($verb) = $run->{name} =~ m/\Aad (.+)\z/;
    my %words = (repair => { map { $_ => { what => $_ } } qw(keytab rotate names) }, fallback => { on => { on => 1 }, off => { on => 0 } });
    my $params = $words{$verb}->{$word} or _usage_error("'$word' is none of " . join(', ', sort keys %{ $words{$verb} }), $run->{name});
    my $result = _do($run, "ad.$verb", { %$params, (defined($gateway) ? (gateway => $gateway) : ()) });
    $run->{print} = sub {
        print "ad $verb $word: done\n" if !$run->{opt}->{quiet};
        _print_warnings($result, $run->{said});
    };
    return $result;
}

sub cmd_ad_accounts {
    my ($run, $gateway) = @_;
    my ($what) = $run->{name} =~ m/\Aad (.+)\z/;
    my %params = ((defined($gateway) ? (gateway => $gateway) : ()), map { $_ => $run->{opt}->{$_} } grep { defined($run->{opt}->{$_}) } qw(match limit));
    my $doc = PVE::SMBGateway::Native::query("ad.$what", \%params);
    $run->{print} = sub {
        print _table([map { { %$_, number => $_->{number} // 'out of range' } } @{ $doc->{accounts} }], qw(name sid number));
        print STDERR "there are more: --match narrows it down, --limit shows more\n" if $doc->{more};
    };
    return $doc;
}

sub cmd_ad_whoami {
    my ($run, $name, $gateway) = @_;
    my $doc = PVE::SMBGateway::Native::query('ad.whoami', { name => $name, (defined($gateway) ? (gateway => $gateway) : ()) });
    $run->{print} = sub {
        print "$doc->{name}\n  SID     $doc->{sid}\n  number  ", $doc->{number} // 'outside of the range of the gateway', "\n";
        print "  groups  ", join(', ', map { $_->{name} // $_->{sid} } @{ $doc->{groups} }), "\n";
        for my $s (@{ $doc->{shares} }) {
            my $why = $doc->{disabled} ? 'the account is disabled' : 'neither the account nor a group of it is named';
            print "  share   $s->{id}: ", defined($s->{level}) ? "$s->{level}, by " . join(', ', @{ $s->{by} }) : "no access: $why", "\n";
        }
    };
    return $doc;
}

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
        print _table(\@rows, qw(name mode node vmid container samba template pending users shares));
    };
    return $doc;
}

sub cmd_gateway {
    my ($run, $name, $vmid) = @_;
    my ($verb) = $run->{name} =~ m/\Agateway (.+)\z/;
    my $template = $run->{opt}->{template};
    my $result = _do($run, "gateway.$verb", { name => $name, (defined($vmid) ? (vmid => $vmid) : ()), (defined($template) ? (template => $template) : ()) });
    my $ct = ref($result->{container}) eq 'HASH' ? $result->{container} : {};
    my $past = {
        start => 'is started', stop => 'is stopped', restart => 'is restarted', adopt => 'is adopted',
        upgrade => 'is upgraded' . (defined($ct->{template}) ? " to $ct->{template}" : ''),
    }->{$verb};
    $run->{print} = sub {
        print "gateway '$name' $past", (defined($ct->{vmid}) ? " (container $ct->{vmid})" : ''), "\n" if !$run->{opt}->{quiet};
        _print_warnings($result);
    };
    return $result;
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
        print _table(\@rows, 'name', 'suite', 'arch', 'samba', 'version', 'built', 'in use', 'storage', 'archive');
    };
    return $doc;
}

sub cmd_template {
    my ($run) = @_;
    my ($verb) = $run->{name} =~ m/\Atemplate (.+)\z/;
    my $opt = $run->{opt};
    my $result = _do($run, "template.$verb", { map { defined($opt->{$_}) ? ($_ => $opt->{$_}) : () } qw(suite storage mirror name keep) });
    my $text = $verb eq 'build' ? "template '" . ($result->{template} // $opt->{name} // '?') . "' is built" : 'templates that nobody uses are removed';
    $run->{print} = sub { print "$text\n" if !$opt->{quiet}; _print_warnings($result) };
    return $result;
}

sub cmd_shift {
    my ($run, $path) = @_;
    my $back = $run->{opt}->{back};
    my $result = _do($run, 'tree.shift', { path => $path, ($back ? (back => JSON::PP::true()) : ()) });
    $run->{print} = sub {
        print "$path has ", ($back ? 'its own numbers again' : 'the numbers of an unprivileged container'), "\n" if !$run->{opt}->{quiet};
        _print_warnings($result);
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
        print _table($entries // []);
    };
    return $doc;
}

sub cmd_resume {
    my ($run, $opid) = @_;
    my $password = _password($run, 0);
    my $result = _signals($run, sub {
        PVE::SMBGateway::Native::resume($opid, secrets => defined($password) ? { password => $password } : undef, on_event => _watcher($run), keep_signal => 1);
    });
    $run->{print} = sub { print "operation $opid is finished\n" if !$run->{opt}->{quiet}; _print_warnings($result) };
    return $result;
}

sub cmd_repair {
    my ($run, $id) = @_;
    my $opt = $run->{opt};
    my $password = _password($run, 0);
    my @restored = $opt->{restore} ? _restore($id) : ();
    my %params = (sections => PVE::SMBGateway::Config::sections(), _gateway($run));
    $params{id} = $id if defined($id);
    $params{$_} = JSON::PP::true() for grep { $opt->{$_} } qw(overwrite restore);
    my $result = _do($run, 'share.repair', \%params, secrets => defined($password) ? { password => $password } : undef);
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
        _print_warnings($result);
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
    my $result = _signals($run, sub {
        PVE::SMBGateway::Worker::reconcile(ids => \@ids, wait => $run->{opt}->{wait}, on_event => _watcher($run), keep_signal => 1);
    });
    $run->{failed} = [map { $_->{error} } grep { ref($_->{error}) eq 'HASH' } @{ $result->{shares} // [] }];
    $run->{print} = sub {
        for my $share (grep { !$_->{error} } @{ $result->{shares} // [] }) {
            my @did = @{ $share->{did} // [] };
            printf("%s: %s%s\n", $share->{id} // '?', $share->{state} // '?', @did ? ' (' . join('; ', @did) . ')' : '') if @did || !$run->{opt}->{quiet};
            _print_warnings($share);
        }
        _print_warnings($result);
    };
    return $result;
}

sub cmd_schema {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('schema');
    $run->{print} = sub {
        my ($data) = @_;
        print "properties:\n", _table([map { { name => $_->{name}, type => $_->{format} // $_->{type}, default => $_->{default} // '', description => $_->{description} } } @{ $data->{properties} // [] }], qw(name type default description));
        print "\noperations:\n", _table([map { { name => $_->{name}, description => $_->{description} } } @{ $data->{operations} // [] }], qw(name description));
    };
    return $doc;
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

# --- text ---------------------------------------------------------------------------------------------------------------

sub _print_warnings {
    my ($result, $said) = @_;
    print STDERR "warning: $_\n" for grep { !$said || !$said->{$_} } @{ (ref($result) eq 'HASH' ? $result->{warnings} : undef) // [] };
    return;
}

sub _cell {
    my ($v) = @_;
    return '' if !defined($v);
    return $v ? 'yes' : 'no' if JSON::PP::is_bool($v);
    return join(', ', map { _cell($_) } @$v) if ref($v) eq 'ARRAY';
    return join(' ', map { "$_=" . _cell($v->{$_}) } sort keys %$v) if ref($v) eq 'HASH';
    $v =~ s/\s+/ /g;
    return $v;
}

# Rows of hashes as columns; the first ones are those people look for.
sub _table {
    my ($rows, @columns) = @_;
    return '' if !@$rows;
    $rows = [map { ref($_) eq 'HASH' ? $_ : { name => $_ } } @$rows];
    if (!@columns) {
        my %seen;
        $seen{$_}++ for map { keys %$_ } @$rows;
        my @first = grep { delete($seen{$_}) } qw(time at id name share state op who actor result path);
        @columns = (@first, sort grep { my $c = $_; !grep { ref($_->{$c}) eq 'HASH' } @$rows } keys %seen);
    }
    my %width = map { $_ => length } @columns;
    for my $row (@$rows) {
        for my $c (@columns) { my $l = length(_cell($row->{$c})); $width{$c} = $l if $l > $width{$c} }
    }
    my $line = sub { join('  ', @_) =~ s/\s+\z//r . "\n" };
    return $line->(map { sprintf("%-*s", $width{$_}, uc($_)) } @columns)
        . join('', map { my $row = $_; $line->(map { sprintf("%-*s", $width{$_}, _cell($row->{$_})) } @columns) } @$rows);
}

sub _tree {
    my ($v, $indent) = @_;
    $indent //= '';
    my $out = '';
    for my $key (sort keys %$v) {
        my $x = $v->{$key};
        if (ref($x) eq 'HASH' && %$x) {
            $out .= "$indent$key:\n" . _tree($x, "$indent  ");
        } elsif (ref($x) eq 'ARRAY' && grep { ref($_) eq 'HASH' } @$x) {
            $out .= "$indent$key:\n";
            $out .= "$indent  - " . _cell($_) . "\n" for @$x;
        } else {
            $out .= "$indent$key: " . _cell($x) . "\n";
        }
    }
    return $out;
}

sub _now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

1;
