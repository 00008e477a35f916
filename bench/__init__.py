"""Measures Dujiang beside nginx and other gateways, in one run, as ratios; start it with `python -m bench`."""
