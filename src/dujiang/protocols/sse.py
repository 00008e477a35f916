"""Server-sent events: an incremental parser that no chunk boundary disturbs, and the encoder.

Source: the WHATWG HTML standard, section "Server-sent events".
"""

from __future__ import annotations

import msgspec

DEFAULT_LIMIT_BYTES = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event: its name (`None` when the stream gave none) and its data, lines joined by LF."""

    event: str | None
    data: bytes


class Decoder:
    """Parse one event stream as it arrives; ids, retry hints and comments are read over.

    What waits for its end (a line, and the data lines before it) is bounded by `limit_bytes`.
    """

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._line = bytearray()
        self._name: str | None = None
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that this chunk completes.

        Raises ValueError when an event grows past the limit.
        """
        chunk = self._with_lf_only(chunk)
        end = chunk.rfind(b"\n")
        if end < 0:
            self._line += chunk
            self._check_bounds()
            return []
        self._line += chunk[:end]
        lines = bytes(self._line).split(b"\n")
        self._line = bytearray(chunk[end + 1 :])
        events: list[Event] = []
        for line in lines:
            self._take_line(line, events)
            self._check_bounds()
        return events

    def finish(self) -> list[Event]:
        """Return the event that the end of the stream cut short of its blank line, if it has data.

        The standard discards it; vendors do end their streams that way, and then mean it.
        """
        events: list[Event] = []
        if self._line:
            self._take_line(bytes(self._line), events)
            self._line.clear()
        self._take_line(b"", events)
        return events

    def _with_lf_only(self, chunk: bytes) -> bytes:
        """Return the chunk with CRLF and CR turned into LF, also when a CRLF is split between chunks."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(Event(self._name, b"\n".join(self._data)))
                self._data = []
                self._data_bytes = 0
            self._name = None
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif field == b"event":
            self._name = value.decode("utf-8", "replace") or None

    def _check_bounds(self) -> None:
        if len(self._line) + self._data_bytes > self._limit_bytes:
            raise ValueError(f"an event of the stream is longer than {self._limit_bytes} bytes")


def encode(event: str | None, data: bytes) -> bytes:
    """Return one event as it goes on the wire; data of several lines takes several `data:` fields."""
    head = b"" if event is None else b"event: " + event.encode() + b"\n"
    if b"\n" not in data and b"\r" not in data:
        return head + b"data: " + data + b"\n\n"
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return head + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
