"""How talking to a vendor can fail below the level of an answer, by phase."""

from __future__ import annotations


class TransportError(Exception):
    """The exchange of bytes with a vendor failed; `sent` tells whether the vendor may have seen the request."""

    phase = "transport"
    timed_out = False

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class ConnectFailed(TransportError):
    """No connection came about: refused, unknown host, TLS or proxy trouble."""

    phase = "connect"


class ConnectTimeout(ConnectFailed):
    """No connection came about in time."""

    timed_out = True


class FirstByteTimeout(TransportError):
    """The vendor took the request and said nothing."""

    phase = "first_byte"
    timed_out = True


class ReadTimeout(TransportError):
    """The vendor fell silent in the middle of its answer, or took too long over the whole of it."""

    phase = "read"
    timed_out = True


class ConnectionBroken(TransportError):
    """The vendor closed the connection before its answer was complete."""

    phase = "read"


class MalformedResponse(TransportError):
    """What the vendor sent is no HTTP response, or larger than allowed."""

    phase = "read"
