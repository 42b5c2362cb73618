# SPDX-License-Identifier: MIT OR Apache-2.0

# Proxmox's API: shares, gateways, users and groups of a node through /nodes/{node}/smbgateway, with real Samba and a real container. Every
# answer is held against the schema of its method; what changes something is a task whose log says what was done. The API's modules are
# stand-ins with the real rules.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use JSON::PP ();
use Test::More;
use Time::HiRes ();

use Lab::Box;
use Lab::Guests;
use Lab::Product;
use Lab::Smb;

Lab::Product::enter_node();
END { Lab::Guests::stop_all() if defined($ENV{SMBGW_LAB_BOX}) }

my $PASSWORD = 'through the API 1';
my $ADDRESS = '192.0.2.32';
my $AT = '/nodes/box/smbgateway';
mkdir("/srv/$_") for qw(office plain third);

# A request; options: password, as => user, follow => 1 (the task's log, and whether it failed), any of Lab::Product::pvesh's.
sub api {
    my ($verb, $path, $param, %o) = @_;
    my @words = ($verb, "$AT$path", map { ("--$_", $param->{$_}) } sort keys %{ $param // {} });
    push @words, '--as', $o{as} if defined($o{as});
    push @words, '--follow' if $o{follow};
    my $r = Lab::Product::pvesh(\@words, %o);
    $r->{doc} = eval { JSON::PP->new->utf8->allow_nonref->decode($r->{out}) } if !$o{follow};
    return $r;
}

sub answers {
    my ($name, $path, %o) = @_;
    my $r = api('get', $path, $o{param} // {}, %o);
    is($r->{rc}, 0, $name) or diag($r->{all});
    return $r->{doc};
}

sub task_ok {
    my ($name, $verb, $path, $param, %o) = @_;
    my $r = api($verb, $path, $param, %o, follow => 1, timeout => 180);
    like($r->{out}, qr/^TASK (?:OK|WARNINGS: \d+)$/m, $name) or diag($r->{all});
    return $r;
}

sub works {
    my ($share, @where) = @_;
    my $got = '';
    Lab::Box::until_true(sub { ($got = Lab::Smb::client('anna', $PASSWORD, $share, 'put /etc/hostname a.txt', extra => [@where])->{status}) eq 'OK' }, 20);
    return $got;
}

subtest 'a native share' => sub {
    my $r = task_ok('create', 'create', '/shares', { id => 'plain', path => '/srv/plain', 'smbgw-mode' => 'native', username => 'anna' }, password => $PASSWORD);
    like($r->{out}, qr/^ *\d+\.\d+ s +done +log in to \[plain\], write, read back, remove/m, 'the log has the steps with their times');
    unlike($r->{all}, qr/\Q$PASSWORD\E/, '... and no password');
    is(works('plain'), 'OK', 'it works');
    is(answers('status', '/shares/plain')->{state}, 'ready', '... and is ready');
    task_ok('update', 'set', '/shares/plain', { 'smbgw-security' => 'high' });
    is(Lab::Smb::parameter('server smb encrypt', 'plain'), 'required', '... takes effect');
    task_ok('a property is taken out', 'set', '/shares/plain', { delete => 'smbgw-security' });
    unlike(Lab::Box::slurp('/etc/pve/storage.cfg'), qr/smbgw-security/, '... of storage.cfg');
};

subtest 'a container' => sub {
    task_ok('create', 'create', '/shares', { id => 'office', path => '/srv/office', 'smbgw-gateway' => 'files', username => 'anna', 'smbgw-net' => "ip=$ADDRESS/24,gw=$Lab::Guests::HOST,ip6=none" }, password => $PASSWORD);
    is(works('office', '-I', $ADDRESS), 'OK', 'the task ends when it works');
    my ($g) = grep { $_->{gateway} eq 'files' } @{ answers('gateways', '/gateways')->{gateways} };
    ok($g->{container}->{running}, 'its container runs');
    task_ok('restart', 'create', '/gateways/files/restart');
    is(works('office', '-I', $ADDRESS), 'OK', 'it works again');
};

subtest 'users and groups' => sub {
    task_ok('a user', 'create', '/gateways/native/users', { name => 'ben' }, password => $PASSWORD);
    task_ok('a group', 'create', '/gateways/native/groups', { name => 'staff' });
    task_ok('a member', 'create', '/gateways/native/groups/staff/members', { user => 'ben' });
    is_deeply([map { @{ $_->{members} } } @{ answers('groups', '/gateways/native/groups')->{groups} }], ['ben'], '... is in it');
    task_ok('disable', 'create', '/gateways/native/users/ben/disable');
    is_deeply([map { $_->{name} } grep { $_->{disabled} } @{ answers('users', '/gateways/native/users')->{users} }], ['ben'], '... and shown so');
    task_ok('not a member', 'delete', '/gateways/native/groups/staff/members/ben');
    task_ok('no group', 'delete', '/gateways/native/groups/staff');
    task_ok('no user', 'delete', '/gateways/native/users/ben');
};

subtest 'questions' => sub {
    is_deeply([map { $_->{id} } sort { $a->{id} cmp $b->{id} } @{ answers('shares', '/shares') }], ['office', 'plain'], 'all shares');
    is_deeply([map { $_->{id} } @{ answers('quota', '/quota', param => { id => 'plain' })->{shares} }], ['plain'], 'limits of one');
    ok(scalar(@{ answers('templates', '/templates')->{templates} }), 'templates');
    my $audit = answers('audit', '/audit', param => { id => 'plain' })->{entries};
    is($audit->[-1]->{actor}, 'root@pam', 'who did it is in the audit');
    ok(scalar(@{ answers('schema', '/schema')->{operations} }), 'the tables');
    my $before = Lab::Product::footprint();
    my $r = api('create', '/plan', { operation => 'create', id => 'third', path => '/srv/third', 'smbgw-mode' => 'native', 'smbgw-access' => 'rw:anna' });
    is($r->{rc}, 0, 'a plan') or diag($r->{all});
    like($r->{doc}->{text} // '', qr/log in to \[third\]/, '... says what would be done');
    is(join('', map { "$_\n" } Lab::Product::left_behind($before, Lab::Product::footprint())), '', '... and nothing is');
};

subtest 'figures' => sub {
    Lab::Product::native('scrape');
    my $of = sub {
        my ($doc, $object, $metric) = @_;
        my ($f) = grep { $_->{object} eq $object && $_->{metric} eq $metric } @{ $doc->{figures} };
        return $f ? $f->{value} : undef;
    };
    my $before = answers('of a share in a container', '/shares/office/metrics');
    is_deeply([do { my %seen; grep { !$seen{$_}++ } map { "$_->{scope} $_->{object}" } @{ $before->{figures} } }], ['share office'], '... are its own alone');
    # whoever is there sees what is counted, which he asks for one look later
    my ($file, $size) = ('/run/lab/two', 2 << 20);
    Lab::Box::spew($file, 'x' x $size);
    is(Lab::Smb::client('anna', $PASSWORD, 'office', "put $file two", extra => ['-I', $ADDRESS])->{status}, 'OK', 'a client of the container writes');
    Time::HiRes::sleep(1.5);
    Lab::Product::native('scrape');
    my $now = answers('now', '/metrics');
    is($of->($now, 'office', 'written_bytes') - ($of->($before, 'office', 'written_bytes') // 0), $size, 'all of it is counted: the gateway has one share and nothing else');
    is($of->($now, 'files', 'up'), 1, 'its Samba runs');
    cmp_ok($of->($now, 'files', 'guest_memory_bytes') // 0, '>', 1 << 20, 'memory of the container');
    cmp_ok($of->($now, 'files', 'guest_cpu') // -1, '>=', 0, '... and processor time');
    is_deeply([grep { defined($_->{why}) } @{ $now->{sources} }], [], 'every source answers, native and container') or diag(JSON::PP->new->canonical->encode($now->{sources}));
    my $series = answers('a series', '/shares/office/metrics', param => { metric => 'written_bytes', from => '1h' });
    cmp_ok(scalar(@{ $series->{buckets} }), '>=', 1, '... has buckets');
    like(api('get', '/openmetrics')->{out}, qr/^smbgw_gateway_up\{[^}]*gateway="files"[^}]*\} 1$/m, 'Prometheus is answered with text');
    my $silence = api('create', '/alerts/silences', { until => '1h', object => 'share:plain' });
    is($silence->{rc}, 0, 'a silence') or diag($silence->{all});
    is_deeply([map { "$_->{object} $_->{by}" } @{ answers('alerts', '/alerts')->{silences} }], ['share:plain root@pam'], '... is listed with who wanted it');
    is(api('delete', "/alerts/silences/$silence->{doc}->{silence}->{id}")->{rc}, 0, '... and ended');
    is(answers('how long figures are kept', '/metrics/retention')->{from}, 'default', '... by default');
    my $kept = api('set', '/metrics/retention', { raw => '2d', 'all-nodes' => 1 });
    is(join(' ', map { $kept->{doc}->{$_} // '?' } qw(raw from file)), '2d all-nodes /etc/pve/priv/smbgw/retention.json', '... is set for all nodes') or diag($kept->{all});
    like(api('set', '/metrics/retention', { raw => '90d' })->{err}, qr/^400 .*^minutes: 30d is shorter than raw \(90d\)/ms, '... what cannot be is refused');
    is(api('delete', '/metrics/retention', { 'all-nodes' => 1 })->{doc}->{raw}, '7d', '... and back');
    like(answers('report', '/report', param => { from => '1h', form => 'text' })->{text}, qr/office/, 'the report');
};

subtest 'what is wrong' => sub {
    my $r = api('create', '/plan', { operation => 'create', id => 'third', path => '/srv/nowhere', 'smbgw-mode' => 'native', 'smbgw-access' => 'rw:no body' });
    isnt($r->{rc}, 0, 'bad values');
    like($r->{err}, qr/^smbgw-access: /m, '... are named by parameter') or diag($r->{all});
    $r = api('create', '/shares', { id => 'third', path => '/srv/nowhere', 'smbgw-mode' => 'native' }, follow => 1);
    like($r->{out}, qr/^TASK ERROR: .*nowhere/ms, 'a task that fails says why') or diag($r->{all});
    isnt(api('get', '/shares/nothing')->{rc}, 0, 'a share that is not there');
    unlike(Lab::Box::slurp('/etc/pve/storage.cfg'), qr/third/, 'no section is left');
};

subtest 'a task that is stopped' => sub {
    Lab::Box::spew('/run/lab/pct-double', "PCT_DOUBLE_SLOW=create:8\n");
    my $r = api('create', '/shares', { id => 'third', path => '/srv/third', username => 'anna', 'smbgw-net' => "ip=192.0.2.33/24,gw=$Lab::Guests::HOST,ip6=none" }, password => $PASSWORD);
    my $upid = $r->{doc} // '';
    like($upid, qr/\AUPID:box:[0-9A-F]+:.*:smbgw-share-create:third:root\@pam:\z/, 'the id of the task comes at once') or diag($r->{all});
    my ($pid) = map { hex } $upid =~ m/\AUPID:box:([0-9A-F]+):/;
    my $log = "/etc/pve/tasks/$upid";
    ok(Lab::Box::until_true(sub { Lab::Box::slurp($log) =~ m/check the template/ }, 30), 'it is at work') or diag(Lab::Box::slurp($log));
    kill('TERM', -$pid);
    ok(Lab::Box::until_true(sub { !kill(0, $pid) }, 5), 'it ends within the five seconds that Proxmox gives it');
    like(Lab::Box::slurp($log), qr/^TASK ERROR: /m, '... as one that failed');
    unlink('/run/lab/pct-double');
    my @open = glob("$Lab::Product::STATE/ops/*.open");
    is(scalar(@open), 1, 'the operation is open');
    like(Lab::Box::slurp(($open[0] // '') =~ s/open\z/journal/r) . join('', map { Lab::Box::slurp($_) } glob("$Lab::Product::STATE/ops/*")), qr/interrupted/, '... and says that it was interrupted');
    Lab::Product::call(['reconcile', '--once', '--wait', '0'], timeout => 180) for 1, 2;
    is(Lab::Product::status('third')->{state}, 'ready', 'the worker goes on');
    task_ok('it can be removed', 'delete', '/shares/third');
};

subtest 'gone' => sub {
    task_ok("delete of $_", 'delete', "/shares/$_") for qw(office plain);
    is_deeply(answers('shares', '/shares'), [], 'there are none');
    is_deeply([glob('/etc/pve/nodes/box/lxc/*.conf')], [], 'and no container');
    ok(-e '/srv/plain/a.txt', 'the data stays');
};

done_testing();
