# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Smb;

# Samba in a box: the server as Debian leaves it, foreign shares beside ours, real clients, sessions that are held open. It
# must not know the product.

use strict;
use warnings;
no warnings 'exec';    # what follows an exec is there for its failure

use IO::Handle;
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

use Lab::Box;

use constant CONF => '/etc/samba/smb.conf';

# What is needed and not there: a sentence for skip_all, or undef.
sub missing {
    for my $program (qw(smbd smbclient testparm smbpasswd pdbedit smbcontrol smbstatus)) {
        return "Samba's '$program' is not installed" if !defined(Lab::Box::which($program));
    }
    return undef;
}

# Samba's files as a fresh installation has them.
sub fresh {
    my $stock = Lab::Box::slurp('/usr/share/samba/smb.conf') || die "no stock smb.conf in /usr/share/samba\n";
    Lab::Box::spew(CONF, $stock, 0644);
    unlink('/etc/samba/smbgw.conf');
    for my $dir (qw(/var/lib/samba/private /var/lib/samba/printers /var/lib/samba/usershares /var/log/samba)) {
        mkdir($dir, 0755);
    }
    return;
}

# Adds foreign lines: to [global] behind its first line, and stanzas at the end.
sub foreign {
    my ($global, $stanzas) = @_;
    my $text = Lab::Box::slurp(CONF);
    $text =~ s/^(\[global\]\n)/$1$global/m if defined($global);
    $text .= $stanzas if defined($stanzas);
    Lab::Box::spew(CONF, $text, 0644);
    return;
}

# --- server -----------------------------------------------------------------------------------------------------------

sub pid {
    my ($pid) = Lab::Box::slurp('/run/samba/smbd.pid') =~ m/(\d+)/ or return undef;
    return -d "/proc/$pid" ? $pid : undef;
}

# winbindd's, of the box itself: a domain controller has one of its own.
sub winbindd_pid {
    my ($pid) = Lab::Box::slurp('/run/samba/winbindd.pid') =~ m/(\d+)/ or return undef;
    return Lab::Box::slurp("/proc/$pid/comm") =~ m/\Awinbindd/ ? $pid : undef;
}

sub listening {
    my $tcp = Lab::Box::slurp('/proc/net/tcp') . Lab::Box::slurp('/proc/net/tcp6');
    return $tcp =~ m/:01BD 0+:0000 0A/ ? 1 : 0;
}

sub start {
    my $r = Lab::Box::run(['/usr/sbin/smbd', '-D']);
    Lab::Box::until_true(sub { pid() && listening() }) or die "smbd does not come up: $r->{all}" . Lab::Box::slurp('/var/log/samba/log.smbd');
    return pid();
}

sub stop {
    my $pid = pid() or return;
    Lab::Box::stop($pid);
    Lab::Box::until_true(sub { !listening() }) or die "smbd does not end\n";
    return;
}

