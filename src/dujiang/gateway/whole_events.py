"""A stream passed on by whole events: of one in which the vendor breaks off, the caller sees nothing."""

from __future__ import annotations

_ENDS = (b"\n\n", b"\n\r\n")
_HELD_MAX = 64 * 1024
"""Of an event longer than this, the beginning is passed on before its end has come."""


class WholeEvents:
    """Passes bytes on as they are, up to the end of the last event that is complete."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Return what of the stream so far can go on to the client; it may be empty."""
        if self._held:
            piece = self._held + piece
            self._held = b""
        if piece.endswith(_ENDS):
            return piece
        end = _end_of_events(piece)
        if len(piece) - end > _HELD_MAX:
            return piece
        self._held = piece[end:]
        return piece[:end]

    def finish(self) -> bytes:
        """Return what is still held back when the vendor has closed the stream."""
        held, self._held = self._held, b""
        return held


def before_event(events: bytes, data: bytes) -> bytes:
    """Return the events that precede the one with these data; all of them when it is not among them."""
    at = events.find(data)
    return events[: _end_of_events(events[:at])] if at >= 0 else events


def _end_of_events(piece: bytes) -> int:
    return max(piece.rfind(end) + len(end) if end in piece else 0 for end in _ENDS)
