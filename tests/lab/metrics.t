# SPDX-License-Identifier: MIT OR Apache-2.0

# Figures of a real smbd: known traffic of real clients on two shares at once, compared with what was counted; sessions, files, refused log-ins;
# a restart of smbd; what cannot be known is absent and says why.

use strict;
use warnings;
no warnings 'exec';    # what follows an exec is there for its failure
use utf8;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/lib';

use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes ();

use Lab::Box;
use Lab::Figures;
use Lab::Product;
use Lab::Smb;

Lab::Product::enter();
binmode(Test::More->builder->$_(), ':utf8') for qw(output failure_output todo_output);

my %PASSWORD = map { $_ => "$_-$_-$_" } qw(anna ben);
my $MIB = 1 << 20;
my $FILE = "$Lab::Product::RUN/metrics/current.json";

# Looks once, and has the whole of it.
my $current = {};
sub scrape { my $r = Lab::Figures::scrape(); $current = Lab::Figures::current(); return $r }
sub value { return Lab::Figures::value(@_) }
sub rate { return Lab::Figures::rate(@_) }
sub why { return Lab::Figures::why(@_) }

# A client whose connection stays: commands go to its standard input.
sub session {
    my ($user, $share) = @_;
    my $credentials = "/run/lab/metrics.$user";
    Lab::Box::spew($credentials, "username = $user\npassword = $PASSWORD{$user}\n", 0600);
    my $pid = open(my $to, '|-') // die "cannot fork: $!\n";
    if (!$pid) {
        open(STDOUT, '>', "/run/lab/metrics.$user.log") && open(STDERR, '>&', \*STDOUT) or POSIX::_exit(126);
        exec('smbclient', '-s', '/dev/null', "//127.0.0.1/$share", '-A', $credentials, '-m', 'SMB3_11');
        POSIX::_exit(127);
    }
    $to->autoflush(1);
    return $to;
}

