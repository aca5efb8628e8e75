"""Proposals for a better prompt, by gepa (Agrawal et al., "GEPA: reflective prompt evolution", 2025).

gepa chooses which text to change next and which texts to keep. Every call goes through this package: cached, limited
and within the ceiling. gepa sees the contents of training rows only, and scores on the validation rows.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pllm_notebook.exceptions import MissingPackageError
from pllm_notebook.execution import Steps
from pllm_notebook.lab.called_back import Ask, called_back
from pllm_notebook.lab.prompt_trials import PromptTrials, TrialAnswer

__all__ = ["SearchResult", "search_prompts"]

logger = logging.getLogger("pllm_notebook")

_PART = "prompt"
# Number of rows whose answers each proposal is made from.
_ROWS = 10
# If a text answers all rows of a draw correctly, no proposal is made: the maximum number of draws for each proposal.
_DRAWS = 4

_TEMPLATE = """The text below is sent to a model for every row of a table. {places}The model answers in a fixed form.

```
<curr_param>
```

These are rows, what the model answered, and whether that is right:

<side_info>

Write a better text. Find out from the wrong answers what the text leaves open or gets wrong, and state the general \
rule; keep what works. Do not list the rows above. Keep {kept} exactly as it is written, braces and all. Write the \
whole new text between ``` and ```, and nothing else there."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The texts that were tried.

    Attributes:
        texts: The original text, followed by those that did better on the rows that they were made from.
        scores: Share of the validation rows that each text gets right.
        proposed: Number of proposals made, including rejected ones.
    """

    texts: Sequence[str]
    scores: Sequence[float]
    proposed: int


def search_prompts(
    trials: PromptTrials,
    text: str,
    roles: Mapping[str, Sequence[int]],
    propose: Callable[[str], Steps[str]],
    *,
    proposals: int,
    seed: int,
) -> Steps[SearchResult]:
    """Search for a better text.

    Args:
        trials: Answers and scores.
        text: The original text.
        roles: The lines that proposals are made from ("examples") and chosen by ("validation").
        propose: Sends a request to the proposing model, waits, and returns its reply, or "" for none.
        proposals: Maximum number of proposals.
        seed: Seed for drawing rows.

    Raises:
        MissingPackageError: If gepa is not installed.
        ProviderRejectedError: If a provider refuses the calls.
    """
    try:
        gepa: Any = importlib.import_module("gepa")
        batch: Any = importlib.import_module("gepa.core.adapter").EvaluationBatch
    except ImportError:
        raise MissingPackageError("df.llm.improve", "gepa", "improve") from None
    proposed = 0

    def is_over(state: Any) -> bool:
        return trials.is_over or proposed >= proposals or state.i + 1 >= _DRAWS * proposals

    columns = [f"{{{name}}}" for name in trials.questions.asked if f"{{{name}}}" in text]
    places = f"{_listed(columns)} {'is' if len(columns) == 1 else 'are'} replaced by the row's own. " if columns else ""
    template = _TEMPLATE.format(places=places, kept=_listed(columns) if columns else "what is in braces")

    def optimize(ask: Ask) -> Any:
        def reflect(request: Any) -> str:
            nonlocal proposed
            proposed += 1
            return str(ask(propose(str(request))))

        return gepa.optimize(
            seed_candidate={_PART: text},
            trainset=list(roles["examples"]),
            valset=list(roles["validation"]),  # without it, gepa validates on the training rows
            adapter=_Adapter(trials, batch, ask),
            reflection_lm=reflect,  # a name instead would load litellm
            reflection_prompt_template=template,
            reflection_minibatch_size=min(_ROWS, len(roles["examples"])),
            stop_callbacks=[is_over],
            logger=_Quiet(),
            seed=seed,
            raise_on_exception=True,
            track_best_outputs=False,
        )

    result = yield from called_back(optimize)
    texts = [candidate[_PART] for candidate in result.candidates]
    return SearchResult(texts, list(result.val_aggregate_scores), proposed)


class _Adapter:
    """Answer gepa's requests: scores of a text, and records of its errors."""

    propose_new_texts = None

    def __init__(self, trials: PromptTrials, batch: Any, ask: Ask) -> None:
        self._trials, self._batch, self._ask = trials, batch, ask

    def evaluate(self, batch: list[int], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        if self._trials.is_over:  # gepa checks for the end only between its steps
            answers = [TrialAnswer(None, is_sent=False)] * len(batch)
        else:
            answers = self._ask(self._trials.ask(candidate[_PART], batch))
        scores = [self._trials.score(line, answer) for line, answer in zip(batch, answers, strict=True)]
        traces = list(zip(batch, answers, strict=True)) if capture_traces else None
        return self._batch(outputs=list(answers), scores=scores, trajectories=traces)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> dict[str, list[dict[str, Any]]]:
        return {part: [self._record(*trace) for trace in eval_batch.trajectories] for part in components_to_update}

    def _record(self, line: int, answer: TrialAnswer) -> dict[str, Any]:
        right = self._trials.score(line, answer) >= 0.5
        truth = max(self._trials.questions.truths[line], key=self._trials.questions.truths[line].count)
        said = answer.failure or f"{self._trials.questions.field} = {answer.value!r}"
        feedback = "Right." if right else f"Wrong: right is {self._trials.questions.field} = {truth!r}."
        return {"Row": self._trials.cells(line), "Answer": said, "Feedback": feedback}


class _Quiet:
    """Discard gepa's log, which would be printed."""

    def log(self, message: str) -> None:
        logger.debug("gepa: %s", message)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
