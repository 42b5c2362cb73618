# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::API2::SMBGateway;

# /nodes/{node}/smbgateway: the operations of the library as methods of Proxmox's API, made from the library's own table (paths, parameters,
# privileges). What only looks answers at once; what changes something is a task. It knows Proxmox's REST handler, its permissions and its
# tasks; it must not know how an operation is carried out.
#
# Everything is `protected`: the daemon that answers browsers runs as www-data, and may see nothing of ours.

use strict;
use warnings;

use JSON::PP ();
use MIME::Base64 ();

use PVE::Exception qw(raise raise_param_exc);
use PVE::JSONSchema qw(get_standard_option);
use PVE::RESTHandler;

use PVE::SMBGateway::Config;
use PVE::SMBGateway::Error;
use PVE::SMBGateway::Native;
use PVE::SMBGateway::Progress;
use PVE::SMBGateway::Schema;
use PVE::SMBGateway::Shares;
use PVE::SMBGateway::Worker;

use base qw(PVE::RESTHandler);

# HTTP states of errors that have one; anything else is 500.
my %HTTP = (invalid => 400, argument => 400, 'not-found' => 404, conflict => 409, busy => 409, stuck => 409, unsupported => 501, service => 503, unreachable => 503, timeout => 504);

# What Proxmox's own API asks of whoever makes, starts or stops containers, beside the privilege of the table.
my %OF_CONTAINERS = (
    'gateway.start' => 'VM.PowerMgmt', 'gateway.stop' => 'VM.PowerMgmt', 'gateway.restart' => 'VM.PowerMgmt', 'gateway.upgrade' => 'VM.Allocate',
    'gateway.adopt' => 'VM.Allocate',
);

# --- schemas --------------------------------------------------------------------------------------------------------------

# The properties of a section as parameters of a request.
sub _section_schema {
    my ($create) = @_;
    my %schema;
    for my $p (grep { $create || !$_->{fixed} } @PVE::SMBGateway::Schema::PROPERTIES) {
        $schema{ $p->{name} } = {
            type => $p->{type}, description => $p->{description}, optional => $create && $p->{required} ? 0 : 1,
            ($p->{enum} ? (enum => [@{ $p->{enum} }]) : ()), ($p->{type} eq 'string' ? (maxLength => 4096) : ()),
        };
    }
    return \%schema;
}

sub _parameter {
    my ($op, $name, $optional) = @_;
    my $p = PVE::SMBGateway::Schema::parameter($op, $name) or die "operation $op: parameter $name is not described\n";
    my %schema = (type => $p->{type}, description => $p->{description}, optional => $optional ? 1 : 0);
    $schema{enum} = [@{ $p->{enum} }] if $p->{enum};
    $schema{format} = 'pve-storage-id' if $name eq 'id';
    # a ticket or a blob is some thousands of bytes, in base64
    $schema{maxLength} = $name =~ m/\A(?:ticket|offline-join)\z/ ? 40_000 : 4096 if $p->{type} eq 'string' && !$p->{enum};
    return \%schema;
}

my %AT = (share => '/storage/{id}', storage => '/storage', node => '/nodes/{node}');

sub _permissions {
    my ($op, $at, $privilege) = @_;
    return { user => 'all', description => "Only shares for which one has 'Datastore.Audit' on /storage/{id}." } if $op eq 'list';
    # who may change something may look at it
    my @any = $privilege eq 'Datastore.Audit' ? ($privilege, 'Datastore.Allocate') : ($privilege);
    return { check => ['perm', $AT{$at}, \@any, (@any > 1 ? (any => 1) : ())] };
}

# --- calls ----------------------------------------------------------------------------------------------------------------

