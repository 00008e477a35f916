"""`python -m dujiang` is the same program as `dujiang`."""

from dujiang.server.cli import main

main()
