"""Charts as plain coordinates, which the template of the HTML page draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from parity_tests.model import ULP_BUCKETS, Comparison, ParityReport
from parity_tests.report.words import allowed, at_fault, deviation, line, number

NAME = 18  # characters of a layer's name under the chart
NAMED = 24  # with more layers, only numbers fit under the chart
MAX_DOTS = 60  # with more layers, dots would hide the lines
MAX_SAMPLES = 1_000
_ZERO = 18  # px below the lowest decade, where zero is drawn

Tick = tuple[float, str]


class Drawing(Protocol):
    """A function that draws one chart of a report, or None if there is nothing to draw."""

    def __call__(self, report: ParityReport, *, wide: bool) -> Chart | None: ...


@dataclass(frozen=True)
class Mark:
    """A dot, a cross or a bar, with the text shown on hovering."""

    x: float
    y: float
    css: str
    title: str
    width: float = 0.0
    height: float = 0.0


@dataclass
class Chart:
    """One drawing, in its own px. Text is not scaled, so that it is sharp."""

    width: int
    height: int
    left: int = 52
    right: int = 14
    top: int = 16
    bottom: int = 40
    css: str = ""
    x_label: str = ""
    y_label: str = ""
    x_ticks: list[Tick] = field(default_factory=list)
    y_ticks: list[Tick] = field(default_factory=list)
    slanted: bool = False
    lines: list[tuple[str, str]] = field(default_factory=list)  # class, path
    dots: list[Mark] = field(default_factory=list)
    crosses: list[Mark] = field(default_factory=list)
    bars: list[Mark] = field(default_factory=list)
    fault: tuple[float, str, str] | None = None  # x, text, anchor

    @property
    def inner_width(self) -> int:
        return self.width - self.left - self.right

    @property
    def floor(self) -> int:
        return self.height - self.bottom


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic axis between two ends in px; zero is drawn `_ZERO` before the first decade."""

    low: int
    high: int
    start: float
    end: float
    zero: bool

    @classmethod
    def of(cls, values: Iterable[float], start: float, end: float) -> LogAxis:
        usable = [v for v in values if math.isfinite(v) and v >= 0]
        logs = [math.log10(v) for v in usable if v > 0] or [0.0]
        low, high = math.floor(min(logs)), math.ceil(max(logs))
        return cls(low, max(high, low + 1), start, end, any(v == 0 for v in usable))

    @property
    def _first(self) -> float:
        return self.start + math.copysign(_ZERO, self.end - self.start) * self.zero

    def __call__(self, value: float) -> float:
        if value <= 0:
            return self.start
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(self._first + share * (self.end - self._first), 1)

    def ticks(self, most: int = 7) -> list[Tick]:
        step = max(1, math.ceil((self.high - self.low) / most))
        powers = range(self.low, self.high + 1, step)
        return [(self.start, "0")] * self.zero + [(self(10.0**p), f"1e{p}") for p in powers]


def depth(report: ParityReport, *, wide: bool) -> Chart | None:
    """Plot error against depth: cumulative, isolated and allowed. None without a number."""
    probes = report.probes
    rows: dict[str, list[float | None]] = {
        "cumulative": [_error(probe.cumulative) for probe in probes],
        "isolated": [_error(probe.isolated) for probe in probes],
        "allowed": [allowed(probe.cumulative) for probe in probes],
    }
    if not any(value is not None for name in rows if name != "allowed" for value in rows[name]):
        return None
    named = wide and len(probes) <= NAMED
    chart = Chart(1040, 380) if wide else Chart(350, 290)
    chart.css = "wide" if wide else "narrow"
    longest = max(len(line(probe.probe, NAME)) for probe in probes)
    chart.bottom = 30 + round(longest * 4.2) if named else 40  # 0.6 em wide, slanted by 38 degrees
    chart.top = 34
    chart.slanted = named
    chart.left = 84 if named else 52
    chart.y_label, chart.x_label = "largest |found - expected|", "" if named else "layer, in order"
    values = [value for row in rows.values() for value in row if value is not None]
    axis = LogAxis.of(values, chart.floor, chart.top + 14)
    chart.y_ticks = axis.ticks()
    step = chart.inner_width / max(1, len(probes))
    xs = [round(chart.left + step * (i + 0.5), 1) for i in range(len(probes))]
    chart.x_ticks = _layer_ticks(report, xs, named, 10 if wide else 5)
    for name, row in rows.items():
        ys = [None if value is None else axis(value) for value in row]
        chart.lines.append((name, _path(xs, ys)))
    for x, probe in zip(xs, probes, strict=True):
        for name, compared in (("isolated", probe.isolated), ("cumulative", probe.cumulative)):
            if compared is None:
                continue
            error, title = _error(compared), f"{line(probe.probe, 80)}, {name}: "
            if error is None:
                mark = Mark(x, chart.top + 6, name, title + deviation(compared))
                chart.crosses.append(mark)
            elif probe.verdict == "source" or len(probes) <= MAX_DOTS:
                css = name if compared.passed else f"{name} bad"
                chart.dots.append(Mark(x, axis(error), css, title + number(error)))
    chart.fault = _fault(report, xs, chart)
    return chart


