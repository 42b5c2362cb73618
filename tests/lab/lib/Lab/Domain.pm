# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Domain;

# An Active Directory domain for a box: a real Samba domain controller, its accounts and its records, and what can go wrong with
# it. The box is the member (or its containers are); the controller is a second box within it, with own net, mount, UTS, IPC and
# PID namespaces and own /etc, /run, /tmp, /var/log and Samba directories, on the bridge that containers use too. It knows Samba
# as a domain controller. It must not know the product, nor Samba as a member.
#
#     Lab::Box::enter();                  # or Lab::Product::enter()
#     Lab::Guests::prepare();             # only with containers, and always before start(): it makes the bridge, else start() does
#     Lab::Domain::start();
#     Lab::Domain::resolve_by_dc();       # what an administrator prepares on a node
#     Lab::Domain::user('alice', $password, groups => ['Staff']);
#
# What fails dies with a reason. Everything ends with the box. Changes to accounts and records go to a helper that stays inside,
# because samba-tool takes a second each time; they are made in the controller's own database, whether it serves or not.

use strict;
use warnings;
no warnings 'exec';    # what follows an exec is there for its failure

use Errno ();
use File::Path ();
use IO::Handle ();
use IO::Select ();
use IO::Socket::INET ();
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

use Lab::Box;

our $REALM = 'EXAMPLE.TEST';
our $DNS_DOMAIN = 'example.test';
our $WORKGROUP = 'EXAMPLE';
our $BASE_DN = 'DC=example,DC=test';
our $NAME = 'dc1';
our $DC = "$NAME.$DNS_DOMAIN";
our $ADDRESS = '192.0.2.53';
our $BRIDGE = 'vmbr0';
our $MEMBER = '192.0.2.1';
our $ADMIN = 'Administrator';
our $ADMIN_PASSWORD = 'Lab-Admin-1!';

# the ports that have to answer before it is said to serve: DNS, Kerberos, end points of RPC, LDAP, SMB, Kerberos passwords
my @PORTS = (53, 88, 135, 389, 445, 464);

# Samba's own list but for replication, its topology, NetBIOS, WINS, signed NTP and the registration of its own names: they
# serve nobody here, take processor time, and the last would bring removed records back. No TLS either: making its key takes long.
my @OPTIONS = ('interfaces=lo eth0', 'bind interfaces only=yes', 'tls enabled=no', 'server services=s3fs, rpc, ldap, cldap, kdc, winbindd, dns');

my @OWN = qw(/etc /var/lib/samba /var/cache/samba /var/log /tmp);
my $PYTHON = '/usr/bin/python3';    # the one that has Debian's modules

my ($base, $holder, $helper, $offset, $faketime);
my %closed;
my $silent = 0;
my $json = JSON::PP->new->utf8->canonical;

# What is needed and not there: a sentence for skip_all, or undef.
sub missing {
    my %package = (
        samba => 'samba', 'samba-tool' => 'samba', winbindd => 'winbind', wbinfo => 'winbind', net => 'samba-common-bin', smbclient => 'smbclient',
        kinit => 'krb5-user', nft => 'nftables', ip => 'iproute2', nsenter => 'util-linux', unshare => 'util-linux',
    );
    for my $program (sort keys %package) {
        return "'$program' is not installed (Debian package $package{$program})" if !defined(Lab::Box::which($program));
    }
    return "there is no '$PYTHON' (Debian package python3)" if !-x $PYTHON;
    my %file = (
        'samba-ad-provision' => '/usr/share/samba/setup/provision.ldif',
        'samba-dsdb-modules' => '/usr/lib/*/samba/ldb/samba_dsdb.so',
        'python3-samba' => '/usr/lib/python3/dist-packages/samba/samdb.py',
        'libnss-winbind' => '/lib/*/libnss_winbind.so.2',
        'faketime' => '/usr/lib/*/faketime/libfaketime.so.1',
    );
    for my $package (sort keys %file) {
        return "the Debian package $package is not installed" if !grep { -e } glob($file{$package});
    }
    return undef;
}

sub _must {
    my ($argv, %o) = @_;
    my $r = Lab::Box::run($argv, %o);
    die "'@$argv' failed: $r->{all}" if !defined($r->{rc}) || $r->{rc} != 0;
    return $r->{out};
}

# --- the controller ---------------------------------------------------------------------------------------------------