sub size_is { my ($file, $size) = @_; return Lab::Box::until_true(sub { (-s $file // -1) == $size }, 30) ? 1 : 0 }

Lab::Smb::start();
mkdir("/srv/$_") for qw(office lab);
my $r = Lab::Product::create('office', { path => '/srv/office', username => 'anna' }, password => $PASSWORD{anna});
is($r->{rc}, 0, 'a share') or BAIL_OUT(Lab::Product::words_of($r));
is(Lab::Product::user('create', 'ben', password => $PASSWORD{ben})->{rc}, 0, 'ben');
is(Lab::Product::create('lab', { path => '/srv/lab', share => 'Lab Süd', 'smbgw-access' => 'rw:ben' })->{rc}, 0, 'another one');

subtest 'at rest' => sub {
    scrape();
    is_deeply([grep { defined($_->{why}) } @{ $current->{sources} }], [], 'all sources answer');
    is_deeply([map { value('native', $_) } qw(up sessions users open_files failed_logins)], [1, 0, 0, 0, 0], 'nobody is there');
    is_deeply([map { value($_, 'ready') } qw(office lab)], [1, 1], 'both are served');
    cmp_ok(value('office', 'available_bytes'), '>', 0, 'space');
    is(value('office', 'limit_bytes'), undef, 'what is not there has no figure');
    is(value('native', 'winbind_up'), undef, 'nor has what is not used');
    is(value('native', 'read_latency'), undef, 'nothing was read: there is no latency, not 0');
};

Lab::Box::spew('/run/lab/eight', 'x' x (8 * $MIB));
Lab::Box::spew('/run/lab/three', 'y' x (3 * $MIB));
my %to = (anna => session('anna', 'office'), ben => session('ben', 'Lab Süd'));
ok(Lab::Box::until_true(sub { scrape(); (value('office', 'sessions') // 0) == 1 && (value('lab', 'sessions') // 0) == 1 }, 30), 'two clients');

subtest 'known traffic' => sub {
    is_deeply([map { value('native', $_) } qw(sessions tree_connects users signed_sessions encrypted_sessions legacy_sessions)], [2, 2, 2, 2, 2, 0], 'who is there, and how');
    is_deeply([map { value('office', $_) } qw(tree_connects users)], [1, 1], 'of one share');
    my %before = map { my $o = $_; $o => { map { $_ => value($o, $_) } qw(read_bytes written_bytes read_operations write_operations operations) } } qw(office lab native);
    my $at = $current->{at};
    # a line at a time: smbclient reads ahead, and then waits for more
    my $both = sub {
        my ($a, $b, %sizes) = @_;
        print { $to{anna} } "$a\n";
        print { $to{ben} } "$b\n";
        return !grep { !size_is($_, $sizes{$_} * $MIB) } keys %sizes;
    };
    ok($both->('put /run/lab/eight e', 'put /run/lab/three t', '/srv/office/e' => 8, '/srv/lab/t' => 3), 'two clients write at once');
    ok($both->('get e /run/lab/eight.back', 'get t /run/lab/three.1', '/run/lab/eight.back' => 8, '/run/lab/three.1' => 3), 'and read');
    print { $to{ben} } "get t /run/lab/three.2\n";
    ok(size_is('/run/lab/three.2', 3 * $MIB), 'one of them twice');
    # smbd writes its counters down at most half a second late
    Time::HiRes::sleep(1.5);
    scrape();
    my $grown = sub { my ($o, $m) = @_; return value($o, $m) - $before{$o}->{$m} };
    is_deeply([map { $grown->('office', $_) } qw(written_bytes read_bytes)], [8 * $MIB, 8 * $MIB], 'bytes of the first share, exactly');
    is_deeply([map { $grown->('lab', $_) } qw(written_bytes read_bytes)], [3 * $MIB, 6 * $MIB], 'bytes of the second');
    is_deeply([map { $grown->('native', $_) } qw(written_bytes read_bytes)], [11 * $MIB, 14 * $MIB], 'bytes of the gateway');
    for my $o (qw(office lab)) {
        my ($w, $rd, $all) = map { $grown->($o, $_) } qw(write_operations read_operations operations);
        ok($w >= 1 && $rd >= 1 && $all > $w + $rd && $all < 200, "$o: $w WRITEs, $rd READs, $all requests");
        ok(value($o, 'read_latency') > 0 && value($o, 'read_latency') < 10, "$o: a READ took " . value($o, 'read_latency') . ' s');
    }
    is($grown->('native', 'write_operations'), $grown->('office', 'write_operations') + $grown->('lab', 'write_operations'), 'the parts make the whole');
    my $seconds = ($current->{at} - $at) / 1000;
    my $rate = rate('office', 'written_bytes');
    cmp_ok(abs($rate * $seconds - 8 * $MIB), '<', $MIB / 100, "as a rate: $rate bytes/s over $seconds s");
};

subtest 'open files and locks' => sub {
    print { $to{anna} } "open e\n";
    # they are looked at once a minute, unless nothing is remembered
    ok(Lab::Box::until_true(sub { unlink("$Lab::Product::RUN/metrics/memory.json"); scrape(); (value('office', 'open_files') // 0) >= 1 }, 20), 'the open file is seen');
    is(value('lab', 'open_files'), 0, 'in its share');
    is(value('office', 'written_bytes'), 0, 'without a memory counters begin anew');
    is_deeply($current->{rates}, [grep { $_->{value} >= 0 } @{ $current->{rates} }], 'and no rate is negative');
};

subtest 'refused log-ins' => sub {
    my $before = value('native', 'failed_logins');
    is(Lab::Smb::round_trip('anna', 'wrong', 'office', 'f', "f\n"), 'NT_STATUS_LOGON_FAILURE', 'a wrong password') for 1 .. 2;
    is(Lab::Smb::round_trip('nobody-here', 'wrong', 'office', 'f', "f\n"), 'NT_STATUS_LOGON_FAILURE', 'an unknown user');
    is(Lab::Smb::round_trip('anna', $PASSWORD{anna}, 'office', 'f', "f\n"), 'OK', 'a right one');
    scrape();
    is(value('native', 'failed_logins') - $before, 3, 'three are counted');
    rename('/var/log/samba/smbgw-auth.json', '/var/log/samba/smbgw-auth.json.old');
    Lab::Smb::round_trip('anna', 'wrong', 'office', 'f', "f\n");
    scrape();
    cmp_ok(value('native', 'failed_logins') - $before, '>=', 3, 'a rotation loses none');
};

subtest 'a client that ends, and smbd started anew' => sub {
    scrape();
    my ($office, $all) = (value('office', 'written_bytes'), value('native', 'written_bytes'));
    print { $to{ben} } "put /run/lab/three u\n";
    ok(size_is('/srv/lab/u', 3 * $MIB), 'it wrote');
    close($to{ben});
    Time::HiRes::sleep(1.5);
    ok(Lab::Box::until_true(sub { scrape(); value('lab', 'sessions') == 0 }, 30), 'and is gone');
    is(value('native', 'written_bytes') - $all, 3 * $MIB, 'what a client wrote just before its end is in the figures of the gateway');
    $all = value('native', 'written_bytes');
    Lab::Smb::stop();
    scrape();
    is(value('native', 'up'), 0, 'smbd does not run');
    is_deeply([map { value('native', $_) } qw(sessions written_bytes)], [undef, undef], 'what it would have to tell is absent');
    like(why($_), qr/smbd does not run/, "$_ says why") for qw(sessions profile);
    Lab::Smb::start();
    is(Lab::Smb::round_trip('anna', $PASSWORD{anna}, 'office', 'f', "f\n"), 'OK', 'it runs again');
    Time::HiRes::sleep(1.5);
    scrape();
    is(value('native', 'up'), 1, 'up');
    cmp_ok(value('native', 'written_bytes'), '>=', $all, 'a counter never goes back: it was ' . $all);
    cmp_ok(value('native', 'written_bytes'), '<', $all + $MIB, 'nor does it jump');
};

subtest 'a source that hangs' => sub {
    # where nobody is connected nobody is asked
    my $there = session('anna', 'office');
    ok(Lab::Box::until_true(sub { Lab::Figures::due('sessions'); scrape(); (value('native', 'sessions') // 0) >= 1 }, 30), 'somebody is there')
        or diag(JSON::PP->new->canonical->encode($current->{sources}), Lab::Box::run(['smbstatus', '-p', '-n'])->{all});
    Lab::Box::spew('/run/lab/hang', "#!/bin/sh\nexec sleep 7777\n", 0755);
    Lab::Box::run(['mount', '--bind', '/run/lab/hang', '/usr/bin/smbstatus']);
    # its turn is now, whatever the last one cost
    Lab::Figures::due('sessions');
    my $began = Time::HiRes::time();
    scrape();
    my $took = Time::HiRes::time() - $began;
    cmp_ok($took, '<', 8, "the look comes back after $took s");
    like(why('sessions'), qr/did not answer within 3 s/, 'sessions say why');
    is(value('native', 'sessions'), undef, 'and are absent');
    ok(defined(value('native', 'written_bytes')) && defined(value('office', 'used_bytes')) && defined(value('native', 'failed_logins')), 'all else is there');
    is(Lab::Product::status('office')->{state}, 'ready', 'the share knows nothing of it');
    $began = Time::HiRes::time();
    scrape();
    cmp_ok(Time::HiRes::time() - $began, '<', 2, 'the next look does not wait for it again');
    like(why('sessions'), qr/did not answer within 3 s/, 'and still says why');
    Lab::Box::run(['umount', '/usr/bin/smbstatus']);
    close($there);
};

subtest 'what readers get' => sub {
    scrape();
    my $now = Lab::Product::call(['metrics', 'office']);
    is($now->{rc}, 0, 'metrics of a share') or diag(Lab::Product::words_of($now));
    is_deeply([sort { $a cmp $b } do { my %seen; grep { !$seen{$_}++ } map { "$_->{scope} $_->{object}" } @{ $now->{data}->{figures} } }], ['share office'], 'are of that share alone');
    like(Lab::Product::call(['metrics', '--gateway', 'native'], text => 1)->{all}, qr/gateway native\s+written_bytes.*share office\s+used_bytes\s+\d/s, 'a gateway with its shares, as a table');
    my $series = Lab::Product::call(['metrics', 'office', '--metric', 'used_bytes', '--from', '1h']);
    is($series->{rc}, 0, 'a series') or diag(Lab::Product::words_of($series));
    my @b = @{ $series->{data}->{buckets} };
    ok(@b >= 1 && $b[0]->{min} <= $b[0]->{mean} && $b[0]->{mean} <= $b[0]->{max} && $b[0]->{count} >= 1, 'has what was seen: ' . scalar(@b) . ' buckets');
    my $csv = Lab::Product::call(['metrics', 'office', '--metric', 'used_bytes', '--from', '1h', '--form', 'csv'], text => 1);
    like($csv->{out}, qr/\Atime,scope,object,metric,min_bytes,max_bytes,mean_bytes,samples\r\n\d{4}-/, 'as CSV');
    is(Lab::Product::call(['metrics', 'office', '--metric', 'nonsense'])->{error}->{kind}, 'invalid', 'a metric that is none is refused');
    like(Lab::Product::call(['metrics', 'office', '--from', '1h'])->{error}->{message} // '', qr/--from needs --metric/, 'a range without one too');
    my $text = Lab::Product::call(['openmetrics'], text => 1)->{out};
    like($text, qr/^smbgw_gateway_up\{[^}]*gateway="native"[^}]*\} 1/m, 'Prometheus sees that smbd runs');
    like($text, qr/# EOF\n\z/, 'to the end');
    like(Lab::Product::call(['report', '--from', '1h'], text => 1)->{out}, qr/office/, 'the report names the share');
    like(Lab::Product::call(['report', '--from', '1h', '--form', 'html'], text => 1)->{out}, qr/<html/, 'as a page too');
    my $mode = (stat("$Lab::Product::STATE/metrics.db"))[2] & 07777;
    is(sprintf('%o', $mode), '600', 'the store is root\'s alone');
};

subtest 'a store that is damaged, locked or full costs the store only' => sub {
    my $db = "$Lab::Product::STATE/metrics.db";
    Lab::Box::spew($db, 'no database' x 1000, 0600);
    unlink("$db-wal", "$db-shm");
    scrape();
    is(why('collector'), undef, 'a damaged one is begun anew');
    is(scalar(@{ [glob("$db.corrupt-*")] }), 1, 'and set aside');
    my $began = Time::HiRes::time();
    my $pid = fork() // die "fork: $!\n";
    if (!$pid) {
        # a writer that does not let go
        exec('python3', '-c', 'import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute("BEGIN EXCLUSIVE"); open(sys.argv[1] + ".held", "w").close(); time.sleep(60)', $db);
        POSIX::_exit(127);
    }
    ok(Lab::Box::until_true(sub { -e "$db.held" }, 20), 'somebody holds it');
    $began = Time::HiRes::time();
    scrape();
    cmp_ok(Time::HiRes::time() - $began, '<', 8, 'the look comes back');
    like(why('collector'), qr/the store did not take the figures/, 'and says that they were not kept');
    is(value('native', 'up'), 1, 'the figures are there');
    is(Lab::Product::call(['metrics', 'office'])->{rc}, 0, 'for readers too');
    is(Lab::Product::status('office')->{state}, 'ready', 'the share knows nothing of it');
    kill('KILL', $pid);
    waitpid($pid, 0);
    scrape();
    is(why('collector'), undef, 'afterwards it takes them again');
};

subtest 'alerts' => sub {
    is_deeply(Lab::Product::call(['alert', 'list'])->{data}->{alerts}, [], 'all is well');
    mkdir('/etc/smbgw');
    Lab::Box::spew('/run/lab/told', "#!/bin/sh\ncat >> /run/lab/told.json\necho >> /run/lab/told.json\n", 0755);
    Lab::Box::spew('/etc/smbgw/alerts.json', JSON::PP->new->encode({
        version => 1, rules => { 'gateway-down' => { for => 0, 'clear-for' => 0 } }, sinks => { syslog => 'off', command => { argv => ['/run/lab/told'], severity => 'info' } },
    }));
    my $rules = Lab::Product::call(['alert', 'list'])->{data};
    diag("rules: $_") for @{ $rules->{warnings} };
    my $agent = Lab::Product::agent(log => '/run/lab/agent.log', times => { pause => 3600, figures => 1 });
    # its first cycle, which would start smbd again, is over
    ok(Lab::Box::until_true(sub { (eval { JSON::PP->new->utf8->decode(Lab::Box::slurp("$Lab::Product::RUN/agent.json")) } // {})->{'duration-ms'} }, 60), 'the agent has gone round');
    ok(Lab::Box::until_true(sub { -e $FILE && JSON::PP->new->utf8->decode(Lab::Box::slurp($FILE))->{at} > $current->{at} }, 30), 'the agent looks');
    Lab::Smb::stop();
    my $told = sub { return map { JSON::PP->new->utf8->decode($_) } grep { m/\S/ } split(/\n/, -e '/run/lab/told.json' ? Lab::Box::slurp('/run/lab/told.json') : '') };
    ok(Lab::Box::until_true(sub { grep { $_->{event} eq 'raise' && $_->{object} eq 'native' } $told->() }, 60), 'that smbd does not run is told') or diag(Lab::Box::slurp('/run/lab/agent.log'));
    my ($alert) = grep { $_->{object} eq 'native' } @{ Lab::Product::call(['alert', 'list'])->{data}->{alerts} };
    is($alert->{severity}, 'critical', "and listed: $alert->{text}");
    Lab::Smb::start();
    ok(Lab::Box::until_true(sub { grep { $_->{event} eq 'clear' && $_->{object} eq 'native' } $told->() }, 60), 'and its end')
        or diag(Lab::Box::slurp('/run/lab/agent.log'), JSON::PP->new->canonical->encode(Lab::Product::call(['alert', 'list'])->{data}), Lab::Box::slurp($FILE));
    is(scalar(grep { $_->{event} eq 'raise' && $_->{object} eq 'native' } $told->()), 1, 'each once');
    my $rules_of = sub { Lab::Box::spew('/run/lab/rules', JSON::PP->new->encode({ version => 1, @_ })); return Lab::Product::call(['alert', 'rules', '/run/lab/rules']) };
    is($rules_of->(rules => { usage => [85, 95] })->{rc}, 0, 'other rules by command');
    my $kept = JSON::PP->new->decode(Lab::Box::slurp('/etc/smbgw/alerts.json'));
    is_deeply([$kept->{rules}->{usage}, $kept->{sinks}->{command}->{argv}], [[85, 95], ['/run/lab/told']], 'are kept, and so is the command, which is not theirs to set');
    like($rules_of->(rules => { nonsense => 1 })->{error}->{message} // '', qr/nonsense/, 'wrong ones are refused');
    like($rules_of->(sinks => { command => { argv => ['/bin/true'] } })->{error}->{message} // '', qr/a command is run as root/, 'a command too');
    is_deeply(JSON::PP->new->decode(Lab::Box::slurp('/etc/smbgw/alerts.json')), $kept, 'and nothing is changed');
    my $silence = Lab::Product::call(['alert', 'silence', '2h', '--object', 'share:office', '--comment', 'moving']);
    is($silence->{rc}, 0, 'a silence') or diag(Lab::Product::words_of($silence));
    is_deeply([map { $_->{object} } @{ Lab::Product::call(['alert', 'list'])->{data}->{silences} }], ['share:office'], 'is listed');
    is(Lab::Product::call(['alert', 'unsilence', $silence->{data}->{silence}->{id}])->{rc}, 0, 'and ended');
    is(Lab::Product::call(['alert', 'silence', 'yesterday'])->{error}->{kind}, 'invalid', 'one without a time is refused');
    kill('TERM', $agent);
    waitpid($agent, 0);
};

subtest 'figures are kept for as long as is said' => sub {
    my $db = "$Lab::Product::STATE/metrics.db";
    my $sql = sub { return Lab::Box::run(['python3', '-c', 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(*[r[0] for s in sys.argv[2:] for r in c.execute(s)]); c.commit()', $db, @_])->{out} =~ s/\s+\z//r };
    my $lengths = sub { my ($doc) = @_; return join(' ', map { $doc->{$_} // '?' } qw(raw minutes hours from)) };
    my $now = Lab::Product::call(['retention', 'show']);
    is($lengths->($now->{data}), '7d 30d 2y default', 'by default') or diag(Lab::Product::words_of($now));
    cmp_ok($now->{data}->{bytes}, '>', 0, "in $now->{data}->{bytes} bytes");
    # an hour of three days ago, and a clock that was looked at for long enough
    my $hour = int($current->{at} / 3_600_000) * 3_600_000 - 3 * 86_400_000;
    my $id = ($hour / 60_000) << 24;
    $sql->("INSERT INTO block (id, times, upto) VALUES ($id, x'', NULL)", map { "INSERT OR REPLACE INTO state (name, value) VALUES ('$_', $current->{at})" } qw(sure safe));
    my $left = sub { scrape(); return $sql->("SELECT count(*) FROM block WHERE id = $id") };
    is($left->(), 1, 'what is three days old is kept');
    my $set = Lab::Product::call(['retention', 'set', '--raw', '1d', '--hours', '5y']);
    is($lengths->($set->{data}), '1d 30d 5y node', 'other lengths, what is not said is as it was') or diag(Lab::Product::words_of($set));
    like(join("\n", @{ $set->{data}->{warnings} }), qr/\Araw: what is older than 1d goes with the next looks, and does not come back\z/, 'what goes is said');
    is(sprintf('%o', (stat($set->{data}->{file}))[2] & 07777), '600', 'written down, for root alone');
    is($left->(), 0, 'and the next look removes it, without anybody being started anew');
    is(why('collector'), undef, 'the store takes figures on');
    like(Lab::Product::call(['retention', 'show'], text => 1)->{out}, qr/raw\s+1d\n.*minutes\s+30d\n.*hours\s+5y\n.*by \Q$set->{data}->{file}\E\n/s, 'for people too');
    my $bad = Lab::Product::call(['retention', 'set', '--minutes', '3h']);
    is($bad->{error}->{kind}, 'invalid', 'minutes shorter than what they are made from are refused');
    like("$bad->{error}->{message} $bad->{error}->{remedy}", qr/minutes: 3h is shorter than raw \(1d\).*from 1h to 10y/s, 'with what can be');
    Lab::Box::spew($set->{data}->{file}, '{"raw": "1', 0600);
    my $look = scrape();
    like(join("\n", @{ $look->{notes} }), qr/no figures are removed: .*\Q$set->{data}->{file}\E/, 'a file that cannot be read removes nothing, and the log has it');
    is($lengths->(Lab::Product::call(['retention', 'reset'])->{data}), '7d 30d 2y default', 'back to the default');
    ok(!-e $set->{data}->{file}, 'without a file');
};

subtest 'the file for node_exporter' => sub {
    # a /var/lib with what the box has there, and without what the machine has
    my $lib = '/run/lab/lib';
    my @mounts = (['-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', $lib], (map { ['--bind', "/var/lib/$_", "$lib/$_"] } qw(samba smbgw)), ['--rbind', $lib, '/var/lib']);
    for my $mount (@mounts) {
        mkdir($mount->[-1]);
        Lab::Box::run(['mount', @$mount])->{rc} == 0 or BAIL_OUT("cannot mount @$mount");
    }
    my ($above, $dir) = ('/var/lib/prometheus', '/var/lib/prometheus/node-exporter');
    my $file = "$dir/smbgw.prom";
    my $notes = sub { return grep { m/node_exporter/ } @{ scrape()->{notes} } };
    is_deeply([$notes->()], [], 'nothing is said of it');
    ok(!-e $above, 'and nothing made');
    # as Debian's package leaves it: the upper one is its user's
    mkdir($_, 0755) && chmod(0755, $_) or BAIL_OUT("$_: $!") for $above, $dir;
    chown(4711, 4711, $above);
    is_deeply([$notes->()], [], 'in a directory that is root\'s alone');
    my @seen = stat($file);
    is(sprintf('%o %d', $seen[2] & 07777, $seen[4]), '644 0', 'it is there, and everybody can read it');
    my $text = Lab::Box::slurp($file);
    like($text, qr/^smbgw_share_ready\{[^}]*share="office"[^}]*\} [01]$/m, 'with figures of shares');
    like($text, qr/^# TYPE smbgw_gateway_failed_logins_total counter$/m, 'and their types, as the text format 0.0.4 has them');
    unlike($text, qr/^# EOF|^# UNIT/m, 'without what only OpenMetrics has');
    like($text, qr/\n\z/, 'to the end of a line');
    open(my $reader, '<', $file) or BAIL_OUT("$file: $!");
    my $begin = readline($reader);
    is_deeply([$notes->()], [], 'again');
    my $rest = do { local $/; readline($reader) };
    is($begin . $rest, $text, 'who reads it has the old one whole');
    isnt((stat($file))[1], $seen[1], 'the new one is another file, put in its place');
    is_deeply([map { m{([^/]+)\z} } glob("$dir/* $dir/.[!.]*")], ['smbgw.prom'], 'and nothing else is left');
    unlink($file);
    for my $case ([4711, 0755, 'is another user\'s'], [0, 0775, 'is a group\'s too'], [0, 01777, 'is everybody\'s']) {
        chown($case->[0], 0, $dir);
        chmod($case->[1], $dir);
        my @said = $notes->();
        like("@said", qr/\Athe file for node_exporter is not written: \Q$dir\E can be changed by others than root .*; chown root: \Q$dir\E/, "a directory that $case->[2]: it is said");
        ok(!-e $file, '... and nothing written');
    }
    chown(0, 0, $dir);
    rmdir($dir);
    mkdir('/srv/elsewhere', 0755);
    symlink('/srv/elsewhere', $dir);
    like(join(' ', $notes->()), qr/leads through the symlink|symlink/, 'a symlink: it is said');
    ok(!-e '/srv/elsewhere/smbgw.prom', '... and nothing written');
    is(why('collector'), undef, 'figures know nothing of it');
};
done_testing();
