# SPDX-License-Identifier: MIT OR Apache-2.0
# What the tests share: a context with directories of its own, and the error of a call.
package SMBGWTest;

use strict;
use warnings;

use Exporter qw(import);
use File::Temp qw(tempdir);
use Test::More;

our @EXPORT = qw(context refused rss_kib);

my $dir = tempdir(CLEANUP => 1);

sub context {
    return SMBGW::Context->new({
        'state-dir' => "$dir/state", 'run-dir' => "$dir/run", 'record-dir' => "$dir/record", 'smb-conf' => "$dir/smb.conf",
        'own-conf' => "$dir/smbgw.conf", node => 'testnode', log => { to => 'none' }, @_,
    });
}

# The call dies with a SMBGW::Error of this kind whose message is like that; returns it.
sub refused(&$$$) {
    my ($call, $kind, $like, $name) = @_;
    my $lived = eval { $call->(); 1 };
    my $err = $@;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return subtest($name => sub {
        ok(!$lived, 'it dies');
        isa_ok($err, 'SMBGW::Error') or return diag($err);
        is($err->kind, $kind, "as $kind");
        like("$err", $like, 'and says so');
    }) && $err;
}

sub rss_kib {
    open(my $statm, '<', '/proc/self/statm') or die "statm: $!";
    return (split ' ', scalar <$statm>)[1] * 4;
}

1;
