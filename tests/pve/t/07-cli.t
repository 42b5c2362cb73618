# SPDX-License-Identifier: AGPL-3.0-or-later
# The command line: arguments, secrets, forms of answers, exit status, signals; on plain Debian (own section file) and on Proxmox
# (through its own API). The library is the fake: what it is asked is the contract here.

use strict;
use warnings;
use utf8;

use JSON::PP ();
use Test::More;
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;

binmode($_, ':utf8') for Test::More->builder->output, Test::More->builder->failure_output;

my $tool = "$Harness::TOP/PVE/bin/pve-smbgateway";
my $world;

sub fresh {
    my (%o) = @_;
    $world = Harness::world(api => [15, 6], inc => ["$Harness::HERE/fake"]);
    $world->{env} = { FAKE_SMBGW_LOG => $world->dir() . '/log', FAKE_SMBGW_USAGE => '100,60,40,1,500' };
    return;
}

# on plain Debian: only our own modules and the fake library
sub run {
    my ($argv, %o) = @_;
    unlink($world->dir() . '/log');
    my @config = $o{proxmox} ? () : ('--config', $world->dir() . '/own.cfg');
    my $got = $world->command([$^X, ($o{proxmox} ? () : ('-I', "$Harness::HERE/fake", '-I', $Harness::TOP)), $tool, map({ my $a = $_; utf8::encode($a); $a } @$argv), @config], %o);
    $got->{code} = $got->{status} >> 8;
    utf8::decode($got->{$_}) for qw(out err);
    $got->{json} = eval { JSON::PP->new->decode($got->{out}) };
    $got->{calls} = [map { JSON::PP->new->utf8->decode($_) } split(/\n/, $world->read('log') // '')];
    return $got;
}

sub begun { my ($got) = @_; return [map { [$_->[1], $_->[2]] } grep { $_->[0] eq 'begin' } @{ $got->{calls} }] }
sub secrets { my ($got) = @_; return [map { pack('H*', $_->[2]) } grep { $_->[0] eq 'secret' } @{ $got->{calls} }] }

fresh();

# --- what is said without doing anything
my $got = run(['help']);
is($got->{code}, 0, 'help');
like($got->{out}, qr/^usage: pve-smbgateway COMMAND/, 'on standard output');
for my $command (qw(plan create set delete status list audit resume repair reconcile schema version), 'user create', 'group add-member') {
    like($got->{out}, qr/^  \Q$command\E\b/m, "it names $command");
    is(run([split(/ /, $command), '--help'])->{code}, 0, "$command --help");
}
for my $bad (['nonsense'], ['create'], ['create', 'a1', 'b1'], ['create', 'a1', '--no-such-option', '1'], ['create', 'a1', '--path'], ['user'], ['user', 'nonsense'], ['group', 'add-member', 'g'],
    ['list', 'x1'], ['set', 'a1'], ['list', '--output-format', 'xml'], ['plan', 'create', 'a1', 'b1']) {
    $got = run($bad);
    is($got->{code}, 1, join(' ', @$bad) . ': exit 1');
    like($got->{err}, qr/^pve-smbgateway: [a-z'-].*\n  (?:usage: |see )/, 'says what is wrong and what would be right');
    is_deeply(begun($got), [], 'does nothing');
}

# --- secrets
for my $form (['--password', 'geheim'], ['--password=geheim'], ['-password', 'geheim']) {
    $got = run(['user', 'create', 'anna', @$form]);
    is($got->{code}, 1, "@$form is refused");
    like($got->{err}, qr/visible to every user.*--password-stdin/s, 'with the reason and the way');
    unlike($got->{err} . $got->{out}, qr/geheim/, 'and is not repeated');
    is_deeply(begun($got), [], 'nothing is done');
}
$got = run(['user', 'create', 'anna', '--password-stdin'], stdin => "  gehe\xc3\xafm \n second line\n");
is($got->{code}, 0, 'user create');
is_deeply(secrets($got), ["  gehe\xc3\xafm "], 'one line of standard input, octet by octet, is the password');
is(begun($got)->[0]->[0], 'user.create', 'for the right operation');
is(begun($got)->[0]->[1]->{name}, 'anna', 'and user');
ok(!exists(begun($got)->[0]->[1]->{password}), 'it is no parameter');
is(run(['user', 'create', 'anna', '--password-stdin'], stdin => "\n")->{code}, 1, 'an empty password is refused');
is(run(['user', 'create', 'anna', '--password-stdin'], stdin => '')->{code}, 1, 'and none');
$got = run(['user', 'password', 'anna']);
like($got->{err}, qr/--password-stdin/, 'without a terminal the way is said');
for my $case (['user', 'disable', 'anna'], ['user', 'enable', 'anna'], ['user', 'remove', 'anna'], ['group', 'create', 'staff'], ['group', 'remove', 'staff']) {
    $got = run([@$case, '--gateway', 'native']);
    is($got->{code}, 0, "@$case");
    is(begun($got)->[0]->[0], "$case->[0].$case->[1]", 'asks for its operation');
    is(begun($got)->[0]->[1]->{gateway}, 'native', 'of the gateway');
}
$got = run(['group', 'add-member', 'staff', 'jörg']);
is_deeply([@{ begun($got)->[0]->[1] }{qw(name user)}], ['staff', 'jörg'], 'names are characters');

# --- a share on plain Debian
$world->write('own.cfg', "dir: backup\n\tpath /srv/backup\n\n");
my $foreign = $world->read('own.cfg');
$got = run(['create', 'office', '--path', '/srv/office', '--share', 'Büro ☃', '--username', 'anna', '--smbgw-mode', 'native', '--password-stdin'], stdin => "geheim\n");
is($got->{code}, 0, 'create') or diag($got->{err});
is_deeply([map { $_->[0] } @{ begun($got) }], ['share.create', 'reconcile'], 'one run, then what it recorded is carried out');
is_deeply([sort keys %{ begun($got)->[0]->[1]->{sections} }], ['backup'], 'the other sections are passed');
is(begun($got)->[0]->[1]->{section}->{share}, 'Büro ☃', 'and the own one');
like($got->{out}, qr/^\s*[\d.]+ s  +done +do it  \(1 ms\)$/m, 'steps are shown with their times');
like($got->{out}, qr/share 'Büro ☃' \(office\) is ready/, 'and the result');
is($world->read('own.cfg'), $foreign . "smbgateway: office\n\tpath /srv/office\n\tnodes pve1\n\tshare B\xc3\xbcro \xe2\x98\x83\n\tsmbgw-gateway native\n\tsmbgw-mode native\n\tusername anna\n\n", 'the section is written');
$got = run(['create', 'office', '--path', '/srv/other']);
is($got->{code}, 3, 'twice is a conflict');
$got = run(['set', 'office', '--disable', '--smbgw-access', 'rw:@staff', '--delete', 'username']);
is($got->{code}, 0, 'set') or diag($got->{err});
is(begun($got)->[0]->[0], 'share.update', 'one run');
is_deeply([@{ begun($got)->[0]->[1]->{section} }{qw(disable smbgw-access username path)}], ['1', 'rw:@staff', undef, '/srv/office'], 'with the complete new section');
like($world->read('own.cfg'), qr/\tdisable\n/, 'is written');
unlike($world->read('own.cfg'), qr/username/, 'the deleted property is gone');
is(run(['set', 'office', '--path', '/x'])->{code}, 1, 'a fixed property cannot be changed');
is(run(['set', 'backup', '--disable'])->{code}, 2, 'a section of another type is not ours');
is(run(['delete', 'backup'])->{code}, 2, 'nor can it be deleted');
is(run(['delete', 'nosuch1'])->{code}, 2, 'nor what is not there');
$got = run(['plan', 'office']);
is_deeply([@{ (grep { $_->[0] eq 'query' } @{ $got->{calls} })[0] }[1, 2]]->[1]->{op}, 'share.update', 'plan ID plans a change of what is there');
is(run(['plan', 'delete', 'office'])->{code}, 0, 'plan delete ID');
is_deeply(begun($got), [], 'a plan does nothing');
$world->{env}->{FAKE_SMBGW} = 'fail=share.delete';
$got = run(['delete', 'office']);
is($got->{code}, 9, 'a failing delete: the number of its kind');
like($got->{err}, qr/smbd does not answer – sorry\n  start it/, 'message and remedy');
like($world->read('own.cfg'), qr/^smbgateway: office/m, 'the section stays');
$world->{env}->{FAKE_SMBGW} = '';
is(run(['delete', 'office'])->{code}, 0, 'delete');
is($world->read('own.cfg'), $foreign, 'the file is as before');
$world->{env}->{FAKE_SMBGW} = 'invalid=share.create';
$got = run(['create', 'office', '--path', '/etc', '--output-format', 'json']);
is($got->{code}, 1, 'a wrong section');
is_deeply($got->{json}->{error}->{problems}, [{ property => 'path', message => 'is a system directory' }, { property => 'share', message => 'has a bracket' }], 'all problems by property');
is($world->read('own.cfg'), $foreign, 'nothing is written');
$world->{env}->{FAKE_SMBGW} = '';

# --- lost sections
run(['create', 'office', '--path', '/srv/office']);
my $section = $world->read('own.cfg');
$world->write('own.cfg', $foreign);
$got = run(['repair', '--restore']);
is($got->{code}, 0, 'repair --restore') or diag($got->{err});
like($got->{out}, qr/section of 'office' is back/, 'says what it did');
is($world->read('own.cfg'), $section, 'the section is back');

# --- JSON
$got = run(['list', '--output-format', 'json']);
is($got->{json}->{success}, JSON::PP::true(), 'JSON: success');
like($got->{json}->{timestamp}, qr/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\z/, 'timestamp');
is($got->{json}->{data}->[0]->{id}, 'office', 'data');
is($got->{out} =~ tr/\n//, 1, 'in one line');
$got = run(['status', 'nosuch1', '--output-format=json-pretty']);
is($got->{code}, 2, 'not found: exit 2');
is($got->{json}->{success}, JSON::PP::false(), 'JSON: no success');
is($got->{json}->{error}->{kind}, 'not-found', 'error');
$got = run(['nonsense', '--output-format', 'json']);
is($got->{json}->{error}->{kind}, 'invalid', 'errors of the command line in JSON, too');

# --- signals
for my $signal (qw(TERM INT)) {
    unlink($world->dir() . '/log');
    $world->{env}->{FAKE_SMBGW} = 'slow=user.remove';
    my $pid = fork() // die;
    if (!$pid) {
        select(undef, undef, undef, 0.1) until ($world->read('log') // '') =~ m/"step"/ || $ENV{X}++ > 100;
        my ($child) = map { m!/proc/(\d+)/! } grep { my $h; open($h, '<', $_) ? do { local $/; (<$h> // '') =~ m/pve-smbgateway\0user\0remove/ } : 0 } glob('/proc/[0-9]*/cmdline');
        kill($signal, $child) if $child;
        POSIX::_exit(0);
    }
    $got = $world->command(['timeout', '20', $^X, '-I', "$Harness::HERE/fake", '-I', $Harness::TOP, $tool, 'user', 'remove', 'anna', '--config', $world->dir() . '/own.cfg']);
    waitpid($pid, 0);
    my @calls = map { JSON::PP->new->utf8->decode($_)->[0] } split(/\n/, $world->read('log') // '');
    is($calls[-1], 'interrupt', "SIG$signal interrupts the run");
    ok($got->{status} != 0, 'the command fails') or diag($got->{status});
    like($got->{err}, qr/interrupted by SIG$signal/, 'and says why');
}
$world->{env}->{FAKE_SMBGW} = '';

# --- no library
$got = do { local $world->{inc} = []; $world->command([$^X, '-I', $Harness::TOP, $tool, 'list', '--config', '/nonexistent'], env => { PERL5LIB => '' }) };
is($got->{status} >> 8, 6, 'without the library: exit 6');
like($got->{err}, qr/the SMB gateway library cannot be used: .*\n  install or repair/, 'with what to do');

# --- on Proxmox
SKIP: {
    skip 'needs root', 1 if $> != 0;
    fresh();
    $got = run(['create', 'office', '--path', '/srv/office', '--share', 'Büro', '--username', 'anna', '--smbgw-mode', 'native', '--password-stdin'], stdin => "gehe\xc3\xafm\n", proxmox => 1);
    is($got->{code}, 0, 'create on Proxmox') or diag($got->{err});
    is_deeply(secrets($got), ["gehe\xc3\xafm"], 'the password arrives as UTF-8');
    like($got->{out}, qr/done +do it/, 'the steps of the hook are shown');
    like($world->storage_cfg(), qr/^smbgateway: office\n(?:\t.*\n)*\tshare B\xc3\xbcro\n/m, 'storage.cfg has the section');
    $got = run(['set', 'office', '--disable'], proxmox => 1);
    is($got->{code}, 0, 'set') or diag($got->{err});
    like($world->storage_cfg(), qr/\tdisable\n/, 'is in storage.cfg');
    my $with = $world->storage_cfg();
    $world->write('pve/storage.cfg', '');
    $got = run(['repair', '--restore'], proxmox => 1);
    is($got->{code}, 0, 'repair --restore') or diag($got->{err});
    like($world->storage_cfg(), qr/^smbgateway: office\n(?:\t.*\n)*\tshare B\xc3\xbcro\n/m, 'the section is back');
    is(run(['delete', 'local'], proxmox => 1)->{code}, 2, 'another storage is not ours');
    $got = run(['delete', 'office'], proxmox => 1);
    is($got->{code}, 0, 'delete') or diag($got->{err});
    unlike($world->storage_cfg(), qr/smbgateway/, 'is gone');
    $world->{env}->{FAKE_SMBGW} = 'invalid=share.create';
    $got = run(['create', 'office', '--path', '/etc'], proxmox => 1);
    isnt($got->{code}, 0, 'a refused create fails');
    like($got->{err}, qr/path: is a system directory/, 'naming the property');
}

done_testing();
