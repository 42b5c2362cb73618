# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::Storage::NFSPlugin;

# Stand-in: the NFS client type. Only its declarations matter here.

use strict;
use warnings;

use PVE::Storage::Plugin;

use base qw(PVE::Storage::Plugin);

sub type { return 'nfs' }

sub plugindata {
    return { content => [{ map { $_ => 1 } qw(images rootdir vztmpl iso backup snippets) }, { images => 1 }], format => [{ raw => 1 }, 'raw'], 'sensitive-properties' => { none => 1 } };
}

sub properties {
    return { map { $_ => { type => 'string', description => $_ } } qw(export server) };
}

sub options {
    return { (map { $_ => { fixed => 1 } } qw(path server export)), (map { $_ => { optional => 1 } } qw(nodes disable content options)) };
}

1;
