"""Where a run's rows come from, and the shape that their answers take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import orjson

from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Prompt

__all__ = [
    "ContextFailed",
    "Contexts",
    "ContextualRows",
    "DerivedRows",
    "EvaluableRows",
    "EvidenceOfRows",
    "JoinableRows",
    "JudgedRows",
    "MixedRows",
    "NamedCells",
    "QuotedRows",
    "RowSource",
    "Rows",
    "WholePrompts",
]


class RowSource(Protocol):
    """Where prompts come from."""

    @property
    def total(self) -> int:
        """Number of rows."""

    @property
    def source(self) -> str:
        """The template that all rows share, as written; "" where there is none. Only packs read it."""

    def prompts(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the prompts of some rows; None for one to skip, a failure for one that cannot be sent."""

    def items(self, rows: range) -> Sequence[bytes]:
        """Return what a pack holds for each row that can be sent, as JSON: its columns, or its whole prompt."""


@runtime_checkable
class MixedRows(Protocol):
    """Rows that have several specs.

    Attributes:
        spec_of_row: What each row is asked, by index among the run's specs.
    """

    spec_of_row: Sequence[int]


class ContextFailed(Exception):
    """The caller's function made no context of a row. Never reaches a person; it becomes the row's failure."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


class Contexts(Protocol):
    """What validators are given of each row. Used in worker threads."""

    def of(self, row: int) -> Any:
        """Return the context of a row.

        Raises:
            ContextFailed: Where there is none.
        """

    def ids(self, rows: Sequence[int]) -> Sequence[str | Failure]:
        """Return what tells contexts of rows apart, "" where all have the same; a failure where there is none."""


@runtime_checkable
class ContextualRows(Protocol):
    """Rows whose answers are validated in a context of their own.

    Attributes:
        contexts: None where there is none.
    """

    contexts: Contexts | None


class EvidenceOfRows(Protocol):
    """What verifies the quotes of answers, and remembers which answers were asked for once more. From any thread."""

    def unverified(self, row: int, quotes: Mapping[str, str | None]) -> Sequence[str]:
        """Return the names of the quotes that are not in a row, those that are None included."""

    def asked_again(self, key: str, before: str, fields: Sequence[str]) -> None:
        """Note that a second answer took the place of the first in some fields.

        Args:
            key: Of the row's own call.
            before: Of the first answer's reply.
            fields: Names in JSON, "answer" for a type without fields.
        """


@runtime_checkable
class QuotedRows(Protocol):
    """Rows whose answers quote them.

    Attributes:
        evidence: None where no row is asked once more for its evidence.
    """

    evidence: EvidenceOfRows | None


@runtime_checkable
class NamedCells(Protocol):
    """Rows that have columns.

    Attributes:
        asked: Names of the columns that go into the prompts.
    """

    asked: Sequence[str]

    def cells(self, row: int) -> Sequence[Any]:
        """Return the values of a row in these columns."""


@runtime_checkable
class JudgedRows(Protocol):
    """Rows that a decision endpoint can judge: what is asked is apart from what is judged.

    Attributes:
        task: What the prompt asks, in its own words, without the rows' values; "" for nothing.
    """

    task: str

    def inputs(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the rows' values alone, as `RowSource.prompts` returns whole prompts."""


class DerivedRows(ABC):
    """Rows of a run derived from those of the user (see `RowSource`)."""

    label = ""

    @abstractmethod
    def position_of(self, row: int) -> int | None:
        """Return the position of a row among the user's, None for none."""


class WholePrompts(ABC):
    """Prompts that share no template: what a pack would hold of a row is its whole prompt."""

    source = ""

    @abstractmethod
    def prompts(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the prompts of some rows (see `RowSource`)."""

    def items(self, rows: range) -> Sequence[bytes]:
        """Return what a pack holds for each row that can be sent."""
        return [orjson.dumps(prompt) for prompt in self.prompts(rows) if isinstance(prompt, str)]


class Rows(RowSource, Protocol):
    """Rows of the caller's own, and the shape that their answers take.

    A *run* is the `Run` of these rows. `Run` is above this module, so that it is not named in the signatures.
    """

    @property
    def label(self) -> str:
        """A few words for the display."""

    def assemble(self, run: Any) -> Any:
        """Return the answers in the caller's own shape, with nothing where there is no answer yet."""

    def errors(self, run: Any) -> Any:
        """Return the failures as a table."""


@runtime_checkable
class EvaluableRows(Protocol):
    """Rows that can have labels beside them."""

    def evaluate(self, run: Any, against: Any, field: str | None) -> Any:
        """Compare a field of the answers with labels."""


@runtime_checkable
class JoinableRows(Protocol):
    """Rows whose answers can be put beside other rows of the same content."""

    def assemble_beside(self, run: Any, df: Any) -> Any:
        """Return the rows of *df* and the answers to those that were asked, with nothing where there is none."""

    def check_type(self, run: Any, response_format: Any) -> None:
        """Check that a type makes the columns that the answers have."""
