"""Protocols of a run's rows: where prompts come from, and the shape that the answers take."""

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
    """A source of prompts."""

    @property
    def total(self) -> int:
        """Number of rows."""

    @property
    def source(self) -> str:
        """The template that all rows share, as written; "" for none. Only packs read it."""

    def prompts(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the prompts of some rows; None for a row to skip, a failure for a row that cannot be sent."""

    def items(self, rows: range) -> Sequence[bytes]:
        """Return what a pack contains for each row that can be sent, as JSON: its columns, or its whole prompt."""


@runtime_checkable
class MixedRows(Protocol):
    """Rows that have several specs.

    Attributes:
        spec_of_row: The index of each row's spec among the run's specs.
    """

    spec_of_row: Sequence[int]


class ContextFailed(Exception):
    """The caller's function could not make a row's context. Never reaches the user; it becomes the row's failure."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


class Contexts(Protocol):
    """The validation context of each row. Used in worker threads."""

    def of(self, row: int) -> Any:
        """Return the context of a row.

        Raises:
            ContextFailed: If the caller's function could not make it.
        """

    def ids(self, rows: Sequence[int]) -> Sequence[str | Failure]:
        """Return what identifies each row's context, "" if all are the same; a failure if there is no context."""


@runtime_checkable
class ContextualRows(Protocol):
    """Rows whose answers may each be validated in a context of their own.

    Attributes:
        contexts: The contexts, None for none.
    """

    contexts: Contexts | None


class EvidenceOfRows(Protocol):
    """Verifies the quotes in answers, and records which answers were requested once more. From any thread."""

    def unverified(self, row: int, quotes: Mapping[str, str | None]) -> Sequence[str]:
        """Return the names of the quotes that do not occur in a row, including those that are None."""

    def asked_again(self, key: str, before: str, fields: Sequence[str]) -> None:
        """Note that a second answer replaced the first one in some fields.

        Args:
            key: Key of the row's own call.
            before: Key of the first answer's reply.
            fields: JSON names of the fields, "answer" for a type without fields.
        """


@runtime_checkable
class QuotedRows(Protocol):
    """Rows whose answers quote them.

    Attributes:
        evidence: Verifies the quotes; None if no row is asked once more for its evidence.
    """

    evidence: EvidenceOfRows | None


@runtime_checkable
class NamedCells(Protocol):
    """Rows that have columns.

    Attributes:
        asked: Names of the columns used in the prompts.
    """

    asked: Sequence[str]

    def cells(self, row: int) -> Sequence[Any]:
        """Return the values of a row in these columns."""


@runtime_checkable
class JudgedRows(Protocol):
    """Rows that a decision endpoint can judge: the question is separate from the text to judge.

    Attributes:
        task: The prompt's question without the rows' values; "" for none.
    """

    task: str

    def inputs(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return only the rows' values, in the form in which `RowSource.prompts` returns whole prompts."""


class DerivedRows(ABC):
    """Rows of a run derived from the user's rows (see `RowSource`)."""

    label = ""

    @abstractmethod
    def position_of(self, row: int) -> int | None:
        """Return the position of the user's row that a row derives from, None for none."""


class WholePrompts(ABC):
    """Prompts that share no template: a pack contains a row's whole prompt."""

    source = ""

    @abstractmethod
    def prompts(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the prompts of some rows (see `RowSource`)."""

    def items(self, rows: range) -> Sequence[bytes]:
        """Return what a pack contains for each row that can be sent (see `RowSource`)."""
        return [orjson.dumps(prompt) for prompt in self.prompts(rows) if isinstance(prompt, str)]


class Rows(RowSource, Protocol):
    """The caller's own rows, and the shape that their answers take.

    In the methods, *run* is the `LiveRun` of these rows. The signatures do not name it, since it imports this module.
    """

    @property
    def label(self) -> str:
        """A few words for the display."""

    def assemble(self, run: Any) -> Any:
        """Return the answers in the caller's own shape, with missing values for rows without an answer."""

    def errors(self, run: Any) -> Any:
        """Return the failures as a table."""


@runtime_checkable
class EvaluableRows(Protocol):
    """Rows that can have known labels."""

    def evaluate(self, run: Any, against: Any, field: str | None) -> Any:
        """Compare a field of the answers with labels."""


@runtime_checkable
class JoinableRows(Protocol):
    """Rows whose answers can be joined to other rows with the same content."""

    def assemble_beside(self, run: Any, df: Any) -> Any:
        """Return the rows of *df* with the answers to those that were asked, and missing values for the others."""

    def check_type(self, run: Any, response_format: Any) -> None:
        """Check that a type has the same columns as the answers."""
