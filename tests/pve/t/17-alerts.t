# SPDX-License-Identifier: AGPL-3.0-or-later
# How events are told: each generation of PVE::Notify is called exactly once for each event and in its own way, the log gets one line, a command
# gets the event on its standard input; each sink fails for itself and within its time.

use strict;
use warnings;
use utf8;

use File::Path ();
use File::Temp ();
use JSON::PP ();
use POSIX ();
use Socket ();
use Test::More;
use Time::HiRes ();
use FindBin;
use lib "$FindBin::Bin/../harness";
use Harness;
use lib $Harness::TOP;

my $dir = File::Temp::tempdir(CLEANUP => 1);
my $json = JSON::PP->new->canonical->utf8;

sub put { my ($name, $text, $mode) = @_; open(my $fh, '>:raw:encoding(UTF-8)', "$dir/$name") or die "$name: $!"; print {$fh} $text; close($fh); chmod($mode, "$dir/$name") if $mode; return "$dir/$name" }
sub get { my ($name) = @_; open(my $fh, '<:raw', "$dir/$name") or return ''; local $/; return scalar(<$fh>) }
sub lines { return map { $json->decode($_) } split(/\n/, get($_[0])) }

# The stand-ins say what the real module of each release demands of its caller, and note each call.
my $NOTE = <<'PERL';
package PVE::Notify;
use strict;
use warnings;
use JSON::PP ();
sub _note {
    my ($call) = @_;
    open(my $how, '<', "$ENV{ALERTS_TEST}/mode") or die $!;
    my $mode = readline($how) // '';
    open(my $fh, '>>:raw', "$ENV{ALERTS_TEST}/calls") or die $!;
    print {$fh} JSON::PP->new->canonical->utf8->encode($call), "\n";
    close($fh);
    die "could not notify: no such target\n" if $mode eq 'fail';
    sleep(30) if $mode eq 'hang';
    kill('KILL', $$) if $mode eq 'die';
    return;
}
sub _text { die "'$_[1]' is no text\n" if !defined($_[0]) || ref($_[0]) }
sub _hash { die "'$_[1]' is no hash\n" if ref($_[0]) ne 'HASH' }
sub _severity { die "unknown severity '$_[0]'\n" if $_[0] !~ m/\A(?:info|notice|warning|error|unknown)\z/ }
PERL
my %RELEASE = (
    '8.0' => <<'PERL',
sub default_target { return 'mail-to-root' }
sub notify {
    my ($target, $severity, $title, $message, $properties, $config) = @_;
    _severity($severity); _text($title, 'title'); _text($message, 'message'); _hash($properties, 'properties');
    die "no such target\n" if $target ne 'mail-to-root';
    _note({ severity => $severity, title => $title, message => $message, data => $properties, arguments => scalar(@_) });
}
PERL
    '8.1' => <<'PERL',
sub notify {
    my ($severity, $title, $message, $template_data, $fields, $config) = @_;
    _severity($severity); _text($title, 'title'); _text($message, 'message'); _hash($template_data, 'data'); _hash($fields, 'fields');
    _text($_, 'field') for values %$fields;
    _note({ severity => $severity, title => $title, message => $message, data => $template_data, fields => $fields, arguments => scalar(@_) });
}
PERL
    '8.2' => <<'PERL',
sub notify {
    my ($severity, $template_name, $template_data, $fields, $config) = @_;
    _severity($severity); _text($template_name, 'template'); _hash($template_data, 'data'); _hash($fields, 'fields');
    _text($_, 'field') for values %$fields;
    _note({ severity => $severity, template => $template_name, data => $template_data, fields => $fields, arguments => scalar(@_) });
}
PERL
);
$RELEASE{'9'} = $RELEASE{'8.2'} . "sub common_template_data { return { hostname => 'pve1', fqdn => 'pve1.example.com' } }\n";
for my $release (sort keys %RELEASE) {
    File::Path::make_path("$dir/lib-$release/PVE", "$dir/templates-$release");
    put("lib-$release/PVE/Notify.pm", "$NOTE$RELEASE{$release}1;\n");
    # a node from 8.2 on has Proxmox's own templates as files
    put("templates-$release/vzdump-subject.txt.hbs", "x") if $release eq '8.2' || $release eq '9';
    for my $part (qw(subject.txt body.txt body.html)) {
        open(my $fh, '<', "$Harness::TOP/PVE/templates/default/smbgw-alert-$part.hbs") or die $!;
        local $/;
        put("templates-$release/smbgw-alert-$part.hbs", scalar(<$fh>));
    }
}
mkdir("$dir/lib-none");
mkdir("$dir/templates-none");
$ENV{ALERTS_TEST} = $dir;

