# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::RESTEnvironment;

# Stand-in: tasks. A child in its own session whose output is the task's log, under PVE_STANDIN_DIR/tasks; its last line is "TASK OK",
# "TASK WARNINGS: n" or "TASK ERROR: …", as in the original.

use strict;
use warnings;

use IO::Handle ();
use POSIX ();

my ($warnings, $current) = (0);

sub get { return $current // die "environment is not initialized\n" }
sub set { my ($class, $env) = @_; $current = $env; return $env }
sub get_user { return $_[0]->{user} }

sub log_warn {
    my ($text) = @_;
    chomp($text);
    $warnings++;
    print STDERR "WARN: $text\n";
    return;
}

sub fork_worker {
    my ($self, $type, $id, $user, $code) = @_;
    $id //= '';
    die "task type '$type' or id '$id' cannot be part of a UPID\n" if "$type$id" =~ m![:/\s]!;
    my $dir = "$ENV{PVE_STANDIN_DIR}/tasks";
    mkdir($dir);
    local $SIG{TERM} = 'IGNORE';
    pipe(my $ready, my $go) or die "pipe: $!\n";
    my $now = time();
    my $pid = fork() // die "unable to fork worker - $!";
    my $upid = sprintf('UPID:%s:%08X:%08X:%08X:%s:%s:%s:', $ENV{PVE_STANDIN_NODE} // 'box', $pid || $$, 0, $now, $type, $id, $user);
    if ($pid) {
        close($go);
        readline($ready);
        return $upid;
    }
    $SIG{INT} = $SIG{QUIT} = $SIG{TERM} = sub { die "received interrupt\n" };
    $SIG{CHLD} = $SIG{PIPE} = 'DEFAULT';
    POSIX::setsid();
    close($ready);
    open(my $log, '>>', "$dir/$upid") or POSIX::_exit(1);
    open(STDIN, '<', '/dev/null');
    open(STDOUT, '>&', $log);
    open(STDERR, '>&', $log);
    STDOUT->autoflush(1);
    STDERR->autoflush(1);
    close($go);
    my $ok = eval { $code->($upid); 1 };
    my $error = $@;
    chomp($error);
    $error =~ s/\n/ /g;
    print STDOUT $ok ? $warnings ? "TASK WARNINGS: $warnings\n" : "TASK OK\n" : "TASK ERROR: $error\n";
    POSIX::_exit($ok ? 0 : 255);
}

1;
