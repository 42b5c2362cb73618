# SPDX-License-Identifier: MIT OR Apache-2.0

# What the agent does with alerts that are due: each is told once, whatever becomes due while others are being told, and in whichever order looks and
# messages are over. What tells is a double; the agent, its children and their ends are real.

use strict;
use warnings;

use File::Temp ();
use FindBin ();
use Test::More;
use Time::HiRes ();

use lib "$FindBin::Bin/../harness";
use Harness;
use lib $Harness::TOP;

use PVE::SMBGateway::Agent;
use PVE::SMBGateway::Error;

my $dir = File::Temp->newdir();
{
    no warnings qw(redefine once);
    *PVE::SMBGateway::Monitor::tell = sub {
        my ($look, $step) = @_;
        for my $event (map { $_->{event} } @{ $look->{due} }) {
            open(my $to, '>>', "$dir/told") or die "told: $!\n";
            syswrite($to, "$event->{id}\n");
            close($to);
            Time::HiRes::sleep($event->{takes} // 0);
        }
        die "no way to tell it\n" if $look->{fails};
        die PVE::SMBGateway::Error->new('busy', 'somebody is at the record') if $look->{busy};
        return { notes => [] };
    };
    *PVE::SMBGateway::Agent::_log = sub { my (undef, $text) = @_; open(my $to, '>>', "$dir/log") or die "log: $!\n"; syswrite($to, "$text\n"); return };
}

sub lines { my ($name) = @_; open(my $from, '<', "$dir/$name") or return []; chomp(my @lines = <$from>); return \@lines }
sub due { return [map { { event => ref($_) ? $_ : { id => $_ }, sinks => ['command'] } } @_] }
sub now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

my $agent = bless({ children => {}, queue => [], cycle => 1, known => {} }, 'PVE::SMBGateway::Agent');
sub tell { my ($look) = @_; $agent->_tell({ began => now(), notes => [], command => {}, %$look }); return }

# Until nobody is at it any more.
sub over {
    my $end = now() + 20;
    $agent->_wait(0.05) while %{ $agent->{children} } && now() < $end;
    return !%{ $agent->{children} };
}

my $began = now();
main::tell({ due => due({ id => 'raise-1', takes => 0.5 }) });
main::tell({ due => due('clear-1') });
main::tell({ due => due('raise-1', 'raise-2') });
main::tell({ due => due('raise-2', 'clear-1') });
ok(over(), 'all is over');
is_deeply(lines('told'), [qw(raise-1 clear-1 raise-2)], 'what becomes due meanwhile is told next, and nothing twice');

main::tell({ began => $began, due => due('clear-1', 'raise-3') });
ok(over(), 'one look was late');
is_deeply([@{ lines('told') }[3 .. $#{ lines('told') }]], ['raise-3'], '... and began before that was told, but not what it has besides');

my $slow = now();
main::tell({ due => due({ id => 'raise-5', takes => 0.5 }) });
main::tell({ due => due({ id => 'raise-6', takes => 0.5 }) });
my $end = now() + 10;
$agent->_wait(0.05) until now() > $end || grep { $_ eq 'raise-6' } @{ lines('told') };
cmp_ok(scalar(keys %{ $agent->{children} }), '==', 1, 'two tellings, the second one still going on');
main::tell({ began => $slow, due => due('raise-5', 'raise-6') });
ok(over(), 'a look that began before the first one ended comes');
is_deeply([@{ lines('told') }[4 .. $#{ lines('told') }]], [qw(raise-5 raise-6)], '... and neither is told twice');

main::tell({ due => due('raise-3') });
ok(over(), 'and one is handed out again');
is_deeply([@{ lines('told') }[6 .. $#{ lines('told') }]], ['raise-3'], '... because it could not be told: it is tried again');
is_deeply(lines('log'), [], 'what went well is no line of the log');

main::tell({ fails => 1, due => due('raise-4') });
ok(over(), 'one fails');
is_deeply(lines('log'), ['alerts could not be told: no way to tell it'], '... and that is said, with the reason');

main::tell({ busy => 1, due => due('raise-7') });
ok(over(), 'what came of it cannot be noted');
like(lines('log')->[1] // '', qr/^alerts could not be told: somebody is at the record/, '... and that is said, too');

done_testing();
