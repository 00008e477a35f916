"""The log: one JSON object a line on standard error, without prompts and without keys."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Iterator

import msgspec

_FRAMES_MAX = 12
_CAUSES_MAX = 8
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """Writes a log record as JSON, with what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": int(record.created * 1000),
            "level": record.levelname.lower(),
            "event": _event(record),
            "logger": record.name,
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN_ATTRIBUTES}
        if record.exc_info and record.exc_info[1] is not None:
            # Where it happened, but not what was said: an exception's text may quote a request.
            error = record.exc_info[1]
            line["exception"] = type(error).__name__
            line["traceback"] = [
                f"{frame.filename}:{frame.lineno} in {frame.name}"
                for frame in traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:]
            ]
            if causes := [type(cause).__name__ for cause in _causes(error)]:
                line["causes"] = causes
        try:
            return msgspec.json.encode(line, enc_hook=_in_words).decode()
        except UnicodeEncodeError:
            # Half a surrogate pair, from a file name or a header that is no text.
            return msgspec.json.encode({name: ascii(value) for name, value in line.items()}).decode()


def _event(record: logging.LogRecord) -> str:
    """Return the message. Of asyncio's only the beginning: it goes on with arguments and exceptions in full."""
    message = record.getMessage()
    if record.name != "asyncio":
        return message
    return re.split(r"[\n(<]", message, maxsplit=1)[0].rstrip()


def _in_words(value: object) -> str:
    return type(value).__name__ if isinstance(value, BaseException) else str(value)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what led to an exception, the nearest first."""
    for _ in range(_CAUSES_MAX):
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None:
            return
        yield cause
        error = cause


def set_up_logs(level: str) -> None:
    """Send everything that is logged to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))
