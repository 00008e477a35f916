"""The log: JSON lines that help to find a fault and quote nobody."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from dujiang.server.logs import JsonFormatter, set_up_logs

PROMPT = "my-medical-history"
KEY = "sk-live-8a6b4c2d0e1f"


class Log:
    """A logger whose lines are read back."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.logger = logging.Logger("dujiang.test")  # noqa: LOG001 - of its own: no other handler is to see it
        self.handler = logging.StreamHandler(self._stream)
        self.handler.setFormatter(JsonFormatter())
        self.logger.addHandler(self.handler)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def line(self) -> dict[str, Any]:
        assert self.text.count("\n") == 1, "one line a record, whatever is in it"
        return json.loads(self.text)


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_line_says_when_how_bad_what_and_where_from(log: Log) -> None:
    log.logger.warning("reservations of %s ended", "shop", extra={"count": 3, "names": ("a", "b")})
    line = log.line()
    assert isinstance(line.pop("at"), int)
    assert line == {
        "level": "warning",
        "event": "reservations of shop ended",
        "logger": "dujiang.test",
        "count": 3,
        "names": ["a", "b"],
    }


def raise_in_parts() -> None:
    try:
        json.loads("{" + PROMPT)
    except ValueError as error:
        error.add_note(f"while reading {PROMPT}")
        try:
            raise KeyError(f"{KEY}\nsecond line: {PROMPT}")
        except KeyError as other:
            raise RuntimeError(f"could not send {PROMPT}\nwith the key {KEY}\n") from other


def test_an_exception_is_located_and_not_quoted(log: Log) -> None:
    try:
        raise_in_parts()
    except RuntimeError:
        log.logger.exception("a call failed inside the gateway", extra={"request_id": "req-1"})
    line = log.line()
    assert line["exception"] == "RuntimeError"
    assert line["causes"] == ["KeyError", "JSONDecodeError"]
    assert line["request_id"] == "req-1"
    assert len(line["traceback"]) == 2
    assert line["traceback"][-1].endswith(" in raise_in_parts")
    assert "test_logs.py:" in line["traceback"][-1]
    for secret in (PROMPT, KEY):
        assert secret not in log.text


def test_an_exception_whose_origin_is_suppressed_has_no_causes(log: Log) -> None:
    try:
        try:
            raise KeyError(KEY)
        except KeyError:
            raise RuntimeError(PROMPT) from None
    except RuntimeError:
        log.logger.exception("failed")
    assert "causes" not in log.line()


def test_deep_recursion_and_endless_causes_stay_one_short_line(log: Log) -> None:
    def deeper(depth: int) -> None:
        if not depth:
            first, second = ValueError(PROMPT), KeyError(PROMPT)
            first.__context__, second.__context__ = second, first
            raise first
        deeper(depth - 1)

    try:
        deeper(200)
    except ValueError:
        log.logger.exception("failed")
    line = log.line()
    assert len(line["traceback"]) == 12
    assert len(line["causes"]) <= 8
    assert PROMPT not in log.text


def test_an_exception_as_a_field_is_its_kind(log: Log) -> None:
    log.logger.error("refused", extra={"cause": ValueError(PROMPT)})
    assert log.line()["cause"] == "ValueError"


def test_half_a_surrogate_pair_is_still_a_line(log: Log) -> None:
    log.logger.error("cannot read %s", "caf\udce9.yaml", extra={"count": 1})
    assert "cannot read caf" in log.line()["event"]


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (
            f"Task exception was never retrieved\nfuture: <Task finished exception=ValueError('{PROMPT}')>",
            "Task exception was never retrieved",
        ),
        (
            f"Exception in callback Protocol.data_received(b'{KEY}')\nhandle: <…>",
            "Exception in callback Protocol.data_received",
        ),
        (f"Executing <Task {PROMPT}> took 0.2 seconds", "Executing"),
        ("Using selector: EpollSelector", "Using selector: EpollSelector"),
    ],
)
def test_what_asyncio_says_is_cut_where_it_begins_to_quote(log: Log, message: str, event: str) -> None:
    log.logger.name = "asyncio"
    log.logger.error(message)
    assert log.line()["event"] == event
    assert KEY not in log.text
    assert PROMPT not in log.text


async def test_an_event_loop_that_complains_quotes_nobody(log: Log) -> None:
    asyncio_log = logging.getLogger("asyncio")
    asyncio_log.addHandler(log.handler)
    try:

        def callback(received: bytes) -> None:
            raise ValueError(received.decode())

        asyncio.get_running_loop().call_soon(callback, f"authorization: Bearer {KEY} {PROMPT}".encode())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    finally:
        asyncio_log.removeHandler(log.handler)
    line = log.line()
    assert line["exception"] == "ValueError"
    assert KEY not in log.text
    assert "authorization" not in log.text


@pytest.fixture
def untouched_loggers() -> Iterator[None]:
    """Give the loggers back as they were: `set_up_logs` is for a process of its own."""
    names = (None, "uvicorn", "uvicorn.error", "uvicorn.access")
    kept = [(one, one.handlers[:], one.level, one.propagate) for one in map(logging.getLogger, names)]
    yield
    for logger, handlers, level, propagate in kept:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_everything_goes_to_standard_error_as_json(untouched_loggers: None, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("warning")
    logging.getLogger("dujiang.server").info("not this")
    logging.getLogger("some.library").warning("this")
    logging.getLogger("uvicorn.access").info("nor that")
    logging.getLogger("uvicorn.error").error("and this")
    told = capsys.readouterr()
    assert told.out == ""
    lines = [json.loads(line) for line in told.err.splitlines()]
    assert [line["event"] for line in lines] == ["this", "and this"]
