# SPDX-License-Identifier: AGPL-3.0-or-later
package PVE::Storage::CIFSPlugin;

# Stand-in: the CIFS client type. Only its declarations matter here.

use strict;
use warnings;

use PVE::Storage::Plugin;

use base qw(PVE::Storage::Plugin);

sub type { return 'cifs' }

sub plugindata {
    return { content => [{ map { $_ => 1 } qw(images rootdir vztmpl iso backup snippets) }, { images => 1 }], format => [{ raw => 1 }, 'raw'], 'sensitive-properties' => { password => 1 } };
}

sub properties {
    return { map { $_ => { type => 'string', description => $_ } } qw(share password domain smbversion) };
}

sub options {
    return { (map { $_ => { fixed => 1 } } qw(path server share)), (map { $_ => { optional => 1 } } qw(nodes disable content username password domain smbversion subdir options)) };
}

1;
