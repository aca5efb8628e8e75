"""`df.llm.improve`: propose prompts from errors, choose by other rows, and measure the gain on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pllm_notebook.exceptions import BudgetError, PllmError, UsageError
from pllm_notebook.execution import Steps, options_for
from pllm_notebook.formatting import counted, format_usd
from pllm_notebook.frames.accessor import asked_columns
from pllm_notebook.frames.example_pool import row_texts
from pllm_notebook.frames.libraries import accessor_of
from pllm_notebook.frames.near_duplicates import ROLES, roles_of
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import frame_side
from pllm_notebook.lab.comparisons_made import note_comparison
from pllm_notebook.lab.improvement import Improvement
from pllm_notebook.lab.labelled_change import LabelledChange, labelled_change
from pllm_notebook.lab.labelled_questions import LabelledQuestions, field_columns, labelled_questions
from pllm_notebook.lab.prompt_search import SearchResult, search_prompts
from pllm_notebook.lab.prompt_trials import PromptTrials, TaskQuestion
from pllm_notebook.lab.recheck_run import asked_again
from pllm_notebook.lab.shared_runs import Asked, SharedRuns, answers_in
from pllm_notebook.options import is_number

__all__ = ["improve_table"]

Numbers = np.ndarray[Any, np.dtype[Any]]

_LEAST = 15
"""Minimum number of distinct rows for each role."""

_ALPHA = 0.01
"""Strict, because several searches may use the same held-out rows, and a wrongly accepted prompt is used everywhere."""

_FIXED = ("prompt", "response_format", "samples", "models", "explode", "wait", "mode", "errors", "cache")


def improve_table(
    table: Table,
    response_format: Any,
    against: Any,
    field: str | None,
    proposer: str | None,
    proposals: int,
    seed: int,
    options: Mapping[str, Any],
) -> Steps[Improvement]:
    """Search for a better prompt by labelled rows of a table (see `df.llm.improve`)."""
    if not is_number(proposals, whole=True) or proposals < 1:
        raise UsageError(f"proposals is a whole number, at least 1, not {proposals!r}. Nothing was sent.")
    if fixed := [name for name in _FIXED if name in options]:
        raise UsageError(f"improve asks what the run asked, and {fixed[0]}= is not given. Nothing was sent.")
    side = frame_side(table)
    kind, prompt, own = asked_again(side, response_format, "improve", options)
    given = {name: value for name, value in own.items() if name != "max_cost_usd"} | dict(options)
    if prompt is None:
        given["columns"] = list(side.source.asked)
    columns = field_columns(kind, given)
    made = [column.name for column in side.source.made]
    questions = labelled_questions(table, columns, against, field, lambda: [side.source.asked], made)
    column = columns[questions.field].name
    task = TaskQuestion(kind, prompt, given, column, "system" if prompt is None else "prompt")
    roles = _roles(questions, side.examples)
    resolved = options_for({**given})
    runs = SharedRuns(resolved.max_cost_usd, bool(resolved.progress), "improve")
    trials = PromptTrials(task, questions, runs)
    kept = _reserve(trials, task.text, roles["test"], resolved.max_cost_usd)
    runs.budget.ceiling_usd = None if resolved.max_cost_usd is None else resolved.max_cost_usd - kept
    proposing = _Proposing(runs, trials, table, {"model": resolved.model if proposer is None else proposer})
    try:
        found = yield from search_prompts(trials, task.text, roles, proposing.reply, proposals=proposals, seed=seed)
    finally:
        if proposing.error is not None:  # gepa continues after an error until it needs answers
            raise proposing.error from None
    runs.budget.ceiling_usd = resolved.max_cost_usd
    left_out = ""
    if proposing.failures:
        if len(proposing.failures) == found.proposed and not trials.is_over:
            runs.close()
            raise PllmError(
                f"The proposing model made no proposal, so nothing was compared: {proposing.failures[-1]} The same "
                f"call asks it again; the answers to the rows are kept."
            )
        left_out = f"{counted(len(proposing.failures), 'proposal')} failed: {proposing.failures[-1]}"
    if trials.is_over:
        left_out = (
            f"{left_out} max_cost_usd={resolved.max_cost_usd:g} ended the search after {found.proposed} of {proposals} "
            f"proposals; the same call with a higher ceiling continues from there."
        ).strip()
    at = _best(found)
    test = None
    if at:
        test = yield from _tested(trials, task.text, found.texts[at], roles["test"])
    runs.close()
    return Improvement(
        task=task,
        candidate=found.texts[at],
        test=test,
        validation=(found.scores[0], found.scores[at]),
        rows=(len(roles["examples"]), len(roles["validation"]), len(roles["test"])),
        proposed=found.proposed - len(proposing.failures),
        cost_usd=runs.cost_usd,
        left_out=left_out,
        simulated=runs.simulated,
    )


def _roles(questions: LabelledQuestions, shown: Numbers) -> dict[str, list[int]]:
    """Return the lines of each role. Near-duplicates share a role, so that no held-out row resembles a training row.

    Args:
        questions: The labelled rows.
        shown: Whether each row of the table, or a near-duplicate, is shown to the model as an example. Such rows have
            no role.
    """
    texts = row_texts(questions.table.column_data(questions.asked), questions.row.tolist())
    roles: dict[str, list[int]] = {role: [] for role in ROLES}
    for line, role in enumerate(roles_of(texts)):
        if not shown[questions.row[line]]:
            roles[role].append(line)
    counts = {role: len(lines) for role, lines in roles.items()}
    if min(counts.values()) < _LEAST:
        raise UsageError(
            f"improve needs at least {_LEAST} distinct labelled rows each to propose from, to choose by and to test "
            f"on, and has {', '.join(map(str, counts.values()))} (40, 30 and 30 %, near-duplicates together). Label "
            f"more rows. Nothing was sent."
        )
    return roles


def _reserve(trials: PromptTrials, text: str, lines: Sequence[int], ceiling: float | None) -> float:
    """Return the part of the ceiling that testing a new text of up to twice the length will need.

    Raises:
        UsageError: If the price is unknown, or the ceiling is too low. Nothing was sent.
    """
    if ceiling is None:
        return 0.0
    old, new = trials.cost_usd(text, lines), trials.cost_usd(f"{text}\n{text}", lines)
    if old is None or new is None:
        raise UsageError(
            f"max_cost_usd={ceiling:g} cannot be enforced: the price of the model is unknown. Remove the ceiling. "
            f"Nothing was sent."
        )
    if old + new > ceiling / 2:
        raise UsageError(
            f"Testing one prompt on {len(lines)} held-out rows takes about {format_usd(old + new)}, more than half of "
            f"max_cost_usd={ceiling:g}. Raise it. Nothing was sent."
        )
    return old + new


class _Proposing:
    """Ask the model that proposes prompts.

    Args:
        runs: The budget and the display.
        trials: Its `is_over` is set when the budget is exhausted.
        table: A table of the library to build frames with.
        model: The proposing model's option.

    Attributes:
        failures: The reason for each missing reply.
        error: The error that refused or ended the last call. None for none.

    Raises:
        UsageError: If there is no such model. Nothing was sent.
    """

    def __init__(self, runs: SharedRuns, trials: PromptTrials, table: Table, model: Mapping[str, Any]) -> None:
        self.failures: list[str] = []
        self.error: Exception | None = None
        self._runs, self._trials, self._table = runs, trials, table
        self._options = {**model, "column": "proposal"}
        asked_columns(accessor_of(self._frame("")), None, "{request}", self._options)

    def reply(self, request: str) -> Steps[str]:
        """Return the proposal, or "" for none."""
        try:
            (run,) = yield from self._runs.ask([Asked(self._frame(request), None, "{request}", self._options)])
            if not isinstance(run.execution.error, BudgetError | None):
                raise run.execution.error
        except Exception as error:
            self.error, self._trials.is_over = error, True
            raise
        status, failure = run.table.status(0), run.table.failure(0)
        self._trials.is_over = self._trials.is_over or status == "not_sent"
        if status in ("ok", "cached"):
            return str(answers_in(run, "proposal")[0])
        if failure is not None:
            self.failures.append(f"{failure.kind}: {failure.message}")
        return ""

    def _frame(self, request: str) -> Any:
        return self._table.frame_library.columns_frame({"request": [request]})


def _best(found: SearchResult) -> int:
    """Return the index of the best text on the validation rows, or 0, the old one, if none is better."""
    return max(range(len(found.texts)), key=lambda at: (found.scores[at], -at))


def _tested(trials: PromptTrials, old: str, new: str, lines: Sequence[int]) -> Steps[LabelledChange | None]:
    """Test which of two texts is right more often on the held-out lines. None if the budget did not suffice."""
    questions = trials.questions
    (before, after), runs = yield from trials.ask_all([old, new], lines)
    sent = [at for at in range(len(lines)) if before[at].is_sent and after[at].is_sent]
    rows = [(at, truth) for at in sent for truth in questions.truths[lines[at]]]
    if not rows:
        return None
    sides = []
    for answers in (before, after):
        answered = np.array([not answers[at].failure for at, _ in rows], dtype=bool)
        sides.append(([answers[at].value for at, _ in rows], answered))
    test, _ = labelled_change(
        (questions.field, questions.named),
        [truth for _, truth in rows],
        sides[0],
        sides[1],
        np.array([int(questions.question[lines[at]]) for at, _ in rows]),
        _ALPHA,
    )
    note_comparison("improve", runs, field=questions.field, labels=len(rows), p=test.p)
    return test
