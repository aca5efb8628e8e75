"""What a run asks of that which conducts it, be it one model's calls or several answers to each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.outcomes import Ledger, Outcome
from pllm_notebook.execution.plan import Chunk
from pllm_notebook.execution.progress import RunProgress
from pllm_notebook.execution.stop import State
from pllm_notebook.records import FailureKind, Spent

__all__ = ["Course", "Listener", "State"]


class Course(Protocol):
    """The course of one run. Used on the engine's loop; what is read here may be read from any thread.

    Attributes:
        broken: Whether a fault of ours ended it: what is still on its way can then not be counted on.
        model: Who is asked, as a person writes it.
        simulated: Whether the answers are invented.
    """

    broken: bool
    model: str
    simulated: bool

    @property
    def ledger(self) -> Ledger:
        """The outcomes."""

    @property
    def throughput(self) -> RunProgress:
        """Counts of rows."""

    @property
    def state(self) -> State:
        """Running until it has ended."""

    @property
    def error(self) -> BaseException | None:
        """What ended it, for the caller to raise; None for nothing."""

    @property
    def in_flight(self) -> int:
        """Calls on the wire."""

    @property
    def kept(self) -> int:
        """Rows that have an answer."""

    @property
    def unsaved(self) -> int:
        """Rows whose paid answer the cache could not keep."""

    @property
    def note(self) -> str:
        """One line of news for the display, "" for none."""

    @property
    def warnings(self) -> Sequence[str]:
        """What a person should hear of at the end, besides rows that failed or were not saved."""

    @property
    def spent(self) -> Spent:
        """What calls of this run have used and cost."""

    @property
    def reserved_usd(self) -> float:
        """US dollars put by for requests that are out, under a ceiling."""

    @property
    def submitted(self) -> bool:
        """Whether everything that it asks is on its way: of a batch, with the provider."""

    def ask_of(self, row: int) -> CallSpec:
        """Return the question that a row was asked."""

    def begin(self) -> None:
        """Start planning; calls leave as soon as the first chunk is planned."""

    def stop(self, state: State, error: BaseException | Callable[..., PllmError] | None) -> None:
        """Admit nothing more and cancel what is on the wire, once; the first reason stands."""

    def fail(self, error: Exception) -> None:
        """End at once by a fault of ours."""

    def look(self) -> None:
        """Bring `note` up to date. For the display's clock."""

    def again(self, kinds: set[FailureKind] | None) -> None:
        """Send what failed once more (see `Run.retry`)."""

    def retryable(self, kinds: set[FailureKind] | None) -> list[int]:
        """Return the calls that `again` would take up."""


class Listener(Protocol):
    """Who else hears of what happens to a course's calls, on the engine's loop."""

    def planned(self, ledger: Ledger, chunk: Chunk) -> None:
        """Note rows that have been planned; their weights are counted already."""

    def recorded(self, call: int, outcome: Outcome) -> None:
        """Note how a call ended."""
