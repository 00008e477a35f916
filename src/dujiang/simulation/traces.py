"""Recorded traffic, read from the published formats: when calls arrived, how many tokens went in and out."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from dujiang.clock import SECOND, nanoseconds, seconds


class TraceError(ValueError):
    """A trace file cannot be read; the message names file, line and remedy."""


@dataclass(frozen=True, slots=True)
class TraceCall:
    """One recorded call: arrival (ns since the trace began), tokens, and whose it was, if that is known."""

    at_ns: int
    input_tokens: int
    output_tokens: int
    client: str = ""

    @property
    def tokens(self) -> int:
        """Return input and output tokens together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Trace:
    """Recorded traffic in order of arrival; `duration_ns` is the time it was watched for."""

    name: str
    calls: tuple[TraceCall, ...]
    duration_ns: int

    @property
    def rate(self) -> float:
        """Return the mean arrival rate in calls a second."""
        return len(self.calls) / seconds(self.duration_ns) if self.duration_ns else 0.0


@dataclass(frozen=True, slots=True)
class Columns:
    """What one published CSV format calls its columns; `calendar` says its times are dates, not seconds."""

    format: str
    at: str
    input_tokens: str
    output_tokens: str
    client: str | None = None
    calendar: bool = False


# https://github.com/Azure/AzurePublicDataset (2023 and 2024 traces); the re-based and ServeGen arrival form
# (https://github.com/alibaba/ServeGen); and ours, the one the documentation offers for own traffic.
CSV_FORMATS: Final = (
    Columns("Azure", "TIMESTAMP", "ContextTokens", "GeneratedTokens", calendar=True),
    Columns("seconds", "t", "in", "out", "client"),
    Columns("plain", "arrival_s", "input_tokens", "output_tokens", "client"),
)
_ACCEPTED: Final = "; ".join(f"{c.at},{c.input_tokens},{c.output_tokens}" for c in CSV_FORMATS)
_REMEDY: Final = f"A CSV needs a header with the columns of one of: {_ACCEPTED}. Mooncake JSON lines also work."


def read_trace(path: Path, duration_s: float = math.inf) -> Trace:
    """Read the first `duration_s` seconds of a trace file, its format told from its content.

    Known are Azure's CSV, `t,in,out` CSV in seconds (also with `client`, as ServeGen's arrivals), the plain
    CSV `arrival_s,input_tokens,output_tokens[,client]`, and Mooncake's JSON lines; each may be gzipped. Other
    columns are ignored. Reading stops at the first later row: a long file costs no more than its beginning.

    Raises:
        TraceError: the file is missing, empty, of no known format, has a bad value or is not sorted by time.

    """
    try:
        with path.open("rb") as raw:
            magic = raw.read(2)
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if magic == b"\x1f\x8b" else raw
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            return _trace(path, _rows(path, text), nanoseconds(duration_s) if duration_s < math.inf else None)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TraceError(f"{path}: cannot be read ({reason}). Give the path of a trace file.") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: is not text in UTF-8. {_REMEDY}") from error
    except csv.Error as error:
        raise TraceError(f"{path}: is not a CSV file ({error}). {_REMEDY}") from error


def _trace(path: Path, rows: Iterable[tuple[int, TraceCall]], duration_ns: int | None) -> Trace:
    calls: list[TraceCall] = []
    start_ns = previous_ns = 0
    cut = False
    for line, call in rows:
        if not calls:
            start_ns = previous_ns = call.at_ns
        if call.at_ns < previous_ns:
            raise TraceError(f"{path}:{line}: arrives before the row above it. Sort the file by arrival time.")
        previous_ns = call.at_ns
        if duration_ns is not None and call.at_ns - start_ns >= duration_ns:
            cut = True
            break
        calls.append(replace(call, at_ns=call.at_ns - start_ns))
    if not calls:
        raise TraceError(f"{path}: has no calls below its header. {_REMEDY}")
    # The last arrival ends a whole trace; one second more keeps the rate of a single burst finite.
    return Trace(path.name, tuple(calls), duration_ns if cut and duration_ns else calls[-1].at_ns + SECOND)


