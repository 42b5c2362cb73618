# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::CLI::Work;

# How a command has the library do something: its steps shown, its signals minded, its secrets fetched from where nobody else sees them.
# It must not know which operation that is.

use strict;
use warnings;

use Exporter qw(import);
use Fcntl ();
use POSIX ();

use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;
use PVE::SMBGateway::Progress;

our @EXPORT_OK = qw(watcher run_op with_signals password secret_file password_file usage_error actor read_file);

# When the command began, on the monotonic clock.
our $STARTED = 0;

# Wrong usage; whoever knows the commands adds how the named one is used.
sub usage_error {
    my ($message, $command) = @_;
    PVE::SMBGateway::Error->throw('usage', $message, command => $command);
}

# A password that a document names by its file: one line, and nobody else may read it.
sub password_file {
    my ($path) = @_;
    my $wrong = sub { PVE::SMBGateway::Error->throw('invalid', "'$path' $_[0]", remedy => $_[1] // "make it a file of yours with mode 0600 and one line: 'chmod 600 $path'") };
    $wrong->('is not an absolute path') if $path !~ m!\A/!;
    my $octets = $path;
    utf8::encode($octets);
    sysopen(my $fh, $octets, Fcntl::O_RDONLY() | Fcntl::O_NOFOLLOW() | Fcntl::O_NONBLOCK()) or $wrong->("cannot be read: $!");
    my @st = stat($fh);
    $wrong->('is no regular file') if !-f _;
    $wrong->('can be read by others than you') if $st[2] & 0077;
    $wrong->('belongs to somebody else') if $st[4] != $> && $st[4] != 0;
    binmode($fh, ':raw');
    my $line = readline($fh) // '';
    $line =~ s/\r?\n\z//;
    $wrong->('is empty') if $line eq '';
    return $line;
}

# Shows the events of a run: on standard output as text, on standard error beside JSON, or not at all.
sub watcher {
    my ($run) = @_;
    return undef if $run->{opt}->{quiet};
    my $out = $run->{format} eq 'text' ? \*STDOUT : \*STDERR;
    return undef if $run->{format} ne 'text' && !-t STDERR;
    return PVE::SMBGateway::Progress::lines(sub { print {$out} $_[0] }, $STARTED);
}

# A run of the library with signals, steps and secrets wired up. After TERM or INT the run is interrupted and we end by the signal.
sub run_op {
    my ($run, $op, $params, %o) = @_;
    return with_signals($run, sub {
        PVE::SMBGateway::Native::run($op, { %$params, actor => actor(), %{ $o{extra} // {} } }, secrets => $o{secrets}, on_event => watcher($run), keep_signal => 1);
    });
}

sub with_signals {
    my ($run, $code) = @_;
    my $result = eval { $code->() };
    return $result if defined($result);
    my $error = PVE::SMBGateway::Error->from($@);
    $run->{signal} = $1 if $error->kind() eq 'interrupted' && $error->message() =~ m/by SIG(TERM|INT|HUP)\b/;
    die $error;
}

# Who asks.
sub actor {
    return 'root@pam' if $> == 0 && !$ENV{SUDO_USER};
    my $name = $ENV{SUDO_USER} // getpwuid($<) // $<;
    return "$name\@pam";
}

# The secret of a command: one line of standard input, or a question on a terminal. undef if none was offered.
sub password {
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

# A file with a ticket or a blob, both as good as a password.
sub secret_file {
    my ($path) = @_;
    open(my $fh, '<:raw', $path) or PVE::SMBGateway::Error->throw('invalid', "cannot read '$path': $!");
    my @st = stat($fh);
    warn "others can read '$path', which is as good as a password: remove it when it was used\n" if $st[2] & 0077;
    local $/;
    return readline($fh) // '';
}

# A file as it is; '-' is standard input.
sub read_file {
    my ($file) = @_;
    my $fh;
    if ($file eq '-') {
        $fh = \*STDIN;
        binmode($fh, ':raw');
    } else {
        open($fh, '<:raw', PVE::SMBGateway::Config::octets($file)) or PVE::SMBGateway::Error->throw('invalid', "cannot read '$file': $!");
    }
    local $/;
    my $octets = readline($fh);
    PVE::SMBGateway::Error->throw('invalid', "cannot read '$file': $!") if !defined($octets) && $!;
    return $octets // '';
}

1;
