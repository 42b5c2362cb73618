# SPDX-License-Identifier: MIT OR Apache-2.0

# The Debian packages in a plain Debian with systemd as its first process, in a container: installed, used, upgraded while a client writes,
# removed and purged. Clients connect from outside. Packages that are in .cache/deb are taken (`make deb`), others are built, which takes
# minutes, and so does the system at its first time. SMBGW_PACKAGES_SUITE names another Debian than this machine's: bookworm, trixie;
# packages-other.t runs this file with that.

use strict;
use warnings;

use File::Basename ();
use lib File::Basename::dirname(__FILE__) . '/../lab/lib';

use JSON::PP ();
use Test::More;

use Lab::Box;
use Lab::Guests;
use Lab::Packages;
use Lab::Smb;

my $SUITE = $ENV{SMBGW_PACKAGES_SUITE} // Lab::Guests::own_suite();
my $ID = 120;
my $ADDRESS = Lab::Guests::address($ID);
my $PASSWORD = 'in a package 1';
# Without libsmbgw-dev, as docs/INSTALL.md names them.
my @TO_REMOVE = qw(pve-smbgateway libsmbgw-perl libsmbgw0);
my $RELOADS = '/var/log/reloads';

my $why = Lab::Smb::missing() // Lab::Guests::missing();
Lab::Box::skip_all("no packages: $why") if defined($why);
Lab::Packages::ready($SUITE);
my $packages = Lab::Packages::packages($SUITE);
Lab::Box::enter();
Lab::Guests::prepare();
Lab::Guests::storage();
Lab::Packages::into_storage($SUITE);
END { Lab::Guests::stop_all() if defined($ENV{SMBGW_LAB_BOX}) }

# Of the packages alone.
subtest 'lintian' => sub {
    my $r = Lab::Packages::lintian($SUITE);
    is($r->{rc}, 0, 'finds no error and nothing to warn of') or diag($r->{all});
};

sub inside { my ($argv, %o) = @_; return Lab::Guests::exec($ID, $argv, timeout => 120, %o) }
sub text_of { my ($path) = @_; return inside(['cat', $path])->{out} }
sub there { my ($path) = @_; return inside(['test', '-e', $path])->{rc} == 0 ? 1 : 0 }

sub works_inside {
    my ($name, $argv, %o) = @_;
    my $r = inside($argv, %o);
    ok(defined($r->{rc}) && $r->{rc} == 0, $name) or diag($r->{all});
    return $r;
}

