# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::CLI::Monitor;

# The commands of figures, report and alerts: words to questions, answers to text. It must not know where figures come from.

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP ();
use POSIX ();

use PVE::SMBGateway::CLI::Output qw(table size_text);
use PVE::SMBGateway::CLI::Work qw(read_file usage_error);
use PVE::SMBGateway::Config;
use PVE::SMBGateway::Monitor;
use PVE::SMBGateway::Native;

our @EXPORT_OK = qw(cmd_metrics cmd_openmetrics cmd_report cmd_retention cmd_alerts cmd_silence cmd_unsilence cmd_rules);

sub _given {
    my ($run, @names) = @_;
    return map { $_ => $run->{opt}->{$_} } grep { defined($run->{opt}->{$_}) } @names;
}

sub _warn {
    my ($doc) = @_;
    print STDERR "warning: $_\n" for @{ $doc->{warnings} // [] };
    return;
}

# A value as people read it.
sub _show {
    my ($value, $unit, $rate) = @_;
    return '' if !defined($value);
    my $per = $rate ? '/s' : '';
    return size_text($value) . $per if $unit eq 'bytes';
    return $value ? 'yes' : 'no' if $unit eq 'state';
    if ($unit eq 'seconds') { return $value < 1 && !$rate ? sprintf('%.3g ms', $value * 1000) : sprintf('%.4g s', $value) . $per }
    return ($value == int($value) ? $value : sprintf('%.3g', $value)) . $per;
}

sub cmd_metrics {
    my ($run, $id) = @_;
    usage_error('a share or a gateway, not both', 'metrics') if defined($id) && defined($run->{opt}->{gateway});
    my %about = ((defined($id) ? (id => $id) : ()), _given($run, 'gateway'));
    return _series($run, \%about) if defined($run->{opt}->{metric});
    for my $name (qw(from to points form)) { usage_error("--$name needs --metric: a range is of one series", 'metrics') if defined($run->{opt}->{$name}) }
    return _follow($run, \%about) if $run->{opt}->{follow};
    my $doc = PVE::SMBGateway::Monitor::figures(%about);
    $run->{print} = sub { _print_figures($doc) };
    return $doc;
}

sub _print_figures {
    my ($doc) = @_;
    _warn($doc);
    my @rows = map { {
        about => "$_->{scope} $_->{object}", metric => $_->{metric},
        value => _show($_->{value}, $_->{unit}), rate => _show($_->{rate}, $_->{unit}, 1),
    } } sort { $a->{scope} cmp $b->{scope} || $a->{object} cmp $b->{object} } @{ $doc->{figures} };
    print @rows ? table(\@rows, qw(about metric value rate)) : "nothing is known\n";
    print STDERR 'no figures of ' . join(' of gateway ', grep { defined } $_->{source}, $_->{gateway}) . ": $_->{why}\n" for grep { defined($_->{why}) } @{ $doc->{sources} };
    return;
}

# With each new look, a table for people or a line of JSON for programs, until somebody ends it.
sub _follow {
    my ($run, $about) = @_;
    my $after = 0;
    while (1) {
        my $doc = PVE::SMBGateway::Monitor::figures(%$about, after => $after);
        my $new = $doc->{at} != $after;
        $after = $doc->{at};
        # nobody looks any more, or the clock went back
        if (!$new) { _warn($doc); next }
        if ($run->{format} eq 'text') {
            print POSIX::strftime('%H:%M:%S', localtime($after / 1000)), "\n";
            _print_figures($doc);
        } else {
            print JSON::PP->new->canonical->encode($doc), "\n";
        }
    }
}

sub _series {
    my ($run, $about) = @_;
    my %range = _given($run, qw(from to points));
    my $form = $run->{opt}->{form};
    if (defined($form)) {
        my $doc = PVE::SMBGateway::Native::query('metrics.export', { %$about, %range, metric => $run->{opt}->{metric}, form => $form });
        $run->{print} = sub { print $doc->{text} };
        return $doc;
    }
    my $doc = PVE::SMBGateway::Monitor::series($run->{opt}->{metric}, %$about, %range);
    $run->{print} = sub {
        print "$doc->{object} $doc->{metric}: $doc->{sparkline}\n";
        my $rate = $doc->{kind} eq 'counter';
        my @rows = map { {
            time => POSIX::strftime('%Y-%m-%d %H:%M:%S', localtime($_->{start} / 1000)),
            min => _show($_->{min}, $doc->{unit}, $rate), mean => _show($_->{mean}, $doc->{unit}, $rate), max => _show($_->{max}, $doc->{unit}, $rate),
        } } @{ $doc->{buckets} };
        print @rows ? table(\@rows, qw(time min mean max)) : "no figures in this range\n";
    };
    return $doc;
}

sub cmd_openmetrics {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('openmetrics', { _given($run, 'form') });
    $run->{print} = sub { print $doc->{text} };
    return $doc;
}

sub cmd_report {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('report', { _given($run, qw(from to form)) });
    $run->{print} = sub { print $doc->{text} };
    return $doc;
}

sub cmd_retention {
    my ($run) = @_;
    my ($verb) = $run->{name} =~ m/\Aretention (.+)\z/;
    my $doc = PVE::SMBGateway::Native::query($verb eq 'show' ? 'retention' : "retention.$verb", {
        _given($run, qw(raw minutes hours)), ($run->{opt}->{'all-nodes'} ? ('all-nodes' => JSON::PP::true()) : ()),
    });
    $run->{print} = sub {
        _warn($doc);
        return if $run->{opt}->{quiet};
        my @rows = map { { figures => $_, kept => $doc->{$_} } } grep { defined($doc->{$_}) } qw(raw minutes hours);
        print table(\@rows, qw(figures kept)) if @rows;
        print 'by ', $doc->{file} // 'default', "\n" if @rows;
        print 'the store has ', size_text($doc->{bytes}), "\n" if defined($doc->{bytes});
    };
    return $doc;
}

sub _time { my ($ms) = @_; return defined($ms) ? POSIX::strftime('%Y-%m-%d %H:%M', localtime($ms / 1000)) : '' }

sub cmd_alerts {
    my ($run) = @_;
    my $doc = PVE::SMBGateway::Native::query('alerts', {});
    $run->{print} = sub {
        _warn($doc);
        my @rows = map { +{ %$_, about => "$_->{scope} $_->{object}", since => _time($_->{since}), seen => $_->{text}, silenced => $_->{silenced} ? 'yes' : '' } } @{ $doc->{alerts} };
        print @rows ? table(\@rows, qw(severity code about since silenced seen)) : "no alerts\n";
        my @silences = map { +{ %$_, until => _time($_->{until}) } } @{ $doc->{silences} };
        print "\n", table(\@silences, qw(id code object until by comment)) if @silences;
        for my $sink (sort keys %{ $doc->{sinks} }) {
            my $s = $doc->{sinks}->{$sink};
            print STDERR "$sink: $s->{why}" . (defined($s->{since}) ? ', since ' . _time($s->{since}) : '') . "\n" if defined($s->{why});
        }
    };
    return $doc;
}

sub cmd_silence {
    my ($run, $until) = @_;
    my $doc = PVE::SMBGateway::Native::query('alert.silence', { until => $until, _given($run, qw(code object comment)) });
    $run->{print} = sub { print "silence $doc->{silence}->{id} until " . _time($doc->{silence}->{until}) . ": code $doc->{silence}->{code}, object $doc->{silence}->{object}\n" if !$run->{opt}->{quiet} };
    return $doc;
}

sub cmd_rules {
    my ($run, $file) = @_;
    my $text = PVE::SMBGateway::Config::characters(read_file($file));
    my $doc = PVE::SMBGateway::Native::query('alert.rules', { rules => $text });
    $run->{print} = sub { print "rules are in $doc->{'rules-file'}\n" if !$run->{opt}->{quiet} };
    return $doc;
}

sub cmd_unsilence {
    my ($run, $id) = @_;
    my $doc = PVE::SMBGateway::Native::query('alert.unsilence', { silence => $id });
    $run->{print} = sub { print "silence $id is ended\n" if !$run->{opt}->{quiet} };
    return $doc;
}

1;
