"""What a gateway has to tell about itself to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.processes import Launch


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway is to run: an empty folder, its port, and the port of the upstream it calls."""

    folder: Path
    port: int
    upstream_port: int

    @property
    def upstream_url(self) -> str:
        """The base URL of the upstream, as OpenAI clients want it."""
        return f"http://127.0.0.1:{self.upstream_port}/v1"


class Target(Protocol):
    """A gateway that can be installed, started and called."""

    @property
    def name(self) -> str:
        """How it is called on the command line and in the table."""
        ...

    @property
    def work(self) -> str:
        """What it does for a call, in a few words: what is compared with what."""
        ...

    def install(self, cache: Path) -> str:
        """Make it ready to start and return its version; raise `install.Unavailable` when it cannot be had."""
        ...

    def launch(self, place: Place) -> Launch:
        """Write its configuration into the place and return how to start it."""
        ...

    def request(self, place: Place, *, stream: bool) -> bytes:
        """Return the call as this gateway wants it."""
        ...
