"""A list of prompts as the rows of a run; the result is a list of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pllm_notebook.callers import Caller
from pllm_notebook.engine import Engine
from pllm_notebook.execution import (
    LiveRun,
    Outcome,
    RowRecord,
    RunBudget,
    WholePrompts,
    confirm,
    estimate_list,
    record_of_prompts,
    start_list,
)
from pllm_notebook.messages_types import Prompt
from pllm_notebook.prompt_lists.build import PreparedPrompts
from pllm_notebook.prompt_lists.llm_output import LLMOutput
from pllm_notebook.prompt_lists.prompt_context import LLMPromptContext
from pllm_notebook.prompt_lists.read_output import output_for, output_without_call
from pllm_notebook.protocols import Store
from pllm_notebook.stored_reply import StoredReply

__all__ = ["PromptRows"]

# Number of replies read at once: a thousand bodies are a few megabytes.
_CHUNK = 1_000


class PromptRows(WholePrompts):
    """The valid prompts of a list as rows; the result has one output per prompt of the whole list.

    Args:
        contexts: The list.
        prepared: The same list, grouped by spec.
        store: The store of the replies, None for none.

    Attributes:
        parts: The valid prompts by spec.
    """

    unit = "prompt"
    asked: tuple[str, ...] = ()
    assembled = 0

    def __init__(self, contexts: Sequence[LLMPromptContext], prepared: PreparedPrompts, store: Store | None) -> None:
        self.label = f"{len(contexts):,} prompts"
        self.total = len(prepared.places)
        self.parts = prepared.parts
        self._contexts = contexts
        self._prepared = prepared
        self._store = store

    def start(self, *, engine: Engine | None = None, run_budget: RunBudget | None = None) -> LiveRun | None:
        """Start a run over them; return None if the list has no valid prompt.

        Args:
            engine: The engine to run on. None for this process's engine.
            run_budget: The budget. None for a new budget of `max_cost_usd`.

        Raises:
            NotConfirmedError: If batch jobs must be confirmed and were not. Nothing was sent.
        """
        if not self.parts:
            return None
        options = self.parts[0].spec.options
        if options.mode == "batch" and options.confirm:
            confirm(estimate_list(self.parts))
        return start_list(self.parts, self, run_budget=run_budget, on_engine=engine)

    def result(self, run: LiveRun | None, called_by: Caller) -> list[LLMOutput]:
        """Return the outputs of a run that has ended, or raise the error that ended it.

        Args:
            run: The run, None if the list has no valid prompt.
            called_by: The line that warnings name.
        """
        if run is None:
            return self.assemble(None)
        if run.execution.error is not None or run.state == "cancelled":
            run.result()  # raises
        if run.execution.unsaved:
            called_by.warn(f"{run.execution.unsaved:,} answers could not be saved to the cache: keep this result.")
        for line in run.execution.warnings:
            called_by.warn(line)
        run.note_rows()
        return self.assemble(run)

    def prompts(self, rows: range) -> Sequence[Prompt]:
        """Return the prompts of some rows."""
        return self._prepared.prompts[rows.start : rows.stop]

    def assemble(self, run: LiveRun | None) -> list[LLMOutput]:
        """Return the outputs in the list's order; *run* is None if the list has no valid prompt."""
        outputs = [
            output_without_call(context, self._prepared.failures.get(at)) for at, context in enumerate(self._contexts)
        ]
        if run is None:
            return outputs
        results, spec_of = run.table, run.execution.spec_of
        for start in range(0, self.total, _CHUNK):
            rows = range(start, min(start + _CHUNK, self.total))
            outcomes = [results.outcome(row) for row in rows]
            kept = self._kept([outcome for outcome in outcomes if outcome is not None])
            for row, outcome in zip(rows, outcomes, strict=True):
                place = self._prepared.places[row]
                context = self._contexts[place]
                if outcome is None:
                    outputs[place] = output_without_call(context, results.failure(row))
                    continue
                last = outcome.entry or kept.get(outcome.last or outcome.key)
                outputs[place] = output_for(
                    context, spec_of(row), outcome, last, self._prepared.prompts[row], self._prepared.prefills[row]
                )
        return outputs

    def described(self, run: LiveRun) -> dict[str, Any]:
        """Return the run's entry in the registry: each prompt has its own spec, and answers are read as text."""
        return {
            "prompt": None,
            "template": None,
            "schema": None,
            "source": None,
            "answers": "values",
            "explode": False,
            "made": [{"name": "answer", "kind": "text", "categories": []}],
            "fields": ["answer"],
            "shaping": {},
            "dialect": None,
            "takes_empty": run.spec.takes_empty,
            "field_names": [],
            "ensemble": None,
        }

    def record(self, run: LiveRun) -> RowRecord:
        """Return the registry's record of each valid prompt."""
        return record_of_prompts(run.table, self._prepared.prompts, packed=False)

    def errors(self, run: LiveRun) -> list[dict[str, Any]]:
        """Return one record per failed prompt: its place in the list, its id and the error."""
        return [
            {"position": at, "source_id": output.source_id, "error": output.error, "cost_usd": output.cost}
            for at, output in enumerate(self.assemble(run))
            if output.error is not None
        ]

    def _kept(self, outcomes: Sequence[Outcome]) -> dict[str, StoredReply]:
        """Read the last replies of some prompts that are in the store."""
        keys = [outcome.last or outcome.key for outcome in outcomes if outcome.entry is None and outcome.metas]
        return {} if self._store is None or not keys else self._store.get_many(keys)
