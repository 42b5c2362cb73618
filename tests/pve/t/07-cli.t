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

my $tool = $Harness::TOOL;
my $world;

sub fresh {
    my (%o) = @_;
    $world = Harness::world(api => [15, 6], inc => ["$Harness::HERE/fake"]);
    $world->{env} = { FAKE_SMBGW_LOG => $world->dir() . '/log', FAKE_SMBGW_USAGE => '100,60,40,1,500' };
    return;
}

sub run { return $world->tool(@_) }

sub begun { my ($got) = @_; return [map { [$_->[1], $_->[2]] } grep { $_->[0] eq 'begin' } @{ $got->{calls} }] }
sub secrets { my ($got) = @_; return [map { pack('H*', $_->[2]) } grep { $_->[0] eq 'secret' } @{ $got->{calls} }] }

fresh();

# --- what is said without doing anything
my $got = run(['help']);
is($got->{code}, 0, 'help');
like($got->{out}, qr/^usage: pve-smbgateway COMMAND/, 'on standard output');
for my $command (qw(plan create set delete status list shift audit resume repair reconcile schema version), 'user create', 'group add-member', map({ "gateway $_" } qw(list start stop restart upgrade adopt)), map({ "template $_" } qw(list build prune))) {
    like($got->{out}, qr/^  \Q$command\E\b/m, "it names $command");
    is(run([split(/ /, $command), '--help'])->{code}, 0, "$command --help");
}
like(run(['help', 'user', 'create'])->{out}, qr/^usage: pve-smbgateway user create NAME/, 'help of one command');
for my $bad (['nonsense'], ['help', 'nonsense'], ['create'], ['create', 'a1', 'b1'], ['create', 'a1', '--no-such-option', '1'], ['create', 'a1', '--path'], ['user'], ['user', 'nonsense'], ['group', 'add-member', 'g'], ['gateway'], ['gateway', 'start'], ['gateway', 'adopt', 'g'], ['template', 'list', 'x'], ['template', 'build', '--keep', '1'], ['template', 'prune', '--keep', 'all'], ['shift'], ['gateway', 'start', 'g', '--template', 't'],
    ['list', 'x1'], ['set', 'a1'], ['list', '--output-format', 'xml'], ['plan', 'create', 'a1', 'b1']) {
    $got = run($bad);
    is($got->{code}, 64, join(' ', @$bad) . ': exit 64');
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

# --- gateways, templates, trees
for my $case (
    [['gateway', 'start', 'files'], 'gateway.start', { name => 'files' }, qr/^gateway 'files' is started \(container 100\)$/m],
    [['gateway', 'stop', 'files'], 'gateway.stop', { name => 'files' }, qr/is stopped/],
    [['gateway', 'restart', 'files'], 'gateway.restart', { name => 'files' }, qr/is restarted/],
    [['gateway', 'upgrade', 'files'], 'gateway.upgrade', { name => 'files' }, qr/is upgraded to 0\.2 \(container 100\)/],
    [['gateway', 'upgrade', 'files', '--template', '0.1'], 'gateway.upgrade', { name => 'files', template => '0.1' }, qr/is upgraded/],
    [['gateway', 'adopt', 'files', '120'], 'gateway.adopt', { name => 'files', vmid => '120' }, qr/is adopted/],
    [['template', 'build'], 'template.build', {}, qr/^template '0\.2' is built$/m],
    [['template', 'build', '--suite', 'trixie', '--storage', 'local', '--mirror', 'http://deb.example.org', '--name', 'mine'], 'template.build', { suite => 'trixie', storage => 'local', mirror => 'http://deb.example.org', name => 'mine' }, qr/is built/],
    [['template', 'prune'], 'template.prune', {}, qr/are removed/],
    [['template', 'prune', '--keep', '2'], 'template.prune', { keep => 2 }, qr/are removed/],
    [['shift', '/srv/büro'], 'tree.shift', { path => '/srv/büro' }, qr!^/srv/büro has the numbers of an unprivileged container$!m],
    [['shift', '/srv/a', '--back'], 'tree.shift', { path => '/srv/a', back => JSON::PP::true() }, qr/has its own numbers again/],
    [['limits', 'office'], 'share.limits', { id => 'office' }, qr/^the limits of share 'office' are set again$/m],
    [['repair', '--gateway', 'files'], 'share.repair', { gateway => 'files', sections => {} }, qr/^repaired$/m],
) {
    my ($argv, $op, $params, $text) = @$case;
    $got = run($argv);
    is($got->{code}, 0, "@$argv") or diag($got->{err});
    my %asked = %{ begun($got)->[0]->[1] };
    delete($asked{actor});
    is_deeply([begun($got)->[0]->[0], \%asked], [$op, $params], "asks for $op");
    like($got->{out}, $text, 'and says so');
}
$world->{env}->{FAKE_SMBGW} = 'fail=gateway.start';
is(run(['gateway', 'start', 'files'])->{code}, 9, 'a failure: the number of its kind');
$world->{env}->{FAKE_SMBGW} = '';
{
    local $world->{env} = {
        %{ $world->{env} },
        FAKE_SMBGW_GATEWAYS => '{"node":"pve1","gateways":[{"gateway":"native","mode":"native","node":"pve1","shares":["a1"],"users":2},'
            . '{"gateway":"files","mode":"lxc","node":"pve1","shares":["b1","c1"],"users":0,"samba-running":true,"container":{"vmid":120,"running":true,"stopped":false,"template":"0.1","pending":["mp1"]}},'
            . '{"gateway":"far","mode":"lxc","node":"pve2","shares":[],"users":1}]}',
        FAKE_SMBGW_TEMPLATES => '{"node":"pve1","templates":[{"name":"0.1.20261124","suite":"bookworm","arch":"amd64","samba":"4.17.12","version":"0.1.0","built-ms":1790000000000,"storage":"local","path":"/x/y.tar.gz","present":true,"in-use":true},{"name":"old","suite":"bookworm","storage":"local","path":"/x/z","present":false,"in-use":false}]}',
    };
    $got = run(['gateway', 'list']);
    is($got->{code}, 0, 'gateway list');
    is(join('|', map { join(',', split(/\s+/)) } split(/\n/, $got->{out})), 'NAME,MODE,NODE,VMID,CONTAINER,SAMBA,TEMPLATE,PENDING,USERS,SHARES|native,native,pve1,2,a1|files,lxc,pve1,120,running,running,0.1,mp1,0,b1,,c1|far,lxc,pve2,1', 'is a table') or diag($got->{out});
    is(run(['gateway', 'list', '--output-format', 'json'])->{json}->{data}->{gateways}->[1]->{container}->{vmid}, 120, 'and JSON');
    $got = run(['template', 'list']);
    like($got->{out}, qr/^NAME +SUITE +ARCH +SAMBA +VERSION +BUILT +IN USE +STORAGE +ARCHIVE\n0\.1\.20261124 +bookworm +amd64 +4\.17\.12 +0\.1\.0 +20\S+ \S+ +yes +local +\S+gz\nold .* no +local +missing\n\z/, 'template list is a table') or diag($got->{out});
}

# --- questions
$got = run(['check', 'new', '--path', '/srv/new', '--output-format', 'json']);
is($got->{code}, 0, 'check');
is_deeply([grep { $_->[0] eq 'query' } @{ $got->{calls} }]->[0]->[2]->{section}, { type => 'smbgateway', path => '/srv/new' }, 'of a share that would be');
is(run(['check', 'nosuch1'])->{code}, 2, 'of one that is not');
{
    local $world->{env} = { %{ $world->{env} }, FAKE_SMBGW_CHECK => '{"problems":[{"property":"path","message":"is a system directory"}],"warnings":[]}', FAKE_SMBGW_RENDER => '{"text":"[global]\\n"}', FAKE_SMBGW_USERS => '{"users":[{"name":"anna"},{"name":"ben"}]}' };
    $got = run(['check', 'new', '--path', '/etc']);
    is($got->{code}, 1, 'a share that cannot be: exit 1');
    like($got->{err}, qr/cannot be like this\n  path: is a system directory/, 'with its problems');
    is(run(['render'])->{out}, "[global]\n", 'render prints the configuration');
    is(run(['names', 'users'])->{out}, "anna\nben\n", 'names, one a line');
    is(run(['names', 'nonsense'])->{code}, 64, 'of what there are');
}

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
is($got->{json}->{version}, 1, 'version of the envelope');
like($got->{json}->{timestamp}, qr/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\z/, 'timestamp');
is($got->{json}->{data}->[0]->{id}, 'office', 'data');
is($got->{out} =~ tr/\n//, 1, 'in one line');
$got = run(['status', 'nosuch1', '--output-format=json-pretty']);
is($got->{code}, 2, 'not found: exit 2');
is($got->{json}->{success}, JSON::PP::false(), 'JSON: no success');
is($got->{json}->{error}->{kind}, 'not-found', 'error');
$got = run(['nonsense', '--output-format', 'json']);
is($got->{json}->{error}->{kind}, 'usage', 'errors of the command line in JSON, too');

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

# --- Proxmox is away
mkdir($world->dir() . '/broken');
mkdir($world->dir() . '/broken/PVE');
$world->write('broken/PVE/Storage.pm', "package PVE::Storage;\ndie qq{Can't locate PVE/Tools.pm in the middle of an upgrade\\n};\n");
{
    local $world->{inc} = [$world->dir() . '/broken', @{ $world->{inc} }];
    $got = run(['show'], proxmox => 1);
    is($got->{code}, 69, 'a storage stack that does not load: exit 69');
    like($got->{err}, qr/the storage stack of Proxmox VE does not load: Can't locate.*\n  try 'pvesm status'/, 'says so, and what to do');
    is(run(['delete', 'office', '--output-format', 'json'], proxmox => 1)->{json}->{error}->{kind}, 'unreachable', 'in JSON');
}
$world->write('broken/PVE/Storage.pm', <<'PM');
package PVE::Storage;
sub config { die "ipcc_send_rec[1] failed: Connection refused\n" }
$INC{'PVE/API2/Storage/Config.pm'} = 1;
1;
PM
{
    local $world->{inc} = [$world->dir() . '/broken', @{ $world->{inc} }];
    $got = run(['show'], proxmox => 1);
    is($got->{code}, 69, 'no cluster file system: exit 69');
    like($got->{err}, qr/cannot be read: ipcc_send_rec.*\n  look at 'systemctl status pve-cluster'/, 'says so, and where to look');
}

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
    # what the hook leaves to the worker is done here, and the worker is not started beside us
    fresh();
    $world->write('worker', "#!$^X\nopen(my \$f, '>>', '" . $world->dir() . "/worked'); print {\$f} \"\@ARGV\\n\";");
    chmod(0755, $world->dir() . '/worker');
    $world->{env}->{SMBGW_COMMAND} = $world->dir() . '/worker';
    my @create = ('create', 'office', '--path', '/srv/office', '--smbgw-mode', 'lxc', '--smbgw-memory', '512');
    my $long = $world->{env}->{FAKE_SMBGW} = 'long=share.create;long=share.update;long=share.delete';
    $got = run([@create], proxmox => 1);
    is($got->{code}, 0, 'create of a container') or diag($got->{err});
    is_deeply([map { $_->[0] } @{ begun($got) }], ['share.create', 'reconcile'], 'the hook records, the command goes on');
    is_deeply(begun($got)->[1]->[1]->{ids}, ['office'], 'for that share');
    is(begun($got)->[1]->[1]->{sections}->{office}->{'smbgw-memory'}, '512', 'whose section is written by then');
    like($got->{out}, qr/done +do it.*share 'office' \(office\) is ready/s, 'with its steps, to the end');
    is(() = $got->{err} =~ m/a word/g, 1, 'a warning is given once') or diag($got->{err});
    unlike($got->{err}, qr/background/, 'nothing is said to go on in the background');
    $got = run(['set', 'office', '--smbgw-memory', '1024', '--output-format', 'json'], proxmox => 1);
    is_deeply([map { $_->[0] } @{ begun($got) }], ['share.update', 'reconcile'], 'set goes on as well');
    is($got->{json}->{data}->{state}, 'ready', 'and tells the state it ended with');
    is(begun($got)->[1]->[1]->{sections}->{office}->{'smbgw-memory'}, '1024', 'of the changed section');
    $got = run(['delete', 'office'], proxmox => 1);
    is_deeply([map { $_->[0] } @{ begun($got) }], ['share.delete', 'reconcile'], 'so does delete');
    ok(!exists(begun($got)->[1]->[1]->{sections}->{office}), 'once the section is gone');
    like($got->{out}, qr!share 'office' is removed; its data stays\n  data kept in /srv/office\n!, 'to the end');
    is($world->read('worked'), undef, 'no worker was started');

    # at once
    $got = run([@create, '--no-wait'], proxmox => 1);
    is($got->{code}, 0, '--no-wait');
    is_deeply([map { $_->[0] } @{ begun($got) }], ['share.create'], 'only records');
    like($got->{out}, qr/\(office\) is provisioning/, 'and says so');
    for (1 .. 100) { last if length($world->read('worked') // ''); select(undef, undef, undef, 0.05) }
    is($world->read('worked'), "reconcile --once office\n", 'the worker is started');
    $got = run(['delete', 'office', '--no-wait'], proxmox => 1);
    like($got->{out}, qr/share 'office' is being removed/, 'a removal that goes on');

    # a stop that comes when the hook is at its end: nothing more is begun here
    unlink($world->dir() . '/log.states', $world->dir() . '/worked');
    $world->{env}->{FAKE_SMBGW} = "$long;term=share.create";
    $got = run([@create], proxmox => 1);
    is($got->{status}, POSIX::SIGTERM(), 'a create that is stopped when it is recorded ends by the signal') or diag($got->{err});
    is_deeply([map { $_->[0] } @{ begun($got) }], ['share.create'], 'and builds nothing');
    for (1 .. 100) { last if length($world->read('worked') // ''); select(undef, undef, undef, 0.05) }
    is($world->read('worked'), "reconcile --once office\n", 'the worker does');
    $world->{env}->{FAKE_SMBGW} = $long;
    run(['delete', 'office'], proxmox => 1);

    # it cannot be built
    unlink($world->dir() . '/log.states');
    $world->{env}->{FAKE_SMBGW} = "$long;failbuild=share.create";
    $got = run([@create], proxmox => 1);
    is($got->{code}, 9, 'a build that fails: the number of its kind');
    like($got->{err}, qr/no space left for a container\n  free some\n  the storage is in the configuration; the worker tries again/, 'with what is to be done');
    like($world->storage_cfg(), qr/^smbgateway: office/m, 'the section stays');
    run(['delete', 'office'], proxmox => 1);

    # somebody else is at it
    unlink($world->dir() . '/log.states');
    $world->{env}->{FAKE_SMBGW} = "$long;busy=office";
    $got = run([@create], proxmox => 1);
    is($got->{code}, 0, 'built by another worker') or diag($got->{err});
    is(() = (join(' ', map { $_->[0] } @{ begun($got) }) =~ m/reconcile/g), 3, 'it is waited for');
    like($got->{out}, qr/elsewhere make container 100/, 'and watched');
    like($got->{out}, qr/\(office\) is ready/, 'to the end');

    $world->{env}->{FAKE_SMBGW} = 'invalid=share.create';
    $got = run(['create', 'office2', '--path', '/etc'], proxmox => 1);
    isnt($got->{code}, 0, 'a refused create fails');
    like($got->{err}, qr/path: is a system directory/, 'naming the property');
}

done_testing();
