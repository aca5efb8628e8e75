"""Plots of a race: accuracy against the price or duration of the full run, as SVG and with matplotlib."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pllm_notebook.formatting import format_duration, format_usd, strip_control_chars

__all__ = ["RacePoint", "plot_race", "svg_race"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 320, 48, 16, 12, 40
_LABEL = 34
"""Maximum number of characters of an arm's name in the picture."""

_LETTER, _LINE = 6, 12
"""Width of a letter and height of a line of text."""

_TITLES = {"cost": "US dollars of the full run", "time": "seconds of the full run"}


@dataclass(frozen=True, slots=True)
class RacePoint:
    """One arm in the picture.

    Attributes:
        name: Name of the arm.
        at: Price or duration of the full run.
        accuracy: Share of right answers.
        low: Lower end of its 95 % interval.
        high: Upper end.
        is_leader: Whether it is the most accurate arm of the last round.
        on_front: Whether no other arm is both cheaper and as accurate (Pareto front).
    """

    name: str
    at: float
    accuracy: float
    low: float
    high: float
    is_leader: bool
    on_front: bool


def plot_race(points: Sequence[RacePoint], by: Literal["cost", "time"], ax: Any) -> Any:
    """Draw the points on matplotlib's axes, and return them."""
    for point in points:
        color = "tab:orange" if point.is_leader else "tab:blue" if point.on_front else "lightgray"
        ends = [[100 * (point.accuracy - point.low)], [100 * (point.high - point.accuracy)]]
        ax.errorbar([point.at], [100 * point.accuracy], yerr=ends, fmt="o", color=color, ecolor="gray", capsize=3)
        ax.annotate(point.name, (point.at, 100 * point.accuracy), xytext=(5, 5), textcoords="offset points", fontsize=8)
    front = sorted((point.at, 100 * point.accuracy) for point in points if point.on_front)
    ax.plot([at for at, _ in front], [accuracy for _, accuracy in front], color="tab:blue", linewidth=0.8, zorder=0)
    if points and all(point.at > 0 for point in points):
        ax.set_xscale("log")
    ax.set(xlabel=_TITLES[by], ylabel="accuracy (%)")
    return ax


def svg_race(points: Sequence[RacePoint], by: Literal["cost", "time"]) -> str:
    """Return the picture as SVG, "" for fewer than two points. Names are escaped."""
    if len(points) < 2:
        return ""
    is_log = all(point.at > 0 for point in points)
    places = [math.log10(point.at) if is_log else point.at for point in points]
    left, right = min(places), max(places)
    low, high = min(point.low for point in points), max(point.high for point in points)

    def across(place: float) -> float:
        share = 0.5 if right == left else (place - left) / (right - left)
        return _LEFT + 20 + share * (_WIDTH - _LEFT - _RIGHT - 40)

    def up(accuracy: float) -> float:
        share = 0.5 if high == low else (accuracy - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for value in (low, (low + high) / 2, high):
        y = f"{up(value):.1f}"
        parts.append(
            f"<line x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{y}' y2='{y}' stroke='currentColor' stroke-opacity='.15'/>"
        )
        parts.append(_text(_LEFT - 6, up(value) + 4, f"{100 * value:.0f} %", "end"))
    write = format_usd if by == "cost" else format_duration
    ends = {left: min(point.at for point in points), right: max(point.at for point in points)}
    parts += [_text(across(place), _HEIGHT - _BOTTOM + 16, write(at), "middle") for place, at in ends.items()]
    parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 6, _TITLES[by], "middle"))
    front = sorted((place, point.accuracy) for place, point in zip(places, points, strict=True) if point.on_front)
    line = " ".join(f"{across(place):.1f},{up(accuracy):.1f}" for place, accuracy in front)
    parts.append(f"<polyline points='{line}' fill='none' stroke='#1f77b4'/>")
    labels: list[tuple[float, float]] = []
    for place, point in zip(places, points, strict=True):
        x, color = across(place), "#e67700" if point.is_leader else "#1f77b4" if point.on_front else "#999"
        parts.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{up(point.low):.1f}' y2='{up(point.high):.1f}' "
                     f"stroke='{color}' stroke-opacity='.5'/><circle cx='{x:.1f}' cy='{up(point.accuracy):.1f}' r='4' "
                     f"fill='{color}'/>")  # fmt: skip
        name = point.name if len(point.name) <= _LABEL else f"{point.name[: _LABEL - 1]}…"
        is_right = x > _WIDTH / 2
        start, height = x - (7 + _LETTER * len(name) if is_right else -7), up(point.accuracy) - 6
        while any(abs(height - other) < _LINE and abs(start - begin) < _LETTER * _LABEL for begin, other in labels):
            height += _LINE
        labels.append((start, height))
        parts.append(_text(x + (-7 if is_right else 7), height, name, "end" if is_right else "start"))
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' height='{_HEIGHT}' role='img' "
        f"aria-label='Accuracy of each arm against the {_TITLES[by]}'>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    # A page may render text between dollar signs as mathematics, whose elements are not SVG and break the picture.
    shown = html.escape(strip_control_chars(text)).replace("$", "<tspan>$</tspan>")
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='11' fill='currentColor' text-anchor='{anchor}'>{shown}</text>"
