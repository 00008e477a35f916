"""`dujiang demo`: the same ten minutes of traffic twice, straight at a vendor and through Dujiang."""
