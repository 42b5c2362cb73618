# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::Storage::RBDPlugin;

# Stand-in: the Ceph block type. Only its declarations matter here.

use strict;
use warnings;

use PVE::Storage::Plugin;

use base qw(PVE::Storage::Plugin);

sub type { return 'rbd' }

sub plugindata {
    return { content => [{ map { $_ => 1 } qw(images rootdir) }, { images => 1 }], format => [{ raw => 1 }, 'raw'], 'sensitive-properties' => { keyring => 1 } };
}

sub properties {
    return { map { $_ => { type => 'string', description => $_ } } qw(monhost pool data-pool namespace username authsupported krbd keyring) };
}

sub options {
    return { (map { $_ => { fixed => 1 } } qw(pool)), (map { $_ => { optional => 1 } } qw(nodes disable content monhost username keyring)) };
}

1;
