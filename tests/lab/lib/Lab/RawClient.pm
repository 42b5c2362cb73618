# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::RawClient;

# A hostile SMB 3.1.1 client: it signs, but decides by itself what it offers and what it ignores. It exists because the usual
# clients obey the server's wish for encryption, so that they cannot show that the server insists. It knows the packets of
# negotiate, session setup (NTLMv2), tree connect, create and write, and nothing else. Formats: [MS-SMB2], [MS-NLMP].
#
# try_plain() offers no cipher at all: against a server that only *wants* encryption it gets in and writes in clear; one that
# *requires* encryption refuses it at session setup. With cipher => 1 it offers AES-128-GCM and then speaks in clear all the same.

use strict;
use warnings;

use Digest::MD5 ();
use Digest::SHA ();
use Encode ();
use IO::Socket::INET ();
use IO::Select ();

my %NAME = (0 => 'OK', 0xC0000016 => 'MORE_PROCESSING_REQUIRED', 0xC0000022 => 'ACCESS_DENIED', 0xC000006D => 'LOGON_FAILURE', 0xC00000BB => 'NOT_SUPPORTED', 0xC00000CC => 'BAD_NETWORK_NAME', 0xC000000D => 'INVALID_PARAMETER', 0xC0000203 => 'USER_SESSION_DELETED');

