"""The interface for deciding rows that have several calls each, which an ensemble adds to the loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.types import Spent

__all__ = ["Decider"]


class Decider(ABC):
    """Observe every call of a run, decide its rows, and add calls for rows that need one more.

    A row of the run is one call of one sample. A row of the user's data is a row of `table`. Used on the
    engine's loop unless noted.

    Attributes:
        table: The decided outcomes.
        woken: Set when there is something to decide.
        raises: Whether the first failed row ends the run.
        first_failure: The first failed row since the last retry, with its failure; None for none.
        members: Number of specs that are sent for every row. Later specs are sent only if their answers differ.
    """

    def __init__(self, total: int, members: int, *, raises: bool) -> None:
        self.table = ResultTable(total)
        self.woken = asyncio.Event()
        self.members = members
        self.raises = raises
        self.first_failure: tuple[int, Failure] | None = None

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Whether any row waits for a decision or for another call."""

    @abstractmethod
    def planned(self, rows: Sequence[int]) -> None:
        """Record planned rows of the run (see `ResultObserver`)."""

    @abstractmethod
    def recorded(self, call: int, outcome: Outcome) -> None:
        """Record the outcome of a call (see `ResultObserver`)."""

    def reply_of(self, row: int) -> tuple[CallSpec, str] | None:
        """Return the spec and key of the reply that is a row's answer; None if it is not a single reply."""
        return None

    @abstractmethod
    def take_ready(self) -> Sequence[Any]:
        """Return the rows that can be decided now, for `decide`."""

    @abstractmethod
    def decide(self, ready: Sequence[Any]) -> Sequence[Any]:
        """Decide the rows in a worker, since types and functions are user code."""

    @abstractmethod
    def record(self, ready: Sequence[Any], decided: Sequence[Any]) -> None:
        """Record the decisions."""

    @abstractmethod
    def add_rows(self, *, idle: bool) -> bool:
        """Add the rows that need another call to the run; return whether there are any.

        Args:
            idle: Whether no other call of the run is open.
        """

    @abstractmethod
    def reopen(self, kinds: set[FailureKind] | None) -> Iterable[int]:
        """Forget the rows of a retry; return the calls that it sends."""

    @abstractmethod
    def release(self) -> None:
        """Drop references to this decider: Python collects cycles late."""

    @abstractmethod
    def news(self, note: str, further_spent: Spent | None, cost_usd: float | None, *, ended: bool) -> str:
        """Return the display's status note.

        Args:
            note: What delays calls, "" for nothing.
            further_spent: Amount spent on rows whose members differ; None if no further calls are made for them.
            cost_usd: Cost of all calls in US dollars, None if unknown.
            ended: Whether the run has ended.
        """

    @abstractmethod
    def warnings(self) -> Sequence[str]:
        """Return the warnings to show at the end."""

    def noted(self) -> Mapping[str, Any]:
        """Return the registry's record of the decisions as a whole, in addition to each row's."""
        return {}
