"""What a finished demo leaves behind: its figures as JSON, and a chart that needs nothing but a browser."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import resources
from itertools import accumulate
from typing import Any

import msgspec

from dujiang.server.cli.language import Language
from dujiang.server.demo.figures import SLICE_S, Figures, Result, Run, figures, slices
from dujiang.server.demo.scenario import CONCURRENCY, Scenario
from dujiang.server.demo.terminal import figure_rows, scenario_lines
from dujiang.server.demo.words import WORDS


@dataclass(frozen=True, slots=True)
class Report:
    """Both runs of one scenario and what they were worth."""

    scenario: Scenario
    made_up: bool
    direct: Run
    gateway: Run

    def figures(self, run: Run) -> Figures:
        """Return the figures of one of the runs; its quota is that of the time in which calls arrived."""
        scenario = self.scenario
        return figures(
            run,
            scenario.patience_s,
            tokens_quota=scenario.tokens_limit * scenario.windows,
            requests_quota=scenario.requests_limit * scenario.windows,
        )

    @property
    def end_s(self) -> float:
        """Return when the last call of either run was over."""
        ends = (call.ended_s for run in (self.direct, self.gateway) for call in run.calls)
        return max(self.scenario.duration_s, *ends)


def report_json(report: Report) -> bytes:
    """Return the figures of both runs and the scenario as indented JSON."""
    scenario = report.scenario
    facts = {
        "scenario": {
            "trace": scenario.trace.name,
            "made_up": report.made_up,
            "seed": scenario.seed,
            "recorded_calls": scenario.recorded_calls,
            "calls": len(scenario.calls),
            "duration_s": scenario.duration_s,
            "speed": scenario.speed,
            "patience_s": scenario.patience_s,
            "limits": {
                "requests/60s": scenario.requests_limit,
                "tokens/60s": scenario.tokens_limit,
                "concurrency": CONCURRENCY,
            },
            "mean_demand": scenario.demand,
            "peak_demand_tokens": scenario.peak_demand,
        },
        "runs": {
            run.name: asdict(report.figures(run))
            | {"vendor_429s_by_limit": dict(run.vendor[-1].refused_by_limit), "reasons": _reasons(run)}
            for run in (report.direct, report.gateway)
        },
    }
    return msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n"


def _reasons(run: Run) -> dict[str, int]:
    """Return why calls failed, in the SDK's words, and how often."""
    reasons: dict[str, int] = {}
    for call in run.calls:
        if call.result is not Result.ANSWERED:
            reason = f"{call.result}: {call.reason}"
            reasons[reason] = reasons.get(reason, 0) + 1
    return dict(sorted(reasons.items(), key=lambda item: -item[1])[:20])


def chart(report: Report, language: Language) -> str:
    """Return the chart of both runs as one HTML page that shows `language` first."""
    end_s = report.end_s
    direct, gateway = report.figures(report.direct), report.figures(report.gateway)
    facts: dict[str, Any] = {
        "language": language,
        "words": {name: asdict(words) for name, words in WORDS.items()},
        "scenario": {name: scenario_lines(words, report.scenario, report.made_up) for name, words in WORDS.items()},
        "rows": {name: figure_rows(words, direct, gateway) for name, words in WORDS.items()},
        "patience_s": report.scenario.patience_s,
        "slice_s": SLICE_S,
        "end_s": round(end_s, 3),
        "runs": {run.name: _drawn(report, run, end_s) for run in (report.direct, report.gateway)},
    }
    # Within a script element only `<` could end it; escaped, it is the same JSON.
    encoded = msgspec.json.encode(facts).decode().replace("<", "\\u003c")
    page = resources.files("dujiang.server.demo").joinpath("chart.html").read_text("utf-8")
    return page.replace("/*DATA*/", encoded)


def _drawn(report: Report, run: Run, end_s: float) -> dict[str, Any]:
    cut = slices(run, report.scenario.patience_s, end_s)
    limit = report.scenario.tokens_limit
    return {
        "due": cut.due,
        "in_time": cut.in_time,
        "lost": list(accumulate(cut.failed)),
        "refusals": cut.refusals,
        "open_calls": [round(value, 2) for value in cut.open_calls],
        "tokens_share": [round(value / limit, 4) for value in cut.tokens_used],
        "calls": [
            [round(call.due_s, 2), round(call.wait_s, 2), int(call.result is Result.ANSWERED)] for call in run.calls
        ],
    }
