"""The figures of a run with `guarantee=`, as its result shows them and the registry keeps them; and its promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pllm_notebook.formatting import counted, format_usd

__all__ = ["GuaranteeFigures", "GuaranteeState"]

GuaranteeState = Literal["unfinished", "proved", "unproved", "too_few"]


@dataclass(frozen=True, slots=True)
class GuaranteeFigures:
    """What was promised of a run's rows, and what it took.

    Attributes:
        state: "proved" once a threshold is certified; "unproved" where the sample certifies none, "too_few" where the
            table is so small that no sample could; "unfinished" where the run ended before its sample was complete.
        share: The guarantee, 0 to 1.
        confidence_level: 0 to 1.
        low_cost: The models that answer first.
        strong: The model that answers the rest.
        source: Of the confidence: "logprobs" or "samples".
        fields: That the promise is about.
        outside: Fields that it is not about.
        labels: By field, the name of the labels that it is against.
        rows: Rows that were asked about.
        allowed: How many of them may be bad.
        sampled: Rows of the sample, compared with the strong answers, or with labels that say that they are right.
        bad: Of these, how many would be bad if they kept their low-cost answer at the threshold.
        threshold: The least confidence with which a low-cost answer is kept, None for none.
        kept: Rows that keep their low-cost answer.
        escalated: Rows with the strong model's answer.
        cost_usd: US dollars of all answers behind the rows, when they were paid for; None for unknown.
        alone_usd: About what the strong model alone costs for all rows; None for unknown.
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
        """About what was saved in US dollars, less than 0 where it cost more; None for unknown."""
        return None if self.cost_usd is None or self.alone_usd is None else self.alone_usd - self.cost_usd

    @property
    def promise(self) -> str:
        """What is promised, or why nothing is, in a sentence."""
        if self.state == "unfinished":
            return (
                f"Nothing is promised yet: the run ended before the sample that {self.strong} answers was complete. "
                f"Run it again to go on; what is answered is not paid for again."
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
        """Return what a person is shown."""
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
            word = f"saves {format_usd(saved)}" if saved >= 0 else f"costs {format_usd(-saved)} more"
            made.append(
                f"Cost: {format_usd(self.cost_usd)} in place of about {format_usd(self.alone_usd)} for {self.strong} "
                f"alone, which {word}."
            )
        return made

    def written(self) -> dict[str, Any]:
        """Return it as the registry keeps it."""
        return asdict(self)

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> GuaranteeFigures:
        """Return it from what `written` returned, by whichever version."""
        known = {each.name: kept[each.name] for each in fields(cls) if each.name in kept}
        return cls(**known | {name: tuple(known[name]) for name in ("fields", "outside")})

    @staticmethod
    def _percent(share: float) -> str:
        return f"{100 * share:.4g} %"


_SOURCES = {"logprobs": "token probabilities", "samples": "share of its samples"}


def _either(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
