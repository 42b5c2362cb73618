# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::SMBGateway::CLI::Apply;

# `show`, `apply`, and commands that name several things: what has to be done to which of them, in which order, and what came of it. It
# must not know how one thing is done (Shares, and the command's own code) nor how several are done at once (Batch).

use strict;
use warnings;
use utf8;

use Exporter qw(import);
use JSON::PP ();

use PVE::SMBGateway::CLI::Batch;
use PVE::SMBGateway::CLI::Document;
use PVE::SMBGateway::CLI::Output qw(print_warnings);
use PVE::SMBGateway::CLI::Shares;
use PVE::SMBGateway::CLI::Work qw(actor password_file run_op usage_error with_signals read_file);
use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;
use PVE::SMBGateway::Schema;
use PVE::SMBGateway::Worker;

our @EXPORT_OK = qw(cmd_show cmd_apply each_of);

# --- several things -------------------------------------------------------------------------------------------------------

# Runs a command's code for one name in this process, and for several as a batch. `code` is that of one name; `gateway` says to which
# gateway a name belongs; `past` is what it is then.
sub each_of {
    my ($run, $names, %o) = @_;
    my %seen;
    my @names = grep { !$seen{$_}++ } @$names;
    return $o{code}->($run, $names[0]) if @names == 1;
    my @items = map { { kind => $o{kind}, id => $_, action => $o{action}, gateway => $o{gateway}->($_) } } @names;
    return batch($run, \@items, sub { my ($quiet, $item) = @_; return $o{code}->($quiet, $item->{id}) }, %o);
}

