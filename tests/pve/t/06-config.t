# SPDX-License-Identifier: AGPL-3.0-or-later
# The section file of a machine without Proxmox: what is not changed stays byte for byte.

use strict;
use warnings;
use utf8;

use Fcntl qw(:flock);
use File::Temp ();
use Test::More;
use FindBin;
use lib "$FindBin::Bin/../../..";
use PVE::SMBGateway::Config;

my $dir = File::Temp::tempdir(CLEANUP => 1);
my $file = $PVE::SMBGateway::Config::FILE = "$dir/storage.cfg";

sub spew { my ($text) = @_; open(my $fh, '>:raw', $file) or die; print {$fh} $text; close($fh); return }
sub slurp { open(my $fh, '<:raw', $file) or return undef; local $/; return scalar(<$fh>) }
sub put { my @args = @_; return PVE::SMBGateway::Config::locked(sub { PVE::SMBGateway::Config::put(@args) }) }
sub drop { my @args = @_; return PVE::SMBGateway::Config::locked(sub { PVE::SMBGateway::Config::drop(@args) }) }
sub sections { return PVE::SMBGateway::Config::sections() }

my $ours = { type => 'smbgateway', path => '/srv/office', share => 'Büro ☃', disable => '1', 'smbgw-access' => 'rw:@EX AMPLE\Domain Users' };

# --- adding and dropping leaves every foreign byte where it is
my %foreign = (
    'Proxmox style' => "dir: local\n\tpath /var/lib/vz\n\tcontent iso,backup\n\nzfspool: tank\n\tpool tank/x\n\tdisable\n\n",
    'odd spaces and comments' => "# head\n\n\n  # indented\ndir:   local  \n   path    /x  \n# inside\n\tcontent   iso, backup  \n\n\n\n# tail\n\n",
    'an unknown type with doubled keys' => "future: thing\n\tk 1\n\tk 2\n\tflag\n\n",
    'no empty line at the end' => "dir: local\n\tpath /x\n",
    'no line feed at the end' => "dir: local\n\tpath /x",
    'carriage returns' => "dir: local\r\n\tpath /x\r\n\r\n\r\n",
    'octets that are no UTF-8' => "dir: local\n\tpath /x\n\tcomment caf\xe9 \x00\x01\n\n",
    'not a section file' => "hello\nworld\n",
    'only empty lines' => "\n\n",
    'a very long line' => "dir: local\n\tpath /" . ('x' x 100_000) . "\n\n",
    'nothing' => undef,
);
for my $name (sort keys %foreign) {
    my $text = $foreign{$name};
    unlink($file);
    spew($text) if defined($text);
    my $before = sections();
    put('office', $ours);
    is_deeply(sections()->{office}, $ours, "$name: what is put can be read");
    my %rest = %{ sections() };
    delete($rest{office});
    is_deeply(\%rest, $before, 'the other sections read as before');
    ok(index(slurp(), $text // '') >= 0, 'every foreign byte is still there, in one piece');
    put('office', { %$ours, share => 'other', disable => undef, nodes => 'pve1' });
    is_deeply(sections()->{office}, { type => 'smbgateway', path => '/srv/office', share => 'other', nodes => 'pve1', 'smbgw-access' => $ours->{'smbgw-access'} }, 'a change can be read');
    put('second', { path => '/srv/second' });
    is(drop('office'), 1, 'dropped');
    is(drop('office'), 0, 'once');
    drop('second');
    is(slurp(), $text, 'the file is as before');
}

# --- within a section only the changed lines change
spew("smbgateway: office\n\t# who asked for it: Petra\n   path    /srv/office\n\tshare   Alt\n\n");
put('office', { path => '/srv/office', share => 'Neu' });
is(slurp(), "smbgateway: office\n\t# who asked for it: Petra\n   path    /srv/office\n\tshare Neu\n\n", 'comments and spacing of the section stay');

# --- what cannot be a section is refused
for my $id ("a\nb", 'a b', '-x', 'x', "office\n", 'ä1', '') {
    eval { put($id, $ours) };
    is(ref($@) && $@->kind(), 'invalid', 'a bad id is refused');
}
for my $bad ({ path => "/x\n\tcontent images" }, { "k\nk" => 1 }, { share => "a\rb" }) {
    eval { put('office', $bad) };
    is(ref($@) && $@->kind(), 'invalid', 'a line feed is refused');
}

# --- mode and owner stay, the file of a symlink is replaced and not the link, no temporary file is left
chmod(0600, $file);
put('office', $ours);
is((stat($file))[2] & 07777, 0600, 'the mode stays');
rename($file, "$dir/real.cfg");
symlink("$dir/real.cfg", $file);
put('office', { %$ours, share => 'linked' });
ok(-l $file, 'a symlink stays one');
is(sections()->{office}->{share}, 'linked', 'and its target changes');
is_deeply([sort map { m!([^/]+)\z! } glob("$dir/* $dir/.[a-z]*")], ['real.cfg', 'storage.cfg'], 'nothing else is left in the directory');

# --- two at once
unlink($file, "$dir/real.cfg");
my @pids;
for my $n (1 .. 6) {
    my $pid = fork() // die;
    if (!$pid) { put("share$n-$_", { path => "/srv/$n/$_" }) for 1 .. 8; require POSIX; POSIX::_exit(0) }
    push @pids, $pid;
}
waitpid($_, 0) for @pids;
is(scalar(keys %{ sections() }), 48, 'concurrent changes are all there');

# --- a lock that is not given up
{
    my $pid = fork() // die;
    if (!$pid) { open(my $lock, '<', $dir); flock($lock, LOCK_EX); select(undef, undef, undef, 30); require POSIX; POSIX::_exit(0) }
    select(undef, undef, undef, 0.3);
    local $PVE::SMBGateway::Config::LOCK_WAIT = 0.2;
    ok(!eval { PVE::SMBGateway::Config::locked(sub { 1 }) }, 'a held lock is not taken');
    is(ref($@) && $@->kind(), 'busy', 'and the error says so');
    kill('KILL', $pid);
    waitpid($pid, 0);
}

# --- sections as Proxmox decodes them
is_deeply(
    PVE::SMBGateway::Config::to_strings({ type => 'smbgateway', nodes => { b => 1, a => 1 }, content => {}, 'content-dirs' => { iso => 'i', backup => 'b' }, shared => 1, share => "B\xc3\xbcro", x => undef }),
    { type => 'smbgateway', nodes => 'a,b', content => 'none', 'content-dirs' => 'backup=b,iso=i', shared => '1', share => 'Büro' },
    'sets, maps and octets become strings',
);

done_testing();
