# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::RawClient;

# An SMB 3.1.1 client of our own: it signs, but decides by itself what it offers and what it ignores. It exists because the usual
# clients obey the server's wish for encryption, so that they cannot show that the server insists, and because a process of them
# has one session. It knows the packets of negotiate, session setup (NTLMv2), tree connect, create, read, write and lock, and nothing else; what
# the server signs is not verified. Formats: [MS-SMB2], [MS-NLMP].
#
# try_plain() offers no cipher at all: against a server that only *wants* encryption it gets in and writes in clear; one that
# *requires* encryption refuses it at session setup. With cipher => 1 it offers AES-128-GCM and then speaks in clear all the same.
#
# hold() keeps many sessions open, each on a connection of its own, as so many machines would have. arrive() is one connection, on which
# several shares can be used, as machines of today do.

use strict;
use warnings;

use Digest::MD5 ();
use Digest::SHA ();
use Encode ();
use IO::Handle ();
use IO::Socket::INET ();
use IO::Select ();
use POSIX ();
use Time::HiRes ();

my %NAME = (0 => 'OK', 0xC0000016 => 'MORE_PROCESSING_REQUIRED', 0xC0000022 => 'ACCESS_DENIED', 0xC000006D => 'LOGON_FAILURE', 0xC00000BB => 'NOT_SUPPORTED', 0xC00000CC => 'BAD_NETWORK_NAME', 0xC000000D => 'INVALID_PARAMETER', 0xC0000203 => 'USER_SESSION_DELETED', 0xC0000055 => 'LOCK_NOT_GRANTED', 0xC0000043 => 'SHARING_VIOLATION');

# Goes as far as it gets. Returns { negotiate, session, tree, create, write: status names as far as reached, mode: the server's
# security mode (1 signing enabled, 2 required), flags: session flags (4 = the server wants encryption), encrypted_reply }.
# Options: user, password, share, cipher, port, host.
sub try_plain {
    my (%o) = @_;
    my ($self, $r) = _arrive(%o);
    if ($self && defined(my $file = _create($self, $r, 'in-clear.txt'))) {
        my $data = 'in clear';
        _step($self, $r, 'write', 9, pack('v v V x8 a16 V V v v V', 49, 112, length($data), $file, 0, 0, 0, 0, 0) . $data);
    }
    return $r;
}

# Connects and logs in, and connects to the share; dies with what kept it from it. Options as try_plain().
sub arrive {
    my (%o) = @_;
    my ($self, $r) = _arrive(%o);
    die join(', ', map { "$_ $r->{$_}" } grep { defined($r->{$_}) } qw(negotiate session tree)) . "\n" if !$self;
    $self->{trees} = { $o{share} => $self->{tree} };
    return bless($self, __PACKAGE__);
}

# What follows is done in this share, to which it connects if it has not yet.
sub in {
    my ($self, $share) = @_;
    my %r;
    $self->{trees}->{$share} //= _tree($self, \%r, $share) // die "$share: $r{tree}\n";
    $self->{tree} = $self->{trees}->{$share};
    return $self;
}