# The gateway of a share, from its section. A share that has none any more is a group of its own.
sub gateway_of {
    my ($sections) = @_;
    return sub {
        my ($id) = @_;
        my $section = $sections->{$id} // return $id;
        return ($section->{'smbgw-mode'} // '') eq 'native' ? 'native' : $section->{'smbgw-gateway'} // $id;
    };
}

# Runs items by gateway; the answer is { items, done, failed, … }. One that failed alone gives the command its exit status, several give
# 'partial'.
sub batch {
    my ($run, $items, $work, %o) = @_;
    my (%groups, @order);
    for my $item (@$items) {
        push @order, $item->{gateway} if !$groups{ $item->{gateway} };
        push @{ $groups{ $item->{gateway} } }, $item;
    }
    my $opt = $run->{opt};
    my $jobs = $opt->{jobs} // 4;
    usage_error('--jobs is a number from 1 to 64', $run->{name}) if $jobs < 1 || $jobs > 64;
    my $on_error = $opt->{'on-error'} // 'continue';
    usage_error("--on-error is stop or continue, not '$on_error'", $run->{name}) if $on_error !~ m/\A(?:stop|continue)\z/;

    # what comes in addition to one gateway has one reload together, behind the last
    my %added;
    $added{ $_->{gateway} }++ for grep { $_->{action} eq 'create' || ($_->{kind} eq 'share' && $_->{action} eq 'change') } @$items;
    my $together = sub { my ($gateway) = @_; return ($added{$gateway} // 0) > 1 };

    my $quiet = { %$run, opt => { %$opt, quiet => 1 } };
    my @ordered = map { @{ $groups{$_} } } @order;
    my ($results, $signal) = PVE::SMBGateway::CLI::Batch::run(
        groups => [map { $groups{$_} } @order], jobs => $jobs, on_error => $on_error,
        work => sub {
            local $PVE::SMBGateway::Worker::HELD = $o{held} //= [];
            local $PVE::SMBGateway::Worker::TOGETHER = $together->($_[0]->{gateway});
            return $work->($quiet, $_[0]);
        },
        after => sub {
            my ($done) = @_;
            my ($last, $result) = @$done ? @{ $done->[-1] } : ();
            local $PVE::SMBGateway::Worker::TOGETHER = $last && $together->($last->{gateway});
            my $errors = $o{after} ? $o{after}->($quiet, $done) : {};
            my $untold = $PVE::SMBGateway::Worker::TOGETHER ? PVE::SMBGateway::Worker::tell($last->{gateway}, actor => actor()) : undef;
            push @{ $result->{warnings} }, $untold if defined($untold) && ref($result) eq 'HASH';
            # what hooks left to the worker, unless it was done here: one worker for all of it
            PVE::SMBGateway::Worker::start() if @{ $o{held} // [] };
            return $errors;
        },
        notify => _progress($run, scalar(@ordered)),
    );
    my %place = map { $items->[$_] => $_ } 0 .. $#$items;
    my @answers;
    for my $n (0 .. $#ordered) {
        my ($item, $r) = ($ordered[$n], $results->[$n]);
        my %answer = map { $_ => $item->{$_} } grep { defined($item->{$_}) } qw(kind id gateway action user changes);
        $answer{result} = $r->{result};
        $answer{seconds} = $r->{seconds} if defined($r->{seconds});
        $answer{data} = $r->{data} if defined($r->{data}) && $o{data};
        $answer{warnings} = $r->{data}->{warnings} if ref($r->{data}) eq 'HASH' && @{ $r->{data}->{warnings} // [] };
        $answer{state} = $r->{data}->{state} if ref($r->{data}) eq 'HASH' && defined($r->{data}->{state}) && !ref($r->{data}->{state});
        $answer{error} = $r->{error}->document() if $r->{error};
        $answers[$place{$item}] = \%answer;
    }
    return outcome($run, \@answers, $signal);
}

# The answer of a batch, with the command's failure beside it.
sub outcome {
    my ($run, $answers, $signal) = @_;
    my %count = (ok => 0, unchanged => 0, failed => 0, skipped => 0);
    $count{ $_->{result} }++ for @$answers;
    my @failed = grep { $_->{result} eq 'failed' } @$answers;
    if ($signal) {
        $run->{signal} = $signal;
        $run->{error} = PVE::SMBGateway::Error->new('interrupted', "interrupted by SIG$signal: $count{ok} done, $count{failed} failed, $count{skipped} not begun",
            remedy => "what was begun is continued or undone by 'pve-smbgateway reconcile'; then run the command again");
    } elsif (@failed && @$answers == 1) {
        $run->{error} = PVE::SMBGateway::Error->from_document($failed[0]->{error});
    } elsif (@failed) {
        $run->{error} = PVE::SMBGateway::Error->new('partial', sprintf('%d of %d failed', scalar(@failed), scalar(@$answers)) . ($count{skipped} ? ", $count{skipped} not begun" : ''),
            remedy => 'remove the causes and run the command again: what is done stays done');
    }
    $run->{print} = sub {
        for my $a (@$answers) {
            next if $a->{result} eq 'unchanged' || ($a->{result} eq 'ok' && ($run->{opt}->{quiet} || $run->{shown}));
            next if $a->{result} eq 'failed' && $run->{shown};
            _print_item($a);
        }
        print_warnings({ warnings => [map { my $a = $_; map { "$a->{id}: $_" } @{ $a->{warnings} // [] } } @$answers] });
        print join(', ', map { "$count{$_} " . { ok => 'done', unchanged => 'unchanged', failed => 'failed', skipped => 'not begun' }->{$_} } grep { $count{$_} } qw(ok unchanged failed skipped)) || 'nothing to do', "\n"
            if !$run->{opt}->{quiet};
    };
    return { items => $answers, map { $_ => $count{$_} } keys %count };
}

sub _print_item {
    my ($a) = @_;
    my $what = "$a->{kind} '$a->{id}'" . (defined($a->{user}) ? ", user '$a->{user}'" : '') . ": $a->{action}";
    if ($a->{result} eq 'failed') {
        print STDERR "$what FAILED: " . PVE::SMBGateway::Error->from_document($a->{error})->text();
    } else {
        printf("%s %s%s\n", $what, { ok => 'done', skipped => 'not begun', unchanged => 'unchanged' }->{ $a->{result} }, defined($a->{seconds}) ? sprintf('  (%.1f s)', $a->{seconds}) : '');
    }
    return;
}

# A bar on a terminal; otherwise a line for each item as it ends, if the answer is text.
sub _progress {
    my ($run, $total) = @_;
    return undef if $run->{opt}->{quiet};
    if (-t STDERR) {
        my ($ended, $width) = (0, 30);
        my %going;
        return sub {
            my ($item, $result) = @_;
            $result ? (delete($going{$item}), $ended++) : ($going{$item} = $item->{id});
            my $full = int($width * $ended / $total);
            print STDERR sprintf("\r\e[K[%s%s] %d/%d  %s", '#' x $full, '.' x ($width - $full), $ended, $total, substr(join(', ', sort values %going), 0, 40)), $ended == $total ? "\r\e[K" : '';
            return;
        };
    }
    return undef if $run->{format} ne 'text';
    $run->{shown} = 1;
    return sub {
        my ($item, $result) = @_;
        _print_item({ %$item, %$result, $result->{error} ? (error => $result->{error}->document()) : () }) if $result;
        return;
    };
}

# --- the document ----------------------------------------------------------------------------------------------------------

sub cmd_show {
    my ($run, @names) = @_;
    my $ours = PVE::SMBGateway::Config::ours();
    my $of = gateway_of($ours);
    my $known = { map { $_->{gateway} => $_ } @{ PVE::SMBGateway::Native::query('gateways')->{gateways} // [] } };
    my %ids = @names ? () : map { $_ => 1 } keys %$ours;
    my %gateways = @names ? () : map { $_ => 1 } keys %$known;
    for my $name (@names) {
        my @of = grep { $of->($_) eq $name } keys %$ours;
        PVE::SMBGateway::Error->throw('not-found', "there is neither a share nor a gateway '$name'", remedy => "see 'pve-smbgateway list' and 'pve-smbgateway gateway list'")
            if !$ours->{$name} && !@of && !$known->{$name};
        # a gateway is named like its first share unless somebody says otherwise: the share is meant where both are there, with the rest
        $ids{$_} = 1 for @of, $ours->{$name} ? $name : ();
        $gateways{$name} = 1 if $known->{$name};
    }
    my $doc = { version => PVE::SMBGateway::CLI::Document::VERSION, shares => { map { $_ => PVE::SMBGateway::CLI::Document::share($ours->{$_}) } keys %ids } };
    for my $gateway (sort keys %gateways) {
        my $accounts = _accounts($gateway) or next;
        next if !%{ $accounts->{users} } && !%{ $accounts->{groups} };
        $doc->{gateways}->{$gateway} = {
            users => { map { $_ => { disabled => $accounts->{users}->{$_} ? JSON::PP::true() : JSON::PP::false() } } keys %{ $accounts->{users} } },
            groups => $accounts->{groups},
        };
    }
    $run->{print} = sub { print PVE::SMBGateway::CLI::Output::document($doc) };
    return $doc;
}

# Users (whether they are disabled) and groups (their members) of a gateway, or undef if there is none.
sub _accounts {
    my ($gateway) = @_;
    my $users = eval { PVE::SMBGateway::Native::query('users', { gateway => $gateway }) };
    if (!$users) {
        my $error = PVE::SMBGateway::Error->from($@);
        die $error if $error->kind() !~ m/\A(?:not-found|invalid)\z/;
        return undef;
    }
    my $groups = PVE::SMBGateway::Native::query('groups', { gateway => $gateway });
    return {
        users => { map { $_->{name} => $_->{disabled} ? 1 : 0 } @{ $users->{users} // [] } },
        groups => { map { $_->{name} => [sort @{ $_->{members} // [] }] } @{ $groups->{groups} // [] } },
    };
}

sub cmd_apply {
    my ($run) = @_;
    my $opt = $run->{opt};
    my $file = $opt->{file} // usage_error('which document? --file FILE, or - for standard input', 'apply');
    my $doc = PVE::SMBGateway::CLI::Document::parse(read_file($file), $file eq '-' ? 'standard input' : "'$file'");

    my %problems;
    my $problem = sub { my ($where, $text) = @_; $problems{$where} = defined($problems{$where}) ? "$problems{$where}; $text" : $text; return };
    my $want = PVE::SMBGateway::CLI::Document::wanted($doc, $problem);
    my $sections = PVE::SMBGateway::Config::sections();
    my $items = _share_items($want, $sections, $opt->{prune}, $problem);
    my $after = { %$sections, map { $_->{action} eq 'remove' ? () : ($_->{id} => $_->{section}) } @$items };
    delete($after->{$_}) for map { $_->{id} } grep { $_->{action} eq 'remove' } @$items;

    # asked in a process of its own: those that do the work are forked from this one
    my $looked = with_signals($run, sub { PVE::SMBGateway::CLI::Batch::apart(sub { return _look($items, $after, [sort keys %{ $want->{gateways} }]) }) });
    $problem->($_->{where}, $_->{text}) for @{ $looked->{problems} };
    push @$items, @{ _account_items($want->{gateways}, $looked->{accounts}, $items, $problem) };
    PVE::SMBGateway::Error->throw('invalid', 'nothing is done: the document cannot be applied as it is', problems => \%problems) if %problems;

    $items = [_ordered(@$items)];
    if ($run->{format} eq 'text') {
        print _diff_text($_) for grep { $_->{action} ne 'none' } @$items;
    }
    my @todo = grep { $_->{action} ne 'none' } @$items;
    my $warnings = $looked->{warnings};
    my $fixed = sub { my ($result) = @_; return map { { kind => $_->{kind}, id => $_->{id}, gateway => $_->{gateway}, action => $_->{action}, result => $result, defined($_->{user}) ? (user => $_->{user}) : (), $_->{changes} ? (changes => $_->{changes}) : () } } @_[1 .. $#_] };
    if ($opt->{'dry-run'} || !@todo) {
        my $answer = outcome($run, [$fixed->('unchanged', grep { $_->{action} eq 'none' } @$items), $fixed->('skipped', @todo)]);
        $answer->{'dry-run'} = $opt->{'dry-run'} ? JSON::PP::true() : JSON::PP::false();
        $answer->{warnings} = $warnings;
        $run->{print} = sub {
            print @todo ? scalar(@todo) . ' to do, ' . (@$items - @todo) . " unchanged; nothing was done (--dry-run)\n" : "unchanged\n" if !$opt->{quiet};
            print_warnings({ warnings => $warnings });
        };
        return $answer;
    }
    my $answer = batch($run, \@todo, \&_act, after => \&_settle);
    my @still = $fixed->('unchanged', grep { $_->{action} eq 'none' } @$items);
    push @{ $answer->{items} }, @still;
    $answer->{unchanged} += @still;
    $answer->{'dry-run'} = JSON::PP::false();
    $answer->{warnings} = $warnings;
    return $answer;
}

# What has to be done to shares, each with its new section, and what the document cannot mean.
sub _share_items {
    my ($want, $sections, $prune, $problem) = @_;
    my @items;
    for my $id (sort keys %{ $want->{shares} }) {
        my $new = $want->{shares}->{$id};
        my $there = $sections->{$id};
        if ($there && ($there->{type} // '') ne PVE::SMBGateway::Config::TYPE) { $problem->("shares.$id", "is a storage of type '$there->{type}'"); next }
        $problem->("shares.$id", 'is not a storage id: it starts with a letter, ends with a letter or digit, and holds only letters, digits, -, _ and .')
            if $id !~ m/\A[A-Za-z][A-Za-z0-9\-_.]*[A-Za-z0-9]\z/;
        my $changes = PVE::SMBGateway::CLI::Document::difference($there // {}, $new);
        my %item = (kind => 'share', id => $id, old => $there, action => !$there ? 'create' : @$changes ? 'change' : 'none', section => PVE::SMBGateway::CLI::Document::result($there // {}, $new), file => $want->{files}->{$id});
        $item{changes} = [map { { sign => $_->[0], property => $_->[1], defined($_->[2]) ? (old => $_->[2]) : (), defined($_->[3]) ? (new => $_->[3]) : () } } @$changes] if @$changes;
        $item{gateway} = gateway_of({ $id => $item{section} })->($id);
        if ($there) {
            $problem->("shares.$id.$_->[1]", "is fixed at create: it is '" . ($_->[2] // '') . "'" . (defined($_->[3]) ? ", not '$_->[3]'" : ''))
                for grep { PVE::SMBGateway::Schema::property($_->[1])->{fixed} } @$changes;
        } else {
            $problem->("shares.$id.$_", 'is missing') for grep { my $p = PVE::SMBGateway::Schema::property($_); $p->{required} && !defined($new->{$_}) } map { $_->{name} } @PVE::SMBGateway::Schema::PROPERTIES;
        }
        # an account that is new here needs its password, and no other does; read once now, so that all that is wrong is known before anything begins
        if (defined($new->{username}) && grep { $_->[1] =~ m/\A(?:username|domain)\z/ } @$changes) {
            if (!defined($item{file})) { $problem->("shares.$id.password-file", "is missing: the file with the password of '$new->{username}' (mode 0600, one line)") }
            elsif (!eval { password_file($item{file}); 1 }) { $problem->("shares.$id.password-file", PVE::SMBGateway::Error->from($@)->message()) }
        } else {
            delete($item{file});
        }
        push @items, \%item;
    }
    my $ours = PVE::SMBGateway::Config::ours($sections);
    for my $id ($prune ? grep { !exists($want->{shares}->{$_}) } sort keys %$ours : ()) {
        push @items, { kind => 'share', id => $id, action => 'remove', old => $ours->{$id}, gateway => gateway_of($ours)->($id) };
    }
    # a path or a name that a removed share still has is free only once that is gone
    my %claimed;
    for my $item (grep { $_->{action} =~ m/\A(?:create|change)\z/ } @items) {
        $claimed{"$_ " . ($item->{section}->{$_} // $item->{id})} = $item for qw(path share);
    }
    for my $gone (grep { $_->{action} eq 'remove' } @items) {
        for my $item (grep { defined } map { $claimed{"$_ " . ($gone->{old}->{$_} // $gone->{id})} } qw(path share)) {
            $gone->{first} = $item->{waits} = 1;
        }
    }
    return \@items;
}

# What the library says about all of it: problems, warnings, and the accounts of the gateways.
sub _look {
    my ($items, $after, $gateways) = @_;
    my (@problems, @warnings);
    my $ask = sub {
        my ($item, $query, $params) = @_;
        my $doc = eval { PVE::SMBGateway::Native::query($query, $params) };
        return $doc if $doc;
        my $error = PVE::SMBGateway::Error->from($@);
        die $error if $error->kind() !~ m/\A(?:invalid|not-found|conflict|unsupported|unsafe|stuck|drift)\z/;
        my %p = %{ $error->problems() };
        push @problems, map { { where => "shares.$item->{id}.$_", text => $p{$_} } } sort keys %p;
        push @problems, { where => "shares.$item->{id}", text => $error->message() } if !%p;
        return undef;
    };
    for my $item (grep { $_->{action} =~ m/\A(?:create|change)\z/ } @$items) {
        # the machine still has the share that goes first; what is wrong with this one is found when its turn comes
        next if $item->{waits};
        my %asked = (id => $item->{id}, section => $item->{section}, sections => $after);
        my $doc = $ask->($item, 'check', \%asked) or next;
        push @problems, map { { where => "shares.$item->{id}.$_->{property}", text => $_->{message} } } @{ $doc->{problems} // [] };
        push @warnings, map { "$item->{id}: $_" } @{ $doc->{warnings} // [] };
        # a plan looks at the machine
        $ask->($item, 'plan', { op => $item->{action} eq 'create' ? 'share.create' : 'share.update', params => \%asked }) if !@{ $doc->{problems} // [] };
    }
    return { problems => \@problems, warnings => \@warnings, accounts => { map { $_ => _accounts($_) } @$gateways } };
}

# What has to be done to users and groups. Nobody is removed: the document says nothing about those it does not name.
sub _account_items {
    my ($gateways, $accounts, $shares, $problem) = @_;
    my @items;
    my %made = map { $_->{gateway} => 1 } grep { $_->{action} =~ m/\A(?:create|change|none)\z/ } @$shares;
    for my $gateway (sort keys %$gateways) {
        my ($want, $have) = ($gateways->{$gateway}, $accounts->{$gateway});
        if (!$have && !$made{$gateway}) { $problem->("gateways.$gateway", 'there is no such gateway, and no share of the document makes it'); next }
        my %users = %{ ($have // {})->{users} // {} };
        # the first user of a share that is about to be created comes with it
        for my $share (grep { $_->{action} eq 'create' && $_->{gateway} eq $gateway && defined($_->{section}->{username}) && !defined($_->{section}->{domain}) } @$shares) {
            $users{ $share->{section}->{username} } //= 0;
        }
        my $item = sub { my ($kind, $id, $action, %more) = @_; push @items, { kind => $kind, id => $id, action => $action, gateway => $gateway, %more }; return };
        for my $name (sort keys %{ $want->{users} }) {
            my $user = $want->{users}->{$name};
            if (!exists($users{$name})) {
                my $where = "gateways.$gateway.users.$name.password-file";
                if (!defined($user->{file})) { $problem->($where, "is missing: the user is not there yet (mode 0600, one line)"); next }
                eval { password_file($user->{file}); 1 } or $problem->($where, PVE::SMBGateway::Error->from($@)->message());
                $item->('user', $name, 'create', file => $user->{file});
                $item->('user', $name, 'disable') if $user->{disabled};
                $users{$name} = $user->{disabled};
            } else {
                $item->('user', $name, $user->{disabled} != $users{$name} ? ($user->{disabled} ? 'disable' : 'enable') : 'none');
            }
        }
        for my $name (sort keys %{ $want->{groups} }) {
            my $old = (($have // {})->{groups} // {})->{$name};
            my %is = map { $_ => 1 } @{ $old // [] };
            my %should = map { $_ => 1 } @{ $want->{groups}->{$name} };
            $problem->("gateways.$gateway.groups.$name", "there is no user '$_', and the document does not make one") for grep { !exists($users{$_}) } sort keys %should;
            $item->('group', $name, 'create') if !$old;
            $item->('group', $name, 'add-member', user => $_) for grep { !$is{$_} } sort keys %should;
            $item->('group', $name, 'remove-member', user => $_) for grep { !$should{$_} } sort keys %is;
            $item->('group', $name, 'none') if $old && join("\0", sort keys %is) eq join("\0", sort keys %should);
        }
    }
    return \@items;
}

# Removals that others wait for; changes; creates; accounts, whose gateway is there then; other removals: the last share of a gateway
# takes its users along.
sub _ordered {
    my (@items) = @_;
    my $turn = sub {
        my ($item) = @_;
        return 4 if $item->{kind} ne 'share';
        return { change => 2, create => 3, none => 2 }->{ $item->{action} } // ($item->{first} ? 1 : 5);
    };
    my $n = 0;
    my %place = map { $_ => $n++ } @items;
    return sort { $turn->($a) <=> $turn->($b) || $place{$a} <=> $place{$b} } @items;
}

sub _diff_text {
    my ($item) = @_;
    my %sign = (create => '+', remove => '-', enable => '~', disable => '~', change => '~', 'add-member' => '+', 'remove-member' => '-');
    my $text = "$sign{ $item->{action} } $item->{kind} $item->{id}" . (defined($item->{user}) ? ": user $item->{user}" : $item->{action} =~ m/able\z/ ? ": $item->{action}" : '') . ($item->{action} eq 'remove' ? ': its data stays' : '') . "\n";
    for my $c (@{ $item->{changes} // [] }) {
        $text .= "    $c->{sign} $c->{property}: " . join(' -> ', grep { defined } @$c{qw(old new)}) . "\n";
    }
    return $text;
}

# One item, in a process of its own.
sub _act {
    my ($run, $item) = @_;
    my ($kind, $id, $action) = @$item{qw(kind id action)};
    my $password = defined($item->{file}) ? password_file($item->{file}) : undef;
    if ($kind eq 'share') {
        my $given = { map { $_ => $item->{section}->{$_} } grep { $_ ne 'type' && PVE::SMBGateway::Schema::property($_) } keys %{ $item->{section} // {} } };
        return PVE::SMBGateway::CLI::Shares::create($run, $id, $given, $password) if $action eq 'create';
        return PVE::SMBGateway::CLI::Shares::remove($run, $id) if $action eq 'remove';
        my %set = map { $_->{property} => $_->{new} } grep { defined($_->{new}) } @{ $item->{changes} };
        return PVE::SMBGateway::CLI::Shares::change($run, $id, \%set, [map { $_->{property} } grep { !defined($_->{new}) } @{ $item->{changes} }], $password);
    }
    my %params = (name => $id, gateway => $item->{gateway}, defined($item->{user}) ? (user => $item->{user}) : ());
    %params = (%params, PVE::SMBGateway::Worker::together()) if $action eq 'create';
    return run_op($run, "$kind.$action", \%params, secrets => defined($password) ? { password => $password } : undef);
}

# What creates only recorded, in one run for all of a gateway.
sub _settle {
    my ($run, $done) = @_;
    my %created = map { $done->[$_]->[0]->{id} => $_ } grep { $done->[$_]->[0]->{kind} eq 'share' && $done->[$_]->[0]->{action} eq 'create' } 0 .. $#$done;
    my $errors = PVE::SMBGateway::CLI::Shares::settle($run, { map { $_ => $done->[$created{$_}]->[1] } keys %created });
    return { map { $created{$_} => $errors->{$_} } keys %$errors };
}

1;
