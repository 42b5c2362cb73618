# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::Native;

# The only user of the XS module SMBGW. It loads it on first use, remembers why that failed, keeps one context per process,
# drives runs to their end within a deadline, and turns every failure into a PVE::SMBGateway::Error. It must not know
# Proxmox, storage.cfg or how anything is shown.
#
# Nothing happens at load time: a daemon loads this file in its parent and forks afterwards.

use strict;
use warnings;

use Errno ();
use Time::HiRes ();

use PVE::SMBGateway::Error;

# A file with context options (JSON), for machines that keep state in other places. Absent on an ordinary node.
our $OPTIONS_FILE = '/etc/smbgw/options.json';

# Options of the next context; a program may set them before the first call (`node`, directories; see smbgw.h).
our %OPTIONS;

# Called with each event of each run, if set: how a command shows steps that happen inside a storage hook.
our $ON_EVENT;

# Called with operation and result of each run that succeeds, if set: how a command learns what a storage hook was told.
our $ON_RESULT;

# The signal that came when a run had nothing left to do: for whoever meant to go on after it.
our $LATE;

my $loaded;    # undef = not tried, 1 = usable, 0 = not
my $why;       # then: the sentence
my ($context, $context_pid);

# Loads the XS module once. Returns 1, or 0 with `why()` telling the reason.
sub usable {
    return $loaded if defined($loaded);
    local $@;
    local $SIG{__DIE__} = 'DEFAULT';
    local $SIG{__WARN__} = sub { };    # the dynamic loader's complaint arrives as the exception as well
    $loaded = eval { require SMBGW; SMBGW->can('version') && SMBGW::Context->can('new') ? 1 : die "SMBGW is incomplete\n" } ? 1 : 0;
    if (!$loaded) {
        my $text = "$@";
        # keep what matters of "Can't load '…' for module SMBGW: … at …/DynaLoader.pm line N."
        $text =~ s/ at \S+ line \d+\.?.*//s;
        $text =~ s/\s+\(you may need to install.*//s;
        $text =~ s/\s+\z//;
        $why = $text;
    }
    return $loaded;
}

sub why { usable(); return $why }

# The context of this process. A context that came along through fork() is dropped, not used.
sub context {
    return $context if defined($context) && $context_pid == $$;
    usable()
        or PVE::SMBGateway::Error->throw(
            'unsupported',
            "the SMB gateway library cannot be used: $why",
            remedy => 'install or repair the smbgw packages on this node (libsmbgw0, libsmbgw-perl), then reload the daemons',
        );
    my %options = (_options_from_file(), %OPTIONS);
    $context = undef;
    $context = _guard(sub { SMBGW::Context->new(\%options) });
    $context_pid = $$;
    return $context;
}

# Whether this process has a context that it can use.
sub has_context { return defined($context) && $context_pid == $$ ? 1 : 0 }

# Forgets the context (tests; a command after its options changed).
sub reset { ($context, $context_pid) = (); return }

sub _options_from_file {
    my $file = $OPTIONS_FILE;
    $file = $1 if !${^TAINT} && ($ENV{SMBGW_OPTIONS} // '') =~ m!\A(/.+)\z!s;
    open(my $fh, '<:raw', $file) or do {
        return if $!{ENOENT} || $!{EACCES};
        PVE::SMBGateway::Error->throw('io', "cannot read '$file': $!");
    };
    local $/;
    my $raw = <$fh>;
    require JSON::PP;
    my $doc = eval { JSON::PP->new->utf8->decode($raw) };
    PVE::SMBGateway::Error->throw('invalid', "'$file' is not a JSON object", remedy => "correct or remove $file")
        if ref($doc) ne 'HASH';
    return %$doc;
}

# Where snapshots, locks and the agent's sign of life are. It does not need the library.
sub run_dir { my %options = (_options_from_file(), %OPTIONS); return $options{'run-dir'} // '/run/smbgw' }

sub version { return usable() ? SMBGW::version() : undef }

# Any query of the operations table; returns the decoded document.
sub query {
    my ($op, $params) = @_;
    my $ctx = context();
    return _guard(sub { $ctx->query($op, $params // {}) });
}

# The hot path: (total, avail, used, active, age in ms, limit, lag in ms). No child, network or lock in it.
sub usage {
    my ($id) = @_;
    my $ctx = context();
    my @numbers = eval { $ctx->usage($id) };
    die _error($@) if !@numbers;
    return @numbers;
}

# Runs an operation to its end and returns its result.
#   secrets  => { name => octets }
#   deadline => seconds after which the run is undone; a quarter of them is kept for the undoing, after which the run is
#               left interrupted for the worker. Without it the run takes the time it takes.
#   on_event => sub { my ($event) = @_ }
#   on_step  => sub { }, called after each step, which takes about a second at most: it gets on
sub run {
    my ($op, $params, %o) = @_;
    my $ctx = context();
    my $result = _drive(sub { $ctx->begin($op, $params) }, $op, %o);
    $ON_RESULT->($op, $result) if $ON_RESULT;
    return $result;
}

# The same for an operation that was interrupted.
sub resume {
    my ($opid, %o) = @_;
    my $ctx = context();
    return _drive(sub { $ctx->resume($opid) }, "resume $opid", %o);
}

sub _now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

sub _drive {
    my ($begin, $what, %o) = @_;

    my $hard = defined($o{deadline}) ? _now() + $o{deadline} : undef;
    my $soft = defined($o{deadline}) ? _now() + $o{deadline} * 0.75 : undef;
    my @sinks = grep { $_ } ($o{on_event}, $ON_EVENT);

    # A signal must leave a journal that says so. It is delivered again once the run is put down.
    my $signal;
    my ($result, $error, $foreign);
    {
        local $SIG{TERM} = sub { $signal //= 'TERM' };
        local $SIG{INT} = sub { $signal //= 'INT' };
        local $SIG{HUP} = sub { $signal //= 'HUP' };

        my $run;
        my $late;
        my $ok = eval {
            $run = $begin->();
            my $secrets = $o{secrets} // {};
            $run->secret($_, $secrets->{$_}) for sort keys %$secrets;

            while (1) {
                my $step = $run->step();
                $o{on_step}->() if $o{on_step};
                for my $event (@{ $step->{events} // [] }) {
                    $_->($event) for @sinks;
                }
                # after unwind() 'done' only says that there is nothing left to take back
                if ($step->{state} eq 'done' && !$late) {
                    $result = ref($step->{result}) eq 'HASH' ? $step->{result} : {};
                    last;
                }
                last if $step->{state} eq 'done';
                if ($step->{state} eq 'failed') {
                    $error = _error($step->{error});
                    last;
                }
                if ($signal) {
                    $run->interrupt();
                    $error = PVE::SMBGateway::Error->new('interrupted', "$what was interrupted by SIG$signal",
                        remedy => "it is continued or undone by 'pve-smbgateway reconcile'");
                    last;
                }
                next if !defined($hard);
                my $now = _now();
                if (!$late && $now > $soft) {
                    $late = 1;
                    $run->unwind();
                } elsif ($late && $now > $hard) {
                    $run->interrupt();
                    $late = 2;
                    last;
                }
            }
            1;
        };
        if (!$ok) {
            $foreign = $@;    # also an alarm of the cluster lock: it dies out of step()
            eval { $run->interrupt() if $run };
        }
        if ($late && !defined($result)) {
            my $cause = $error ? ' (' . $error->message() . ')' : '';
            $error = PVE::SMBGateway::Error->new(
                $late == 2 ? 'interrupted' : 'timeout',
                $late == 2
                ? "$what did not end within $o{deadline} s and could not be undone in that time"
                : "$what did not end within $o{deadline} s and was undone$cause",
                remedy => $late == 2
                ? "the worker undoes the rest; 'pve-smbgateway reconcile' does it now"
                : 'look for a slow or hanging service, then try again',
            );
            $foreign = undef;
        }
    }
    if ($signal && defined($result)) { $LATE = $signal }
    elsif ($signal && !$o{keep_signal}) { kill($signal, $$) }
    die(ref($foreign) || $foreign =~ /SMBGW/ ? _error($foreign) : $foreign) if defined($foreign);
    die $error if defined($error);
    return $result;
}

sub _guard {
    my ($code) = @_;
    local $@;
    my ($value, $error);
    if (!eval { $value = $code->(); 1 }) { $error = _error($@) }
    die $error if defined($error);
    return $value;
}

# SMBGW::Error -> ours.
sub _error {
    my ($err) = @_;
    return PVE::SMBGateway::Error->new('internal', 'the library failed without saying why') if !defined($err) || $err eq '';
    return PVE::SMBGateway::Error->from($err) if !ref($err) || !eval { $err->isa('SMBGW::Error') };
    my $get = sub { my ($n) = @_; return $err->can($n) ? $err->$n() : $err->{$n} };
    my $detail = $get->('detail');
    if (defined($detail) && !ref($detail)) {
        require JSON::PP;
        $detail = eval { JSON::PP->new->decode($detail) };
    }
    my %problems;
    for my $p (@{ (ref($detail) eq 'HASH' ? $detail->{problems} : undef) // [] }) {
        next if !defined($p->{property});
        my $old = $problems{ $p->{property} };
        $problems{ $p->{property} } = defined($old) ? "$old; $p->{message}" : $p->{message};
    }
    my $message = $get->('message');
    $message =~ s/\s+\z//;
    return PVE::SMBGateway::Error->new(
        $get->('kind') // 'internal', $message,
        code => $get->('code'),
        remedy => $get->('remedy'),
        problems => \%problems,
        detail => $detail,
    );
}

1;