# Runs code, and turns what it dies with into what the API tells its callers.
sub _answer {
    my ($code) = @_;
    my $answer = eval { local $SIG{__DIE__}; [$code->()] };
    return $answer->[0] if $answer;
    my $thrown = $@;
    die $thrown if ref($thrown) && eval { $thrown->isa('PVE::Exception') };
    my $error = PVE::SMBGateway::Error->from($thrown);
    my %problems = %{ $error->problems() };
    raise_param_exc({ map { $_ => $problems{$_} . (length($error->remedy() // '') ? '; ' . $error->remedy() : '') } keys %problems }) if %problems;
    return raise($error->text(), code => $HTTP{ $error->kind() } // 500);
}

# The parameters of a request as the operation has them.
sub _operation_params {
    my ($o, $word, $param) = @_;
    my %parameter = (%$word, map { $_ => $_ } grep { !PVE::SMBGateway::Schema::is_assembled($_) } @{ $o->{required} }, @{ $o->{optional} });
    my %params;
    for my $name (grep { $parameter{$_} && defined($param->{$_}) } keys %$param) { $params{ $parameter{$name} } = PVE::SMBGateway::Config::characters($param->{$name}) }
    for my $name (keys %params) {
        my $p = PVE::SMBGateway::Schema::parameter($o->{name}, $name) // {};
        $params{$name} = PVE::JSONSchema::parse_boolean($params{$name}) ? JSON::PP::true() : JSON::PP::false() if ($p->{type} // '') eq 'boolean';
    }
    return \%params;
}

sub _secrets {
    my ($o, $param) = @_;
    my %secrets;
    for my $name (grep { defined($param->{$_}) && $param->{$_} ne '' } @{ $o->{secrets} }) {
        $secrets{$name} = $name eq 'password' ? PVE::SMBGateway::Config::octets($param->{$name}) : MIME::Base64::decode_base64($param->{$name});
    }
    return \%secrets;
}

sub _section_of {
    my ($param) = @_;
    return { map { $_->{name} => $param->{ $_->{name} } } grep { !$_->{sensitive} && defined($param->{ $_->{name} }) } @PVE::SMBGateway::Schema::PROPERTIES };
}

sub _user { return PVE::RPCEnvironment::get()->get_user() }

# --- queries --------------------------------------------------------------------------------------------------------------

my %QUERY = (
    # Prometheus reads text, and the API wraps everything in JSON but what it hands out as a file.
    openmetrics => sub {
        my ($params) = @_;
        my $doc = PVE::SMBGateway::Native::query('openmetrics', $params);
        open(my $fh, '+>', undef) or PVE::SMBGateway::Error->throw('io', "no temporary file: $!");
        (print {$fh} PVE::SMBGateway::Config::octets($doc->{text})) && seek($fh, 0, 0) or PVE::SMBGateway::Error->throw('io', "no temporary file: $!");
        return { download => { fh => $fh, stream => 1, 'content-type' => $doc->{'content-type'} } };
    },
    list => sub {
        my $rpcenv = PVE::RPCEnvironment::get();
        my $user = $rpcenv->get_user();
        my $doc = PVE::SMBGateway::Native::query('list');
        return [grep { $rpcenv->check_any($user, "/storage/$_->{id}", ['Datastore.Audit', 'Datastore.Allocate'], 1) } @{ ref($doc) eq 'ARRAY' ? $doc : $doc->{shares} // [] }];
    },
    # What a change would do; the section is put together as the storage API would.
    plan => sub {
        my ($params, $param) = @_;
        my $sections = PVE::SMBGateway::Config::sections();
        my ($op, $id) = @$param{qw(operation id)};
        my $inner = { id => $id };
        if ($op ne 'delete') {
            my $old = PVE::SMBGateway::Config::ours($sections)->{$id};
            PVE::SMBGateway::Shares::no_share($id) if $op eq 'update' && !$old;
            my %section = ($op eq 'update' ? %$old : (type => PVE::SMBGateway::Config::TYPE), %{ _section_of($param) });
            delete @section{ grep { length } split(/[\s,;]+/, $param->{delete} // '') };
            @$inner{qw(section sections)} = (\%section, $sections);
        }
        return PVE::SMBGateway::Native::query('plan', { op => "share.$op", params => $inner });
    },
);

# --- tasks ----------------------------------------------------------------------------------------------------------------

# Starts a task: its log has each step with its time, what was undone, warnings (counted) and, at the end, what failed and what helps.
sub _task {
    my ($type, $id, $code) = @_;
    my $rpcenv = PVE::RPCEnvironment::get();
    # what Proxmox's tasks may be called
    (my $name = "smbgw-$type") =~ tr/./-/;
    my $about = defined($id) && $id =~ m/\A[\w.\-]+\z/ ? $id : undef;
    return $rpcenv->fork_worker($name, $about, $rpcenv->get_user(), sub {
        my $result = eval { local $SIG{__DIE__}; $code->(PVE::SMBGateway::Progress::lines(sub { print PVE::SMBGateway::Config::octets($_[0]) })) };
        if (!$result) {
            my $thrown = $@;
            die $thrown if !ref($thrown);    # a signal's own words
            my $error = PVE::SMBGateway::Error->from($thrown);
            my %problems = %{ $error->problems() };
            # the log of a task is octets
            print PVE::SMBGateway::Config::octets("$_: $problems{$_}\n") for sort keys %problems;
            print PVE::SMBGateway::Config::octets('what helps: ' . $error->remedy() . "\n") if length($error->remedy() // '');
            die PVE::SMBGateway::Config::octets($error->message() . "\n");
        }
        my %said;
        _warn($_) for grep { !$said{$_}++ } @{ (ref($result) eq 'HASH' ? $result->{warnings} : undef) // [] };
        return;
    });
}

# A warning that Proxmox counts, where it can.
sub _warn {
    my ($text) = @_;
    my $log = PVE::RESTEnvironment->can('log_warn');
    $text = PVE::SMBGateway::Config::octets($text);
    return $log ? $log->($text) : print "WARN: $text\n";
}

# Through Proxmox's storage API, and to the end of what the hook leaves to the worker.
sub _change_share {
    my ($method, $id, $more, $on_event) = @_;
    return PVE::SMBGateway::Shares::change($method, { storage => $id, %$more }, on_event => $on_event, actor => _user());
}

my %RUN = (
    'share.create' => sub {
        my ($params, $secrets, $param, $on_event) = @_;
        my %password = defined($param->{password}) ? (password => $param->{password}) : ();
        return _change_share('create', $params->{id}, { type => PVE::SMBGateway::Config::TYPE, %{ _section_of($param) }, %password }, $on_event);
    },
    'share.update' => sub {
        my ($params, $secrets, $param, $on_event) = @_;
        my %more = map { $_ => $param->{$_} } grep { defined($param->{$_}) } qw(password delete digest);
        return _change_share('update', $params->{id}, { %{ _section_of($param) }, %more }, $on_event);
    },
    'share.delete' => sub { my ($params, $secrets, $param, $on_event) = @_; return _change_share('delete', $params->{id}, {}, $on_event) },
    reconcile => sub {
        my ($params, $secrets, $param, $on_event) = @_;
        my @ids = grep { length } split(/[\s,;]+/, $params->{ids} // '');
        my $result = PVE::SMBGateway::Worker::reconcile(ids => \@ids, wait => 0, on_event => $on_event);
        my ($failed) = grep { ref($_->{error}) eq 'HASH' } @{ $result->{shares} // [] };
        die PVE::SMBGateway::Error->new($failed->{error}->{kind} // 'internal', "share '$failed->{id}': $failed->{error}->{message}", remedy => $failed->{error}->{remedy}) if $failed;
        return $result;
    },
);

# What core asks of whoever makes a container with this network and this disk.
sub _may_make_containers {
    my ($rpcenv, $user, $param) = @_;
    return if ($param->{'smbgw-mode'} // 'lxc') ne 'lxc';
    $rpcenv->check($user, '/vms', ['VM.Allocate']);
    my ($storage) = ($param->{'smbgw-rootfs'} // '') =~ m/\A([^:,]+):/;
    $rpcenv->check($user, defined($storage) ? "/storage/$storage" : '/storage', ['Datastore.AllocateSpace']);
    my ($bridge) = ($param->{'smbgw-net'} // '') =~ m/(?:\A|,)bridge=([^,]+)/;
    my ($tag) = ($param->{'smbgw-net'} // '') =~ m/(?:\A|,)tag=(\d+)/;
    return $rpcenv->check($user, join('/', '/sdn/zones/localnetwork', $bridge // 'vmbr0', $tag // ()), ['SDN.Use']);
}

# --- the methods ----------------------------------------------------------------------------------------------------------

sub _method {
    my ($o) = @_;
    my ($verb, $route, $at, $privilege) = @{ $o->{api} };
    my ($path, $word) = PVE::SMBGateway::Schema::route($route);
    my %in_path = map { $word->{$_} => 1 } keys %$word;
    my %properties = (
        node => get_standard_option('pve-node'),
        (map { $_ => _parameter($o->{name}, $word->{$_}, 0) } keys %$word),
        (map { $_ => _parameter($o->{name}, $_, 0) } grep { !PVE::SMBGateway::Schema::is_assembled($_) && !$in_path{$_} } @{ $o->{required} }),
        (map { $_ => _parameter($o->{name}, $_, 1) } grep { !PVE::SMBGateway::Schema::is_assembled($_) && !$in_path{$_} } @{ $o->{optional} }, @{ $o->{secrets} }),
    );
    my $of_section = { 'share.create' => 1, 'share.update' => 0, plan => 1 }->{ $o->{name} };
    %properties = (%{ _section_schema($of_section) }, %properties) if defined($of_section);
    $properties{delete} = { type => 'string', format => 'pve-configid-list', optional => 1, description => 'Properties to take out, separated by commas.', maxLength => 4096 }
        if $o->{name} eq 'share.update' || $o->{name} eq 'plan';
    $properties{digest} = { type => 'string', optional => 1, maxLength => 64, description => 'Refuse if the storage configuration has changed since.' } if $o->{name} eq 'share.update';
    if ($o->{name} eq 'plan') {
        %properties = (
            %properties, id => _parameter('status', 'id', 0),
            operation => { type => 'string', enum => ['create', 'update', 'delete'], description => 'What would be done.' },
            path => { %{ $properties{path} }, optional => 1 },
        );
    }

    (my $name = $o->{name}) =~ tr/.-/__/;
    my $run = $o->{effect} eq 'run';
    return {
        name => $name, path => $path, method => $verb, protected => 1, proxyto => 'node', description => $o->{description},
        permissions => _permissions($o->{name}, $at, $privilege),
        parameters => { additionalProperties => 0, properties => \%properties },
        # the list of shares is one for whoever calls, as all lists of Proxmox's API are
        ($o->{name} eq 'openmetrics' ? (download_allowed => 1) : ()),
        returns => $o->{name} eq 'openmetrics' ? { type => 'any', description => 'The text, as it is.' } : $run ? { type => 'string', description => 'The id of the task.' } : $o->{name} eq 'list' ? $o->{returns}->{properties}->{shares} : $o->{returns},
        code => sub {
            my ($param) = @_;
            my $params = _operation_params($o, $word, $param);
            # the storage configuration is ours to read, for whoever needs it
            my $sections = sub { return (grep { $_ eq 'sections' } @{ $o->{required} }, @{ $o->{optional} }) ? (sections => PVE::SMBGateway::Config::sections()) : () };
            my $actor = sub { return (grep { $_ eq 'actor' } @{ $o->{optional} }) ? (actor => _user()) : () };
            return _answer(sub { my $answer = $QUERY{ $o->{name} }; $answer ? $answer->($params, $param) : PVE::SMBGateway::Native::query($o->{name}, { %$params, $sections->(), $actor->() }) }) if !$run;

            my $rpcenv = PVE::RPCEnvironment::get();
            my $user = $rpcenv->get_user();
            $rpcenv->check($user, '/vms', [$OF_CONTAINERS{ $o->{name} }]) if $OF_CONTAINERS{ $o->{name} };
            _may_make_containers($rpcenv, $user, $param) if $o->{name} eq 'share.create';
            my $secrets = _secrets($o, $param);
            my $code = $RUN{ $o->{name} };
            return _task($o->{name}, $params->{id} // $params->{gateway} // $params->{name}, sub {
                my ($on_event) = @_;
                return $code->($params, $secrets, $param, $on_event) if $code;
                return PVE::SMBGateway::Native::run($o->{name}, { %$params, $sections->(), actor => $user }, secrets => $secrets, on_event => $on_event);
            });
        },
    };
}

# What lies at a place of the tree that is no method of the table.
sub _index {
    my ($path, @names) = @_;
    my ($words) = (PVE::SMBGateway::Schema::route($path))[1];
    (my $name = "index_$path") =~ s/\W+/_/g;
    __PACKAGE__->register_method({
        name => $name, path => $path, method => 'GET', proxyto => 'node', protected => 1, description => 'What there is below.', permissions => { user => 'all' },
        parameters => { additionalProperties => 0, properties => { node => get_standard_option('pve-node'), map { $_ => { type => 'string', description => 'The gateway.' } } keys %$words } },
        returns => { type => 'array', items => { type => 'object', properties => { subdir => { type => 'string' } } }, links => [{ rel => 'child', href => '{subdir}' }] },
        code => sub { return [map { { subdir => $_ } } @names] },
    });
    return;
}

{
    my (%below, %answers);
    for my $o (grep { $_->{api} } @PVE::SMBGateway::Schema::OPERATIONS) {
        __PACKAGE__->register_method(_method($o));
        my ($path) = PVE::SMBGateway::Schema::route($o->{api}->[1]);
        $answers{$path} = 1 if $o->{api}->[0] eq 'GET';
        my @parts = split(m!/!, $path);
        $below{ join('/', @parts[0 .. $_ - 1]) }->{ $parts[$_] } = 1 for 0 .. $#parts;
    }
    # an operation that was interrupted is no entry of the table: it goes on as what it is
    $below{''}->{operations} = 1;
    for my $path (sort keys %below) {
        my @names = sort grep { !m/\{/ } keys %{ $below{$path} };
        _index($path, @names) if @names && !$answers{$path};
    }
}

__PACKAGE__->register_method({
    name => 'resume', path => 'operations/{opid}/resume', method => 'POST', protected => 1, proxyto => 'node', description => 'Continue an operation that was interrupted, or take it back.',
    permissions => { check => ['perm', '/storage', ['Datastore.Allocate']] },
    parameters => {
        additionalProperties => 0,
        properties => {
            node => get_standard_option('pve-node'),
            opid => { type => 'string', pattern => '[0-9a-f]+-[0-9a-f]+', maxLength => 40, description => 'The operation, as status and audit name it.' },
            password => { type => 'string', optional => 1, maxLength => 4096, description => 'The password that the operation needs.' },
        },
    },
    returns => { type => 'string', description => 'The id of the task.' },
    code => sub {
        my ($param) = @_;
        my $secrets = _secrets({ secrets => ['password'] }, $param);
        return _task('resume', $param->{opid}, sub { return PVE::SMBGateway::Native::resume($param->{opid}, secrets => $secrets, on_event => $_[0]) });
    },
});

1;
