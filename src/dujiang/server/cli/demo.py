"""`dujiang demo`: shows in under 90 s, on one's own machine, what Dujiang is for."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from dujiang.clock import SystemClock
from dujiang.server.cli.language import Language, choose_language, spoken_language
from dujiang.server.demo.processes import ChildFailed
from dujiang.server.demo.scenario import DURATION_S, choose
from dujiang.server.demo.words import WORDS, Words
from dujiang.simulation.traces import Trace, TraceError, read_trace
from dujiang.simulation.traffic import conversation_traffic

_SPEED_MAX = 60.0


def demo(
    trace: Annotated[
        Path | None,
        typer.Option(help="Replay a recorded trace (Azure, Mooncake, ServeGen, plain CSV; gzipped or not)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides what is made up, and which calls are kept.")] = 1,
    speed: Annotated[float | None, typer.Option(help="How many times as fast as the traffic; 20 unless told.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the chart; a temporary one unless told.")] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
    browser: Annotated[bool, typer.Option(help="Whether to open the chart.")] = True,
    language: Annotated[Language | None, typer.Option(help="Told by DUJIANG_LANGUAGE or LANG unless given.")] = None,
) -> None:
    """Play ten minutes of chat traffic at a strict vendor twice: straight, and through Dujiang."""
    if language is not None:
        choose_language(language)
    words = WORDS[spoken_language()]
    if speed is not None and not 1 <= speed <= _SPEED_MAX:
        _end(words.bad_speed.format(value=f"{speed:g}"))
    try:
        import openai as _  # noqa: F401 -- what needs it is imported below, where its absence has been explained
    except ImportError:
        _end(words.no_sdk)
    traffic = _traffic(trace, seed, words)
    try:
        chart = _play(traffic, words, made_up=trace is None, seed=seed, speed=speed, out=out, json=json)
    except ChildFailed as failed:
        _end(words.child_failed.format(name=failed.name, log=failed.log))
    except OSError as error:
        _end(words.cannot_write.format(path=error.filename, reason=error.strerror))
    except (KeyboardInterrupt, asyncio.CancelledError):
        _end(words.interrupted, status=130)
    if browser and _has_display():
        webbrowser.open(chart.resolve().as_uri())


def _traffic(path: Path | None, seed: int, words: Words) -> Trace:
    if path is None:
        return conversation_traffic(seed, DURATION_S)
    try:
        return read_trace(path, DURATION_S)
    except TraceError as error:
        _end(words.bad_trace.format(error=error))


def _play(
    traffic: Trace,
    words: Words,
    *,
    made_up: bool,
    seed: int,
    speed: float | None,
    out: Path | None,
    json: Path | None,
) -> Path:
    """Play the demo and write what it leaves behind; returns the path of the chart."""
    from dujiang.server.demo.demonstration import NothingAnswered, demonstrate
    from dujiang.server.demo.report import chart, report_json
    from dujiang.server.demo.terminal import Screen

    # Before the runs, not after them: a folder that cannot be written to should not cost a minute.
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    if json is not None:
        json.touch()
    scenario = choose(traffic, seed, speed)
    screen = Screen(Console(), words, scenario)
    with tempfile.TemporaryDirectory(prefix="dujiang-demo-servers-") as servers:
        playing = demonstrate(
            scenario, made_up=made_up, clock=SystemClock(), folder=Path(servers), screen=screen, words=words
        )
        try:
            report = asyncio.run(playing)
        except NothingAnswered as nothing:
            run = words.direct if nothing.run.name == "direct" else words.gateway
            _end(words.no_answers.format(run=run, reason=nothing.reason))
    page = (out or Path(tempfile.mkdtemp(prefix="dujiang-demo-"))) / "dujiang-demo.html"
    page.write_text(chart(report, spoken_language()), "utf-8")
    screen.say(words.chart_at.format(path=page))
    if json is not None:
        json.write_bytes(report_json(report))
        screen.say(words.figures_at.format(path=json))
    return page


def _has_display() -> bool:
    """Return whether a browser would be seen: on Unix that takes a display, elsewhere there is one."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _end(message: str, status: int = 2) -> NoReturn:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(status)
