# SPDX-License-Identifier: AGPL-3.0-or-later
# Documents and several targets: `show`, `apply`, and commands that name several things. The library is the fake: what it is asked, in
# which order and how much at once, is the contract here.

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
my $has_yaml = eval { require YAML::XS; 1 };
my $world;

sub fresh {
    $world = Harness::world(api => [15, 6], inc => ["$Harness::HERE/fake"]);
    $world->{env} = { FAKE_SMBGW_LOG => $world->dir() . '/log', FAKE_SMBGW => '', FAKE_SMBGW_GATEWAYS => '{"gateways":[]}', FAKE_SMBGW_USERS => '{"users":[]}', FAKE_SMBGW_GROUPS => '{"groups":[]}', PVE_STANDIN_APIVER => 15 };
    return;
}

sub run { return $world->tool(@_) }

sub apply {
    my ($doc, @more) = @_;
    my %o = ref($more[-1]) eq 'HASH' ? %{ pop(@more) } : ();
    $world->write('doc', ref($doc) ? JSON::PP->new->utf8->canonical->encode($doc) : $doc);
    return run(['apply', '-f', $world->dir() . '/doc', '--output-format', 'json', @more], %o);
}

sub begun { my ($got) = @_; return [map { [$_->[1], $_->[2]->{id} // $_->[2]->{name} // join(',', @{ $_->[2]->{ids} // [] })] } grep { $_->[0] eq 'begin' } @{ $got->{calls} }] }
sub results { my ($got) = @_; return { map { ("$_->{kind} $_->{id}" => "$_->{action} $_->{result}") } @{ $got->{json}->{data}->{items} // [] } } }
sub problems { my ($got) = @_; return { map { ($_->{property} => $_->{message}) } @{ ($got->{json}->{error} // {})->{problems} // [] } } }

# The runs that leave it to the end to have smbd read its configuration, by operation.
sub later { my ($got) = @_; my %n; $n{ $_->[1] }++ for grep { $_->[0] eq 'begin' && ($_->[2]->{reload} // '') eq 'later' } @{ $got->{calls} }; return \%n }

# The most runs at once, from the lines of the fake; of operations that match.
sub most_at_once {
    my ($which) = @_;
    my ($now, $most) = (0, 0);
    for (grep { !defined($which) || $_ =~ $which } split(/\n/, $world->read('log.busy') // '')) {
        $now += m/\A\+/ ? 1 : -1;
        $most = $now if $now > $most;
    }
    return $most;
}

sub secret_file {
    my ($name, $text, $mode) = @_;
    my $path = $world->write($name, $text);
    chmod($mode // 0600, $path);
    return $path;
}

fresh();
$world->write('own.cfg', "dir: backup\n\tpath /srv/backup\n\n");
my %office = (path => '/srv/office', 'smbgw-mode' => 'native', share => 'Büro ☃', disable => JSON::PP::false());
my %plans = (path => '/srv/plans', 'smbgw-mode' => 'native', 'smbgw-access' => ['rw:@staff', 'ro:anna']);

# --- a document that is wrong in many places: all of it at once, and nothing is done
$world->{env}->{FAKE_SMBGW} = 'nogateway=far';
my $got = apply({
    version => 1, more => 1,
    shares => {
        office => { %office, nonsense => 1, password => 'x', 'smbgw-quota' => JSON::PP::true(), username => 'anna' },
        backup => { path => '/x' },
        plans => { 'smbgw-mode' => 'native' },
        'bad id' => { path => '/y' },
    },
    gateways => { far => { users => {} } },
});
is($got->{code}, 1, 'a wrong document: exit 1');
is_deeply([sort keys %{ problems($got) }], [sort 'more', map({ "shares.office.$_" } qw(nonsense password smbgw-quota password-file)), 'shares.backup', 'shares.plans.path', 'shares.bad id', 'gateways.far'], 'every problem is named by its place')
    or diag($got->{out});
is_deeply(begun($got), [], 'nothing is begun');
unlike($got->{out}, qr/"x"/, 'a secret is not repeated');
$world->{env}->{FAKE_SMBGW} = 'wrong=office;wrong=plans';
$got = apply({ version => 1, shares => { office => \%office, plans => \%plans, third => { path => '/srv/third' } } });
is_deeply([sort keys %{ problems($got) }], ['shares.office.share', 'shares.plans.share'], 'so is every problem that the library finds');
is_deeply(begun($got), [], 'and nothing is begun');
$world->{env}->{FAKE_SMBGW} = '';
for my $case (['[]', qr/not a document/], ['{"shares":{}}', qr/version/], ['{"version":1,', qr/cannot be read/], ['', qr/not a document|YAML::XS/]) {
    $got = apply($case->[0]);
    like($got->{json}->{error}->{message}, $case->[1], "'$case->[0]' is no document");
}
$got = apply({ version => 2 });
is($got->{code}, 6, 'nor one of another version');
is(run(['apply'])->{code}, 64, 'a document has to be named');
is(run(['apply', '-f', '/nonexistent'])->{code}, 1, 'and to be there');

# --- a dry run, the run, the same again
my $doc = { version => 1, shares => { office => \%office, plans => \%plans } };
$got = apply($doc, '--dry-run');
is($got->{code}, 0, '--dry-run') or diag($got->{out});
is_deeply(results($got), { 'share office' => 'create skipped', 'share plans' => 'create skipped' }, 'says what it would do');
is_deeply(begun($got), [], 'and does nothing');
ok($got->{json}->{data}->{'dry-run'}, 'it says that it is one');
$got = apply($doc);
is($got->{code}, 0, 'apply') or diag($got->{err} . $got->{out});
is_deeply(results($got), { 'share office' => 'create ok', 'share plans' => 'create ok' }, 'creates both');
is_deeply(begun($got), [['share.create', 'office'], ['share.create', 'plans'], ['reconcile', 'office,plans'], ['gateway.reload', 'native']], 'in one process, what they recorded is carried out in one run, and smbd is told behind the last') or diag($got->{out});
is_deeply(later($got), { 'share.create' => 2, reconcile => 1 }, 'which the others leave to that');
my @new = map { $_->[0] } grep { $_->[0] eq 'new' } @{ $got->{calls} };
is(scalar(@new), 2, 'one context for looking, one for the work');
like($world->read('own.cfg'), qr/^smbgateway: plans\n(?:\t.*\n)*\tsmbgw-access rw:\@staff,ro:anna\n/m, 'a list is written as the section has it');
my $written = $world->read('own.cfg');
$got = apply($doc);
is_deeply(results($got), { 'share office' => 'none unchanged', 'share plans' => 'none unchanged' }, 'the same again: unchanged');
is_deeply(begun($got), [], 'nothing is done');
is($world->read('own.cfg'), $written, 'and nothing is written');
$got = run(['apply', '-f', $world->dir() . '/doc']);
is($got->{out}, "unchanged\n", 'in words');

# --- show prints what apply takes
$got = run(['show', '--output-format', 'json']);
is($got->{code}, 0, 'show') or diag($got->{err});
is_deeply([sort keys %{ $got->{json}->{data}->{shares} }], ['office', 'plans'], 'our shares alone');
$got = apply($got->{json}->{data});
is_deeply(results($got), { 'share office' => 'none unchanged', 'share plans' => 'none unchanged' }, 'applied: unchanged');
$got = run(['show']);
utf8::encode($got->{out});
$got = apply($got->{out});
is_deeply(results($got), { 'share office' => 'none unchanged', 'share plans' => 'none unchanged' }, 'also the text of it');
is_deeply([sort keys %{ run(['show', 'plans', '--output-format', 'json'])->{json}->{data}->{shares} }], ['plans'], 'one share');
is_deeply([sort keys %{ run(['show', 'native', '--output-format', 'json'])->{json}->{data}->{shares} }], ['office', 'plans'], 'those of a gateway');
is(run(['show', 'nosuch1'])->{code}, 2, 'and nothing that is not there');

# --- changes: the document is the whole truth of the shares that it names
$world->write('own.cfg', $world->read('own.cfg') =~ s/(smbgateway: office\n)/$1\tdisable\n\tsmbgw-quota 5G\n/r);
$doc->{shares} = { office => { %office, share => 'Büro', 'smbgw-access' => 'rw:ben' } };
$world->write('doc', JSON::PP->new->utf8->encode($doc));
$got = run(['apply', '-f', $world->dir() . '/doc', '-n']);
is($got->{out}, "~ share office\n    - disable: 1\n    ~ share: Büro ☃ -> Büro\n    + smbgw-access: rw:ben\n    - smbgw-quota: 5G\n1 to do, 0 unchanged; nothing was done (--dry-run)\n" =~ s/- disable: 1/~ disable: 1 -> 0/r, 'the difference, property by property') or diag($got->{err});
$got = apply($doc);
is_deeply(begun($got), [['share.update', 'office']], 'one change; plans is not named and stays');
my ($update) = grep { $_->[0] eq 'begin' } @{ $got->{calls} };
ok(!exists($update->[2]->{section}->{'smbgw-quota'}), 'what is not named is taken out');
is($update->[2]->{section}->{nodes}, 'pve1', 'but for what the create decided');
$got = apply({ version => 1, shares => { office => { %office, path => '/elsewhere' }, plans => { %plans, 'smbgw-mode' => 'lxc' } } });
is_deeply(problems($got), { 'shares.office.path' => "is fixed at create: it is '/srv/office', not '/elsewhere'", 'shares.plans.smbgw-mode' => "is fixed at create: it is 'native', not 'lxc'" }, 'what is fixed is refused');
is_deeply(begun($got), [], 'before anything begins');

# --- removal only when asked for
$got = apply({ version => 1, shares => { plans => \%plans, fresh => { path => '/srv/office', 'smbgw-mode' => 'native' } } }, '--prune');
is_deeply(results($got), { 'share plans' => 'none unchanged', 'share fresh' => 'create ok', 'share office' => 'remove ok' }, '--prune removes what is not named');
is_deeply([map { $_->[0] } @{ begun($got) }], ['share.delete', 'share.create', 'reconcile'], 'first, where its path is wanted');
$got = apply({ version => 1, shares => { plans => \%plans, other => { path => '/srv/other', 'smbgw-mode' => 'native' } } }, '--prune');
is_deeply([map { $_->[0] } @{ begun($got) }], ['share.create', 'share.delete', 'reconcile'], 'else last: the last share of a gateway takes its users along');
like($world->read('own.cfg'), qr/\Adir: backup\n\tpath \/srv\/backup\n\n/, 'foreign sections are as they were');

# --- passwords
my $file = secret_file('anna.pw', "gehe\xc3\xafm\n");
$got = apply({ version => 1, shares => { first => { path => '/srv/first', 'smbgw-mode' => 'native', username => 'anna', 'password-file' => $file } } });
is($got->{code}, 0, 'a first user') or diag($got->{out});
is_deeply([map { pack('H*', $_->[2]) } grep { $_->[0] eq 'secret' } @{ $got->{calls} }], ["gehe\xc3\xafm"], 'has the password of the file');
unlike(join('', $got->{out}, $got->{err}, $world->read('own.cfg')), qr/gehe|anna\.pw/, 'which is nowhere else, nor is its path');
unlink($file);
$got = apply({ version => 1, shares => { first => { path => '/srv/first', 'smbgw-mode' => 'native', username => 'anna', 'password-file' => $file } } });
is_deeply(results($got), { 'share first' => 'none unchanged' }, 'the file is not wanted any more once that is done');
$got = apply({ version => 1, shares => { first => { path => '/srv/first', 'smbgw-mode' => 'native', 'smbgw-quota' => '1G', username => 'anna', 'password-file' => $file } } });
is_deeply(results($got), { 'share first' => 'change ok' }, 'nor for another change') or diag($got->{out});
$got = apply({ version => 1, shares => { first => { path => '/srv/first', 'smbgw-mode' => 'native', username => 'ben', 'password-file' => $file } } });
like(problems($got)->{'shares.first.password-file'}, qr/cannot be read/, 'but for another user');
for my $case (['readable', "x\n", 0640, qr/read by others/], ['empty', "\n", 0600, qr/empty/]) {
    my $path = secret_file(@$case[0 .. 2]);
    $got = apply({ version => 1, shares => { second => { path => '/srv/second', username => 'ben', 'password-file' => $path } } });
    like(problems($got)->{'shares.second.password-file'}, $case->[3], "a file that is $case->[0] is refused");
}
symlink($world->dir() . '/own.cfg', $world->dir() . '/link');
$got = apply({ version => 1, shares => { second => { path => '/srv/second', username => 'ben', 'password-file' => $world->dir() . '/link' } } });
like(problems($got)->{'shares.second.password-file'}, qr/cannot be read/, 'and so is a link');

# --- users and groups
$world->{env}->{FAKE_SMBGW_GATEWAYS} = '{"gateways":[{"gateway":"native","mode":"native","node":"pve1","shares":[]}]}';
$world->{env}->{FAKE_SMBGW_USERS} = '{"users":[{"name":"anna","disabled":false},{"name":"carl","disabled":true}]}';
$world->{env}->{FAKE_SMBGW_GROUPS} = '{"groups":[{"name":"staff","members":["anna","carl"]}]}';
$got = run(['show', '--output-format', 'json']);
is_deeply($got->{json}->{data}->{gateways}, { native => { users => { anna => { disabled => JSON::PP::false() }, carl => { disabled => JSON::PP::true() } }, groups => { staff => ['anna', 'carl'] } } }, 'show has users and groups');
$got = apply($got->{json}->{data});
is_deeply(begun($got), [], 'as they are: unchanged');
$got = apply({ version => 1, gateways => { native => { users => { ben => {} }, groups => { staff => ['dora'] } } } });
is_deeply([sort keys %{ problems($got) }], ['gateways.native.groups.staff', 'gateways.native.users.ben.password-file'], 'a user without a password, a member that is nobody');
$got = apply({ version => 1, gateways => { native => { users => { anna => { disabled => JSON::PP::true() }, carl => {}, ben => { 'password-file' => secret_file('ben.pw', "b\n") } }, groups => { staff => ['anna', 'ben'], boss => ['anna'] } } } });
is_deeply([map { "$_->[0] $_->[1]" } @{ begun($got) }], ['user.disable anna', 'user.create ben', 'user.enable carl', 'group.create boss', 'group.add-member boss', 'group.add-member staff', 'group.remove-member staff', 'gateway.reload native'], 'accounts are brought to the document') or diag($got->{out});
is_deeply(later($got), { 'user.create' => 1, 'group.create' => 1 }, 'those that are new are told to smbd together');
$world->{env}->{FAKE_SMBGW_GATEWAYS} = '{"gateways":[]}';

# --- smbd is told of several at once, of one by itself, and by others if that fails
my @told = map { { path => "/srv/t$_", 'smbgw-mode' => 'native' } } 1 .. 3;
$got = apply({ version => 1, shares => { t1 => $told[0] } });
is_deeply([begun($got), later($got)], [[['share.create', 't1'], ['reconcile', 't1']], {}], 'a single share: as ever');
$world->{env}->{FAKE_SMBGW} = 'fail=gateway.reload';
$got = apply({ version => 1, shares => { t1 => $told[0], t2 => $told[1], t3 => $told[2] } });
is($got->{code}, 0, 'smbd cannot be told: the shares are there all the same') or diag($got->{err} . $got->{out});
is_deeply(results($got), { 'share t1' => 'none unchanged', 'share t2' => 'create ok', 'share t3' => 'create ok' }, 'each of them');
like(join(' ', map { @{ $_->{warnings} // [] } } @{ $got->{json}->{data}->{items} }), qr/within a minute only: smbd does not answer/, 'and a warning says what that means');
$world->{env}->{FAKE_SMBGW} = '';
$got = run(['set', 't1', 't2', '--smbgw-access', 'rw:anna', '--output-format', 'json']);
is_deeply([[map { $_->[0] } @{ begun($got) }], later($got)], [['share.update', 'share.update', 'gateway.reload'], { 'share.update' => 2 }], 'set of two shares does the same');
$got = run(['delete', 't1', 't2', 't3', '--output-format', 'json']);
is_deeply([[map { $_->[0] } @{ begun($got) }], later($got)], [[('share.delete') x 3], {}], 'what takes something away tells smbd each time');

# --- one that fails
my @four = map { { path => "/srv/s$_", 'smbgw-mode' => 'native' } } 1 .. 4;
my $four = { version => 1, shares => { map { ("s$_" => $four[$_ - 1]) } 1 .. 4 } };
$world->{env}->{FAKE_SMBGW} = 'broken=s2';
$got = apply($four);
is($got->{code}, 65, 'some failed: exit 65');
is($got->{json}->{error}->{kind}, 'partial', 'and its kind');
is($got->{json}->{success}, JSON::PP::false(), 'no success');
is_deeply(results($got), { 'share s1' => 'create ok', 'share s2' => 'create failed', 'share s3' => 'create ok', 'share s4' => 'create ok' }, 'the others are done');
is_deeply([@{ (grep { $_->{id} eq 's2' } @{ $got->{json}->{data}->{items} })[0]->{error} }{qw(kind code message remedy)}], ['service', 9, 'smbd does not answer', 'start it'], 'its error is with it');
unlike($world->read('own.cfg'), qr/^smbgateway: s2/m, 'and it has no section');
$got = apply($four);
is($got->{code}, 9, 'again: one thing is left to do, and its failure is that of the command');
run(['delete', 's1', 's3', 's4']);
$got = apply($four, '--on-error', 'stop');
is_deeply(results($got), { 'share s1' => 'create ok', 'share s2' => 'create failed', 'share s3' => 'create skipped', 'share s4' => 'create skipped' }, '--on-error stop begins nothing any more');
$world->{env}->{FAKE_SMBGW} = '';
is(apply($four)->{code}, 0, 'once the cause is gone the rest is done');

# --- several targets
$got = run(['set', 's1', 's2', '--smbgw-quota', '1G', '--output-format', 'json']);
is_deeply(results($got), { 'share s1' => 'change ok', 'share s2' => 'change ok' }, 'set of two') or diag($got->{err});
$got = run(['status', 's1', 's2', 'nosuch1', '--output-format', 'json']);
is($got->{code}, 65, 'status of three, one of which is not there');
is($got->{json}->{data}->{items}->[1]->{data}->{state}, 'ready', 'has the documents');
is($got->{json}->{data}->{items}->[2]->{error}->{kind}, 'not-found', 'and the error');
like(run(['status', 's1', 's2'])->{out}, qr/^ID +STATE\ns1 +ready\ns2 +ready$/m, 'and a table');
$got = run(['user', 'disable', 'anna', 'ben']);
is_deeply(begun($got), [['user.disable', 'anna'], ['user.disable', 'ben']], 'users of one gateway, one after the other');
like($got->{out}, qr/^user 'anna': disable done .*\nuser 'ben': disable done .*\n2 done$/m, 'a line each');
is(run(['delete', 's1', 's1'])->{code}, 0, 'a name given twice counts once');
for my $bad (['--jobs', '0'], ['--jobs', '65'], ['--on-error', 'maybe']) {
    is(run(['delete', 's2', 's3', @$bad])->{code}, 64, "@$bad is wrong usage");
}

# --- at once, and how much
my @gateways = map { "g$_" } 1 .. 6;
for my $case ([1, 1], [2, 2], [4, 4], [16, 6]) {
    my ($jobs, $most) = @$case;
    $world->{env}->{FAKE_SMBGW} = 'pause=400';
    $got = run(['gateway', 'restart', @gateways, '--jobs', $jobs, '--output-format', 'json']);
    is($got->{code}, 0, "six gateways, --jobs $jobs") or diag($got->{err});
    my $seen = most_at_once();
    cmp_ok($seen, '<=', $most, $most == 1 ? 'never two at once' : "$most at once, never more");
    cmp_ok($seen, '>=', 2, 'and at once indeed') if $most > 1;
    is_deeply([map { $_->{id} } @{ $got->{json}->{data}->{items} }], \@gateways, 'results in the order of the names');
}
$got = run(['gateway', 'restart', @gateways[0 .. 4], '--output-format', 'json']);
cmp_ok(most_at_once(), '<=', 4, 'four are the default');
run(['user', 'disable', 'anna', 'ben', 'carl', '--jobs', '8']);
is(most_at_once(), 1, 'within a gateway nothing is done at once');

# --- a signal: no new item, what runs is told and awaited, all is named
unlink(map { $world->dir() . "/$_" } qw(log log.busy));
$world->{env}->{FAKE_SMBGW} = 'slow=gateway.stop';
{
    my $watcher = fork() // die;
    if (!$watcher) {
        for (1 .. 200) { last if () = ($world->read('log') // '') =~ m/"step"/g; select(undef, undef, undef, 0.05) }
        select(undef, undef, undef, 0.3);
        my @all = grep { my $h; open($h, '<', "/proc/$_/cmdline") ? do { local $/; (<$h> // '') =~ m/pve-smbgateway\0gateway\0stop\0g1/ && readlink("/proc/$_/exe") =~ m/perl/ } : 0 } map { m!/proc/(\d+)! } glob('/proc/[0-9]*');
        my %all = map { $_ => 1 } @all;
        for my $pid (@all) { open(my $h, '<', "/proc/$pid/stat") or next; my (undef, $parent) = (<$h> // '') =~ m/\) (\S) (\d+)/; kill('TERM', $pid) if !$all{$parent // 0} }
        POSIX::_exit(0);
    }
    $got = $world->command([$^X, '-I', "$Harness::HERE/fake", '-I', $Harness::TOP, $tool, 'gateway', 'stop', @gateways[0 .. 2], '--jobs', '2', '--output-format', 'json', '--config', '/nonexistent']);
    waitpid($watcher, 0);
    is($got->{status} & 127, 15, 'SIGTERM ends the command, by that signal');
    my $json = eval { JSON::PP->new->utf8->decode($got->{out}) } // {};
    is($json->{error}->{kind}, 'interrupted', 'after it has said so');
    is_deeply([map { $_->{result} . '/' . (($_->{error} // {})->{kind} // '') } @{ $json->{data}->{items} }], ['failed/interrupted', 'failed/interrupted', 'skipped/'], 'with what came of each') or diag($got->{out} . $got->{err});
    is(scalar(grep { m/"interrupt"/ } split(/\n/, $world->read('log'))), 2, 'both runs were put down properly');
}
$world->{env}->{FAKE_SMBGW} = '';

# --- killed: nobody tells the child to go on
unlink(map { $world->dir() . "/$_" } qw(log log.busy));
$world->{env}->{FAKE_SMBGW} = 'pause=1000';
$got = $world->command(['timeout', '--signal=KILL', '20', $^X, '-e', 'my $p = fork() // die; if (!$p) { exec(@ARGV) or die } for (1 .. 100) { last if -s "$ENV{FAKE_SMBGW_LOG}.busy"; select(undef, undef, undef, 0.05) } kill("KILL", $p); waitpid($p, 0)',
    $^X, '-I', "$Harness::HERE/fake", '-I', $Harness::TOP, $tool, 'user', 'disable', 'anna', 'ben', 'carl', '--config', '/nonexistent']);
for (1 .. 100) { last if ($world->read('log.busy') // '') =~ m/^-/m; select(undef, undef, undef, 0.05) }
select(undef, undef, undef, 0.5);
is_deeply([map { m/(\S+)\z/ ? substr($_, 0, 1) . $1 : () } split(/\n/, $world->read('log.busy') // '')], ['+anna', '-anna'], 'SIGKILL: the child ends what it is at, and begins nothing more');

# --- a terminal gets a bar
SKIP: {
    my ($script) = grep { -x } qw(/usr/bin/script /bin/script);
    skip "'script' (bsdutils) is not here", 1 if !$script;
    $world->{env}->{FAKE_SMBGW} = 'pause=50';
    $got = $world->command([$script, '-qec', "$^X -I $Harness::HERE/fake -I $Harness::TOP $tool gateway restart g1 g2 --config /nonexistent", '/dev/null']);
    like($got->{out}, qr/\r\e\[K\[#{15}\.{15}\] 1\/2  g.*\r\e\[K\[#{30}\] 2\/2  \r\e\[K.*gateway 'g1': restart done/s, 'which is gone when the results are there');
}
$world->{env}->{FAKE_SMBGW} = '';

# --- YAML
SKIP: {
    if (!$has_yaml) {
        fail('YAML::XS is not here (libyaml-libyaml-perl)') if ($ENV{CI} // '') eq 'true';
        skip 'YAML::XS is not here (libyaml-libyaml-perl)', 1;
    }
    fresh();
    $world->write('own.cfg', '');
    $got = apply("version: 1\nshares:\n  office:\n    path: /srv/office\n    share: '0123'\n    smbgw-mode: native\n    disable: true\n    smbgw-memory: 512\n    smbgw-access:\n      - rw:\@staff\n      - ro:j\xc3\xb6rg\n");
    is($got->{code}, 0, 'a document in YAML') or diag($got->{out});
    like($world->read('own.cfg'), qr/\tdisable\n(?:\t.*\n)*\tshare 0123\n\tsmbgw-access rw:\@staff,ro:j\xc3\xb6rg\n/, 'is written');
    $got = run(['show', '--output-format', 'yaml']);
    my $yaml = $got->{out};
    utf8::encode($yaml);
    my $read = YAML::XS::Load($yaml);
    is($read->{version}, 1, 'the envelope in YAML');
    like($got->{out}, qr/^success: true$/m, 'truth is truth');
    like($got->{out}, qr/^ +disable: true$/m, 'a switch is one');
    like($got->{out}, qr/^ +share: '0123'$/m, 'text that looks like a number is text');
    like($got->{out}, qr/^ +smbgw-memory: 512$/m, 'a number is a number');
    like($got->{out}, qr/jörg/, 'and letters are letters');
    is_deeply(results(apply($yaml)), { 'share office' => 'none unchanged' }, 'such an answer can be applied');
    my $text = run(['show'])->{out};
    unlike($text, qr/success/, 'show alone prints the document');
    utf8::encode($text);
    is_deeply(results(apply($text)), { 'share office' => 'none unchanged' }, 'which can be applied');
    for my $bad ("version: 1\nshares:\n  a1: {path: /a}\n  a1: {path: /b}\n", "--- {version: 1}\n--- {version: 1}\n", "version: [1\n") {
        is(apply($bad)->{code}, 1, 'refused: ' . ($bad =~ s/\s+/ /gr));
    }
    $got = apply("version: 1\nshares:\n  a1: !!perl/hash:Evil\n    path: !!perl/code 'sub { 1 }'\n");
    isnt($got->{code}, 0, 'no objects and no code come out of a document');
    is_deeply(begun($got), [], 'nothing is begun');
    # the example of the documents
    open(my $cli, '<:raw', "$Harness::TOP/docs/CLI.md") or die $!;
    my ($example) = do { local $/; <$cli> } =~ m/^((?:    .*\n)+)\n- The document is/m;
    $example =~ s/^    //mg;
    $example =~ s!/root/(\w+)\.pw!secret_file("$1.pw", "x\n")!ge;
    $world->write('own.cfg', '');
    $got = apply($example);
    is($got->{code}, 0, 'the example of docs/CLI.md can be applied') or diag($got->{out});
    $got = run(['nonsense', '--output-format', 'yaml']);
    like($got->{out}, qr/^  kind: usage$/m, 'errors in YAML, too');
}
{
    # a machine without it
    mkdir($world->dir() . '/noyaml');
    mkdir($world->dir() . '/noyaml/YAML');
    $world->write('noyaml/YAML/XS.pm', "die qq{Can't locate YAML/XS.pm\\n};");
    local $world->{inc} = [$world->dir() . '/noyaml', @{ $world->{inc} }];
    $got = run(['list', '--output-format', 'yaml']);
    is($got->{code}, 6, 'without YAML::XS: exit 6');
    like($got->{err}, qr/YAML::XS.*libyaml-libyaml-perl/s, 'naming the package');
    $got = apply("version: 1\nshares: {}\n");
    like($got->{json}->{error}->{message}, qr/YAML::XS/, 'a document in YAML cannot be read');
    is(run(['show'])->{code}, 0, 'show prints JSON then');
    is(apply({ version => 1, shares => {} })->{code}, 0, 'and JSON can be read');
}

# --- on Proxmox: the sections one after the other, the gateways at once
SKIP: {
    skip 'needs root', 1 if $> != 0;
    fresh();
    $world->write('worker', "#!$^X\n");
    chmod(0755, $world->write('worker', "#!$^X\nopen(my \$f, '>>', '" . $world->dir() . "/worked'); print {\$f} \"\@ARGV\\n\";"));
    $world->{env}->{SMBGW_COMMAND} = $world->dir() . '/worker';
    my $containers = { version => 1, shares => { map { ("c$_" => { path => "/srv/c$_" }) } 1 .. 4 } };
    $world->{env}->{FAKE_SMBGW} = 'pause=300';
    $got = apply($containers, { proxmox => 1 });
    is($got->{code}, 0, 'apply on Proxmox') or diag($got->{out} . $got->{err});
    is_deeply([sort $world->storage_cfg() =~ m/^smbgateway: (\S+)/mg], ['c1', 'c2', 'c3', 'c4'], 'all sections are in storage.cfg') or diag($world->storage_cfg());
    is(most_at_once(), 1, 'hooks run one at a time, as Proxmox wants it');
    is_deeply(results(apply($containers, { proxmox => 1 })), { map { ("share c$_" => 'none unchanged') } 1 .. 4 }, 'again: unchanged');
    $got = apply({ version => 1, shares => { c1 => { path => '/srv/c1', 'smbgw-memory' => 512 } } }, '--prune', { proxmox => 1 });
    is_deeply(results($got), { 'share c1' => 'change ok', map { ("share c$_" => 'remove ok') } 2 .. 4 }, 'changed and pruned') or diag($got->{out} . $got->{err});
    is_deeply([$world->storage_cfg() =~ m/^smbgateway: (\S+)/mg], ['c1'], 'storage.cfg says so');

    # what hooks only record is built side by side
    for my $case ([4, 2], [1, 1]) {
        my ($jobs, $least) = @$case;
        fresh();
        $world->{env}->{SMBGW_COMMAND} = '/bin/true';
        $world->{env}->{FAKE_SMBGW} = 'long=share.create;pause=50;build=1000';
        $got = apply($containers, '--jobs', $jobs, { proxmox => 1 });
        is_deeply(results($got), { map { ("share c$_" => 'create ok') } 1 .. 4 }, "four containers, --jobs $jobs") or diag($got->{out} . $got->{err});
        is(most_at_once(qr/ share\.create /), 1, 'their hooks run one at a time');
        cmp_ok(most_at_once(qr/ reconcile /), $jobs == 1 ? '==' : '>=', $least, 'their builds ' . ($jobs == 1 ? 'too' : 'at once'));
        is_deeply([map { $_->{state} } @{ $got->{json}->{data}->{items} }], [('ready') x 4], 'each is ready');
    }
    fresh();
    $world->{env}->{FAKE_SMBGW} = 'long=share.create;failbuild=share.create';
    $got = apply($containers, { proxmox => 1 });
    is($got->{code}, 65, 'builds that fail');
    is_deeply([map { $_->{error}->{kind} } @{ $got->{json}->{data}->{items} }], [('service') x 4], 'are named');
    like($got->{json}->{data}->{items}->[0]->{error}->{remedy}, qr/the storage is in the configuration; the worker tries again/, 'with what goes on');
}

done_testing();
