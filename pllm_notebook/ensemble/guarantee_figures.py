"""The promise of a run with `guarantee=` and its figures, as the result shows them and the registry keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pllm_notebook.formatting import counted, format_usd

__all__ = ["GuaranteeFigures", "GuaranteeState"]

GuaranteeState = Literal["unfinished", "proved", "unproved", "too_few"]


@dataclass(frozen=True, slots=True)
class GuaranteeFigures:
    """The promise made for a run's rows, and its cost.

    Attributes:
        state: "proved" if a threshold is certified, "unproved" if the sample certifies none, "too_few" if the table is
            too small for any sample to certify one, "unfinished" if the run ended before its sample was complete.
        share: The guarantee, 0 to 1.
        confidence_level: The confidence level, 0 to 1.
        low_cost: The models that answer first, comma-separated.
        strong: The model that answers the rest.
        source: Source of the confidence: "logprobs" or "samples".
        fields: The fields that the promise covers.
        outside: The fields that it does not cover.
        labels: For each field with labels, their name.
        rows: Number of rows asked about.
        allowed: How many of them may be bad.
        sampled: Number of sampled rows, each compared with the strong answer or confirmed right by labels.
        bad: How many of the sampled rows would be bad if they kept their low-cost answer at the threshold.
        threshold: The lowest confidence at which a low-cost answer is kept. None without a certified threshold.
        kept: Number of rows that keep their low-cost answer.
        escalated: Number of rows with the strong model's answer.
        cost_usd: US dollars of all answers behind the rows, at the time they were paid for. None if unknown.
        alone_usd: Approximate US dollars of the strong model alone for all rows. None if unknown.
    """

    state: GuaranteeState
    share: float
    confidence_level: float
    low_cost: str
    strong: str
    source: str
    fields: tuple[str, ...]
    outside: tuple[str, ...]
    labels: Mapping[str, str]
    rows: int
    allowed: int
    sampled: int = 0
    bad: int = 0
    threshold: float | None = None
    kept: int = 0
    escalated: int = 0
    cost_usd: float | None = None
    alone_usd: float | None = None

    @property
    def saving_usd(self) -> float | None:
        """Approximate saving in US dollars, negative if the cascade cost more. None if unknown."""
        return None if self.cost_usd is None or self.alone_usd is None else self.alone_usd - self.cost_usd

    @property
    def promise(self) -> str:
        """The promise in one sentence, or the reason why nothing is promised."""
        if self.state == "unfinished":
            return (
                f"Nothing is promised yet: the run ended before the sample that {self.strong} answers was complete. "
                f"Run it again to continue; rows that have an answer are not paid for again."
            )
        if self.state == "too_few":
            verb = "is" if self.rows == 1 else "are"
            return f"{self._rows} {verb} too few to prove anything by a sample, so {self.strong} answers all of them."
        if self.state == "unproved":
            return (
                f"{self.low_cost} is bad too often to promise {self._percent(1 - self.share)}: of {self.sampled:,} "
                f"rows drawn at random, none of its answers could be kept, so {self.strong} answers all rows."
            )
        what = f"at most {self._percent(1 - self.share)} of the {self._rows} ({self.allowed:,})"
        sure = f"With {self._percent(self.confidence_level)} confidence"
        return f"{sure}, {what} keep an answer of {self.low_cost} that {self._is_bad}."

    @property
    def _rows(self) -> str:
        return counted(self.rows, "row")

    @property
    def _is_bad(self) -> str:
        differing = [f"`{name}`" for name in self.fields if name not in self.labels]
        lost = [f"`{name}` (by {label!r})" for name, label in self.labels.items()]
        differs = f"differs from {self.strong}'s in {_either(differing)}" if differing else ""
        wrong = f"is wrong where {self.strong}'s is right in {_either(lost)}" if lost else ""
        return " or ".join(part for part in (wrong, differs) if part)

    def lines(self) -> list[str]:
        """Return the lines that are displayed."""
        made = [self.promise]
        if self.outside:
            made.append(f"Nothing is promised of {_either([f'`{name}`' for name in self.outside])}.")
        if self.threshold is not None:
            made.append(
                f"Threshold: {self.threshold:.3g} confidence ({_SOURCES[self.source]}); {self.bad:,} of "
                f"{self.sampled:,} sampled rows would be bad at it."
            )
        if self.sampled and self.threshold is None:
            made.append(f"Sample: {self.sampled:,} rows.")
        made.append(f"Rows: {self.kept:,} by {self.low_cost}, {self.escalated:,} by {self.strong}.")
        if self.cost_usd is not None and self.alone_usd is not None:
            saved = self.saving_usd or 0.0
            word = f"{format_usd(abs(saved))} {'less' if saved >= 0 else 'more'}"
            made.append(
                f"Cost: {format_usd(self.cost_usd)}, about {word} than {self.strong} alone "
                f"({format_usd(self.alone_usd)})."
            )
        return made

    def written(self) -> dict[str, Any]:
        """Return the figures as the registry stores them."""
        return asdict(self)

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> GuaranteeFigures:
        """Build the figures from the value of `written` of any version."""
        known = {each.name: kept[each.name] for each in fields(cls) if each.name in kept}
        return cls(**known | {name: tuple(known[name]) for name in ("fields", "outside")})

    @staticmethod
    def _percent(share: float) -> str:
        return f"{100 * share:.4g} %"


_SOURCES = {"logprobs": "token probabilities", "samples": "share of its samples"}


def _either(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