# Goes as far as it gets. Returns { negotiate, session, tree, create, write: status names as far as reached, mode: the server's
# security mode (1 signing enabled, 2 required), flags: session flags (4 = the server wants encryption), encrypted_reply }.
# Options: user, password, share, cipher, port, host.
sub try_plain {
    my (%o) = @_;
    my %r;
    my $socket = IO::Socket::INET->new(PeerAddr => $o{host} // '127.0.0.1', PeerPort => $o{port} // 445, Proto => 'tcp') or return { negotiate => "no connection: $!" };
    my $self = { socket => $socket, message => 0, session => "\0" x 8, tree => 0 };

    my $salt = join('', map { chr(int(rand(256))) } 1 .. 32);
    my @contexts = (pack('v v V v v v a32', 1, 38, 0, 1, 32, 1, $salt));
    push @contexts, pack('v v V v v', 2, 4, 0, 1, 2) if $o{cipher};
    my $list = join('', map { my $c = $_; $c . ("\0" x (-length($c) & 7)) } @contexts);
    my $body = pack('v v v v V a16 V v v', 36, 1, 1, 0, $o{cipher} ? 0x40 : 0, 'a client of lab.', 64 + 40, scalar(@contexts), 0) . pack('v v', 0x0311, 0) . $list;
    my ($sent, $got) = _exchange($self, 0, $body) or return { negotiate => 'connection closed' };
    $r{negotiate} = _status($got);
    return \%r if $r{negotiate} ne 'OK';
    ($r{mode}, $r{dialect}) = unpack('x66 v v', $got);
    my $hash = "\0" x 64;
    $hash = Digest::SHA::sha512($hash . $_) for $sent, $got;

    my $flags = 0x1 | 0x4 | 0x10 | 0x200 | 0x8000 | 0x80000 | 0x20000000;
    ($sent, $got) = _exchange($self, 1, _setup("NTLMSSP\0" . pack('V V x16', 1, $flags))) or return { %r, session => 'connection closed' };
    $r{session} = _status($got);
    return \%r if $r{session} ne 'MORE_PROCESSING_REQUIRED';
    $self->{session} = substr($got, 40, 8);
    $hash = Digest::SHA::sha512($hash . $_) for $sent, $got;
    my ($offset, $length) = unpack('x68 v v', $got);
    my ($auth, $key) = _authenticate(substr($got, $offset, $length), $o{user}, $o{password}, $flags);
    ($sent, $got) = _exchange($self, 1, _setup($auth)) or return { %r, session => 'connection closed' };
    $hash = Digest::SHA::sha512($hash . $sent);
    $r{session} = _status($got);
    return \%r if $r{session} ne 'OK';
    $r{flags} = unpack('x66 v', $got);
    $self->{key} = substr(Digest::SHA::hmac_sha256(pack('N', 1) . "SMBSigningKey\0\0" . $hash . pack('N', 128), $key), 0, 16);

    my $path = Encode::encode('UTF-16LE', '\\\\127.0.0.1\\' . $o{share});
    for my $try (
        ['tree', 3, sub { pack('v v v v', 9, 0, 72, length($path)) . $path }, sub { $self->{tree} = unpack('x36 V', $_[0]) }],
        ['create', 5, sub { my $name = Encode::encode('UTF-16LE', 'in-clear.txt'); pack('v C C V x8 x8 V V V V V v v V V', 57, 0, 0, 2, 0x12019f, 0x80, 7, 5, 0x40, 120, length($name), 0, 0) . $name }, sub { $self->{file} = substr($_[0], 128, 16) }],
        ['write', 9, sub { my $data = 'in clear'; pack('v v V x8 a16 V V v v V', 49, 112, length($data), $self->{file}, 0, 0, 0, 0, 0) . $data }, sub { }],
    ) {
        my ($name, $command, $make, $take) = @$try;
        (undef, $got) = _exchange($self, $command, $make->()) or return { %r, $name => 'connection closed' };
        if (substr($got, 0, 4) eq "\xfdSMB") { return { %r, $name => 'unreadable', encrypted_reply => 1 } }
        $r{$name} = _status($got);
        return \%r if $r{$name} ne 'OK';
        $take->($got);
    }
    return \%r;
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

# The NTLMv2 answer to a challenge, and the session key. No key exchange, so the key is the base key.
sub _authenticate {
    my ($challenge, $user, $password, $flags) = @_;
    my ($length, $offset) = unpack('x40 v x2 V', $challenge);
    my $target = substr($challenge, $offset, $length);
    my $nt = _md4(Encode::encode('UTF-16LE', $password));
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

# AES-128 (FIPS 197) in the one direction that CMAC needs.
my @sbox;

sub _sbox {
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
    return;
}

sub _aes {
    my ($key, $block) = @_;
    _sbox() if !@sbox;
    my @w = map { [unpack('C4', substr($key, 4 * $_, 4))] } 0 .. 3;
    my $rcon = 1;
    for my $i (4 .. 43) {
        my @t = @{ $w[$i - 1] };
        if ($i % 4 == 0) {
            @t = map { $sbox[$_] } @t[1, 2, 3, 0];
            $t[0] ^= $rcon;
            $rcon = ($rcon << 1) ^ ($rcon & 0x80 ? 0x11b : 0);
        }
        $w[$i] = [map { $w[$i - 4]->[$_] ^ $t[$_] } 0 .. 3];
    }
    my @s = unpack('C16', $block);
    my $add = sub { my ($round) = @_; $s[$_] ^= $w[4 * $round + ($_ >> 2)]->[$_ & 3] for 0 .. 15 };
    my $double = sub { my ($x) = @_; ($x << 1) ^ ($x & 0x80 ? 0x11b : 0) };
    $add->(0);
    for my $round (1 .. 10) {
        @s = map { $sbox[$_] } @s;
        @s = @s[0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11];
        if ($round < 10) {
            for my $c (0, 4, 8, 12) {
                my @a = @s[$c .. $c + 3];
                $s[$c + $_] = $double->($a[$_]) ^ $double->($a[($_ + 1) % 4]) ^ $a[($_ + 1) % 4] ^ $a[($_ + 2) % 4] ^ $a[($_ + 3) % 4] for 0 .. 3;
            }
        }
        $add->($round);
    }
    return pack('C16', @s);
}

# RFC 4493.
sub _cmac {
    my ($key, $message) = @_;
    my $shift = sub {
        my ($block) = @_;
        my $bits = unpack('B128', $block);
        my $out = pack('B128', substr($bits, 1) . '0');
        return substr($bits, 0, 1) ? $out ^ (("\0" x 15) . "\x87") : $out;
    };
    my $k1 = $shift->(_aes($key, "\0" x 16));
    my $k2 = $shift->($k1);
    my $last = length($message) % 16 || (length($message) ? 16 : 0);
    my $tail = substr($message, length($message) - $last);
    $tail = $last == 16 ? $tail ^ $k1 : ($tail . "\x80" . ("\0" x (15 - $last))) ^ $k2;
    my $x = "\0" x 16;
    for (my $i = 0; $i + 16 <= length($message) - $last; $i += 16) { $x = _aes($key, $x ^ substr($message, $i, 16)) }
    return _aes($key, $x ^ $tail);
}

1;