# The command, and the data of its answer.
sub product {
    my ($name, $words, %o) = @_;
    my $r = works_inside($name, ['/usr/sbin/pve-smbgateway', @$words, '--output-format', 'json'], %o);
    return (eval { JSON::PP::decode_json($r->{out}) } // {})->{data} // {};
}

# Brings packages into the container and installs them in one go, as docs/INSTALL.md says.
sub install_packages {
    my ($name, @files) = @_;
    my @at;
    for my $file (@files) {
        # where apt may read it as a user of its own
        my $at = '/var/local/' . File::Basename::basename($file);
        my $r = Lab::Guests::pct(['push', $ID, $file, $at]);
        is($r->{rc}, 0, "$at is brought in") or diag($r->{all});
        push @at, $at;
    }
    return without_complaint($name, apt('install', @at));
}

sub without_complaint {
    my ($name, $argv) = @_;
    my $r = works_inside($name, $argv, timeout => 180);
    unlike($r->{all}, qr/warning|error|fail|no such|cannot|still shares|not empty/i, 'without a complaint') or diag($r->{all});
    return $r;
}

# A repository inside, of packages that lie in a directory here, and apt's call that knows no other.
my $REPOSITORY = '/var/local/apt';

sub bring_repository {
    my ($dir) = @_;
    Lab::Packages::index_packages($dir);
    my $r = Lab::Box::run(['tar', '-c', '-f', '/tmp/repository.tar', '-C', $dir, '.']);
    is($r->{rc}, 0, 'a repository') or diag($r->{all});
    is(Lab::Guests::pct(['push', $ID, '/tmp/repository.tar', '/root/repository.tar'])->{rc}, 0, 'is brought in');
    inside(['rm', '-rf', $REPOSITORY]);
    works_inside('a directory for it', ['mkdir', '-p', "$REPOSITORY/lists/partial"]);
    works_inside('and lies there', ['tar', '-x', '-f', '/root/repository.tar', '-C', $REPOSITORY, '--no-same-owner']);
    Lab::Box::spew('/tmp/sources.list', "deb [trusted=yes] file:$REPOSITORY ./\n");
    Lab::Guests::pct(['push', $ID, '/tmp/sources.list', "$REPOSITORY/sources.list"]);
    works_inside('apt reads it', apt('update'));
    return;
}

sub apt {
    my (@words) = @_;
    return ['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', '-y', '-o', "Dir::Etc::sourcelist=$REPOSITORY/sources.list", '-o', 'Dir::Etc::sourceparts=-', '-o', "Dir::State::lists=$REPOSITORY/lists", @words];
}

# What apt would install, by name.
sub would_install {
    my ($status, @words) = @_;
    my $r = inside(apt('-s', '-o', "Dir::State::status=$status", 'install', @words));
    diag($r->{all}) if $r->{rc} != 0;
    return join(' ', $r->{rc} == 0 ? () : 'failed:', sort($r->{all} =~ m/^Inst (\S+)/mg));
}

sub client {
    my ($user, $commands) = @_;
    my $r = Lab::Box::run(['smbclient', "//$ADDRESS/office", '-U', "$user%$PASSWORD", '-m', 'SMB3_11', '-t', '10', '-s', '/dev/null', '-c', $commands], timeout => 30);
    return $r->{all} =~ m/(NT_STATUS_\w+)/ ? $1 : $r->{rc} == 0 ? 'OK' : "exit $r->{rc}: $r->{all}";
}

# A file through the share and back.
sub round_trip {
    my ($user) = @_;
    unlink('/tmp/back');
    Lab::Box::spew('/tmp/there', my $text = join('', map { chr(32 + rand(90)) } 1 .. 2000));
    my $got = client($user, 'put /tmp/there round.txt; get round.txt /tmp/back; del round.txt');
    return $got ne 'OK' ? $got : Lab::Box::slurp('/tmp/back') eq $text ? 'OK' : 'another file came back';
}

sub reloads { return scalar(() = text_of($RELOADS) =~ m/^pve-api-updates$/mg) }

# The units that are installed, and what runs all the time.
sub main_unit { return inside(['test', '-e', '/usr/sbin/pve-smbgateway-agent'])->{rc} == 0 ? 'pve-smbgateway-agent.service' : 'pve-smbgateway-reconcile.timer' }
sub unit { my ($verb) = @_; return inside(['systemctl', $verb, main_unit()])->{out} =~ s/\s+\z//r }

# Everything that a removal or an upgrade has to leave as it is.
sub kept {
    my $files = inside(['sha256sum', '/etc/samba/smb.conf', '/etc/samba/smbgw.conf', '/etc/smbgw/storage.cfg', '/srv/office/kept.txt', '/srv/office/deep/file.txt'])->{out};
    return { files => $files, accounts => join('', grep { m/^(?:smbgw|anna|ben)/ } split(/^/m, text_of('/etc/passwd') . text_of('/etc/group'))), passdb => inside(['pdbedit', '-L', '-w'])->{out} =~ s/LCT-\w+//gr };
}

sub valid_samba { return inside(['testparm', '-s', '--suppress-prompt'])->{rc} }

# Privileged: an unprivileged container has no numbers from 70000 on, which accounts of a gateway on a machine get.
my $r = Lab::Guests::pct(['create', $ID, Lab::Packages::volume($SUITE), '--hostname', 'plain', '--unprivileged', 0, '--ostype', 'debian', '--memory', 1024, '--cores', 2, '--rootfs', 'local:4',
    '--features', 'nesting=1', '--net0', Lab::Guests::net0($ID)]);
is($r->{rc}, 0, "a plain Debian ($SUITE)") or BAIL_OUT($r->{all});
is(Lab::Guests::pct(['start', $ID])->{rc}, 0, 'which boots') or BAIL_OUT('no system');
my $state = Lab::Guests::wait_up($ID, 60);
like($state, qr/\A(?:running|degraded)\z/, 'its systemd is up') or BAIL_OUT($state);
is(text_of('/proc/1/comm'), "systemd\n", 'systemd is its first process');
ok(Lab::Guests::wait_port($ADDRESS, 445), 'and its Samba answers');
works_inside('a tree', ['mkdir', '/srv/office']);
my $stock = text_of('/etc/samba/smb.conf');

# What apt makes of the names in the packages, on machines that are only described: this one, where nothing is served yet, and a Proxmox node.
subtest 'what apt brings with them' => sub {
    mkdir('/tmp/described');
    Lab::Box::run(['cp', (map { $packages->{$_} } @Lab::Packages::NAMES), '/tmp/described']);
    Lab::Packages::empty_package('/tmp/described', $_, '9:99') for qw(samba samba-common-bin smbclient libpve-storage-perl);
    bring_repository('/tmp/described');
    my $bare = join("\n", grep { !m/^Package: (?:samba|samba-common-bin|smbclient)$/m } split(/\n(?=Package: )/, text_of('/var/lib/dpkg/status')));
    my $node = "Package: pve-container\nStatus: install ok installed\nMaintainer: nobody\nArchitecture: all\nVersion: 5\nDescription: none\n";
    my $old = $node =~ s/pve-container/libpve-storage-perl/r;
    my %status = (bare => $bare, node => "$bare\n$node", old => "$bare\n$node\n$old");
    for my $name (sort keys %status) {
        Lab::Box::spew("/tmp/status.$name", $status{$name});
        is(Lab::Guests::pct(['push', $ID, "/tmp/status.$name", "$REPOSITORY/status.$name"])->{rc}, 0, "a machine '$name'");
    }
    my @ours = qw(libsmbgw-perl libsmbgw0 pve-smbgateway);
    is(would_install("$REPOSITORY/status.bare", 'pve-smbgateway'), join(' ', @ours, qw(samba samba-common-bin smbclient)), 'the library and its module, and Samba where there are no containers');
    is(would_install("$REPOSITORY/status.bare", '--no-install-recommends', 'pve-smbgateway'), "@ours", 'which an administrator can decline');
    is(would_install("$REPOSITORY/status.node", 'pve-smbgateway'), "@ours", 'no Samba comes onto a Proxmox node');
    is(would_install("$REPOSITORY/status.old", 'pve-smbgateway'), join(' ', 'libpve-storage-perl', @ours), "a storage stack that is too old has to be newer, and is made so");
    is(would_install("$REPOSITORY/status.bare", 'libsmbgw-dev'), 'libsmbgw-dev libsmbgw0', 'who develops gets the library');
};

install_packages('somebody waits for the trigger', Lab::Packages::trigger_watch('/tmp', $RELOADS));

subtest 'installation' => sub {
    install_packages('all four packages are installed', map { $packages->{$_} } @Lab::Packages::NAMES);
    my $version = Lab::Packages::version_of($packages->{'pve-smbgateway'});
    is(inside(['dpkg-query', '-W', '-f', '${Status} ${Version}\n', @Lab::Packages::NAMES])->{out}, "install ok installed $version\n" x 4, 'and configured') or BAIL_OUT('they cannot be installed');
    is(inside(['dpkg', '--verify', @Lab::Packages::NAMES])->{out}, '', 'every file is what it was packed as');
    is(reloads(), 1, "Proxmox's daemons would be reloaded, once");
    is(unit('is-enabled'), 'enabled', main_unit() . ' starts with the system');
    is(unit('is-active'), 'active', 'and runs');
    my $r = product('the command finds the library', ['version']);
    ok(%$r, 'and says both versions') or diag(explain($r));
    like(inside(['systemctl', 'list-unit-files', 'pve-smbgateway*'])->{out}, qr/^pve-smbgateway-reconcile\@\.service /m, "with the unit that hooks start");
    # what systemd thinks of the units themselves: a word that it does not know is only a warning to it
    my @units = map { s/@\./\@office./r } split(' ', inside(['find', '/usr/lib/systemd/system', '-name', 'pve-smbgateway*', '-printf', '%f '])->{out});
    cmp_ok(scalar(@units), '>=', 2, 'there are units');
    $r = inside(['systemd-analyze', 'verify', '--man=no', @units]);
    unlike($r->{all}, qr/pve-smbgateway/, 'and systemd has nothing against them') or diag($r->{all});
    is(inside(['systemctl', '--failed', '--plain', '--no-legend', 'list-units', 'pve-smbgateway*'])->{out}, '', 'none has failed');
};

subtest 'a share' => sub {
    product('is created', ['create', 'office', '--path', '/srv/office', '--smbgw-mode', 'native', '--username', 'anna', '--password-stdin'], stdin => "$PASSWORD\n");
    is(round_trip('anna'), 'OK', 'a client writes and reads');
    product('another user', ['user', 'create', 'ben', '--password-stdin'], stdin => "$PASSWORD\n");
    product('may read', ['set', 'office', '--smbgw-access', 'rw:anna,ro:ben']);
    is(client('ben', 'ls'), 'OK', 'and reads');
    is(client('ben', 'put /etc/hostname x.txt'), 'NT_STATUS_ACCESS_DENIED', 'and does not write');
    is(client('anna', 'put /etc/hostname kept.txt; mkdir deep; put /etc/hostname deep/file.txt'), 'OK', 'data');
    is(product('status', ['status', 'office'])->{state}, 'ready', 'the share is ready');
};

subtest 'the worker puts things right' => sub {
    works_inside('Samba is stopped', ['systemctl', 'stop', 'smbd']);
    my $got = '';
    Lab::Box::until_true(sub { ($got = round_trip('anna')) eq 'OK' }, 90);
    is($got, 'OK', 'and runs again') or diag(inside(['journalctl', '-n', 50, '--no-pager'])->{out});
    my $time = sub { return inside(['stat', '-c', '%y', '/run/smbgw/well/native.json'])->{out} };
    my $before = '';
    ok(Lab::Box::until_true(sub { ($before = $time->()) =~ m/\d/ }, 90), 'it is noted that all is in order');
    ok(Lab::Box::until_true(sub { $time->() ne $before }, 90), 'again and again');
};

my $kept = kept();
like($kept->{files}, qr!/etc/smbgw/storage\.cfg\n!, 'there are sections');
unlike($kept->{files}, qr/No such/, 'and all that is to be kept');

subtest 'upgrade' => sub {
    my $before = reloads();
    my $held = Lab::Smb::hold('anna', $PASSWORD, 'office', address => $ADDRESS);
    ok($held->goes_on(), 'a client writes');
    my $version = Lab::Packages::version_of($packages->{'pve-smbgateway'}) . '+1';
    mkdir('/tmp/newer');
    my @newer = map { Lab::Packages::with_version($packages->{$_}, $version, '/tmp/newer') } @Lab::Packages::NAMES;
    install_packages('a newer version is installed', @newer);
    is(inside(['dpkg-query', '-W', '-f', '${Status} ${Version}\n', @Lab::Packages::NAMES])->{out}, "install ok installed $version\n" x 4, 'and configured');
    ok($held->goes_on(), 'the client goes on, over the same connection') or diag($held->ended());
    $held->stop();
    is_deeply(kept(), $kept, 'sections, configuration, users and data are as before');
    is(round_trip('anna'), 'OK', 'the password too');
    is(reloads(), $before + 1, "Proxmox's daemons would be reloaded");
    is(unit('is-enabled'), 'enabled', 'the unit starts with the system');
    is(unit('is-active'), 'active', 'and runs');
    is(product('status', ['status', 'office', '--fresh'])->{state}, 'ready', 'the share is ready');
};

subtest 'restart of the system' => sub {
    is(Lab::Guests::pct(['reboot', $ID])->{rc}, 0, 'rebooted');
    like(Lab::Guests::wait_up($ID, 60), qr/\A(?:running|degraded)\z/, 'it comes up');
    my $got = '';
    Lab::Box::until_true(sub { ($got = round_trip('anna')) eq 'OK' }, 60);
    is($got, 'OK', 'the share is served');
    is(unit('is-active'), 'active', 'the unit runs');
    ok(Lab::Box::until_true(sub { there('/run/smbgw/status/office.json') }, 60), 'and has looked at the share') or diag(inside(['journalctl', '-n', 50, '--no-pager'])->{out});
};

subtest 'removal, with a share' => sub {
    my $before = reloads();
    my $unit = main_unit();
    works_inside('a password that waits', ['install', '-D', '-m', '600', '/etc/hostname', '/run/smbgw/pending/other']);
    my $held = Lab::Smb::hold('anna', $PASSWORD, 'office', address => $ADDRESS);
    my $r = works_inside('the packages are removed', ['dpkg', '--remove', reverse @Lab::Packages::NAMES]);
    like($r->{all}, qr/there are still shares.*Samba.*data, users and records stay/s, 'which says what stays');
    like($r->{all}, qr/pve-smbgateway delete ID/, 'and how to take it away');
    ok($held->goes_on(), 'a client goes on, over the same connection') or diag($held->ended());
    $held->stop();
    is_deeply(kept(), $kept, 'sections, configuration, users and data are as before');
    is(valid_samba(), 0, "Samba's configuration is valid");
    is(round_trip('anna'), 'OK', 'and a new client is served');
    is(there('/usr/sbin/pve-smbgateway'), 0, 'the command is gone');
    isnt(inside(['systemctl', 'is-active', $unit])->{out}, "active\n", 'the unit does not run');
    is(there('/run/smbgw/pending/other'), 0, 'no password waits any more');
    is(reloads(), $before + 1, "Proxmox's daemons would be reloaded");
};

subtest 'installed again it goes on' => sub {
    install_packages('installed', map { $packages->{$_} } @Lab::Packages::NAMES);
    is(product('status', ['status', 'office', '--fresh'])->{state}, 'ready', 'the share is ready');
    is(unit('is-enabled'), 'enabled', 'the unit starts with the system');
    is(unit('is-active'), 'active', 'and runs');
};

subtest 'purge, with a share' => sub {
    Lab::Box::spew('/tmp/options.json', "{}\n");
    is(Lab::Guests::pct(['push', $ID, '/tmp/options.json', "/etc/smbgw/$_.json"])->{rc}, 0, $_) for qw(options alerts retention retention@plain);
    my $record = text_of('/var/lib/smbgw/gateways/native@plain.json');
    like($record, qr/anna/, 'there is a record');
    my $r = works_inside('purged', ['dpkg', '--purge', reverse @Lab::Packages::NAMES]);
    like($r->{all}, qr!records \(/var/lib/smbgw/gateways\) and sections are kept!, 'which says what is kept');
    is(text_of('/var/lib/smbgw/gateways/native@plain.json'), $record, 'the record is');
    is_deeply(kept(), $kept, 'sections, configuration, users and data are as before');
    is(inside(['find', '/var/lib/smbgw/ops', '-type', 'f'])->{out}, '', 'finished journals are gone');
    is(there('/run/smbgw'), 0, 'and what was of this run');
    is(there("/etc/smbgw/$_.json"), 0, "and $_") for qw(options alerts retention retention@plain);
    is(there("/var/lib/smbgw/$_"), 0, "and $_") for qw(metrics.db alerts.json);
    is(round_trip('anna'), 'OK', 'a client is served');
};

subtest 'installed once more, the share is taken away' => sub {
    without_complaint('by the name of one of them', apt('install', 'pve-smbgateway'));
    is(unit('is-active'), 'active', 'the unit runs');
    is(round_trip('anna'), 'OK', 'a client is served');
    product('deleted', ['delete', 'office']);
    like(client('anna', 'ls'), qr/NT_STATUS/, 'nobody is served any more');
    is(text_of('/etc/samba/smb.conf'), $stock, "Samba's configuration is as it was before the first share");
};

# On a Proxmox node the sections are in /etc/pve. It is no node, so only the packages' scripts see this file.
subtest 'removal and purge, with sections in the file of Proxmox' => sub {
    my $cfg = "dir: local\n\tpath /var/lib/vz\n\nsmbgateway: office\n\tpath /srv/office\n\tusername anna\n\n";
    my $put = sub {
        my ($text, $path) = @_;
        Lab::Box::spew('/tmp/put', $text);
        works_inside('a directory', ['mkdir', '-p', File::Basename::dirname($path)]);
        is(Lab::Guests::pct(['push', $ID, '/tmp/put', $path])->{rc}, 0, "$path is written");
    };
    $put->($cfg, '/etc/pve/storage.cfg');
    my $r = works_inside('removed', apt('remove', @TO_REMOVE));
    like($r->{all}, qr/there are still shares/, 'which says that there are shares');
    like($r->{all}, qr/drops the sections.*repair --restore/s, 'and what Proxmox will do, and how they come back');
    is(text_of('/etc/pve/storage.cfg'), $cfg, 'the sections are there');
    my %state = ('gateways/office.json' => "{}\n", 'ops/9.json' => "{}\n", 'ops/9.open' => '', 'ops/8.json' => "{}\n", 'other' => "x\n");
    $put->($state{$_}, "/var/lib/smbgw/$_") for sort keys %state;
    $r = works_inside('purged', ['dpkg', '--purge', @TO_REMOVE]);
    like($r->{all}, qr!records \(/var/lib/smbgw/gateways\) and sections are kept!, 'which says what is kept');
    is(text_of('/etc/pve/storage.cfg'), $cfg, 'the sections are');
    is(there("/var/lib/smbgw/$_"), 1, "$_ is") for qw(gateways/office.json ops/9.json ops/9.open);
    is(there("/var/lib/smbgw/$_"), 0, "$_ is not") for qw(ops/8.json other);

    without_complaint('installed', apt('install', 'pve-smbgateway'));
    $cfg =~ s/^smbgateway:.*//ms;
    $put->($cfg, '/etc/pve/storage.cfg');
    without_complaint('purged when the sections are gone', apt('purge', @TO_REMOVE));
    is(text_of('/etc/pve/storage.cfg'), $cfg, 'the file of Proxmox is as it was');
    is(there('/var/lib/smbgw'), 0, 'and the state is gone');
    works_inside('nothing of Proxmox', ['rm', '-r', '/etc/pve']);
    without_complaint('installed once more', apt('install', 'pve-smbgateway'));
};

subtest 'purge, without a share' => sub {
    my $before = reloads();
    without_complaint('purged', apt('purge', @TO_REMOVE));
    is(there($_), 0, "$_ is gone") for qw(/var/lib/smbgw /run/smbgw /etc/smbgw);
    is(inside(['find', '/etc', '/usr', '/var/lib', '-path', '/usr/share/doc', '-prune', '-o', '(', '-name', '*smbgw*', '-o', '-name', '*smbgateway*', ')', '-print'])->{out}, '', 'nothing has our name');
    is(text_of('/srv/office/kept.txt'), Lab::Box::slurp('/etc/hostname'), 'the data is there');
    is(text_of('/etc/samba/smb.conf'), $stock, "Samba's configuration too");
    is(reloads(), $before + 1, "Proxmox's daemons would be reloaded");
    is(inside(['dpkg', '--audit'])->{out}, '', 'dpkg has nothing open');
};

done_testing();

# for packages-other.t
1;