def ulp(report: ParityReport, *, wide: bool) -> Chart | None:
    """Plot how many elements of all layers differ by how many float32 steps. None without any."""
    sums = {"cumulative": [0] * ULP_BUCKETS, "isolated": [0] * ULP_BUCKETS}
    for probe in report.probes:
        for name, compared in (("cumulative", probe.cumulative), ("isolated", probe.isolated)):
            counts = compared.measure.ulp if compared and compared.measure else ()
            for bucket, count in enumerate(counts[:ULP_BUCKETS]):
                sums[name][bucket] += max(0, count)
    largest = max(max(row) for row in sums.values())
    if not largest:
        return None
    chart = Chart(520, 290, css="wide") if wide else Chart(350, 270, css="narrow")
    chart.x_label, chart.y_label = "float32 steps apart (ULP)", "elements"
    axis = LogAxis.of([0.0, 1.0, float(largest)], chart.floor, chart.top + 14)
    chart.y_ticks = axis.ticks()
    step = chart.inner_width / ULP_BUCKETS
    for bucket in range(ULP_BUCKETS):
        x = chart.left + step * bucket
        if bucket % (2 if wide else 4) == 0:
            chart.x_ticks.append((round(x + step / 2, 1), _bucket(bucket, short=True)))
        for place, (name, row) in enumerate(sums.items()):
            if row[bucket]:
                y = axis(row[bucket])
                bar = Mark(
                    round(x + step * (0.1 + 0.4 * place), 1),
                    y,
                    name,
                    f"{name}: {row[bucket]:,} elements {_bucket(bucket)} apart",
                    round(step * 0.38, 1),
                    round(chart.floor - y, 1),
                )
                chart.bars.append(bar)
    return chart


def scatter(report: ParityReport, *, wide: bool) -> Chart | None:
    """Plot 1 - cosine against the distance of each sample's embeddings. None without any."""
    points = [
        (name, distance, max(0.0, 1 - cosine))
        for name, distance, cosine in report.embeddings
        if math.isfinite(distance) and math.isfinite(cosine) and distance >= 0
    ]
    points = sorted(points, key=lambda point: -point[1])[:MAX_SAMPLES]
    if not points:
        return None
    chart = Chart(520, 290, css="wide") if wide else Chart(350, 270, css="narrow")
    chart.x_label, chart.y_label = "L2 distance", "1 - cosine"
    chart.left = 60
    across = LogAxis.of((p[1] for p in points), chart.left + 10, chart.width - chart.right - 10)
    up = LogAxis.of((p[2] for p in points), chart.floor - 6, chart.top + 14)
    chart.x_ticks, chart.y_ticks = across.ticks(5 if wide else 4), up.ticks()
    for name, distance, angle in points:
        title = f"{line(name, 80)}: L2 distance {number(distance)}, 1 - cosine {number(angle)}"
        chart.dots.append(Mark(across(distance), up(angle), "cumulative", title))
    return chart


def _error(compared: Comparison | None) -> float | None:
    measured = compared.measure.max_abs if compared and compared.measure else math.nan
    return measured if math.isfinite(measured) and measured >= 0 else None


def _bucket(bucket: int, *, short: bool = False) -> str:
    low = 2 ** (bucket - 1) if bucket else 0
    if short:
        return str(low) if bucket <= 7 else f"2^{bucket - 1}"
    if bucket == ULP_BUCKETS - 1:
        return f"{low:,} ULP and more"
    return f"{low:,} ULP" if bucket <= 1 else f"{low:,} to {2 * low - 1:,} ULP"


def _layer_ticks(report: ParityReport, xs: list[float], named: bool, most: int) -> list[Tick]:
    names = [probe.probe for probe in report.probes]
    if named:
        return [(x, line(name, NAME)) for x, name in zip(xs, names, strict=True)]
    step = max(1, math.ceil(len(xs) / most))
    return [(x, str(i + 1)) for i, x in enumerate(xs) if i % step == 0]


def _fault(report: ParityReport, xs: list[float], chart: Chart) -> tuple[float, str, str] | None:
    first = next(iter(at_fault(report)), None)
    if first is None:
        return None
    x = xs[report.probes.index(first)]
    anchor = "start" if x < chart.left + chart.inner_width / 2 else "end"
    return x, line(first.probe, 40 if chart.css == "wide" else 20), anchor


def _path(xs: Sequence[float], ys: Sequence[float | None]) -> str:
    """Return SVG path commands, broken where there is no value."""
    parts, pen = [], "M"
    for x, y in zip(xs, ys, strict=True):
        if y is None:
            pen = "M"
        else:
            parts.append(f"{pen}{x:g} {y:g}")
            pen = "L"
    return "".join(parts)
