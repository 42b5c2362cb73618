# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::Monitor;

# Figures and alerts for Perl: the look of the agent and what has to be told of it, and what readers ask for. It knows the order of things; what
# a figure is, where it comes from and when it is worth an alert is the library's to know.

use strict;
use warnings;

use PVE::SMBGateway::Native;

# One look at all gateways of this node: { due, command, notes }, for tell() and the log.
sub look {
    my $look = PVE::SMBGateway::Native::query('scrape', {});
    return { map { $_ => $look->{$_} } qw(due command notes) };
}

# Tells what a look found due, by each of its ways, and notes what came of it; lines for the log. It may take minutes.
sub tell {
    my ($look, $on_step) = @_;
    # only who tells needs it
    require PVE::SMBGateway::Alerts;
    my $outcomes = PVE::SMBGateway::Alerts::deliver($look->{due}, command => $look->{command}, on_step => $on_step);
    return PVE::SMBGateway::Native::query('alert.delivered', { outcomes => $outcomes });
}

# Figures as they are now: of a share (id), a gateway, or the whole node. With `after` (milliseconds since the epoch) the answer waits for newer
# ones, at most 25 s.
sub figures {
    my (%about) = @_;
    return PVE::SMBGateway::Native::query(_op(\%about), \%about);
}

# One series: metric, of a share (id), a gateway or the node; from, to, points.
sub series {
    my ($metric, %about) = @_;
    return PVE::SMBGateway::Native::query(_op(\%about), { metric => $metric, %about });
}

sub _op { my ($about) = @_; return defined($about->{id}) ? 'metrics.share' : 'metrics' }

1;