def _rows(path: Path, text: io.TextIOWrapper) -> Iterator[tuple[int, TraceCall]]:
    first = text.readline()
    if not first.strip():
        raise TraceError(f"{path}: is empty. {_REMEDY}")
    if first.lstrip().startswith("{"):
        yield from _mooncake_rows(path, first, text)
    else:
        yield from _csv_rows(path, first, text)


class _MooncakeLine(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int


def _mooncake_rows(path: Path, first: str, rest: Iterable[str]) -> Iterator[tuple[int, TraceCall]]:
    """Yield the calls of a Mooncake trace (https://github.com/kvcache-ai/Mooncake), whose times are in ms."""
    decoder = msgspec.json.Decoder(_MooncakeLine)
    for number, text in enumerate(itertools.chain([first], rest), start=1):
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise TraceError(
                f"{path}:{number}: is not a Mooncake line ({error}). "
                'Each line is {"timestamp": ms, "input_length": tokens, "output_length": tokens, …}.'
            ) from error
        place = f"{path}:{number}"
        yield (
            number,
            TraceCall(
                _arrival(place, "timestamp", line.timestamp / 1000),
                _tokens(place, "input_length", line.input_length),
                _tokens(place, "output_length", line.output_length),
            ),
        )


def _csv_rows(path: Path, header: str, rest: Iterable[str]) -> Iterator[tuple[int, TraceCall]]:
    names = [name.strip() for name in next(csv.reader([header]))]
    found = next(
        (c for c in CSV_FORMATS if {c.at, c.input_tokens, c.output_tokens} <= set(names)),
        None,
    )
    if found is None:
        shown = ", ".join(names)[:200]
        raise TraceError(f"{path}:1: these columns are not a trace: {shown}. {_REMEDY}")
    at, tokens_in, tokens_out = (names.index(c) for c in (found.at, found.input_tokens, found.output_tokens))
    client = names.index(found.client) if found.client in names else None
    reader = csv.reader(rest)
    for row in reader:
        number = reader.line_num + 1
        if not row:
            continue
        if len(row) != len(names):
            raise TraceError(
                f"{path}:{number}: has {len(row)} fields where the header has {len(names)}. Correct or remove the line."
            )
        place = f"{path}:{number}"
        read_time = _calendar_time if found.calendar else _elapsed_time
        yield (
            number,
            TraceCall(
                read_time(place, found.at, row[at]),
                _count(place, found.input_tokens, row[tokens_in]),
                _count(place, found.output_tokens, row[tokens_out]),
                row[client] if client is not None else "",
            ),
        )


def _calendar_time(place: str, column: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise TraceError(f"{place}: {column} is {text!r}. Write a time such as 2023-11-16 18:15:46.6805900.") from None
    # Only differences matter, so a time without a zone may be read as any; UTC has no gaps.
    epoch = datetime(1970, 1, 1, tzinfo=moment.tzinfo)
    elapsed = moment - epoch
    return (elapsed.days * 86_400 + elapsed.seconds) * SECOND + elapsed.microseconds * 1000


def _elapsed_time(place: str, column: str, text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        raise TraceError(f"{place}: {column} is {text!r}. Write seconds since the start, as 12.5.") from None
    return _arrival(place, column, value)


def _arrival(place: str, column: str, value_s: float) -> int:
    if not math.isfinite(value_s):
        raise TraceError(f"{place}: {column} is {value_s}. Write a finite time.")
    return nanoseconds(value_s)


def _count(place: str, column: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise TraceError(f"{place}: {column} is {text!r}. Write a whole number of tokens.") from None
    return _tokens(place, column, value)


def _tokens(place: str, column: str, value: int) -> int:
    if value < 0:
        raise TraceError(f"{place}: {column} is {value}. Write a number of tokens, 0 or more.")
    return value
