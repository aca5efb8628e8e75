"""A list of prompts as the rows of a run; the result is a list of outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pllm_notebook.execution import Outcome, ResultTable, Run, WholePrompts, confirm, estimate_list, start_list
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.row_record import RowRecord, record_of_prompts
from pllm_notebook.messages_types import Prompt
from pllm_notebook.prompt_lists.build import PreparedPrompts
from pllm_notebook.prompt_lists.llm_output import LLMOutput
from pllm_notebook.prompt_lists.prompt_context import LLMPromptContext
from pllm_notebook.prompt_lists.read_output import output_for, output_without_call
from pllm_notebook.protocols import Store
from pllm_notebook.stored_reply import StoredReply

__all__ = ["PromptRows"]

# Whole replies that are read at once: a few thousand bodies are a few megabytes.
_CHUNK = 1_000


class PromptRows(WholePrompts):
    """The prompts of a list that can be asked (see `run.Rows`); the result is an output for each of the list.

    Args:
        contexts: The list.
        asked: The list, made ready.
        store: Where the replies are kept, None for nowhere.

    Attributes:
        parts: What of it can be asked.
        store: As given.
    """

    asked: tuple[str, ...] = ()
    assembled = 0

    def __init__(self, contexts: Sequence[LLMPromptContext], asked: PreparedPrompts, store: Store | None) -> None:
        self.label = f"{len(contexts):,} prompts"
        self.total = len(asked.places)
        self._contexts = contexts
        self._asked = asked
        self.parts = asked.parts
        self.store = store

    def start(self) -> Run | None:
        """Start a run over them, None where nothing of the list can be asked.

        Raises:
            NotConfirmedError: When the list would go as batch jobs and nobody said yes to that. Nothing was sent.
        """
        if not self.parts:
            return None
        options = self.parts[0].ask.options
        if options.mode == "batch" and options.confirm:
            confirm(estimate_list(self.parts))
        return start_list(self.parts, self)

    def prompts(self, rows: range) -> Sequence[Prompt]:
        """Return the prompts of some rows."""
        return self._asked.prompts[rows.start : rows.stop]

    def assemble(self, run: Run | None) -> list[LLMOutput]:
        """Return the outputs in the list's order; *run* None where nothing could be asked."""
        return self.outputs(None, None) if run is None else self.outputs(run.ledger, run.course.ask_of)

    def outputs(self, ledger: ResultTable | None, ask_of: Callable[[int], CallSpec] | None) -> list[LLMOutput]:
        """Return the outputs in the list's order, by how its prompts ended; None where nothing could be asked."""
        outputs = [
            output_without_call(context, self._asked.failures.get(at)) for at, context in enumerate(self._contexts)
        ]
        if ledger is None or ask_of is None:
            return outputs
        for start in range(0, self.total, _CHUNK):
            rows = range(start, min(start + _CHUNK, self.total))
            outcomes = [ledger.outcome(row) for row in rows]
            kept = self._kept([outcome for outcome in outcomes if outcome is not None])
            for row, outcome in zip(rows, outcomes, strict=True):
                place = self._asked.places[row]
                context = self._contexts[place]
                if outcome is None:
                    outputs[place] = output_without_call(context, ledger.failure(row))
                    continue
                last = outcome.entry or kept.get(outcome.last or outcome.key)
                outputs[place] = output_for(
                    context, ask_of(row), outcome, last, self._asked.prompts[row], self._asked.prefills[row]
                )
        return outputs

    def described(self, run: Run) -> dict[str, Any]:
        """Return what the registry says of the question: each prompt has its own, and the answers are read as text."""
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
            "takes_empty": run.ask.takes_empty,
            "field_names": [],
            "ensemble": None,
        }

    def record(self, run: Run) -> RowRecord:
        """Return what is to be remembered of each prompt that could be asked."""
        return record_of_prompts(run.ledger, self._asked.prompts, packed=False)

    def errors(self, run: Run) -> list[dict[str, Any]]:
        """Return one record per failed prompt: its place in the list, its id and what went wrong."""
        return [
            {"position": at, "source_id": output.source_id, "error": output.error, "cost_usd": output.cost}
            for at, output in enumerate(self.assemble(run))
            if output.error is not None
        ]

    def _kept(self, outcomes: Sequence[Outcome]) -> dict[str, StoredReply]:
        """Read the last replies of some prompts, as far as the store has them."""
        keys = [outcome.last or outcome.key for outcome in outcomes if outcome.entry is None and outcome.metas]
        return {} if self.store is None or not keys else self.store.get_many(keys)
