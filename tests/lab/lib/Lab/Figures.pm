# SPDX-License-Identifier: MIT OR Apache-2.0
package Lab::Figures;

# The product's figures in a box: has them taken, as the agent does, and reads what was found. It knows the files of a look; it must not know
# what a test expects of a figure.

use strict;
use warnings;

use JSON::PP ();

use Lab::Box;
use Lab::Product;

my $DIR = "$Lab::Product::RUN/metrics";
my $json = JSON::PP->new->utf8->canonical;

my %numbers;    # metric name => its numbers, one for each scope
my $current = {};

# Looks once; what the library answered.
sub scrape {
    my $answer = Lab::Product::native('scrape');
    read_last();
    return $answer;
}

# Looks once at all, also at what is asked for seldom, without forgetting what was counted.
sub scrape_all {
    due(qw(sessions files));
    return scrape();
}

# Has the next look ask these, whatever the last time cost.
sub due {
    my (@what) = @_;
    my $file = "$DIR/memory.json";
    return if !-e $file;
    my $memory = $json->decode(Lab::Box::slurp($file));
    for my $gateway (values %{ $memory->{gateways} }) {
        $gateway->{memory}->{$_}->{next} = 0 for @what;
    }
    return Lab::Box::spew($file, $json->encode($memory), 0600);
}

# Reads what the last look found, whoever looked.
sub read_last {
    if (!%numbers) {
        $numbers{ $_->{name} }->{ $_->{number} } = 1 for @{ Lab::Product::native('schema')->{metrics} };
    }
    my $text = Lab::Box::slurp("$DIR/current.json");
    $current = $text eq '' ? {} : $json->decode($text);
    return $current;
}

# The whole of the last look.
sub current { return $current }

sub _in {
    my ($list, $object, $name) = @_;
    my ($found) = grep { $_->{object} eq $object && ($numbers{$name} // {})->{ $_->{metric} } } @{ $current->{$list} };
    return $found ? $found->{value} : undef;
}

# A value or a rate of the last look, or undef where it is not known.
sub value { return _in('samples', @_) }
sub rate { return _in('rates', @_) }

# Why a source has nothing to tell, or undef; and all that are so.
sub why { my ($source) = @_; return (grep { $_->{source} eq $source } @{ $current->{sources} })[0]->{why} }
sub silent { return map { "$_->{source}: $_->{why}" } grep { defined($_->{why}) } @{ $current->{sources} } }

# How long a source took, in milliseconds.
sub took { my ($source) = @_; return (grep { $_->{source} eq $source } @{ $current->{sources} })[0]->{'took-ms'} }

1;
