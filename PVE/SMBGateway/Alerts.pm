# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::Alerts;

# Tells events: to Proxmox's notifications, to the system's log, to a command. It knows the generations of PVE::Notify, syslog and processes;
# it must not know why there is an event, whether it was told before, or when it is tried again (the library keeps that, and gets what came of it).
#
# Each sink fails for itself and has a deadline. After the first failure of a sink its other events are left for the next time, so that a mail
# server that hangs costs one deadline and no event overtakes another.

use strict;
use warnings;

use Errno ();
use Fcntl ();
use JSON::PP ();
use POSIX ();
use Sys::Syslog ();
use Time::HiRes ();

# Where Proxmox's own templates are, and ours.
our $TEMPLATES = '/usr/share/pve-manager/templates/default';
our $TEMPLATE = 'smbgw-alert';

our $LOG_SOCKET = '/dev/log';

# Seconds that one notification, and one line for the log, may take.
our %DEADLINE = (notify => 60, syslog => 5);

my %PRIORITY = (info => 'info', warning => 'warning', critical => 'crit');
my %SEVERITY = (info => 'info', warning => 'warning', critical => 'error');

# Delivers what is due: [{ event => {…}, sinks => ['notify', …] }], oldest first. Returns what came of it, for the library:
# [{ id, sink, sent, untried, absent, why }].
#   command => { argv => [...], deadline => seconds }
#   on_step => sub { }, called between deliveries: it gets on
sub deliver {
    my ($due, %o) = @_;
    my $step = $o{on_step} // sub { };
    my @outcomes;
    my %told = (notify => \&_notify, syslog => \&_syslog, command => sub { my ($events) = @_; return _command($events, $o{command}, $step) });
    for my $sink (qw(syslog notify command)) {
        my @events = map { $_->{event} } grep { my $d = $_; grep { $_ eq $sink } @{ $d->{sinks} } } @$due;
        next if !@events;
        my $results = $told{$sink}->(\@events, $step);
        push @outcomes, map { _outcome($events[$_]->{id}, $sink, $results->[$_]) } 0 .. $#events;
        $step->();
    }
    return \@outcomes;
}

# What came of one: undef is told, { why } failed, { why, absent } there is no such sink, { untried } was left.
sub _outcome {
    my ($id, $sink, $result) = @_;
    my $bool = sub { return $_[0] ? JSON::PP::true() : JSON::PP::false() };
    return {
        id => $id, sink => $sink, sent => $bool->(!$result), untried => $bool->($result && $result->{untried}),
        absent => $bool->($result && $result->{absent}), why => $result ? _line($result->{why} // '') : '',
    };
}

# Each in turn until one fails.
sub _in_turn {
    my ($events, $step, $tell) = @_;
    my ($down, @results);
    for my $event (@$events) {
        if ($down) {
            push @results, { untried => 1 };
            next;
        }
        local $@;
        my $why = eval { $tell->($event); 1 } ? undef : $@;
        $down = defined($why);
        push @results, $down ? { why => $why } : undef;
        $step->();
    }
    return \@results;
}

# --- the system's log ------------------------------------------------------------------------------------------------------

sub _syslog {
    my ($events, $step) = @_;
    my $results = _in_turn($events, $step, sub {
        my ($event) = @_;
        _within($DEADLINE{syslog}, sub {
            # by the socket: the C library's own way never says that nobody listens
            -S $LOG_SOCKET or die "nobody listens at $LOG_SOCKET\n";
            Sys::Syslog::setlogsock({ type => 'unix', path => $LOG_SOCKET }) or die "nobody listens at $LOG_SOCKET\n";
            Sys::Syslog::openlog('smbgw', 'nofatal,ndelay', 'daemon') or die "nobody listens at $LOG_SOCKET\n";
            Sys::Syslog::syslog($event->{event} eq 'clear' ? 'notice' : $PRIORITY{ $event->{severity} }, '%s', _log_line($event)) or die "nobody listens at $LOG_SOCKET\n";
        });
    });
    eval { Sys::Syslog::closelog() };
    return $results;
}

# Words first, so that it can be searched; then what a person reads.
sub _log_line {
    my ($event) = @_;
    my $text = "alert $event->{event} code=$event->{code} severity=$event->{severity} $event->{scope}=$event->{object} id=$event->{id}: $event->{text}";
    utf8::encode($text);
    return _line($text);
}

# --- Proxmox's notifications -----------------------------------------------------------------------------------------------

# Which of its ways PVE::Notify goes:
#   absent   it is not here (plain Debian)
#   target   8.0: a target is named, title and message are templates
#   text     8.1: matchers choose the target; title and message are templates
#   named    since pve-cluster 8.0.7 (8.2): templates are files, named by the caller
# The last two cannot be told apart by what the module offers, until 8.4 added common_template_data. But libpve-notify-perl of the new way breaks
# the pve-manager from before its own templates were files; so where those are, it is the new one.
sub generation {
    local $@;
    return 'absent' if !eval { require PVE::Notify; PVE::Notify->can('notify') };
    return 'target' if PVE::Notify->can('default_target');
    return PVE::Notify->can('common_template_data') || -e "$TEMPLATES/vzdump-subject.txt.hbs" ? 'named' : 'text';
}

# In a child: what sends mail or asks a web service is native code, which no signal handler of Perl interrupts.
sub _notify {
    my ($events, $step) = @_;
    my $generation = generation();
    return [map { { absent => 1, why => 'this machine has no PVE::Notify' } } @$events] if $generation eq 'absent';
    return _in_turn($events, $step, sub {
        my ($event) = @_;
        pipe(my $read, my $write) or die "no pipe: $!\n";
        my $pid = fork() // die "cannot fork: $!\n";
        if (!$pid) {
            $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP CHLD ALRM);
            my $why = eval { close($read); notify($event, $generation); 1 } ? '' : "$@" || 'it failed without a word';
            utf8::encode($why) if utf8::is_utf8($why);
            syswrite($write, substr($why, 0, 4096)) if $why ne '';
            # no END block, no destructor
            POSIX::_exit($why eq '' ? 0 : 1);
        }
        close($write);
        my ($status, $said) = _await($pid, $DEADLINE{notify}, $step, $read);
        utf8::decode($said);
        die "no answer within $DEADLINE{notify} s\n" if !defined($status);
        die(($said ne '' ? $said : 'it ended by ' . _how($status)) . "\n") if $status != 0;
    });
}

