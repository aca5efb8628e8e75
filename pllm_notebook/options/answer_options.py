"""Options for several rows or answers together: packing, samples, models, decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pllm_notebook.options.option_fields import is_number, one_of, option
from pllm_notebook.options.option_values import LAB, PARSE, ROWS, is_models, is_stop

__all__ = ["AnswerOptions"]

_DECIDE = ("vote", "judge", "escalate")
_PROBABILITIES = ("decisions", "logprobs", "samples")


def _is_probabilities(value: Any) -> bool:
    return isinstance(value, bool) or value in _PROBABILITIES


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 < value < 1


@dataclass(frozen=True)
class AnswerOptions:
    """The number of answers for each row, their models, and how one answer is chosen."""

    pack: int | None = option(
        None,
        "Rows per call: `10` sends ten rows in one call and stores each answer separately. None or 1: one row per "
        "call.",
        more="[Benefits and risks](packing.md).",
        at_least=1,
        takes=ROWS,
        keyed=True,
    )
    samples: int = option(
        1,
        "Number of [answers to each row](ensembles.md) from each model. The first is the plain call; each is stored "
        "separately.",
        at_least=1,
        takes=ROWS - {"improve", "recheck"},
    )
    models: tuple[str, ...] | None = option(
        None,
        'Several models: `["openai:…", "anthropic:…"]`, each of which answers `samples` times. None: only `model`.',
        accepts="Sequence[str] | None",
        expects=("a list of models", is_models),
        takes=ROWS - LAB,
    )
    decide: Any = option(
        None,
        'How one of several answers is chosen: `"vote"` (each field\'s majority), `"judge"` (a model decides if '
        'they differ), `"escalate"` (a stronger model answers if they differ), `Vote(…)`, or a function that takes '
        'the answers and returns one. None: `"judge"` if `judge` is given, otherwise `"vote"`.',
        accepts='Literal["vote", "judge", "escalate"] | Voting | Callable[..., Any] | None',
        choices=_DECIDE,
        # A function or `Vote` is checked where it is used.
        expects=(one_of(_DECIDE), lambda value: not isinstance(value, str) or value in _DECIDE),
        takes=ROWS,
    )
    judge: str | None = option(
        None, "Model of the judge, or the stronger model. None: the model that answers.", takes=ROWS | {"decide"}
    )
    agreement_column: str | None = option(
        None,
        "Name of a column for the share of samples that agree, 0 to 1. None: no such column.",
        takes=ROWS,
    )
    probabilities: bool | str | None = option(
        None,
        'Source of a [probability for each option](confidence.md) of fields whose values are known: `"logprobs"`, the '
        'model\'s own token probabilities; `"decisions"`, a [decision endpoint](decisions.md), which answers these '
        'fields; `"samples"`, the share of `samples=k` answers. `True` means `"logprobs"`. None: no probabilities.',
        more="`.llm.probabilities`, `.llm.confidence` and `.llm.doubtful` show them.",
        accepts='bool | Literal["decisions", "logprobs", "samples"] | None',
        choices=_PROBABILITIES,
        expects=('True, False, "decisions", "logprobs" or "samples"', _is_probabilities),
        takes=PARSE,
    )
    decision_model: str | None = option(
        None,
        'Model of the decision endpoint for `probabilities="decisions"`, as `"provider:name"`. None: that of the '
        "provider or server of `model`.",
        takes=PARSE,
    )
    confidence_column: str | None = option(
        None,
        "Name of a column for the probability of the row's least certain value, 0 to 1. None: no such column.",
        takes=PARSE,
    )
    calibration: tuple[str, ...] | None = option(
        None,
        "Names of [calibrations](confidence.md#calibration), which correct the confidence of their fields. Each must "
        "come from the same question and model. None: the confidence as stated.",
        accepts="str | Sequence[str] | None",
        expects=("a name, or a list of names", is_stop),
        takes=PARSE,
    )
    evidence: bool | str = option(
        False,
        "Ask for a quote from the row for each field, and [verify](evidence.md) that the row contains it word for "
        'word. `"retry"` asks once more for the fields whose quote it does not contain.',
        more="`.llm.evidence` has the quotes and their positions. A question with evidence has separate answers.",
        accepts='bool | Literal["retry"]',
        choices=("retry",),
        expects=('True, False or "retry"', lambda value: isinstance(value, bool) or value == "retry"),
        takes=PARSE,
    )
    guarantee: float | None = option(
        None,
        'With `decide="escalate"`, the share of rows, above 0 and below 1, whose answers must '
        "[not suffer](guarantee.md) from a low-cost model. None: no guarantee.",
        expects=("a number above 0 and below 1", _is_share),
        takes=PARSE - LAB,
    )
    confidence_level: float = option(
        0.95,
        "With `guarantee`, the probability that the promise holds, above 0 and below 1.",
        expects=("a number above 0 and below 1", _is_share),
        takes=PARSE - LAB,
    )
    against: Any = option(
        None,
        "With `guarantee`, known labels of a field: a column's name, a Series, or a mapping from fields to these. The "
        "promise is then about lost accuracy. Labels are not sent. None: the promise is about agreement with `judge`.",
        expects=("the name of a column, a Series, or a mapping from fields to these", lambda value: True),
        variable=False,
        takes=PARSE - LAB,
    )