# The effective configuration: section => { parameter => value } as testparm shows it; the path of a configuration is optional.
sub effective {
    my ($file) = @_;
    my $r = Lab::Box::run(['testparm', '-s', $file // CONF]);
    my (%conf, $section);
    for my $line (split(/\n/, $r->{out})) {
        if ($line =~ m/\A\[(.*)\]\z/) { $conf{ $section = $1 } //= {} }
        elsif ($line =~ m/\A\t([^=]+?) = ?(.*)\z/ && defined($section)) { $conf{$section}->{$1} = $2 }
    }
    return \%conf;
}

# The effective value of one parameter; a section may be named.
sub parameter {
    my ($name, $section) = @_;
    my $r = Lab::Box::run(['testparm', '-s', "--parameter-name=$name", defined($section) ? "--section-name=$section" : ()]);
    chomp(my $value = $r->{out});
    return $value;
}

# Sessions of a user, or all: [ { session_id, pid, username, dialect, encryption, signing } ].
sub sessions {
    my ($user) = @_;
    my $r = Lab::Box::run(['smbstatus', '-p', '-j']);
    my $doc = eval { JSON::PP::decode_json($r->{out}) } // {};
    my @s = map { { session_id => $_->{session_id}, pid => $_->{server_id}->{pid}, username => $_->{username}, dialect => $_->{session_dialect}, encryption => $_->{encryption}->{degree}, signing => $_->{signing}->{degree} } } values %{ $doc->{sessions} // {} };
    return [grep { !defined($user) || $_->{username} eq $user } @s];
}

# Accounts in Samba's database: name => { uid, hash, flags, rid }.
sub accounts {
    my %a;
    for my $line (split(/\n/, Lab::Box::run(['pdbedit', '-L', '-w'])->{out})) {
        my ($name, $uid, undef, $hash, $flags) = split(/:/, $line);
        $a{$name} = { uid => $uid, hash => $hash, flags => ($flags // '') =~ tr/[] //dr };
    }
    my $name;
    for my $line (split(/\n/, Lab::Box::run(['pdbedit', '-L', '-v'])->{out})) {
        $name = $1 if $line =~ m/\AUnix username:\s*(.*?)\s*\z/;
        $a{$name}->{rid} = $1 if $line =~ m/\AUser SID:.*-(\d+)\s*\z/ && defined($name);
    }
    return \%a;
}

# Stored share permissions: lower-cased share name => present.
sub share_permissions {
    return {} if !-e '/var/lib/samba/share_info.tdb' || !defined(Lab::Box::which('tdbdump'));
    my $r = Lab::Box::run(['tdbdump', '/var/lib/samba/share_info.tdb']);
    return { map { $_ => 1 } $r->{out} =~ m/"SECDESC\/(.*)\\00"/g };
}

# --- clients ----------------------------------------------------------------------------------------------------------

my $serial = 0;

sub _credentials {
    my ($user, $password) = @_;
    my $file = "/run/lab/credentials.$$." . $serial++;
    Lab::Box::spew($file, "username = $user\npassword = $password\n", 0600);
    return $file;
}

# One visit by smbclient: { ok, status: 'OK' or the first NT_STATUS_… word, out }. smbclient's exit status is not dependable,
# so its words count. Options: protocol, extra => [words], dir => local directory.
sub client {
    my ($user, $password, $share, $commands, %o) = @_;
    my @who = defined($user) ? ('-A', my $file = _credentials($user, $password)) : ('-N');
    my @protocol = defined($o{protocol}) ? ('-m', $o{protocol}, '--option=client min protocol=NT1') : ('-m', 'SMB3_11');
    my $r = Lab::Box::run(['smbclient', '-s', '/dev/null', "//127.0.0.1/$share", @who, @protocol, @{ $o{extra} // [] }, '-c', $commands], timeout => $o{timeout} // 20);
    unlink($file) if defined($file);
    my ($status) = $r->{all} =~ m/(NT_STATUS_\w+)/;
    $status //= defined($r->{rc}) && $r->{rc} == 0 ? 'OK' : 'FAILED';
    return { ok => $status eq 'OK' ? 1 : 0, status => $status, out => $r->{all} =~ s/\r//gr, ms => $r->{ms}, rc => $r->{rc} };
}

# Writes a file with this text, fetches it again, and compares. Returns 'OK', or what was said.
sub round_trip {
    my ($user, $password, $share, $name, $text) = @_;
    my ($from, $to) = map { "/run/lab/trip.$$." . $serial++ } 1, 2;
    Lab::Box::spew($from, $text, 0600);
    my $r = client($user, $password, $share, "put $from $name; get $name $to");
    my $back = Lab::Box::slurp($to);
    utf8::encode($text) if utf8::is_utf8($text);
    unlink($from, $to);
    return $r->{status} if !$r->{ok};
    return $back eq $text ? 'OK' : 'what comes back is not what was sent';
}

# A ticket of Kerberos, in a cache that by_ticket() takes; dies with what kinit said. The principal has its realm.
sub ticket {
    my ($principal, $password) = @_;
    my $cache = "FILE:/run/lab/ticket.$$." . $serial++;
    my $r = Lab::Box::run(['kinit', '-c', $cache, $principal], stdin => "$password\n");
    die "no ticket for $principal: $r->{all}\n" if !defined($r->{rc}) || $r->{rc} != 0;
    return $cache;
}

# One visit with a ticket, as client(). The server is called by the name that the ticket is for, and found at the address.
sub by_ticket {
    my ($cache, $host, $share, $commands, %o) = @_;
    # only the option keeps it from asking for a password, only the variable makes it use the ticket
    my @kerberos = ('--use-kerberos=required', "--use-krb5-ccache=$cache");
    my $r = Lab::Box::run(['smbclient', '-s', '/dev/null', @kerberos, '-I', $o{address} // '127.0.0.1', "//$host/$share", '-m', 'SMB3_11', '-c', $commands], env => { KRB5CCNAME => $cache }, timeout => $o{timeout} // 20);
    my ($status) = $r->{all} =~ m/(NT_STATUS_\w+)/;
    $status //= defined($r->{rc}) && $r->{rc} == 0 ? 'OK' : 'FAILED';
    return { ok => $status eq 'OK' ? 1 : 0, status => $status, out => $r->{all} =~ s/\r//gr, ms => $r->{ms}, rc => $r->{rc} };
}

sub put {
    my ($user, $password, $share, $name, $text) = @_;
    my $from = "/run/lab/put.$$." . $serial++;
    Lab::Box::spew($from, $text // "hello\n", 0600);
    my $r = client($user, $password, $share, "put $from $name");
    unlink($from);
    return $r->{status};
}

sub get {
    my ($user, $password, $share, $name) = @_;
    my $to = "/run/lab/get.$$." . $serial++;
    my $r = client($user, $password, $share, "get $name $to");
    my $text = Lab::Box::slurp($to);
    unlink($to);
    return $r->{ok} ? $text : $r->{status};
}

# The share names a user is shown; { name => type } or a status.
sub listing {
    my ($user, $password) = @_;
    my $file = _credentials($user, $password);
    my $r = Lab::Box::run(['smbclient', '-s', '/dev/null', '-g', '-L', '127.0.0.1', '-A', $file]);
    unlink($file);
    return { map { m/\A(Disk|IPC|Printer)\|([^|]*)\|/ ? ($2 => $1) : () } split(/\n/, $r->{out}) };
}

# Adds an entry to a file's access list by smbcacls: 'OK' or the status.
sub add_acl {
    my ($user, $password, $share, $path, $entry) = @_;
    my $file = _credentials($user, $password);
    my $r = Lab::Box::run(['smbcacls', '-s', '/dev/null', "//127.0.0.1/$share", $path, '-A', $file, '-a', $entry]);
    unlink($file);
    return 'OK' if defined($r->{rc}) && $r->{rc} == 0;
    return $r->{all} =~ m/(NT_STATUS_\w+)/ ? $1 : "FAILED: $r->{all}";
}

# --- a session that looks into one share after the other -----------------------------------------------------------------

# Logs in to a share, and returns an object that asks for others on the same connection: what its smbd knows, not what the files say.
sub visit {
    my ($user, $password, $share) = @_;
    my $credentials = _credentials($user, $password);
    pipe(my $in, my $to) && pipe(my $from, my $out) or die "pipe: $!\n";
    my $pid = fork() // die "cannot fork: $!\n";
    if (!$pid) {
        open(STDIN, '<&', $in) && open(STDOUT, '>', '/dev/null') && open(STDERR, '>&', $out) or POSIX::_exit(126);
        close($_) for $in, $to, $from, $out;
        exec('smbclient', '--stderr', '-s', '/dev/null', "//127.0.0.1/$share", '-A', $credentials, '-m', 'SMB3_11');
        POSIX::_exit(127);
    }
    close($in);
    close($out);
    my $self = bless({ pid => $pid, to => $to, from => $from }, 'Lab::Smb::Visit');
    # its first answer comes when it is connected
    $self->{status} = $self->sees($share);
    return $self;
}

# --- sessions that stay -----------------------------------------------------------------------------------------------

# Opens a session that writes a file over and over on one connection, and returns an object for it. It never connects again:
# once its tree or connection is gone it has ended. Options: address => of another server than the box itself.
sub hold {
    my ($user, $password, $share, %o) = @_;
    my $id = "$$." . $serial++;
    my $self = bless({ log => "/run/lab/hold.$id", user => $user, share => $share }, 'Lab::Smb::Held');
    my $credentials = _credentials($user, $password);
    my $source = "/run/lab/held.$id";
    Lab::Box::spew($source, "written again and again\n");
    Lab::Box::spew($self->{log}, '');
    $self->{pid} = fork() // die "cannot fork: $!\n";
    if (!$self->{pid}) {
        eval { _hold($self->{log}, $credentials, $o{address} // '127.0.0.1', $share, $source, 'held-' . ($user =~ s/\W/-/gr) . '.txt'); 1 } or print STDERR $@;
        POSIX::_exit(0);
    }
    $self->{started} = Lab::Box::until_true(sub { $self->writes() || $self->ended() });
    return $self;
}

sub _hold {
    my ($log, $credentials, $address, $share, $source, $name) = @_;
    pipe(my $in, my $to) && pipe(my $from, my $out) or die "pipe: $!\n";
    my $pid = fork() // die "fork: $!\n";
    if (!$pid) {
        # without a terminal it prints no prompt, and only standard error is unbuffered: one line for each put
        open(STDIN, '<&', $in) && open(STDOUT, '>', '/dev/null') && open(STDERR, '>&', $out) or POSIX::_exit(126);
        close($_) for $in, $to, $from, $out;
        exec('smbclient', '--stderr', '-s', '/dev/null', "//$address/$share", '-A', $credentials, '-m', 'SMB3_11');
        POSIX::_exit(127);
    }
    close($in);
    close($out);
    local $SIG{PIPE} = 'IGNORE';
    open(my $record, '>>', $log) or die "$log: $!\n";
    $record->autoflush(1);
    my ($text, $n) = ('', 0);
    while (1) {
        syswrite($to, "put $source $name\n") or last;
        do { $text = readline($from) } until !defined($text) || $text =~ m/putting file|NT_STATUS_/;
        last if !defined($text) || $text !~ m/\Aputting file/;
        print {$record} 'ok ' . ++$n . "\n";
        Time::HiRes::sleep(0.01);
    }
    my ($status) = ($text // '') =~ m/(NT_STATUS_\w+)/;
    print {$record} 'ended ' . ($status // 'connection closed') . "\n";
    kill('KILL', $pid);
    waitpid($pid, 0);
    return;
}

package Lab::Smb::Visit;

use strict;
use warnings;

# 'OK', or the status that a share gives on this connection.
sub sees {
    my ($self, $share) = @_;
    local $SIG{PIPE} = 'IGNORE';
    syswrite($self->{to}, "tcon \"$share\"\n") or return 'connection closed';
    while (defined(my $line = readline($self->{from}))) {
        return 'OK' if $line =~ m/\Atcon to .* successful/;
        return $1 if $line =~ m/(NT_STATUS_\w+)/;
    }
    return 'connection closed';
}

sub stop {
    my ($self) = @_;
    kill('KILL', $self->{pid});
    waitpid($self->{pid}, 0);
    return;
}

package Lab::Smb::Held;

use strict;
use warnings;

# How often it has written.
sub writes { my ($self) = @_; my @ok = Lab::Box::slurp($self->{log}) =~ m/^ok (\d+)$/mg; return @ok ? $ok[-1] : 0 }

# Why it ended; '' while it lives.
sub ended { my ($self) = @_; return Lab::Box::slurp($self->{log}) =~ m/^ended (.*)$/m ? $1 : '' }

# True if it goes on writing from now.
sub goes_on {
    my ($self) = @_;
    my $before = $self->writes();
    return Lab::Box::until_true(sub { $self->writes() > $before + 1 || $self->ended() }) && $self->ended() eq '' ? 1 : 0;
}

# Waits until it has ended, and says why; '' if it does not.
sub wait_end { my ($self, $seconds) = @_; return Lab::Box::until_true(sub { $self->ended() }, $seconds // 5) }

sub stop {
    my ($self) = @_;
    return if !$self->{pid};
    # its smbclient ends when the pipe to it closes
    kill('KILL', $self->{pid});
    waitpid($self->{pid}, 0);
    delete($self->{pid});
    return;
}

1;
