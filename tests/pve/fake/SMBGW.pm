# SPDX-License-Identifier: AGPL-3.0-or-later
package SMBGW;

# A fake of the XS module for the tests in which the interaction is the contract: which operations a hook asks for, in which order,
# and what it does when one fails. It keeps shares in a file; FAKE_SMBGW tells it how to misbehave:
#   fail=OP      the run of OP fails        slow=OP     the run of OP never ends (undoing works)
#   stuck=OP     nor does its undoing       invalid=OP  the run is refused with problems
#   hint=OP      the same with one problem and a remedy
#   long=OP      takes longer than a hook has: with `defer` it is only recorded, and a reconcile of the id does it
#   term=OP      SIGTERM arrives during its last step
#   wrong=ID     a check of that share has a problem
#   broken=ID    a create, change or removal of that share fails
#   nogateway=NAME  queries about that gateway find none
#   pause=MS     each run but a reconcile takes that long, and
#   build=MS     each reconcile; FAKE_SMBGW_LOG.busy has a line at its begin and end: '+' or '-', pid, operation, gateway or id
#   of a reconcile of one gateway: failgw=GATEWAY fails, slowgw=GATEWAY takes steps for ever, hang=GATEWAY takes none,
#                           changed=GATEWAY its mark is never that of before; local=GATEWAY nothing there can hang; FAKE_SMBGW_LOG.mode, if it is there, counts too
#   busy=GATEWAY somebody else is at the gateway during the first two reconciles, and then has done the work
# Every call is a line of JSON in FAKE_SMBGW_LOG.

use strict;
use warnings;

use JSON::PP ();

our $json = JSON::PP->new->canonical->utf8->allow_nonref;

sub version { return '0.1.0-fake' }
sub abi_version { return 1 }

sub note {
    my (@what) = @_;
    return if !$ENV{FAKE_SMBGW_LOG};
    open(my $fh, '>>', $ENV{FAKE_SMBGW_LOG}) or die $!;
    print {$fh} $json->encode([@what]), "\n";
    return;
}

