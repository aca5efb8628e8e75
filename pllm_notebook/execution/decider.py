"""Deciding rows from several calls each: what an ensemble adds to the loop."""

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
    """See every call of a run, decide its rows, and ask further where that takes one more call.

    A row of the run is one call of one sample; what a person asked and is answered is a row of `table`. Used on the
    engine's loop, except where noted.

    Attributes:
        table: The decided outcomes.
        woken: Set when there is something to decide.
        raises: Whether the first failed row ends the run.
        first_failure: The first row that failed, and why, since the last retry; None for none.
        members: Specs that every row is asked; what comes after them is asked where they differ.
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
        """Whether any row is to be decided, or to be asked further."""

    @abstractmethod
    def planned(self, rows: Sequence[int]) -> None:
        """Note rows of the run that have been planned (see `ResultObserver`)."""

    @abstractmethod
    def recorded(self, call: int, outcome: Outcome) -> None:
        """Note how a call ended (see `ResultObserver`)."""

    def reply_of(self, row: int) -> tuple[CallSpec, str] | None:
        """Return the spec and the key of the reply that is a row's answer, None where it is no single one."""
        return None

    @abstractmethod
    def take_ready(self) -> Sequence[Any]:
        """Return the rows that can be decided now, for `decide`."""

    @abstractmethod
    def decide(self, ready: Sequence[Any]) -> Sequence[Any]:
        """Decide in a worker: types and functions are the user's code."""

    @abstractmethod
    def record(self, ready: Sequence[Any], decided: Sequence[Any]) -> None:
        """Record what was decided."""

    @abstractmethod
    def add_rows(self, *, idle: bool) -> bool:
        """Add the rows that are to be asked further to the run; True where there are any.

        Args:
            idle: Whether no other call of the run is under way.
        """

    @abstractmethod
    def reopen(self, kinds: set[FailureKind] | None) -> Iterable[int]:
        """Forget the rows that a retry takes up; return the calls that it sends."""

    @abstractmethod
    def release(self) -> None:
        """Drop references to this decider: Python collects cycles late."""

    @abstractmethod
    def news(self, note: str, further_spent: Spent | None, cost_usd: float | None, *, ended: bool) -> str:
        """Return the display's line of news.

        Args:
            note: What holds calls back, "" for nothing.
            further_spent: What was spent where the members differ; None where nothing more is asked then.
            cost_usd: US dollars that all calls cost, None for unknown.
            ended: Whether the run has ended.
        """

    @abstractmethod
    def warnings(self) -> Sequence[str]:
        """Return the warnings to show at the end."""

    def noted(self) -> Mapping[str, Any]:
        """Return what the registry keeps of the decisions as a whole, beside each row's."""
        return {}