# Opens a file, makes it if need be; its id.
sub open_file { my ($self, $name) = @_; my %r; return _create($self, \%r, $name) // die "$name: $r{create}\n" }

# Locks a range for one who has the file open, against all others.
sub lock_file { my ($self, $file, $start, $length) = @_; my %r; return _lock($self, \%r, $file, $start, $length) || die "lock: $r{lock}\n" }

# Writes and reads; how it went.
sub write_file {
    my ($self, $file, $data) = @_;
    _step($self, \my %r, 'write', 9, pack('v v V x8 a16 V V v v V', 49, 112, length($data), $file, 0, 0, 0, 0, 0) . $data);
    return $r{write};
}

sub read_file {
    my ($self, $file, $length) = @_;
    _step($self, \my %r, 'read', 8, pack('v C C V Q< a16 V V V v v x', 49, 80, 0, $length, 0, $file, 0, 0, 0, 0, 0));
    return $r{read};
}

# Holds sessions, each on a connection of its own, with one tree connect and open files, until end() of what it returns; ready() says when all
# are there. Options: as try_plain(); sessions => so many; files => open in each; locks => so many byte ranges locked in the first file of
# each; tag => begins the names of the files; processes => so many that share the work, since signing in Perl and waiting take time.
sub hold {
    my (%o) = @_;
    my $processes = $o{processes} // ($o{sessions} < 40 ? 1 : 4);
    my $self = bless({ workers => [], what => "$o{sessions} sessions of $o{user} on $o{share}" }, __PACKAGE__);
    for my $p (0 .. $processes - 1) {
        my $sessions = int($o{sessions} * ($p + 1) / $processes) - int($o{sessions} * $p / $processes);
        pipe(my $from, my $to) or die "pipe: $!\n";
        my $pid = fork() // die "cannot fork: $!\n";
        if (!$pid) {
            $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP);
            srand();    # or all of them were the same machines
            # not a second writer of what the test says
            open(STDOUT, '>', '/dev/null') or POSIX::_exit(126);
            my @held;
            my $why = eval { push @held, _busy(%o, tag => ($o{tag} // 'held') . "-$p-$_") for 1 .. $sessions; 'ready' } // $@;
            syswrite($to, $why =~ s/\s+\z//r . "\n");
            POSIX::_exit(1) if $why ne 'ready';
            POSIX::pause() while 1;
        }
        push @{ $self->{workers} }, { pid => $pid, from => $from };
    }
    return $self;
}

# Waits until all are there; dies with what kept one of them from it.
sub ready {
    my ($self, $seconds) = @_;
    my $end = Time::HiRes::time() + ($seconds // 60);
    for my $worker (@{ $self->{workers} }) {
        my $left = $end - Time::HiRes::time();
        my $said = IO::Select->new($worker->{from})->can_read($left > 0 ? $left : 0) ? readline($worker->{from}) // "its process ended\n" : "not within the time\n";
        next if $said eq "ready\n";
        $self->end();
        die "$self->{what}: $said";
    }
    return $self;
}

# Ends all of them, as machines that are switched off.
sub end {
    my ($self) = @_;
    my @workers = splice(@{ $self->{workers} });
    kill('TERM', $_->{pid}) for @workers;
    waitpid($_->{pid}, 0) for @workers;
    return;
}

sub _busy {
    my (%o) = @_;
    my ($self, $r) = _arrive(%o);
    my @files = $self ? map { _create($self, $r, "$o{tag}-$_") } 1 .. $o{files} // 0 : ();
    my $locked = 0;
    # far apart, so that the server cannot make one of two
    $locked += _lock($self, $r, $files[0], 1000 * $_, 10) for @files ? 1 .. $o{locks} // 0 : ();
    return $self if $self && @files == ($o{files} // 0) && $locked == ($o{locks} // 0);
    die join(', ', map { "$_ $r->{$_}" } grep { defined($r->{$_}) } qw(negotiate session tree create lock)) . "\n";
}

# Connects, logs in and connects to the share: the connection, if it came so far, and how each step went.
sub _arrive {
    my (%o) = @_;
    my %r;
    my $socket = IO::Socket::INET->new(PeerAddr => $o{host} // '127.0.0.1', PeerPort => $o{port} // 445, Proto => 'tcp') or return (undef, { negotiate => "no connection: $!" });
    my $self = { socket => $socket, message => 0, session => "\0" x 8, tree => 0 };

    # a machine of its own: connections with the same guid are channels of one client, and one process has them all
    my ($salt, $guid) = map { join('', map { chr(int(rand(256))) } 1 .. $_) } 32, 16;
    my @contexts = (pack('v v V v v v a32', 1, 38, 0, 1, 32, 1, $salt));
    push @contexts, pack('v v V v v', 2, 4, 0, 1, 2) if $o{cipher};
    my $list = join('', map { my $c = $_; $c . ("\0" x (-length($c) & 7)) } @contexts);
    my $body = pack('v v v v V a16 V v v', 36, 1, 1, 0, $o{cipher} ? 0x40 : 0, $guid, 64 + 40, scalar(@contexts), 0) . pack('v v', 0x0311, 0) . $list;
    my ($sent, $got) = _exchange($self, 0, $body) or return (undef, { negotiate => 'connection closed' });
    $r{negotiate} = _status($got);
    return (undef, \%r) if $r{negotiate} ne 'OK';
    ($r{mode}, $r{dialect}) = unpack('x66 v v', $got);
    my $hash = "\0" x 64;
    $hash = Digest::SHA::sha512($hash . $_) for $sent, $got;

    my $flags = 0x1 | 0x4 | 0x10 | 0x200 | 0x8000 | 0x80000 | 0x20000000;
    ($sent, $got) = _exchange($self, 1, _setup("NTLMSSP\0" . pack('V V x16', 1, $flags))) or return (undef, { %r, session => 'connection closed' });
    $r{session} = _status($got);
    return (undef, \%r) if $r{session} ne 'MORE_PROCESSING_REQUIRED';
    $self->{session} = substr($got, 40, 8);
    $hash = Digest::SHA::sha512($hash . $_) for $sent, $got;
    my ($offset, $length) = unpack('x68 v v', $got);
    my ($auth, $key) = _authenticate(substr($got, $offset, $length), $o{user}, $o{password}, $flags);
    ($sent, $got) = _exchange($self, 1, _setup($auth)) or return (undef, { %r, session => 'connection closed' });
    $hash = Digest::SHA::sha512($hash . $sent);
    $r{session} = _status($got);
    return (undef, \%r) if $r{session} ne 'OK';
    $r{flags} = unpack('x66 v', $got);
    $self->{key} = _cmac_key(substr(Digest::SHA::hmac_sha256(pack('N', 1) . "SMBSigningKey\0\0" . $hash . pack('N', 128), $key), 0, 16));

    $self->{tree} = _tree($self, \%r, $o{share}) // return (undef, \%r);
    return ($self, \%r);
}

# Connects to a share; the number of the tree.
sub _tree {
    my ($self, $r, $share) = @_;
    my $path = Encode::encode('UTF-16LE', '\\\\127.0.0.1\\' . $share);
    my $got = _step($self, $r, 'tree', 3, pack('v v v v', 9, 0, 72, length($path)) . $path) // return;
    return unpack('x36 V', $got);
}

# One request; its answer if the server did it. How it went is noted under this name.
sub _step {
    my ($self, $r, $name, $command, $body) = @_;
    my (undef, $got) = _exchange($self, $command, $body);
    $r->{$name} = !defined($got) ? 'connection closed' : substr($got, 0, 4) eq "\xfdSMB" ? 'unreadable' : _status($got);
    $r->{encrypted_reply} = 1 if $r->{$name} eq 'unreadable';
    return $r->{$name} eq 'OK' ? $got : undef;
}

# Opens a file for reading and writing, and makes it if need be, with no oplock and nothing denied to others; its id.
sub _create {
    my ($self, $r, $file) = @_;
    my $name = Encode::encode('UTF-16LE', $file);
    my $got = _step($self, $r, 'create', 5, pack('v C C V x8 x8 V V V V V v v V V', 57, 0, 0, 2, 0x12019f, 0x80, 7, 5, 0x40, 120, length($name), 0, 0) . $name) // return;
    return substr($got, 128, 16);
}

# Locks a range for itself, or fails at once; 1 if it has it.
sub _lock {
    my ($self, $r, $file, $start, $length) = @_;
    return defined(_step($self, $r, 'lock', 10, pack('v v V a16 Q< Q< V V', 48, 1, 0, $file, $start, $length, 0x2 | 0x10, 0))) ? 1 : 0;
}

sub _status {
    my $n = unpack('x8 V', $_[0]);
    return $NAME{$n} // sprintf('0x%08x', $n);
}

sub _setup {
    my ($blob) = @_;
    return pack('v C C V V v v x8', 25, 0, 1, 0, 0, 88, length($blob)) . $blob;
}

# Sends one request and returns it with its answer, or nothing if the server closes.
sub _exchange {
    my ($self, $command, $body) = @_;
    my $signed = defined($self->{key}) ? 8 : 0;
    my $head = "\xfeSMB" . pack('v v V v v V V', 64, 1, 0, $command, 31, $signed, 0) . pack('Q<', $self->{message}++) . pack('V V', 0xfeff, $self->{tree}) . $self->{session};
    my $packet = $head . ("\0" x 16) . $body;
    substr($packet, 48, 16) = _cmac($self->{key}, $packet) if $signed;
    $self->{socket}->syswrite(pack('N', length($packet)) . $packet) or return;
    while (1) {
        my $length = unpack('N', _read($self, 4) // return);
        my $answer = _read($self, $length) // return;
        next if substr($answer, 0, 4) eq "\xfeSMB" && unpack('x8 V', $answer) == 0x103;    # pending
        return ($packet, $answer);
    }
}

sub _read {
    my ($self, $n) = @_;
    my $data = '';
    while (length($data) < $n) {
        IO::Select->new($self->{socket})->can_read(10) or return undef;
        $self->{socket}->sysread($data, $n - length($data), length($data)) or return undef;
    }
    return $data;
}

my %hash_of;

# The NTLMv2 answer to a challenge, and the session key. No key exchange, so the key is the base key.
sub _authenticate {
    my ($challenge, $user, $password, $flags) = @_;
    my ($length, $offset) = unpack('x40 v x2 V', $challenge);
    my $target = substr($challenge, $offset, $length);
    my $nt = $hash_of{$password} //= _md4(Encode::encode('UTF-16LE', $password));
    my $owf = _hmac_md5($nt, Encode::encode('UTF-16LE', uc($user)));
    my $temp = "\1\1" . ("\0" x 6) . pack('Q<', (time() + 11644473600) * 10_000_000) . 'LabLabLa' . ("\0" x 4) . $target . ("\0" x 4);
    my $proof = _hmac_md5($owf, substr($challenge, 24, 8) . $temp);
    my $name = Encode::encode('UTF-16LE', $user);
    my @fields = ("\0" x 24, $proof . $temp, '', $name, '', '');
    my $message = "NTLMSSP\0" . pack('V', 3);
    my ($at, $payload) = (64, '');
    for my $field (@fields) {
        $message .= pack('v v V', length($field), length($field), $at + length($payload));
        $payload .= $field;
    }
    return ($message . pack('V', $flags) . $payload, _hmac_md5($owf, $proof));
}

sub _hmac_md5 {
    my ($key, $data) = @_;
    $key .= "\0" x (64 - length($key));
    return Digest::MD5::md5(($key ^ ("\x5c" x 64)) . Digest::MD5::md5(($key ^ ("\x36" x 64)) . $data));
}

# RFC 1320.
sub _md4 {
    my ($data) = @_;
    my $bits = length($data) * 8;
    $data .= "\x80";
    $data .= "\0" x ((56 - length($data)) % 64);
    $data .= pack('Q<', $bits);
    my $m = 0xffffffff;
    my $rol = sub { my ($x, $n) = @_; $x &= $m; return (($x << $n) | ($x >> (32 - $n))) & $m };
    my @s = (0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
    for (my $i = 0; $i < length($data); $i += 64) {
        my @x = unpack('V16', substr($data, $i, 64));
        my ($a, $b, $c, $d) = @s;
        my @round = (
            [sub { ($_[0] & $_[1]) | (~$_[0] & $_[2]) }, 0, [3, 7, 11, 19], [0 .. 15]],
            [sub { ($_[0] & $_[1]) | ($_[0] & $_[2]) | ($_[1] & $_[2]) }, 0x5a827999, [3, 5, 9, 13], [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]],
            [sub { $_[0] ^ $_[1] ^ $_[2] }, 0x6ed9eba1, [3, 9, 11, 15], [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15]],
        );
        for my $round (@round) {
            my ($f, $k, $shift, $order) = @$round;
            for my $n (0 .. 15) {
                my $t = $rol->($a + ($f->($b, $c, $d) & $m) + $x[$order->[$n]] + $k, $shift->[$n % 4]);
                ($a, $b, $c, $d) = ($d, $t, $b, $c);
            }
        }
        @s = map { ($s[$_] + ($a, $b, $c, $d)[$_]) & $m } 0 .. 3;
    }
    return pack('V4', @s);
}

# AES-128 (FIPS 197) in the one direction that CMAC needs, on words of 32 bits: a table for each byte of a column does substitution and mixing in
# one, without which a thousand sessions would take minutes.
my (@sbox, @te);

sub _tables {
    my ($p, $q) = (1, 1);
    $sbox[0] = 0x63;
    do {
        $p = ($p ^ ($p << 1) ^ ($p & 0x80 ? 0x1b : 0)) & 0xff;
        $q ^= $q << 1;
        $q ^= $q << 2;
        $q = ($q ^ ($q << 4)) & 0xff;
        $q ^= 0x09 if $q & 0x80;
        my $r = sub { my ($n) = @_; (($q << $n) | ($q >> (8 - $n))) & 0xff };
        $sbox[$p] = $q ^ $r->(1) ^ $r->(2) ^ $r->(3) ^ $r->(4) ^ 0x63;
    } while ($p != 1);
    for my $x (0 .. 255) {
        my $s = $sbox[$x];
        my $double = ($s << 1) ^ ($s & 0x80 ? 0x11b : 0);
        my @column = ($double, $s, $s, $s ^ $double);
        $te[$_]->[$x] = unpack('N', pack('C4', @column[map { ($_ + 4) % 4 } -$_ .. 3 - $_])) for 0 .. 3;
    }
    return;
}

# The 44 words of a key.
sub _schedule {
    my ($key) = @_;
    _tables() if !@sbox;
    my @w = unpack('N4', $key);
    my $rcon = 1;
    for my $i (4 .. 43) {
        my $t = $w[$i - 1];
        if ($i % 4 == 0) {
            $t = unpack('N', pack('C4', map { $sbox[$_] } (unpack('C4', pack('N', $t)))[1, 2, 3, 0])) ^ ($rcon << 24);
            $rcon = ($rcon << 1) ^ ($rcon & 0x80 ? 0x11b : 0);
        }
        $w[$i] = $w[$i - 4] ^ $t;
    }
    return \@w;
}

sub _aes {
    my ($w, $block) = @_;
    my ($a, $b, $c, $d) = unpack('N4', $block);
    my ($t0, $t1, $t2, $t3) = @te;
    ($a, $b, $c, $d) = ($a ^ $w->[0], $b ^ $w->[1], $c ^ $w->[2], $d ^ $w->[3]);
    for (my $i = 4; $i < 40; $i += 4) {
        ($a, $b, $c, $d) = (
            $t0->[$a >> 24] ^ $t1->[($b >> 16) & 255] ^ $t2->[($c >> 8) & 255] ^ $t3->[$d & 255] ^ $w->[$i],
            $t0->[$b >> 24] ^ $t1->[($c >> 16) & 255] ^ $t2->[($d >> 8) & 255] ^ $t3->[$a & 255] ^ $w->[$i + 1],
            $t0->[$c >> 24] ^ $t1->[($d >> 16) & 255] ^ $t2->[($a >> 8) & 255] ^ $t3->[$b & 255] ^ $w->[$i + 2],
            $t0->[$d >> 24] ^ $t1->[($a >> 16) & 255] ^ $t2->[($b >> 8) & 255] ^ $t3->[$c & 255] ^ $w->[$i + 3],
        );
    }
    my @s = ($a, $b, $c, $d);
    return pack('N4', map {
        my ($x, $y, $z, $v) = @s[map { $_ & 3 } $_ .. $_ + 3];
        ($sbox[$x >> 24] << 24 | $sbox[($y >> 16) & 255] << 16 | $sbox[($z >> 8) & 255] << 8 | $sbox[$v & 255]) ^ $w->[40 + $_]
    } 0 .. 3);
}

# RFC 4493: what a key needs once, and the code of a message.
sub _cmac_key {
    my ($key) = @_;
    my $shift = sub {
        my ($block) = @_;
        my $bits = unpack('B128', $block);
        my $out = pack('B128', substr($bits, 1) . '0');
        return substr($bits, 0, 1) ? $out ^ (("\0" x 15) . "\x87") : $out;
    };
    my $w = _schedule($key);
    my $k1 = $shift->(_aes($w, "\0" x 16));
    return { words => $w, k1 => $k1, k2 => $shift->($k1) };
}

sub _cmac {
    my ($key, $message) = @_;
    my ($w, $k1, $k2) = @$key{qw(words k1 k2)};
    my $last = length($message) % 16 || (length($message) ? 16 : 0);
    my $tail = substr($message, length($message) - $last);
    $tail = $last == 16 ? $tail ^ $k1 : ($tail . "\x80" . ("\0" x (15 - $last))) ^ $k2;
    my $x = "\0" x 16;
    for (my $i = 0; $i + 16 <= length($message) - $last; $i += 16) { $x = _aes($w, $x ^ substr($message, $i, 16)) }
    return _aes($w, $x ^ $tail);
}

1;