sub mode {
    my ($what, $op) = @_;
    my $file = '';
    if ($ENV{FAKE_SMBGW_LOG} && open(my $fh, '<', "$ENV{FAKE_SMBGW_LOG}.mode")) { $file = readline($fh) // '' }
    return grep({ m/(?:\A|;)\Q$what\E=\Q$op\E(?:;|\z)/ } $ENV{FAKE_SMBGW} // '', $file) ? 1 : 0;
}

package SMBGW::Error;

use overload '""' => sub { $_[0]->{message} }, fallback => 1;

sub new { my ($class, %e) = @_; return bless {%e}, $class }
sub code { $_[0]->{code} }
sub kind { $_[0]->{kind} }
sub message { $_[0]->{message} }
sub remedy { $_[0]->{remedy} }
sub detail { $_[0]->{detail} }

package SMBGW::Context;

sub new { my ($class, $options) = @_; SMBGW::note('new', $options); return bless { pid => $$ }, $class }

# What lasts from process to process: `shares` by id, and `states`, by id the state of what was only recorded.
sub kept {
    my ($name) = @_;
    open(my $fh, '<', "$ENV{FAKE_SMBGW_LOG}.$name") or return {};
    local $/;
    return $SMBGW::json->decode(<$fh>);
}

sub keep {
    my ($name, $what) = @_;
    open(my $fh, '>', "$ENV{FAKE_SMBGW_LOG}.$name.$$") or die $!;
    print {$fh} $SMBGW::json->encode($what);
    close($fh);
    rename("$ENV{FAKE_SMBGW_LOG}.$name.$$", "$ENV{FAKE_SMBGW_LOG}.$name") or die $!;
    return;
}

sub query {
    my ($self, $op, $params) = @_;
    SMBGW::note('query', $op, $params);
    die SMBGW::Error->new(code => 2, kind => 'not-found', message => "no gateway '$params->{gateway}'") if defined($params->{gateway}) && SMBGW::mode('nogateway', $params->{gateway});
    return $SMBGW::json->decode($ENV{"FAKE_SMBGW_\U$op"}) if $ENV{"FAKE_SMBGW_\U$op"} && $op ne 'status';
    return { problems => SMBGW::mode('wrong', $params->{id}) ? [{ property => 'share', message => 'is taken' }] : [], warnings => [], effective => {} } if $op eq 'check';
    return { sections => kept('shares') } if $op eq 'sections';
    return { shares => [map { { id => $_, state => 'ready' } } sort keys %{ kept('shares') }] } if $op eq 'list';
    if ($op eq 'status') {
        my $state = kept('states')->{ $params->{id} };
        return { id => $params->{id}, state => $state, gateway => $params->{id}, operation => { step => 'make container 100' }, $state eq 'failed' ? (error => failure()) : () } if $state;
        die SMBGW::Error->new(code => 2, kind => 'not-found', message => "no share '$params->{id}'") if !kept('shares')->{ $params->{id} };
        return { id => $params->{id}, state => 'ready' };
    }
    return { op => $op };
}

sub failure { return { kind => 'service', code => 9, message => 'no space left for a container', remedy => 'free some' } }

# The worker's part of what a hook recorded.
sub reconcile {
    my ($params) = @_;
    my ($states, $shares, @done) = (kept('states'), kept('shares'));
    my $busy = ($ENV{FAKE_SMBGW} // '') =~ m/busy=(\w+)/ ? $1 : undef;
    my $turn = ++$states->{turn};
    for my $id (@{ $params->{ids} // [] }) {
        my $state = $states->{$id};
        if (defined($busy)) {
            $shares->{$id} = $params->{sections}->{$id}, delete($states->{$id}) if $turn == 2;
        } elsif (!$state || $state eq 'recorded') {
            push @done, { id => $id, state => 'ready' };
            delete($states->{$id});
        } elsif ($state eq 'deleting') {
            next if $params->{sections}->{$id};
            delete($states->{$id}), delete($shares->{$id});
            push @done, { id => $id, state => 'removed', kept => { tree => '/srv/office', accounts => [] } };
        } elsif (SMBGW::mode('failbuild', 'share.create')) {
            $states->{$id} = 'failed';
            push @done, { id => $id, error => failure() };
        } elsif ($params->{sections}->{$id}) {
            delete($states->{$id});
            $shares->{$id} = $params->{sections}->{$id};
            push @done, { id => $id, share => $params->{sections}->{$id}->{share}, state => 'ready' };
        }
    }
    keep('shares', $shares);
    keep('states', $states);
    return { shares => \@done, warnings => [], busy => defined($busy) && $turn <= 2 ? [$busy] : [] };
}

sub usage {
    my ($self, $id) = @_;
    die SMBGW::Error->new(code => 14, kind => 'forked', message => 'used in another process') if $self->{pid} != $$;
    my @numbers = split(/,/, $ENV{FAKE_SMBGW_USAGE} // '');
    return @numbers ? @numbers : (0, 0, 0, 0, -1);
}

sub begin {
    my ($self, $op, $params) = @_;
    SMBGW::note('begin', $op, $params);
    die SMBGW::Error->new(code => 1, kind => 'invalid', message => 'the section is wrong', detail => { problems => [{ property => 'path', message => 'is a system directory' }, { property => 'share', message => 'has a bracket' }] })
        if SMBGW::mode('invalid', $op);
    die SMBGW::Error->new(code => 1, kind => 'invalid', message => 'the tree is not empty', remedy => 'empty it', detail => { problems => [{ property => 'path', message => 'is not empty' }] })
        if SMBGW::mode('hint', $op);
    return bless { op => $op, params => $params, undo => 0 }, 'SMBGW::Run';
}

sub resume { my ($self, $opid) = @_; SMBGW::note('resume', $opid); return bless { op => 'resume', params => {}, undo => 0 }, 'SMBGW::Run' }

package SMBGW::Run;

sub secret { my ($self, $name, $bytes) = @_; SMBGW::note('secret', $name, unpack('H*', $bytes), utf8::is_utf8($bytes) ? 1 : 0); return }
sub unwind { my ($self) = @_; SMBGW::note('unwind', $self->{op}); $self->{undo} = 1; return }
sub interrupt { my ($self) = @_; SMBGW::note('interrupt', $self->{op}); return }

sub busy {
    my ($sign, $op, $params) = @_;
    open(my $fh, '>>', "$ENV{FAKE_SMBGW_LOG}.busy") or die $!;
    syswrite($fh, "$sign $$ $op " . ($params->{id} // $params->{name} // join(',', @{ $params->{ids} // [] })) . "\n");
    return;
}

sub step {
    my ($self) = @_;
    my ($op, $params) = @$self{qw(op params)};
    SMBGW::note('step', $op);
    if (defined($params->{gateway}) && $op =~ m/\A(?:reconcile|refresh)\z/) {
        my $gateway = $params->{gateway};
        if (SMBGW::mode('hang', $gateway)) { SMBGW::note('hangs', $$); sleep(1) while 1 }
        if (SMBGW::mode('slowgw', $gateway)) { SMBGW::note('works', $$); select(undef, undef, undef, 0.05); return { state => 'working', events => [] } }
        return { state => 'failed', events => [], error => SMBGW::Error->new(code => 9, kind => 'service', message => "no answer from $gateway") } if SMBGW::mode('failgw', $gateway);
        return { state => 'done', events => [], result => { gateway => $gateway, changed => SMBGW::mode('changed', $gateway) ? JSON::PP::true() : JSON::PP::false() } } if $op eq 'refresh';
        return { state => 'done', events => [], result => { shares => [], warnings => [], busy => [], mark => "mark of $gateway", local => SMBGW::mode('local', $gateway) ? JSON::PP::true() : JSON::PP::false() } };
    }
    if (($ENV{FAKE_SMBGW} // '') =~ ($op eq 'reconcile' ? qr/build=(\d+)/ : qr/pause=(\d+)/)) {
        busy('+', $op, $params);
        select(undef, undef, undef, $1 / 1000);
        busy('-', $op, $params);
    }
    # what lasts is changed by one process at a time
    open(my $guard, '>>', ($ENV{FAKE_SMBGW_LOG} // '/dev/null') . ($ENV{FAKE_SMBGW_LOG} ? '.guard' : '')) or die $!;
    flock($guard, 2);
    return { state => 'failed', events => [], error => SMBGW::Error->new(code => 9, kind => 'service', message => 'smbd does not answer', remedy => 'start it') }
        if $op =~ m/\Ashare\./ && SMBGW::mode('broken', $params->{id});
    if (SMBGW::mode('stuck', $op) || SMBGW::mode('slow', $op) && !$self->{undo}) { select(undef, undef, undef, 0.05); return { state => 'working', events => [] } }
    return { state => 'failed', events => [], error => SMBGW::Error->new(code => 9, kind => 'service', message => "smbd does not answer \x{2013} sorry", remedy => 'start it') }
        if SMBGW::mode('fail', $op) || $self->{undo};
    kill('TERM', $$) if SMBGW::mode('term', $op);
    my $events = [{ event => 'done', step => 'a/b', title => 'do it', changed => 1, ms => 1 }];
    return { state => 'done', events => $events, result => SMBGW::Context::reconcile($params) } if $op eq 'reconcile';
    my $shares = SMBGW::Context::kept('shares');
    my $id = $params->{id} // $params->{name};
    my $asked = $params->{section} // {};
    my $mode = $asked->{'smbgw-mode'} // 'native';
    my $section = { %$asked, 'smbgw-mode' => $mode, 'smbgw-gateway' => $mode eq 'native' ? 'native' : $id, nodes => 'pve1', share => $asked->{share} // $id };
    if ($params->{defer} && SMBGW::mode('long', $op)) {
        my $states = SMBGW::Context::kept('states');
        my $state = $states->{$id} = { 'share.create' => 'provisioning', 'share.update' => 'recorded', 'share.delete' => 'deleting' }->{$op};
        SMBGW::Context::keep('states', $states);
        return { state => 'done', events => [], result => { id => $id, state => $state, warnings => ['a word'], $op eq 'share.delete' ? (kept => {}) : (section => $section) } };
    }
    if ($op eq 'share.delete') {
        delete($shares->{$id});
        my $states = SMBGW::Context::kept('states');
        SMBGW::Context::keep('states', $states) if delete($states->{$id});
    }
    $shares->{$id} = $section if $op =~ m/\Ashare\.(?:create|update)\z/;
    SMBGW::Context::keep('shares', $shares);
    return {
        state => 'done',
        events => $events,
        result => {
            id => $id, share => $section->{share}, state => $op eq 'share.delete' ? 'removed' : 'ready', warnings => [], section => $section,
            $op =~ m/\Agateway/ ? (container => { vmid => 100, template => '0.2' }) : (), $op eq 'template.build' ? (template => '0.2') : (),
        },
    };
}

1;
