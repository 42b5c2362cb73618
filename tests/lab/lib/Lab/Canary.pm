# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Canary;

# Watches a box for a secret: every execve of a call is recorded with arguments and environment in full, and all processes of the
# box are looked at again and again. It knows strace and /proc. It must not know the product, nor where files may hold the secret.
#
#     Lab::Canary::ready();                             # before or in the box: skips the file where there is no strace
#     my $canary = Lab::Canary::watch('Kanarienvogel'); # the part that all secrets of the test have in common
#     call(wrap => [$canary->recorder()]);
#     $canary->heard('create', $output);
#     $canary->silent(@secrets);                        # results of the test: nothing was seen, and what would have been seen is
#
# Secrets are ASCII without anything that strace would escape.

use strict;
use warnings;

use IO::Handle ();
use POSIX ();
use Test::More;
use Time::HiRes ();

use Lab::Box;

my $TRACE = '/run/lab/execve';
my $SEEN = '/run/lab/seen';

sub ready {
    Lab::Box::skip_all("'strace' is not installed") if !defined(Lab::Box::which('strace'));
    return;
}

# Begins to look at the processes, every so many seconds.
sub watch {
    my ($stem, %o) = @_;
    my $self = bless({ stem => $stem, calls => 0, heard => [] }, 'Lab::Canary');
    Lab::Box::spew($SEEN, '');
    $self->{sampler} = fork() // die "cannot fork: $!\n";
    return $self if $self->{sampler};
    open(my $fh, '>>', $SEEN) or POSIX::_exit(1);
    $fh->autoflush(1);
    while (getppid() != 1) {
        for my $dir (glob('/proc/[0-9]*')) {
            for my $part (qw(cmdline environ comm)) {
                my $text = Lab::Box::slurp("$dir/$part");
                print {$fh} "$dir/$part: $text\n" if index($text, $stem) >= 0;
            }
        }
        Time::HiRes::sleep($o{pause} // 0.02);
    }
    POSIX::_exit(0);
}

# The words before a command that record every execve of it and its children. The tracer runs aside (-D): it stays with a daemon
# that the command starts.
sub recorder { my ($self) = @_; return _recorder($self->{calls}++) }

sub _recorder { my ($name) = @_; return ('strace', '-D', '-f', '--seccomp-bpf', '-v', '-s', '65536', '-o', "$TRACE.$name", '-e', 'trace=execve') }

# Remembers what a command printed.
sub heard { my ($self, $name, $text) = @_; push @{ $self->{heard} }, [$name, $text]; return }

# Everything that was recorded, and everything that was printed.
sub recorded { return join('', map { Lab::Box::slurp($_) } glob("$TRACE.*")) }
sub printed { my ($self) = @_; return join('', map { $_->[1] } @{ $self->{heard} }) }

# Ends the watch. A control goes first, which both must catch.
sub silent {
    my ($self, @secrets) = @_;
    my $control = "$self->{stem}-Kontrolle";
    Lab::Box::run([_recorder('control'), 'env', "CONTROL=$control", 'sleep', '0.3']);
    ok(Lab::Box::until_true(sub { index(Lab::Box::slurp("$TRACE.control"), $control) >= 0 }), 'control: the recorder sees argument lists and environments');
    ok(Lab::Box::until_true(sub { index(Lab::Box::slurp($SEEN), $control) >= 0 }), 'control: the sampler does');
    unlink("$TRACE.control");
    kill('KILL', $self->{sampler});
    waitpid($self->{sampler}, 0);
    my $execve = $self->recorded();
    for my $secret (@secrets) {
        is_deeply([grep { index($_, $secret) >= 0 } split(/\n/, $execve)], [], 'in no argument list and no environment');
        is_deeply([map { $_->[0] } grep { index($_->[1], $secret) >= 0 } @{ $self->{heard} }], [], 'no command printed it');
    }
    is(join('', grep { index($_, $control) < 0 } split(/^/m, Lab::Box::slurp($SEEN))), '', 'never seen in /proc');
    return;
}

1;
