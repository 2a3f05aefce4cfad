#!/usr/bin/perl
# Echo on Danga::Socket, as its own documentation would have it: read what is there, write it back.
use strict;
use warnings;

package Echo;
use base 'Danga::Socket';
use fields;

use constant BUFFER_LEN => 16 * 1024;

sub event_read {
    my $self  = shift;
    my $bytes = $self->read(BUFFER_LEN);
    return $self->close unless defined $bytes;
    # Nothing more is read until what was has gone out: a peer that only sends fills no memory.
    $self->watch_read(0) unless $self->write($bytes);
}

sub event_write {
    my $self = shift;
    $self->watch_read(1) if $self->write(undef);
}

sub event_err { $_[0]->close }
sub event_hup { $_[0]->close }

package Door;
use base 'Danga::Socket';
use fields;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

sub event_read {
    my $self = shift;
    while (my $socket = $self->{sock}->accept) {
        $socket->blocking(0);
        setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1) or die "TCP_NODELAY: $!";
        Echo->new($socket)->watch_read(1);
    }
}

package main;
use IO::Socket::INET;

$SIG{PIPE} = 'IGNORE';
$| = 1;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 4096, Blocking => 0)
    or die "listen: $!";
Door->new($listener)->watch_read(1);
print 'listening ', $listener->sockport, "\n";
Danga::Socket->EventLoop;
