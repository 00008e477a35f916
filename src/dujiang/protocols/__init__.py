"""What travels on the wire, as pure codecs: no clock, no loop, no socket."""