# Makes the domain and serves it. Option: serve => 0 leaves the daemons down.
sub start {
    my (%o) = @_;
    die "the domain is there already\n" if defined($holder);
    my $box = $ENV{SMBGW_LAB_BOX} // die "not in a box\n";
    $base = "$box/dc";
    ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1');
    _bridge();
    _build();
    my @provision = (
        'samba-tool', 'domain', 'provision', '--server-role=dc', '--use-rfc2307', '--dns-backend=SAMBA_INTERNAL', "--realm=$REALM", "--domain=$WORKGROUP",
        "--adminpass=$ADMIN_PASSWORD", "--host-ip=$ADDRESS", "--host-name=$NAME", map { "--option=$_" } @OPTIONS,
    );
    my $r = dc(\@provision, timeout => 120);
    die "the domain cannot be provisioned: $r->{all}" if !defined($r->{rc}) || $r->{rc} != 0;
    # it takes the resolver of the machine for a forwarder, which is itself
    my $conf = "$base/fs/etc/samba/smb.conf";
    Lab::Box::spew($conf, Lab::Box::slurp($conf) =~ s/^\s*dns forwarder\b.*\n//mr, 0644);
    # the service names under which members look for LDAP, which otherwise come with the registration of its own names
    dc_must(['samba_spnupdate']);
    _helper();
    again() if $o{serve} // 1;
    return;
}

sub _bridge {
    return if Lab::Box::run(['ip', 'link', 'show', 'dev', $BRIDGE])->{rc} == 0;
    _must(['ip', 'link', 'add', $BRIDGE, 'type', 'bridge']);
    _must(['ip', 'address', 'add', "$MEMBER/24", 'dev', $BRIDGE]);
    _must(['ip', 'link', 'set', $BRIDGE, 'up']);
    return;
}

# The second box: its first process reaps, and everything in it ends with that.
sub _build {
    File::Path::make_path("$base/fs");
    my $log = "$base/holder.log";
    my ($lib) = __FILE__ =~ m!\A(.*)/Lab/Domain\.pm\z!s or die "where is Lab::Domain?\n";
    my $unshare = Lab::Box::spawn(['unshare', '--net', '--mount', '--uts', '--ipc', '--pid', '--fork', '--mount-proc', '--kill-child', $^X, '-I', $lib, '-MLab::Domain', '-e', 'Lab::Domain::_first()', $base], out => $log, err => $log);
    Lab::Box::until_true(sub { -e "$base/ready" || waitpid($unshare, POSIX::WNOHANG()) == $unshare }, 20);
    -e "$base/ready" or die 'the box of the controller cannot be built: ' . Lab::Box::slurp($log) . "\n";
    ($holder) = Lab::Box::slurp("/proc/$unshare/task/$unshare/children") =~ m/\A(\d+)/;
    if (!defined($holder)) {
        my $p = Lab::Box::processes();
        ($holder) = grep { $p->{$_}->{ppid} == $unshare } keys %$p;
    }
    die "the box of the controller has ended\n" if !defined($holder);
    _must(['ip', 'link', 'add', $NAME, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', $holder]);
    _must(['ip', 'link', 'set', $NAME, 'master', $BRIDGE]);
    _must(['ip', 'link', 'set', $NAME, 'up']);
    dc_must(['ip', 'address', 'add', "$ADDRESS/24", 'dev', 'eth0']);
    dc_must(['ip', 'link', 'set', 'eth0', 'up']);
    return;
}

# Process 1 of the controller's box.
sub _first {
    my ($dir) = @ARGV;
    chdir('/');    # where we are may be about to be covered
    my $do = sub { system(@_) == 0 or die "'@_' failed\n" };
    # what the member has mounted must not stay busy on our account when it is unmounted there
    my @mounted = map { (split(' ', $_))[4] } split(/\n/, Lab::Box::slurp('/proc/self/mountinfo'));
    for my $at (reverse(grep { m!\A/(?:srv/.|mnt|media|run|etc/.|var/lib/(?:vz|lxc))! } @mounted)) { system('umount', '--lazy', $at =~ s/\\(\d{3})/chr(oct($1))/ger) }
    for my $own (@OWN) { File::Path::make_path("$dir/fs$own", $own) }
    $do->('cp', '-a', '-x', '/etc/.', "$dir/fs/etc/");
    $do->('mount', '--bind', "$dir/fs$_", $_) for @OWN;
    chmod(01777, '/tmp');
    $do->('mount', '-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', '/run');
    # the clock's preloaded library keeps something in shared memory
    $do->('mount', '-t', 'tmpfs', '-o', 'mode=1777', 'tmpfs', '/dev/shm') if -d '/dev/shm';
    File::Path::remove_tree('/etc/pve', '/etc/smbgw', '/etc/samba', '/etc/krb5.conf', '/etc/krb5.conf.d', '/etc/krb5.keytab');
    File::Path::make_path('/etc/samba', '/run/samba', '/var/lib/samba/private', '/var/log/samba');
    unlink('/etc/resolv.conf', '/etc/hosts');
    Lab::Box::spew('/etc/resolv.conf', "search $DNS_DOMAIN\nnameserver 127.0.0.1\n", 0644);
    Lab::Box::spew('/etc/hosts', "127.0.0.1 localhost\n$ADDRESS $DC $NAME\n", 0644);
    $do->('hostname', $NAME);
    # one address, so that whoever closes a port has closed it
    if (open(my $fh, '>', '/proc/sys/net/ipv6/conf/all/disable_ipv6')) { syswrite($fh, '1'); close($fh) }
    $do->('ip', 'link', 'set', 'lo', 'up');
    open(STDIN, '<', '/dev/null');
    Lab::Box::spew("$dir/ready", '');
    while (1) { Time::HiRes::sleep(0.2) if waitpid(-1, 0) < 0 }
}

# Runs a program on the controller; as Lab::Box::run().
sub dc {
    my ($argv, %o) = @_;
    return Lab::Box::run([_enter(), @$argv], %o);
}

sub dc_must {
    my ($argv, %o) = @_;
    return _must([_enter(), @$argv], %o);
}

sub _enter {
    die "the domain is not started\n" if !defined($holder);
    return ('nsenter', '-t', $holder, '--mount', '--uts', '--net', '--ipc', '--pid', '--');
}

# Its daemons: pids as the box sees them, without the first process and the helper.
sub _daemons {
    my $ns = readlink("/proc/$holder/ns/pid") // return;
    return grep { $_ != $holder && $_ != ($helper->{inside} // 0) && (readlink("/proc/$_/ns/pid") // '') eq $ns && Lab::Box::slurp("/proc/$_/stat") !~ m/\A\d+ \(.*\) Z/s } map { m/(\d+)\z/ } glob('/proc/[0-9]*');
}

# Ends the daemons, as a controller that is shut down: ports refuse. again() brings them back.
sub stop {
    my ($main) = Lab::Box::slurp("/proc/$holder/root/run/samba/samba.pid") =~ m/(\d+)/;
    if (defined($main)) {
        for my $pid (_daemons()) {
            kill('TERM', $pid) if Lab::Box::slurp("/proc/$pid/status") =~ m/^NSpid:.*\t$main$/m;
        }
    }
    Lab::Box::until_true(sub { !_daemons() }, 3);
    Lab::Box::until_true(sub { my @left = _daemons(); kill('KILL', @left) if @left; !@left }, 10) or die "the controller's daemons do not end\n";
    # stale ones would be believed
    unlink(glob("/proc/$holder/root/run/samba/*.pid"));
    return;
}

# Brings the daemons up, and waits until they serve: with the clock that was set last.
sub again {
    return if _daemons();
    # modules of the database are loaded so that they see the C library before what is preloaded; but for that variable
    my @clock = $offset ? ('env', "LD_PRELOAD=$faketime", sprintf('FAKETIME=%+d', $offset), 'FAKETIME_DONT_FAKE_MONOTONIC=1', 'LDB_MODULES_DISABLE_DEEPBIND=1') : ();
    dc_must([@clock, 'samba', '-D']);
    my %open;
    my $last = '';
    Lab::Box::until_true(sub {
        # from its own side, because a test may have closed the way to it
        my $tcp = Lab::Box::slurp("/proc/$holder/net/tcp");
        for my $port (@PORTS) { $last = "port $port", return 0 if $tcp !~ m/:@{[sprintf('%04X', $port)]} 0+:0000 0A/ }
        1;
    }, 30) or die "the controller does not serve: $last\n" . _log();
    my $r;
    Lab::Box::until_true(sub {
        $r = dc(['kinit', '-c', 'MEMORY:', "$ADMIN\@$REALM"], stdin => "$ADMIN_PASSWORD\n", timeout => 20);
        defined($r->{rc}) && $r->{rc} == 0;
    }, 30) or die "the controller gives no ticket: $r->{all}\n" . _log();
    if (!%closed && !$silent) {
        Lab::Box::until_true(sub { lookup("_ldap._tcp.dc._msdcs.$DNS_DOMAIN", 'SRV')->{state} eq 'answer' }, 10) or die "the controller's DNS does not answer the member\n";
    }
    return;
}

sub _log { return join('', map { substr(Lab::Box::slurp("/proc/$holder/root/var/log/samba/$_"), -2000) } 'log.samba', 'log.smbd', 'log.winbindd') }

# --- what goes wrong --------------------------------------------------------------------------------------------------

# Sets its clock off by so many seconds, by starting its daemons again; 0 is right again.
sub clock {
    my ($seconds) = @_;
    stop();
    $offset = $seconds;
    again();
    return;
}

# Whether it lets anybody log in by NTLM, by starting its daemons again.
sub ntlm {
    my ($on) = @_;
    stop();
    my $conf = "$base/fs/etc/samba/smb.conf";
    my $text = Lab::Box::slurp($conf) =~ s/^\s*ntlm auth\b.*\n//mr;
    $text =~ s/^(\[global\]\n)/$1\tntlm auth = disabled\n/m if !$on;
    Lab::Box::spew($conf, $text, 0644);
    return again();
}

# Nothing arrives at the controller or leaves it (1), or everything again (0).
sub silent { ($silent) = @_; return _filter() }

# One port, TCP and UDP, for everybody but itself: 'refuse', 'drop' or 'open'.
sub port {
    my ($number, $how) = @_;
    $how =~ m/\A(?:refuse|drop|open)\z/ or die "port: '$how'?\n";
    if ($how eq 'open') { delete($closed{$number}) }
    else { $closed{$number} = $how }
    return _filter();
}

# DNS: 'silent', 'refuse' (nobody listens), 'no-srv' (it answers, but knows no services) or 'answer'.
sub dns {
    my ($how) = @_;
    my %port = (silent => 'drop', refuse => 'refuse', 'no-srv' => 'open', answer => 'open');
    port(53, $port{$how} // die "dns: '$how'?\n");
    return _ask('services', there => $how eq 'no-srv' ? JSON::PP::false : JSON::PP::true);
}

# No trouble any more, except for the clock.
sub heal {
    %closed = ();
    $silent = 0;
    _filter();
    return _ask('services', there => JSON::PP::true);
}

sub _filter {
    my @in;
    push @in, 'iifname "eth0" drop' if $silent;
    for my $port (sort keys %closed) {
        push @in, $closed{$port} eq 'drop' ? map { "iifname \"eth0\" $_ dport $port drop" } qw(tcp udp) : ("iifname \"eth0\" tcp dport $port reject with tcp reset", "iifname \"eth0\" udp dport $port reject");
    }
    my @out = $silent ? ('oifname "eth0" drop') : ();
    my $chain = sub { my ($hook, @rules) = @_; return join("\n", "chain $hook {", "type filter hook $hook priority 0;", @rules, '}', '') };
    dc_must(['nft', '-f', '-'], stdin => "flush ruleset\ntable inet lab {\n" . $chain->('input', @in) . $chain->('output', @out) . "}\n");
    return;
}

# --- a look from the member -------------------------------------------------------------------------------------------

# What a TCP connect to a port of the controller meets: 'open', 'refused' or 'silent'.
sub tcp {
    my ($port, $seconds) = @_;
    return 'open' if IO::Socket::INET->new(PeerAddr => $ADDRESS, PeerPort => $port, Timeout => $seconds // 0.5);
    return $!{ECONNREFUSED} ? 'refused' : 'silent';
}

# Asks the controller's DNS, without the resolver: { state => 'answer', 'none' (no such name or no such record), 'refused',
# 'silent', rcode, count }. Types: A, SRV, SOA.
sub lookup {
    my ($name, $type, $seconds) = @_;
    my %number = (A => 1, SOA => 6, SRV => 33);
    my $socket = IO::Socket::INET->new(PeerAddr => $ADDRESS, PeerPort => 53, Proto => 'udp') or die "no socket: $!\n";
    my $id = int(rand(65536));
    $socket->send(pack('n6', $id, 0x0100, 1, 0, 0, 0) . join('', map { pack('C/a', $_) } split(/\./, $name)) . pack('Cnn', 0, $number{$type}, 1));
    return { state => 'silent' } if !IO::Select->new($socket)->can_read($seconds // 1);
    my $answer;
    return { state => $!{ECONNREFUSED} ? 'refused' : 'silent' } if !defined($socket->recv($answer, 4096)) || length($answer) < 12;
    my (undef, $flags, undef, $count) = unpack('n4', $answer);
    my $rcode = $flags & 15;
    return { state => $rcode == 0 && $count ? 'answer' : 'none', rcode => $rcode, count => $count };
}

# The box asks a name server of its own instead, which answers everything with this number (2: it failed, 5: it refuses), until
# heal_names(). It ends with the box.
my ($liar, $resolver);

sub bad_names {
    my ($rcode) = @_;
    $resolver //= Lab::Box::slurp('/etc/resolv.conf');
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.53', LocalPort => 53, Proto => 'udp') or die "no name server of our own: $!\n";
    $liar = fork() // die "cannot fork: $!\n";
    if (!$liar) {
        my $question;
        while (defined($socket->recv($question, 4096))) {
            # the question as it came, as an answer with that code
            substr($question, 2, 2, pack('n', 0x8180 | $rcode)) if length($question) >= 12;
            $socket->send($question);
        }
        POSIX::_exit(0);
    }
    Lab::Box::spew('/etc/resolv.conf', "search $DNS_DOMAIN\nnameserver 127.0.0.53\n", 0644);
    return;
}

# The box has no name server at all, until heal_names().
sub no_names {
    $resolver //= Lab::Box::slurp('/etc/resolv.conf');
    Lab::Box::spew('/etc/resolv.conf', "search $DNS_DOMAIN\n", 0644);
    return;
}

sub heal_names {
    Lab::Box::spew('/etc/resolv.conf', $resolver, 0644) if defined($resolver);
    undef($resolver);
    if (defined($liar)) {
        kill('KILL', $liar);
        waitpid($liar, 0);
        undef($liar);
    }
    return;
}

# --- the member as an administrator prepares it -----------------------------------------------------------------------

# The box asks the controller, and its own name is found with its domain, at the address on the bridge.
sub resolve_by_dc {
    my (%o) = @_;
    my $host = $o{host} // (POSIX::uname())[1];
    my $address = $o{address} // $MEMBER;
    unlink('/etc/resolv.conf');    # a link on some machines
    Lab::Box::spew('/etc/resolv.conf', "search $DNS_DOMAIN\nnameserver $ADDRESS\n", 0644);
    my @lines = grep { !m/^\s*[0-9a-fA-F.:]+\s.*(?<![\w.-])\Q$host\E(?:\s|\.|$)/ } split(/^/m, Lab::Box::slurp('/etc/hosts'));
    Lab::Box::spew('/etc/hosts', join('', "$address $host.$DNS_DOMAIN $host\n", @lines), 0644);
    return;
}

# Whether the box takes accounts from winbindd, too: installing libnss-winbind says so on one machine and not on another.
sub name_service {
    my ($with) = @_;
    my $text = Lab::Box::slurp('/etc/nsswitch.conf');
    $text =~ s/^((?:passwd|group):.*?)\s*\n/$1\n/mg;
    $text =~ s/^((?:passwd|group):.*?)\s+winbind\b/$1/mg;
    $text =~ s/^((?:passwd|group):.*)$/$1 winbind/mg if $with;
    Lab::Box::spew('/etc/nsswitch.conf', $text, 0644);
    return;
}

# --- accounts and records ---------------------------------------------------------------------------------------------

# A user. Options: disabled, expired, must_change => 1; groups => [names]; ou => 'Top/Below'.
sub user { my ($name, $password, %o) = @_; return _ask('user', name => $name, password => $password, %o) }

# A group (global, security). Options: ou, local => 1 for a domain-local one.
sub group { my ($name, %o) = @_; return _ask('group', name => $name, %o) }

# An organizational unit; 'Top/Below' makes the lower one.
sub ou { my ($path) = @_; return _ask('ou', path => $path) }

# A computer account, as an administrator makes it before the join. Option: ou.
sub computer { my ($name, %o) = @_; return _ask('computer', name => $name, %o) }

# Members are users, groups, or computers with their '$'.
sub add_member { my ($group, @members) = @_; return _ask('member', group => $group, members => \@members, add => JSON::PP::true) }
sub remove_member { my ($group, @members) = @_; return _ask('member', group => $group, members => \@members, add => JSON::PP::false) }

sub set_password { my ($name, $password, %o) = @_; return _ask('password', name => $name, password => $password, %o) }

# Another sAMAccountName, and with it the name to log on with; the SID stays.
sub rename { my ($name, $new) = @_; return _ask('rename', name => $name, new => $new) }

# Users, groups and computers alike; a computer may be named without '$'.
sub delete_account { my ($name) = @_; return _ask('delete', name => $name) }
sub delete_user { my ($name) = @_; return delete_account($name) }
sub delete_group { my ($name) = @_; return delete_account($name) }
sub disable_account { my ($name) = @_; return _ask('enable', name => $name, on => JSON::PP::false) }
sub enable_account { my ($name) = @_; return _ask('enable', name => $name, on => JSON::PP::true) }

# A plain user may create and delete computers in this unit, and do everything to what is in it.
sub delegate { my ($user, $ou) = @_; return _ask('delegate', name => $user, path => $ou) }

# An account: attribute => value, undef if there is none of that name. Lists: servicePrincipalName, memberOf, member, objectClass.
sub account { my ($name) = @_; return _ask('account', name => $name) }

# The SID of an account, or undef.
sub sid { my ($name) = @_; my $a = account($name); return defined($a) ? $a->{objectSid} : undef }

# Sets attributes of an account as they are: name => value, or a list, or undef for none.
sub set_attributes { my ($name, %values) = @_; return _ask('set', name => $name, values => \%values) }

# The same for any entry, by its name below the domain; '' is the domain itself.
sub set_entry { my ($below, %values) = @_; return _ask('set_entry', below => $below, values => \%values) }

# Accounts made from here on have this relative identifier and those after it.
sub next_rid {
    my ($rid) = @_;
    my $pool = $rid + (($rid + 499) << 32);
    return set_entry("CN=RID Set,CN=\U$NAME\E,OU=Domain Controllers", rIDAllocationPool => "$pool", rIDPreviousAllocationPool => "$pool", rIDNextRID => $rid - 1);
}

sub spn_add { my ($name, @spns) = @_; return _ask('spn', name => $name, spns => \@spns, add => JSON::PP::true) }
sub spn_remove { my ($name, @spns) = @_; return _ask('spn', name => $name, spns => \@spns, add => JSON::PP::false) }

# The addresses (A) of a name in the zone; the second form makes them be these, none if there are none.
sub dns_record { my ($host) = @_; return @{ _ask('addresses', host => $host) } }
sub set_dns_record { my ($host, @addresses) = @_; return _ask('set_addresses', host => $host, addresses => \@addresses) }

# Several changes at once are no quicker: one takes some milliseconds.
sub _ask {
    my ($what, %o) = @_;
    _helper() if !defined($helper);
    my $in = $helper->{in};
    print {$in} $json->encode(_characters({ %o, what => $what })), "\n";
    die "no answer from the controller's helper: " . Lab::Box::slurp("$base/helper.err") . "\n" if !IO::Select->new($helper->{out})->can_read(60);
    my $line = readline($helper->{out}) // die "the controller's helper has ended: " . Lab::Box::slurp("$base/helper.err") . "\n";
    my $answer = $json->decode($line);
    die "$what: $answer->{error}\n" if defined($answer->{error});
    return $answer->{result};
}

# A test may have names as bytes or as characters.
sub _characters {
    my ($value) = @_;
    return { map { $_ => _characters($value->{$_}) } keys %$value } if ref($value) eq 'HASH';
    return [map { _characters($_) } @$value] if ref($value) eq 'ARRAY';
    return $value if ref($value) || !defined($value);
    utf8::decode($value) if !utf8::is_utf8($value);
    return "$value";
}

sub _helper {
    my $script = "$base/helper.py";
    Lab::Box::spew($script, our $HELPER, 0600);
    my @argv = (_enter(), $PYTHON, '-u', $script, $BASE_DN, $DNS_DOMAIN);
    pipe(my $from, my $in) && pipe(my $out, my $to) or die "pipe: $!\n";
    my $pid = fork() // die "cannot fork: $!\n";
    if (!$pid) {
        open(STDIN, '<&', $from) && open(STDOUT, '>&', $to) && open(STDERR, '>', "$base/helper.err") or POSIX::_exit(126);
        close($_) for $in, $out, $from, $to;
        exec { $argv[0] } @argv;
        POSIX::_exit(127);
    }
    close($from);
    close($to);
    $in->autoflush(1);
    # its child in the other PID namespace is the helper itself; it says so at once, before it loads much
    my $hello = IO::Select->new($out)->can_read(20) ? readline($out) : undef;
    my ($inside) = defined($hello) ? $hello =~ m/\A(\d+)/ : ();
    die 'the helper does not start: ' . Lab::Box::slurp("$base/helper.err") . "\n" if !defined($inside);
    $helper = { in => $in, out => $out };
    my $ns = readlink("/proc/$holder/ns/pid");
    ($helper->{inside}) = grep { (readlink("/proc/$_/ns/pid") // '') eq $ns && Lab::Box::slurp("/proc/$_/status") =~ m/^NSpid:.*\t$inside$/m } map { m/(\d+)\z/ } glob('/proc/[0-9]*');
    return;
}

# One request a line, one answer a line, JSON. Everything is done as the system, in the database.
our $HELPER = <<'PYTHON';
import json, os, sys

print(os.getpid())

import ldb
from samba import sd_utils
from samba.auth import system_session
from samba.dcerpc import dnsp, misc, security
from samba.ndr import ndr_pack, ndr_unpack
from samba.param import LoadParm
from samba.samdb import SamDB

BASE, ZONE = sys.argv[1:3]
LISTS = ("servicePrincipalName", "memberOf", "member", "objectClass")
TEXTS = LISTS + ("sAMAccountName", "userAccountControl", "dNSHostName", "userPrincipalName", "pwdLastSet", "accountExpires",
                 "msDS-KeyVersionNumber", "msDS-SupportedEncryptionTypes", "operatingSystem", "operatingSystemVersion",
                 "primaryGroupID", "description", "cn", "whenCreated", "groupType")
DOMAIN_ZONES = "CN=MicrosoftDNS,DC=DomainDnsZones," + BASE
FOREST_ZONES = "CN=MicrosoftDNS,DC=ForestDnsZones," + BASE

_db = None
_services = {}


def db():
    global _db
    if _db is None:
        lp = LoadParm()
        lp.load_default()
        _db = SamDB(url=lp.private_path("sam.ldb"), session_info=system_session(), lp=lp)
    return _db


def find(name, attrs=("sAMAccountName",)):
    n = ldb.binary_encode(name)
    found = db().search(BASE, ldb.SCOPE_SUBTREE, "(|(sAMAccountName=%s)(sAMAccountName=%s$))" % (n, n), list(attrs))
    # 'box' is the user of that name, if there is one, before the computer
    return sorted(found, key=lambda m: len(str(m["sAMAccountName"])))[0] if len(found) else None


def need(name):
    found = find(name)
    if found is None:
        raise Exception("there is no account '%s'" % name)
    return found


def unit(path):
    return ",".join(["OU=" + p for p in reversed(path.split("/"))])


def modify(dn, **changes):
    m = ldb.Message(dn)
    for key, (flag, values) in changes.items():
        m[key] = ldb.MessageElement(values, flag, key)
    db().modify(m)


def replace(dn, name, values):
    modify(dn, **{name: (ldb.FLAG_MOD_REPLACE, values)})


def user(name, password, ou=None, disabled=False, expired=False, must_change=False, groups=()):
    db().newuser(name, password, userou=unit(ou) if ou else None, force_password_change_at_next_login_req=bool(must_change))
    dn = need(name).dn
    if expired:
        replace(dn, "accountExpires", "116444736000000000")
    if disabled:
        enable(name, False)
    for g in groups:
        member(g, [name], True)


def group(name, ou=None, local=False):
    kind = security_group_local if local else None
    db().newgroup(name, groupou=unit(ou) if ou else None, grouptype=kind)


security_group_local = -2147483644


def ou(path):
    db().add({"dn": unit(path) + "," + BASE, "objectClass": "organizationalUnit"})


def computer(name, ou=None):
    db().newcomputer(name, computerou=unit(ou) if ou else None)


def member(group, members, add):
    db().add_remove_group_members(group, members, add_members_operation=bool(add), member_types=["user", "group", "computer"])


def password(name, password, must_change=False):
    dn = need(name).dn
    replace(dn, "unicodePwd", ('"%s"' % password).encode("utf-16-le"))
    if must_change:
        replace(dn, "pwdLastSet", "0")


def rename(name, new):
    dn = need(name).dn
    replace(dn, "sAMAccountName", new)
    if "userPrincipalName" in db().search(dn, ldb.SCOPE_BASE, attrs=["userPrincipalName"])[0]:
        replace(dn, "userPrincipalName", new + "@" + ZONE)


def delete(name):
    # a computer may have things below it
    db().delete(need(name).dn, ["tree_delete:1"])


def enable(name, on):
    m = find(name, ("sAMAccountName", "userAccountControl")) or need(name)
    flags = int(str(m["userAccountControl"]))
    replace(m.dn, "userAccountControl", str(flags & ~2 if on else flags | 2))


def delegate(name, path):
    sid = ndr_unpack(security.dom_sid, find(name, ("sAMAccountName", "objectSid"))["objectSid"][0])
    utils = sd_utils.SDUtils(db())
    dn = unit(path) + "," + BASE
    utils.dacl_add_ace(dn, "(OA;;CCDC;bf967a86-0de6-11d0-a285-00aa003049e2;;%s)" % sid)
    utils.dacl_add_ace(dn, "(A;CI;RPWPCRCCDCLCLORCWOWDSDDTSW;;;%s)" % sid)


def account(name):
    m = find(name, TEXTS + ("objectSid", "objectGUID"))
    if m is None:
        return None
    a = {k: [] for k in LISTS}
    a["dn"] = str(m.dn)
    for k in TEXTS:
        if k in m:
            a[k] = [str(v) for v in m[k]] if k in LISTS else str(m[k])
    a["objectSid"] = str(ndr_unpack(security.dom_sid, m["objectSid"][0]))
    a["objectGUID"] = str(ndr_unpack(misc.GUID, m["objectGUID"][0]))
    return a


def set_at(dn, values):
    for key, value in values.items():
        replace(dn, key, [] if value is None else [str(v) for v in value] if isinstance(value, list) else str(value))


def set(name, values):
    set_at(need(name).dn, values)


def set_entry(below, values):
    set_at(ldb.Dn(db(), (below + "," if below else "") + BASE), values)


def spn(name, spns, add):
    modify(need(name).dn, servicePrincipalName=(ldb.FLAG_MOD_ADD if add else ldb.FLAG_MOD_DELETE, spns))


def records(node):
    return [ndr_unpack(dnsp.DnssrvRpcRecord, r) for r in node["dnsRecord"]] if "dnsRecord" in node else []


def node(host):
    return ldb.Dn(db(), "DC=%s,DC=%s,%s" % (host.split(".")[0], ZONE, DOMAIN_ZONES))


def addresses(host):
    try:
        found = db().search(node(host), ldb.SCOPE_BASE, attrs=["dnsRecord"])
    except ldb.LdbError as e:
        if e.args[0] == ldb.ERR_NO_SUCH_OBJECT:
            return []
        raise
    return sorted(r.data for r in records(found[0]) if r.wType == dnsp.DNS_TYPE_A)


def set_addresses(host, addresses):
    new = []
    for a in addresses:
        r = dnsp.DnssrvRpcRecord()
        r.wType, r.data, r.rank, r.dwTtlSeconds, r.dwSerial = dnsp.DNS_TYPE_A, a, dnsp.DNS_RANK_ZONE, 900, 1
        new.append(ndr_pack(r))
    dn = node(host)
    there = len(db().search("DC=%s,%s" % (ZONE, DOMAIN_ZONES), ldb.SCOPE_ONELEVEL, "(dc=%s)" % ldb.binary_encode(host.split(".")[0]), ["dc"])) > 0
    if there and not new:
        db().delete(dn)
    elif there:
        modify(dn, dnsRecord=(ldb.FLAG_MOD_REPLACE, new), dNSTombstoned=(ldb.FLAG_MOD_REPLACE, []))
    elif new:
        m = ldb.Message(dn)
        m["objectClass"] = "dnsNode"
        m["dnsRecord"] = ldb.MessageElement(new, ldb.FLAG_MOD_ADD, "dnsRecord")
        db().add(m)


def services(there):
    # the records of services, and nothing else, are taken out of both zones and put back as they were
    if not there and not _services:
        for base in (DOMAIN_ZONES, FOREST_ZONES):
            for n in db().search(base, ldb.SCOPE_SUBTREE, "(objectClass=dnsNode)", ["dnsRecord"]):
                if any(r.wType == dnsp.DNS_TYPE_SRV for r in records(n)):
                    _services[str(n.dn)] = [bytes(r) for r in n["dnsRecord"]]
        for dn in _services:
            modify(ldb.Dn(db(), dn), dnsRecord=(ldb.FLAG_MOD_REPLACE, []))
    elif there:
        for dn in list(_services):
            modify(ldb.Dn(db(), dn), dnsRecord=(ldb.FLAG_MOD_REPLACE, _services.pop(dn)))


KNOWN = {f.__name__: f for f in (user, group, ou, computer, member, password, rename, delete, enable, delegate, account, set, set_entry, spn, addresses, set_addresses, services)}
for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"result": KNOWN[request.pop("what")](**request)}
    except Exception as e:
        answer = {"error": " ".join(str(e).split())}
    print(json.dumps(answer))
PYTHON

1;