sub event {
    my (%o) = @_;
    return {
        id => 'usage-1790000000000-7', event => 'raise', code => 'usage', severity => 'critical', scope => 'share', object => 'office', node => 'pve1',
        at => 1_790_000_000_000, since => 1_789_999_000_000, value => 96.5, threshold => 95, unit => '%', title => 'critical: share office: 96.5 % of the limit is used',
        text => '96.5 % of the limit is used (Büro {{id}} <b>)', means => "so much of the share's limit is used", remedy => 'remove something', %o,
    };
}

# In a process of its own, as the agent's children are: PVE::Notify is loaded once in each.
sub deliver {
    my ($release, $due, %o) = @_;
    unlink("$dir/calls", "$dir/outcomes");
    put('mode', $o{mode} // '');
    put('due.json', '');
    open(my $fh, '>:raw', "$dir/due.json") or die $!;
    print {$fh} $json->encode({ due => $due, command => $o{command} });
    close($fh);
    my $script = put('deliver.pl', <<'PERL');
use strict; use warnings;
use JSON::PP ();
use PVE::SMBGateway::Alerts;
my ($dir, $release, $notify, $templates) = @ARGV;
$PVE::SMBGateway::Alerts::TEMPLATES = "$dir/templates-$templates";
$PVE::SMBGateway::Alerts::LOG_SOCKET = "$dir/log";
$PVE::SMBGateway::Alerts::DEADLINE{notify} = $notify;
open(my $fh, '<:raw', "$dir/due.json") or die $!;
local $/;
my $in = JSON::PP->new->utf8->decode(scalar(<$fh>));
my $steps = 0;
my $out = PVE::SMBGateway::Alerts::deliver($in->{due}, command => $in->{command}, on_step => sub { $steps++ });
open(my $to, '>:raw', "$dir/outcomes") or die $!;
print {$to} JSON::PP->new->utf8->encode({ outcomes => $out, steps => $steps });
PERL
    my $began = Time::HiRes::time();
    my $rc = system($^X, "-I$dir/lib-$release", "-I$Harness::TOP", "-I$Harness::HERE/lib", $script, $dir, $release, $o{deadline} // 20, $o{templates} // $release);
    die "deliver.pl: $rc" if $rc;
    my $got = $json->decode(get('outcomes'));
    $got->{seconds} = Time::HiRes::time() - $began;
    return $got;
}

sub brief { my ($got) = @_; return [map { my $o = $_; "$o->{sink} $o->{id} " . ($o->{sent} ? 'sent' : $o->{untried} ? 'untried' : $o->{absent} ? 'absent' : 'failed') } @{ $got->{outcomes} }] }

# --- Proxmox's notifications, by release

for my $release ('8.0', '8.1', '8.2', '9') {
    my @due = ({ event => event(), sinks => ['notify'] }, { event => event(id => 'b', event => 'clear', title => 'well again'), sinks => ['notify'] }, { event => event(id => 'c', severity => 'info'), sinks => [] });
    my $got = deliver($release, \@due);
    is_deeply(brief($got), ['notify usage-1790000000000-7 sent', 'notify b sent'], "$release: told");
    my @calls = lines('calls');
    is(scalar(@calls), 2, "$release: exactly once each");
    is_deeply([map { $_->{severity} } @calls], ['error', 'notice'], "$release: severities in Proxmox's words");
    my $data = $calls[0]->{data};
    is_deeply([@$data{qw(at since active value threshold)}, $data->{text}], [1_790_000_000, 1_789_999_000, 1, '96.5', '95', event()->{text}], "$release: the data of the template");
    is($calls[1]->{data}->{active}, 0, "$release: an end has no remedy");
    is_deeply($calls[0]->{fields}, { type => 'smbgw-alert', hostname => 'pve1', code => 'usage', event => 'raise', scope => 'share', object => 'office' }, "$release: fields for matchers") if $release ne '8.0';
    if ($release eq '8.0' || $release eq '8.1') {
        is($calls[0]->{title}, 'SMB: {{title}}', "$release: the title is our template, without a line feed");
        like($calls[0]->{message}, qr/\{\{remedy\}\}/, "$release: so is the message");
        unlike($calls[0]->{title} . $calls[0]->{message}, qr/96\.5|Büro/, "$release: and nothing of an event is read as one");
    } else {
        is($calls[0]->{template}, 'smbgw-alert', "$release: the template has a name");
        is($calls[0]->{arguments}, 4, "$release: four arguments");
    }
    is($data->{fqdn}, $release eq '9' ? 'pve1.example.com' : undef, "$release: what all templates get, where there is such");

    # failures
    $got = deliver($release, [@due[0, 1]], mode => 'fail');
    is_deeply(brief($got), ['notify usage-1790000000000-7 failed', 'notify b untried'], "$release: after a failure the next waits");
    is($got->{outcomes}->[0]->{why}, 'could not notify: no such target', "$release: and says why");
    is(scalar(lines('calls')), 1, "$release: it was asked once");
}

my $got = deliver('none', [{ event => event(), sinks => ['notify'] }]);
is_deeply(brief($got), ['notify usage-1790000000000-7 absent'], 'without PVE::Notify there is nobody to tell');
$got = deliver('9', [{ event => event(), sinks => ['notify'] }], templates => 'none');
is_deeply(brief($got), ['notify usage-1790000000000-7 failed'], 'without our template it is not tried');
like($got->{outcomes}->[0]->{why}, qr/template .*smbgw-alert-subject.* is missing/, 'because Proxmox would not tell that it failed');
is(get('calls'), '', 'nobody was called');

$got = deliver('9', [{ event => event(), sinks => ['notify'] }, { event => event(id => 'b'), sinks => ['notify'] }], mode => 'hang', deadline => 1);
is_deeply(brief($got), ['notify usage-1790000000000-7 failed', 'notify b untried'], 'one that hangs is ended');
ok($got->{seconds} < 10, "in time ($got->{seconds} s), and costs one deadline");
ok($got->{steps} > 5, 'meanwhile the caller is told that it gets on');
$got = deliver('9', [{ event => event(), sinks => ['notify'] }], mode => 'die');
is($got->{outcomes}->[0]->{why}, 'it ended by signal 9', 'one that crashes is a failure, not ours');

# --- the templates

for my $part (qw(subject.txt body.txt body.html)) {
    my $text = get("templates-9/smbgw-alert-$part.hbs");
    my %known = map { $_ => 1 } qw(id event code severity scope object node value threshold unit title text means remedy at since active);
    my @used = $text =~ m/\{\{(?:#if |timestamp )?([a-z]+)\}\}/g;
    is_deeply([grep { !$known{$_} } @used], [], "$part uses what it gets");
    ok(scalar(@used) > 0 && $text !~ m/\{\{\{/, "$part leaves its data escaped");
    is(() = $text =~ m/\{\{#if/g, () = $text =~ m!\{\{/if!g, "$part is closed");
}

# --- the system's log

socket(my $log, Socket::AF_UNIX(), Socket::SOCK_DGRAM(), 0) or die $!;
bind($log, Socket::pack_sockaddr_un("$dir/log")) or die $!;
$got = deliver('none', [{ event => event(text => "one\ntwo %s"), sinks => ['syslog'] }, { event => event(id => 'b', event => 'clear'), sinks => ['syslog'] }]);
is_deeply(brief($got), ['syslog usage-1790000000000-7 sent', 'syslog b sent'], 'the log got both');
my @said = map { recv($log, my $text, 65_536, Socket::MSG_DONTWAIT()); $text } 1 .. 3;
# daemon is 3; crit is 2, notice 5
like($said[0], qr/\A<26>.*smbgw(?:\[\d+\])?: alert raise code=usage severity=critical share=office id=usage-1790000000000-7: one; two %s[\n\0]*\z/, 'critical, on one line');
like($said[1], qr/\A<29>.*alert clear/, 'an end is a notice');
is($said[2], '', 'and nothing else');
close($log);
unlink("$dir/log");
$got = deliver('none', [{ event => event(), sinks => ['syslog'] }, { event => event(id => 'b'), sinks => ['syslog'] }]);
is_deeply(brief($got), ['syslog usage-1790000000000-7 failed', 'syslog b untried'], 'nobody listens: a failure');
like($got->{outcomes}->[0]->{why}, qr/nobody listens at \Q$dir\E\/log/, 'that says so');

# --- a command

my $tell = put('tell', "#!/bin/sh\ncat >> $dir/heard\nprintf '%s|' \"\$@\" >> $dir/arguments\nenv > $dir/env\n", 0755);
local $ENV{SECRET} = 'x';
$got = deliver('none', [{ event => event(), sinks => ['command'] }, { event => event(id => 'b', text => 'x' x 200_000), sinks => ['command'] }], command => { argv => [$tell, '--now', '$(id); `id`'], deadline => 10 });
is_deeply(brief($got), ['command usage-1790000000000-7 sent', 'command b sent'], 'the command got both');
my @heard = lines('heard');
is_deeply($heard[0], event(), 'the event is on its standard input');
is(length($heard[1]->{text}), 200_000, 'also a long one');
is(get('arguments'), '--now|$(id); `id`|' x 2, 'no shell reads its arguments');
unlike(get('env'), qr/SECRET|ALERTS_TEST/, 'its environment is clean');
my $deaf = put('deaf', "#!/bin/sh\nexec <&-\nexit 0\n", 0755);
$got = deliver('none', [{ event => event(text => 'x' x 200_000), sinks => ['command'] }], command => { argv => [$deaf] });
is_deeply(brief($got), ['command usage-1790000000000-7 sent'], 'one that does not want to know it all may end');
my $angry = put('angry', "#!/bin/sh\necho 'no route to' >&2\necho 'the pager' >&2\nexit 3\n", 0755);
$got = deliver('none', [{ event => event(), sinks => ['command'] }], command => { argv => [$angry] });
is($got->{outcomes}->[0]->{why}, "$angry ended by status 3: no route to; the pager", 'what it complains of is told');
$got = deliver('none', [{ event => event(), sinks => ['command'] }], command => { argv => ["$dir/nowhere"] });
like($got->{outcomes}->[0]->{why}, qr/cannot start .*nowhere: No such file/, 'one that is not there');
my $slow = put('slow', "#!/bin/sh\nsleep 60 &\necho \$! > $dir/child\nwait\n", 0755);
$got = deliver('none', [{ event => event(), sinks => ['command'] }, { event => event(id => 'b'), sinks => ['command'] }], command => { argv => [$slow], deadline => 1 });
is_deeply(brief($got), ['command usage-1790000000000-7 failed', 'command b untried'], 'one that hangs is ended');
ok($got->{seconds} < 8, "in time ($got->{seconds} s)");
my ($child) = get('child') =~ m/(\d+)/;
my $lives = sub { open(my $fh, '<', "/proc/$child/stat") or return 0; return (readline($fh) // '') !~ m/\) Z / };
for (1 .. 20) { last if !$lives->(); Time::HiRes::sleep(0.1) }
ok($child && !$lives->(), 'with its children');

# --- each sink for itself

$got = deliver('9', [{ event => event(), sinks => ['notify', 'syslog', 'command'] }], mode => 'fail', command => { argv => [$tell] });
is_deeply(brief($got), ['syslog usage-1790000000000-7 failed', 'notify usage-1790000000000-7 failed', 'command usage-1790000000000-7 sent'], 'two that fail do not hold the third up');

# --- the alarm of the caller goes on
{
    require PVE::SMBGateway::Alerts;
    my $rang = 0;
    local $SIG{ALRM} = sub { $rang++ };
    alarm(2);
    PVE::SMBGateway::Alerts::_within(5, sub { Time::HiRes::sleep(0.2) });
    my $left = alarm(0);
    ok($left >= 1 && $left <= 2, 'an alarm that was set is set again');
    eval { PVE::SMBGateway::Alerts::_within(1, sub { select(undef, undef, undef, 5) }) };
    is($@, "no answer within 1 s\n", 'and ours rings');
    is($rang, 0, 'for us alone');
}

done_testing();