# One event, by a generation of PVE::Notify. Dies if it does not take it. (It takes it when a target is away: that it writes to the log itself.)
sub notify {
    my ($event, $generation) = @_;
    my $severity = $event->{event} eq 'clear' ? 'notice' : $SEVERITY{ $event->{severity} };
    # numbers stay numbers: a helper of the templates makes a time of them
    my %data = (
        (map { $_ => defined($event->{$_}) ? "$event->{$_}" : '' } qw(id event code severity scope object node value threshold unit title text means remedy)),
        (map { $_ => int($event->{$_} / 1000) } qw(at since)),
        active => $event->{event} eq 'clear' ? 0 : 1,
    );
    # what matchers choose by
    my %fields = (type => $TEMPLATE, hostname => "$event->{node}", map { $_ => "$event->{$_}" } qw(code event scope object));
    if (PVE::Cluster->can('cfs_update')) {
        # otherwise a process that lives long has the targets of its first days
        PVE::Cluster::cfs_update(1);
    }
    if ($generation eq 'named') {
        -e "$TEMPLATES/$TEMPLATE-subject.txt.hbs" or die "the template $TEMPLATES/$TEMPLATE-subject.txt.hbs is missing: install pve-smbgateway again\n";
        my $common = PVE::Notify->can('common_template_data') ? PVE::Notify::common_template_data() : {};
        PVE::Notify::notify($severity, $TEMPLATE, { %$common, %data }, \%fields);
        return;
    }
    # Here the caller hands the templates over. They are the same files, so nothing of an event is ever read as a template.
    my ($title, $message) = map { _template("$TEMPLATE-$_.txt.hbs") } qw(subject body);
    $title =~ s/\s+\z//;
    return PVE::Notify::notify($severity, $title, $message, \%data, \%fields) if $generation eq 'text';
    return PVE::Notify::notify(PVE::Notify::default_target(), $severity, $title, $message, \%data);
}

sub _template {
    my ($name) = @_;
    open(my $fh, '<:raw:encoding(UTF-8)', "$TEMPLATES/$name") or die "cannot read the template $TEMPLATES/$name: $!\n";
    local $/;
    return scalar(<$fh>);
}

# --- a command -------------------------------------------------------------------------------------------------------------

