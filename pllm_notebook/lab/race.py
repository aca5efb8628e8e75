"""The result of `df.llm.race`: the arms with accuracy, price and time, and the conclusions about the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pllm_notebook.callers import caller
from pllm_notebook.exceptions import UsageError
from pllm_notebook.formatting import counted, escape_html, format_duration, format_usd_or, strip_control_chars
from pllm_notebook.frames.dtypes import CellType
from pllm_notebook.lab.labelled_questions import LabelledQuestions
from pllm_notebook.lab.race_arms import Arm
from pllm_notebook.lab.race_picture import RacePoint, plot_race, svg_race
from pllm_notebook.options import is_number
from pllm_notebook.report_tables import html_table, text_table
from pllm_notebook.statistics import RaceRule, RaceStanding, new_axes

__all__ = ["Race", "RacedArm"]

_HEAD = ("arm", "accuracy", "95 % interval", "rows", "failed", "alone, the full run costs", "takes", "")


@dataclass(frozen=True, slots=True)
class RacedArm:
    """One arm and its results.

    Attributes:
        arm: The combination of prompt, model and options.
        accuracy: Share of the labelled rows asked so far that it got right, 0 to 1. NaN for none.
        low: Lower end of the 95 % interval of this arm alone (Wilson, over distinct rows). It assumes that the rows are
            a sample of those that you care about, and does not correct for choosing the best of several.
        high: Upper end.
        questions: Number of distinct rows that it was asked about.
        failed: Labelled rows without an answer, which count as wrong.
        failures: Counts of these by kind.
        cost_usd: US dollars of a full run of this arm alone: one call for each row of the frame that is distinct in
            the columns that it sends, at the mean price of its calls so far. Calls shared with other arms count in
            full. None if unknown.
        time_s: Seconds of that run at the limits and latency seen so far. None if unknown.
        left: When the arm was dropped. "" if it stayed to the end.
        refused: Why the provider refused its calls. "" if it did not.
    """

    arm: Arm
    accuracy: float
    low: float
    high: float
    questions: int
    failed: int
    failures: Mapping[str, int]
    cost_usd: float | None
    time_s: float | None
    left: str
    refused: str


@dataclass(repr=False)
class Race:
    """Arms compared on labelled rows.

    Attributes:
        arms: The arms, in the order given.
        leader: Index of the most accurate arm among those that stayed to the end.
        standing: The proven differences between pairs of arms.
        questions: The labelled rows.
        rule: "halving" or "proof".
        examples: Labelled rows left out for all arms because one was shown them, or near-duplicates, as examples.
        cost_usd: US dollars paid by this call. None for an unknown price. A call that several arms share is paid for
            and counted once; cached answers add nothing.
        left_out: The work that the ceiling did not cover. "" for none.
        simulated: Whether an arm's answers are simulated.
    """

    arms: Sequence[RacedArm]
    leader: int
    standing: RaceStanding
    questions: LabelledQuestions
    rule: RaceRule
    examples: int
    cost_usd: float | None
    left_out: str
    simulated: bool = False

    def __repr__(self) -> str:
        return strip_control_chars("\n".join([*self._lines(), "", text_table([_HEAD, *self._rows()])]))

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape_html(line)}</p>" for line in self._lines())
        return strip_control_chars(f"{said}{html_table(_HEAD, self._rows())}{svg_race(self._points('cost'), 'cost')}")

    @property
    def gap(self) -> float:
        """Upper bound (95 %) of how much more accurate than the leader another arm may be, as a share.

        It holds for all rounds and arms together (Bonferroni), if distinct rows are independent and a sample of those
        that you care about. Arms that the provider refused are left out. 1.0 if an arm was not compared.
        """
        return self.standing.gap(self.leader, self._asked())

    @cached_property
    def table(self) -> Any:
        """A line for each arm, the most accurate of the last round first.

        Columns: arm, prompt, model, effort, accuracy, low, high, rows (distinct rows that it was asked about), failed
        (labelled rows without an answer, which count as wrong), cost_usd and time_s of a full run of this arm alone,
        pareto (whether no other arm is both cheaper and as accurate), place ("leader", "to the end", or when the arm
        was dropped).
        """
        front = {point.name for point in self._points("cost") if point.on_front}
        types = {
            **dict.fromkeys(("arm", "prompt", "model", "effort"), CellType.TEXT),
            **dict.fromkeys(("accuracy", "low", "high"), CellType.REAL),
            **dict.fromkeys(("rows", "failed"), CellType.COUNT),
            **dict.fromkeys(("cost_usd", "time_s"), CellType.REAL),
            "pareto": CellType.BOOLEAN,
            "place": CellType.TEXT,
        }
        lines = [
            {
                "arm": one.arm.name,
                "prompt": one.arm.prompt_name or None,
                "model": _text(one.arm.options.get("model")),
                "effort": _text(one.arm.options.get("effort")),
                "accuracy": None if one.accuracy != one.accuracy else one.accuracy,
                "low": None if one.low != one.low else one.low,
                "high": None if one.high != one.high else one.high,
                "rows": one.questions,
                "failed": one.failed,
                "cost_usd": one.cost_usd,
                "time_s": one.time_s,
                "pareto": one.arm.name in front,
                "place": self._place(at),
            }
            for at, one in self._ranked()
        ]
        return self.questions.table.frame_library.report(types, lines)

    def best(self, within: float | None = None) -> dict[str, Any]:
        """Return the arguments of the best arm for `df.llm.parse(**race.best())`.

        Args:
            within: None for the leader. A share, such as 0.01 for one point, for the cheapest arm that is proven (95 %)
                to be at most this much less accurate than every arm that is not itself proven worse than another. If
                no arm is proven so, the leader is returned, with a warning.

        Raises:
            UsageError: If *within* is not a share from 0 to 1.
        """
        if within is None:
            return self.arms[self.leader].arm.arguments
        if not is_number(within) or not 0 <= within <= 1:
            raise UsageError(f"within is a share from 0 to 1, such as 0.01 for one point, not {within!r}.")
        proven = self.standing.proven_within(within, self._asked())
        if not proven:
            caller().warn(
                f"No arm is proven to be within {100 * within:g} points of every other: these are the options of the "
                f"most accurate one, {self.arms[self.leader].arm.name!r}. Another arm may be better by up to "
                f"{100 * self.gap:.1f} points (95 %); more labels narrow that."
            )
            return self.arms[self.leader].arm.arguments
        cheapest = min(proven, key=lambda at: (self._price(at), -self.arms[at].accuracy, at))
        return self.arms[cheapest].arm.arguments

    def plot(self, by: Literal["cost", "time"] = "cost", *, ax: Any = None) -> Any:
        """Plot the accuracy of each arm against the price or duration of the full run, with 95 % intervals.

        Args:
            by: "cost" or "time".
            ax: Axes to plot on (matplotlib), None for a new figure.

        Returns:
            The axes.

        Raises:
            MissingPackageError: If matplotlib is not installed.
        """
        if by not in ("cost", "time"):
            raise UsageError(f"by is 'cost' or 'time', not {by!r}.")
        return plot_race(self._points(by), by, new_axes("race's plot") if ax is None else ax)

    def _asked(self) -> list[int]:
        return [at for at, one in enumerate(self.arms) if not one.refused]

    def _price(self, at: int) -> float:
        cost = self.arms[at].cost_usd
        return float("inf") if cost is None else cost

    def _ranked(self) -> list[tuple[int, RacedArm]]:
        """Return the arms with their indexes: the leader, the rest of the last round, then the latest dropped first."""
        return sorted(
            enumerate(self.arms),
            key=lambda item: (
                item[0] != self.leader,
                bool(item[1].left),
                -item[1].questions,
                -item[1].accuracy if item[1].accuracy == item[1].accuracy else 1.0,
            ),
        )

    def _place(self, at: int) -> str:
        return "leader" if at == self.leader else self.arms[at].left or "to the end"

    def _points(self, by: Literal["cost", "time"]) -> list[RacePoint]:
        known = [
            (one, one.cost_usd if by == "cost" else one.time_s)
            for one in self.arms
            if one.accuracy == one.accuracy
        ]  # fmt: skip
        points = [(one, value) for one, value in known if value is not None]
        return [
            RacePoint(
                name=one.arm.name,
                at=value,
                accuracy=one.accuracy,
                low=one.low,
                high=one.high,
                is_leader=one is self.arms[self.leader],
                on_front=not any(
                    (cost < value and other.accuracy >= one.accuracy)
                    or (cost == value and other.accuracy > one.accuracy)
                    for other, cost in points
                ),
            )
            for one, value in points
        ]

    def _lines(self) -> list[str]:
        leader, total = self.arms[self.leader], len(self.arms)
        copies = ""
        if self.questions.labels != len(self.questions):
            copies = f", {len(self.questions):,} of them distinct (equal rows count once)"
        paid = format_usd_or(self.cost_usd, "an unknown amount")
        marked = "SIMULATED: " if self.simulated else ""
        lines = [
            (
                f"{marked}{counted(total, 'arm')} on {counted(self.questions.labels, 'labelled row')}{copies}: "
                f"{self.questions.field} against {self.questions.named}. Paid now: {paid} for all arms together."
            ),
            (
                f"Most accurate: {leader.arm.name} ({leader.accuracy:.3f}). No arm is better by more than "
                f"{100 * self.gap:.1f} points (95 %)."
            ),
            (
                f"Its own accuracy is likely to be too high: it is the best of {total:,} on these rows. Label other "
                f"rows to measure it."
            ),
        ]
        if self.left_out:
            lines.append(self.left_out)
        if self.examples:
            shown = counted(self.examples, "labelled row")
            lines.append(f"Left out since an arm was shown them as examples: {shown}.")
        if any(one.failed for one in self.arms):
            lines.append("Rows that failed count as wrong.")
        lines += [f"{one.arm.name} was refused: {one.refused}" for one in self.arms if one.refused]
        return lines

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                one.arm.name,
                "" if one.accuracy != one.accuracy else f"{one.accuracy:.3f}",
                "" if one.low != one.low else f"{one.low:.3f} to {one.high:.3f}",
                f"{one.questions:,}",
                ", ".join(f"{count:,} {kind}" for kind, count in one.failures.items()) or "0",
                format_usd_or(one.cost_usd, "unknown"),
                "unknown" if one.time_s is None else format_duration(one.time_s),
                self._place(at),
            )
            for at, one in self._ranked()
        ]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
