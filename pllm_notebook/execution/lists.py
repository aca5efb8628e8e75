"""Runs over prompts that differ in more than their text: each prompt has its own spec, and all form one run."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from pllm_notebook.engine import Engine
from pllm_notebook.execution.budget import RunBudget
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.estimate import Estimate
from pllm_notebook.execution.execute import Execution
from pllm_notebook.execution.launch import estimate_rows, start
from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.execution.row_observer import RowObserver
from pllm_notebook.execution.row_source import Rows, WholePrompts
from pllm_notebook.execution.services import RunServices
from pllm_notebook.messages_types import Prompt

__all__ = ["MixedPrompts", "Part", "PromptList", "estimate_list", "parts_of", "start_list"]


class Part(NamedTuple):
    """The prompts of one spec.

    Attributes:
        spec: The spec.
        rows: Positions of the prompts in the list, in order.
        prompts: The prompts, one per position.
    """

    spec: CallSpec
    rows: Sequence[int]
    prompts: Sequence[Prompt]


def parts_of(asked: Iterable[tuple[Hashable, Prompt]], make: Callable[[Hashable], CallSpec]) -> list[Part]:
    """Group prompts by spec.

    Args:
        asked: For each prompt of the list: the value that determines its spec, and the prompt.
        make: Builds the spec for such a value; called once per value.
    """
    rows: dict[Hashable, list[int]] = {}
    prompts: dict[Hashable, list[Prompt]] = {}
    for row, (how, prompt) in enumerate(asked):
        rows.setdefault(how, []).append(row)
        prompts.setdefault(how, []).append(prompt)
    return [Part(make(how), rows[how], prompts[how]) for how in rows]


def start_list(
    parts: Sequence[Part],
    rows: Rows,
    on_row: Callable[[int], None] | None = None,
    *,
    cache_dir: str | None = None,
    run_budget: RunBudget | None = None,
    on_engine: Engine | None = None,
    refresh_since: float | None = None,
) -> LiveRun:
    """Start a run over a list in the background, and return its handle at once.

    If a key or model is rejected, only the prompts of its spec fail.

    Args:
        parts: The parts, at least one; together they have each row of the list once. Mode, cache, budget, errors and
            progress are those of the first part's options and apply to all parts.
        rows: The list and the form of its answers.
        on_row: Called on the engine's loop with each row that has ended, once its answer is stored.
        cache_dir: The cache directory, None for the configured one.
        run_budget: A budget shared with other runs; None for a separate one, from the options.
        on_engine: The engine it runs on, None for this process's engine.
        refresh_since: See `RunServices`.

    Raises:
        UsageError: See `start`.
        StoreError: If the cache cannot be opened. Nothing was sent.
    """
    specs = [part.spec for part in parts]

    def make(services: RunServices) -> Execution:
        services.refresh_since = refresh_since
        observer = None if on_row is None else partial(RowObserver, on_row=on_row)
        return Execution(specs, MixedPrompts(parts, rows.total), services, observer=observer, isolates=True)

    return start(
        specs[0],
        rows,
        further=specs[1:],
        make=make,
        cache_dir=cache_dir,
        run_budget=run_budget,
        on_engine=on_engine,
    )


class MixedPrompts(WholePrompts):
    """The prompts of a list, each with its spec (see `MixedRows`)."""

    def __init__(self, parts: Sequence[Part], total: int) -> None:
        self.total = total
        self.spec_of_row = array("I", bytes(4 * total))
        self._parts = parts
        # The position of each row in its part; None if there is one part, whose prompts may be read in slices.
        self._place: array[int] | None = None
        if len(parts) > 1:
            self._place = array("q", bytes(8 * total))
            for spec, part in enumerate(parts):
                for place, row in enumerate(part.rows):
                    self.spec_of_row[row] = spec
                    self._place[row] = place

    def prompts(self, rows: range) -> Sequence[Prompt]:
        """Return the prompts of some rows."""
        if self._place is None:
            return self._parts[0].prompts[rows.start : rows.stop]
        return [self._parts[self.spec_of_row[row]].prompts[self._place[row]] for row in rows]


class PromptList(WholePrompts):
    """Prompts of one spec (see `RowSource`)."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._prompts = prompts
        self.total = len(prompts)

    def prompts(self, rows: range) -> Sequence[Prompt]:
        """Return the prompts of some rows."""
        return self._prompts[rows.start : rows.stop]


def estimate_list(parts: Sequence[Part], *, cache_dir: str | None = None) -> Estimate:
    """Estimate a run over a list. Sends nothing.

    Args:
        parts: As for `start_list`.
        cache_dir: The cache directory, None for the configured one.
    """
    made = [estimate_rows(part.spec, PromptList(part.prompts), cache_dir=cache_dir) for part in parts]
    whole = Estimate.together(made)
    # A sum of estimates is about one set of rows; here each part has its own rows.
    return replace(
        whole,
        rows=sum(each.rows for each in made),
        skipped=sum(each.skipped for each in made),
        duplicates=sum(each.duplicates for each in made),
    )
