"""A soak drawn: a line of blocks for the terminal, a page with one curve a figure for the browser."""

from __future__ import annotations

import html
from collections.abc import Sequence

from bench.soak.growth import Growth, Sample, after_warm_up

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT = 720, 90
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 760px; margin: 2em auto; padding: 0 1em }
body { color: #222; background: #fff }
h2 { font-size: 1em; margin: 1.6em 0 .2em } p { margin: .2em 0 }
svg { width: 100%; height: auto; background: #f6f7f8 } .grows { color: #b3261e } .steady { color: #1b6e3a }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #16181a } svg { background: #202427 } }
"""


def sparkline(values: Sequence[float], width: int = 48) -> str:
    """Return values as a row of blocks, the lowest and the highest filling the range; empty of none."""
    if not values:
        return ""
    size = -(-len(values) // width)
    means = [sum(part) / len(part) for part in (values[at : at + size] for at in range(0, len(values), size))]
    least, most = min(means), max(means)
    span = (most - least) or 1.0
    return "".join(_BLOCKS[round((value - least) / span * (len(_BLOCKS) - 1))] for value in means)


def described(found: Growth) -> str:
    """Return one figure's verdict in words."""
    unit = f" {found.unit}" if found.unit else ""
    verdict = "grows" if found.grows else "steady"
    return f"{verdict}: {found.first:.4g} → {found.last:.4g}{unit}, {found.per_minute:+.3f}{unit} a minute"


def page(title: str, samples: Sequence[Sample], found: Sequence[Growth], remarks: Sequence[str]) -> str:
    """Return a self-contained page of a soak."""
    verdicts = {one.figure: one for one in found}
    parts = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(remark)}</p>" for remark in remarks)]
    begin_s = after_warm_up(samples)[0].at_s if samples else 0.0
    for figure in samples[0].figures() if samples else ():
        parts.append(f"<h2>{html.escape(figure.replace('_', ' '))}</h2>")
        if figure in verdicts:
            one = verdicts[figure]
            parts.append(f'<p class="{"grows" if one.grows else "steady"}">{html.escape(described(one))}</p>')
        parts.append(_curve([(sample.at_s, sample.figures()[figure]) for sample in samples], begin_s))
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _curve(points: Sequence[tuple[float, float]], begin_s: float) -> str:
    """Return a curve over the time, with its extremes written beside it; what lies left of the line is warm-up."""
    least, most = min(value for _, value in points), max(value for _, value in points)
    end_s, span = points[-1][0] or 1.0, (most - least) or 1.0

    def place(at_s: float, value: float) -> str:
        return f"{at_s / end_s * _WIDTH:.1f},{_HEIGHT - 8 - (value - least) / span * (_HEIGHT - 16):.1f}"

    line = " ".join(place(*point) for point in points)
    x = begin_s / end_s * _WIDTH
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="from {least:.4g} to {most:.4g}">'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}" stroke="#999" stroke-dasharray="4 4"/>'
        f'<polyline points="{line}" fill="none" stroke="#2a6fb0" stroke-width="1.5"/>'
        f'<text x="4" y="14" font-size="12" fill="#888">{most:.4g}</text>'
        f'<text x="4" y="{_HEIGHT - 4}" font-size="12" fill="#888">{least:.4g}</text></svg>'
    )