sub _command {
    my ($events, $command, $step) = @_;
    my @argv = @{ ($command // {})->{argv} // [] };
    return [map { { absent => 1, why => 'no command is set' } } @$events] if !@argv;
    return _in_turn($events, $step, sub {
        my ($event) = @_;
        my $text = JSON::PP->new->canonical->utf8->encode($event) . "\n";
        local $SIG{PIPE} = 'IGNORE';
        pipe(my $in, my $to) or die "no pipe: $!\n";
        pipe(my $from, my $err) or die "no pipe: $!\n";
        my $pid = fork() // die "cannot fork: $!\n";
        if (!$pid) {
            # a group of its own, so that its children end with it
            POSIX::setsid();
            $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP CHLD ALRM PIPE);
            open(my $null, '>', '/dev/null') or POSIX::_exit(126);
            POSIX::dup2(fileno($in), 0);
            POSIX::dup2(fileno($null), 1);
            POSIX::dup2(fileno($err), 2);
            %ENV = (PATH => '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL => 'C.UTF-8');
            no warnings 'exec';
            exec { $argv[0] } @argv or do { syswrite(STDERR, "cannot start $argv[0]: $!\n"); POSIX::_exit(127) };
        }
        close($_) for $in, $err;
        my $deadline = $command->{deadline} // 10;
        my ($status, $said) = _await($pid, $deadline, $step, $from, $to, $text);
        utf8::decode($said);
        die "$argv[0] took longer than $deadline s and was ended\n" if !defined($status);
        die "$argv[0] ended by " . _how($status) . ($said =~ m/\S/ ? ": $said" : '') . "\n" if $status != 0;
    });
}

# --- processes and time ----------------------------------------------------------------------------------------------------

# Awaits a child of ours: (status, the end of what it said); past its deadline it is ended, and the status is undef. Meanwhile it gets its text.
sub _await {
    my ($pid, $seconds, $step, $read, $write, $text) = @_;
    my $end = _now() + $seconds;
    my $said = '';
    for my $fh (grep { $_ } $read, $write) {
        fcntl($fh, Fcntl::F_SETFL(), Fcntl::O_NONBLOCK() | (fcntl($fh, Fcntl::F_GETFL(), 0) || 0));
    }
    my $status;
    while (1) {
        my ($in, $out) = ('', '');
        vec($in, fileno($read), 1) = 1 if $read;
        vec($out, fileno($write), 1) = 1 if $write;
        select($in, $out, undef, 0.05);
        if ($write) {
            my $n = syswrite($write, $text);
            $text = substr($text, $n) if $n;
            # whoever does not want to know it all may close it
            if ($text eq '' || !defined($n) && !($!{EAGAIN} || $!{EINTR})) { close($write); undef $write }
        }
        if ($read) {
            my $n = sysread($read, my $some, 4096);
            if ($n) { $said = substr($said . $some, -4096) }
            elsif (defined($n) || !($!{EAGAIN} || $!{EINTR})) { close($read); undef $read }
        }
        my $gone = waitpid($pid, POSIX::WNOHANG());
        if ($gone != 0) {
            $status = $gone == $pid ? $? : 255 << 8;
            last;
        }
        last if _now() > $end;
        $step->();
    }
    if (!defined($status)) {
        # its group, where it has one
        kill('KILL', -$pid);
        kill('KILL', $pid);
        # one that waits in the kernel for a dead mount is not waited for
        for (1 .. 20) { last if waitpid($pid, POSIX::WNOHANG()) != 0; select(undef, undef, undef, 0.05) }
        return (undef, $said);
    }
    if ($read) {
        my $n = sysread($read, my $some, 4096);
        $said .= $some if $n;
    }
    return ($status, $said);
}

sub _how { my ($status) = @_; return $status & 127 ? 'signal ' . ($status & 127) : 'status ' . ($status >> 8) }

# Code of Perl within a time; an alarm of the caller goes on afterwards.
sub _within {
    my ($seconds, $code) = @_;
    my $began = _now();
    my $before = alarm(0);
    my $ok = eval {
        local $SIG{ALRM} = sub { die "no answer within $seconds s\n" };
        alarm($seconds);
        $code->();
        alarm(0);
        1;
    };
    my $why = $@;
    alarm(0);
    if ($before) {
        my $left = $before - int(_now() - $began);
        alarm($left > 0 ? $left : 1);
    }
    die $why if !$ok;
    return;
}

sub _now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

sub _line { my ($text) = @_; $text =~ s/\s+\z//; $text =~ s/\s*[\r\n]+\s*/; /g; return $text }

1;
