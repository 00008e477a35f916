"""The whole demo, from a scenario to a report: both runs, one after the other, on the same machine."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from dujiang.clock import Clock
from dujiang.server.demo.figures import Result, Run
from dujiang.server.demo.playing import play_direct, play_through_gateway
from dujiang.server.demo.report import Report
from dujiang.server.demo.scenario import Scenario
from dujiang.server.demo.terminal import Screen
from dujiang.server.demo.words import Words


class NothingAnswered(Exception):
    """Not one call of a run was answered: something is broken, and figures would mislead."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.reason = next((call.reason for call in run.calls if call.reason), "?")
        super().__init__(f"no call was answered in run {run.name}: {self.reason}")


async def demonstrate(
    scenario: Scenario, *, made_up: bool, clock: Clock, folder: Path, screen: Screen, words: Words
) -> Report:
    """Play a scenario twice, with logs and settings of the servers in `folder`.

    Raises ChildFailed when a server does not start and NothingAnswered when a run is worth nothing. Every
    process is stopped before it returns, also when it is cancelled (by Ctrl-C or SIGTERM).
    """
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    screen.introduce(made_up)
    with screen.run(words.direct, words.direct_explained, words.starting_vendor) as watcher:
        direct = _checked(await play_direct(scenario, clock, folder, watcher))
    with screen.run(words.gateway, words.gateway_explained, words.starting_gateway) as watcher:
        gateway = _checked(await play_through_gateway(scenario, clock, folder, watcher))
    report = Report(scenario, made_up, direct, gateway)
    screen.conclude(report.figures(direct), report.figures(gateway))
    return report


def _checked(run: Run) -> Run:
    if not any(call.result is Result.ANSWERED for call in run.calls):
        raise NothingAnswered(run)
    return run
