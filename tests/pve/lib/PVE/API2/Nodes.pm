# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::API2::Nodes::Nodeinfo;

# Stand-in: /nodes/{node}, which lists its own parts and has no place for those of others.

use strict;
use warnings;

use PVE::JSONSchema qw(get_standard_option);
use PVE::RESTHandler;
use PVE::Storage;    # with its plugins, while this class is still being made

use base qw(PVE::RESTHandler);

__PACKAGE__->register_method({
    name => 'index', path => '', method => 'GET', permissions => { user => 'all' }, parameters => { additionalProperties => 0, properties => { node => get_standard_option('pve-node') } },
    code => sub { return [{ name => 'storage' }] },
});

package PVE::API2::Nodes;

use base qw(PVE::RESTHandler);

__PACKAGE__->register_method({ subclass => 'PVE::API2::Nodes::Nodeinfo', path => '{node}' });

1;
