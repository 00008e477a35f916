"""The doors: composition root, routes, console and command line. Only this room constructs things."""
