"""Models that err as often as they are told to, a judge of them, and what majorities of such models should come to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import comb, factorial, prod
from typing import Any

import pandas as pd

from pllm_notebook.ensemble import DECISION_MAKER_PROMPT
from pllm_notebook.sim import SimAnswer, SimRequest

__all__ = ["PROMPT", "Noisy", "by_chance", "cascade", "interval", "labelled", "plurality"]

PROMPT = "Which is it? {text}"


def labelled(rows: int, classes: Sequence[str]) -> pd.DataFrame:
    """A frame of different texts and their labels.

    Three of four have the first class, so that a judge which is shown the classes in their own order would find it.
    """
    texts = [f"Case {n:05d} of {len(classes)}" for n in range(rows)]
    labels = []
    for text in texts:
        share, other = _unit(text), _unit(text, "other")
        labels.append(classes[0] if share < 0.75 else classes[1 + int(other * (len(classes) - 1))])
    return pd.DataFrame({"text": texts, "label": labels})


@dataclass
class Noisy:
    """Answer a labelled frame's rows wrongly at a known rate, every other class alike.

    The nth answer to one prompt by one model is always the same, whatever else was asked before.

    Attributes:
        frame: As `labelled` makes it.
        classes: What can be answered.
        errors: The rate of each model, and of each judge that knows the question, by name.
        biased: Name of the judge that gives the first candidate, whatever it is.
    """

    frame: pd.DataFrame
    classes: Sequence[str]
    errors: Mapping[str, float]
    biased: str = ""
    _asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        prompts = (PROMPT.format(text=text) for text in self.frame["text"])
        self._truths = dict(zip(prompts, self.frame["label"], strict=True))

    def __call__(self, request: SimRequest) -> SimAnswer:
        if request.system == DECISION_MAKER_PROMPT:
            return self._decide(request)
        return SimAnswer.value(self._draw(request.model, request.prompt))

    def _decide(self, request: SimRequest) -> SimAnswer:
        asked = json.loads(request.prompt)
        first: str = asked["candidates"][0]["answer"]
        answer = first if request.model == self.biased else self._draw(request.model, asked["question"])
        marks = dict.fromkeys(("accuracy", "completeness", "relevance", "quality", "consistency"), 5)
        scores = [{"candidate": number, **marks} for number in range(1, len(asked["candidates"]) + 1)]
        return SimAnswer.value({"scores": scores, "answer": answer})

    def _draw(self, model: str, prompt: str) -> str:
        with self._lock:
            nth = self._asked[model, prompt]
            self._asked[model, prompt] += 1
        truth = self._truths[prompt]
        if _unit(model, prompt, nth) >= self.errors[model]:
            return truth
        others = [one for one in self.classes if one != truth]
        return others[int(_unit(model, prompt, nth, "which") * len(others))]


def plurality(n: int, error: float, classes: int) -> float:
    """The chance that the most common of *n* answers is right, where each other class is as likely as the next.

    Exact, over all ways to spread n answers over the classes; of m equally common answers each comes first as often.
    """
    total = 0.0
    for counts in _spread(n, classes):
        most = max(counts)
        if counts[0] == most:
            ways = factorial(n) // prod(map(factorial, counts))
            chance = (1 - error) ** counts[0] * (error / (classes - 1)) ** (n - counts[0])
            total += ways * chance / counts.count(most)
    return total


def cascade(n: int, error: float, strong: float, classes: int) -> tuple[float, float]:
    """The chances that *n* answers differ, and that a cascade is right whose strong model errs at *strong*."""
    right = (1 - error) ** n
    differ = 1 - right - (classes - 1) * (error / (classes - 1)) ** n
    return differ, right + differ * (1 - strong)


def by_chance(out: pd.DataFrame) -> list[float]:
    """Give the chance that one of the different answers, drawn blindly, is right, for each row where they differ."""
    chances = []
    for position, answers in out.llm.samples.groupby("position")["answer"]:
        candidates = set(answers)
        if len(candidates) > 1:
            chances.append((out["label"].iloc[position] in candidates) / len(candidates))
    return chances


def interval(chance: float, rows: int, level: float = 0.95) -> tuple[float, float]:
    """The shares of *rows* between which a binomial count lies with at least *level*, as much left out on each side."""
    tail, below, bounds = (1 - level) / 2, 0.0, []
    for count in range(rows + 1):
        below += comb(rows, count) * chance**count * (1 - chance) ** (rows - count)
        while len(bounds) < 2 and below >= (tail, 1 - tail)[len(bounds)]:
            bounds.append(count / rows)
    low, high = bounds
    return low, high


def _spread(n: int, places: int) -> Iterator[tuple[int, ...]]:
    if places == 1:
        yield (n,)
        return
    for here in range(n + 1):
        for rest in _spread(n - here, places - 1):
            yield (here, *rest)


def _unit(*of: Any) -> float:
    digest = hashlib.sha256(repr(of).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
