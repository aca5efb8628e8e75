"""The record of each row of a run: the hash of its content, the key of its call, and the hashes of its values.

It contains only hashes and keys, no text. The record of a frame's row is found by the hash of the row's content, in any
order, index or frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.results import SKIPPED, ResultTable
from pllm_notebook.execution.spent_record import SpentRecord
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Prompt
from pllm_notebook.prompts import prompt_as_text

__all__ = [
    "KEY_BYTES",
    "STATUSES",
    "RowRecord",
    "SampleRecord",
    "SecondRecord",
    "key_prefixes",
    "kind_number",
    "record_of_calls",
    "record_of_prompts",
]

# New statuses go to the end, since a status is stored by its position.
STATUSES = ("ok", "cached", "failed", "skipped", "pending", "not_sent")
_OK, _CACHED, _FAILED, _SKIPPED, _PENDING, _NOT_SENT = range(6)

KEY_BYTES = 16
"""Number of leading characters of a call's key that are kept: 96 bits, enough to find it again in any cache."""

_KEY_TEXT = 43  # characters of a whole key
_NO_KEY = "\0" * _KEY_TEXT

Numbers = np.ndarray[Any, np.dtype[Any]]


_NO_NUMBERS = np.zeros(0, dtype=np.int32)
_NO_BEGINNINGS = np.zeros((0, KEY_BYTES), dtype=np.uint8)


@dataclass
class SampleRecord:
    """The samples of each row of a run: 13 bytes per sample, and 2 bytes per row for the decision.

    Attributes:
        keys: Shape (n_rows, n_members, 12), uint8: the first characters of the key of each member's last reply.
        failure: Shape (n_rows, n_members), uint8: as in `RowRecord`; 255 for a call that had not ended.
        chosen: Shape (n_rows,), int8: the member whose answer the row has, -1 for no member.
        how: Shape (n_rows,), uint8: 1 + the index of the decision's word in `ensemble.How`, 0 for none.
    """

    keys: Numbers
    failure: Numbers
    chosen: Numbers
    how: Numbers


@dataclass
class SecondRecord:
    """The rows that were asked a second time, for evidence.

    Attributes:
        rows: Shape (n_second,), int32, ascending.
        keys: Shape (n_second, 16), uint8: the first characters of the key of each first answer's reply.
        fields: Shape (n_second, n_fields), bool: the fields of the answer that come from the second reply.
    """

    rows: Numbers
    keys: Numbers
    fields: Numbers


@dataclass
class RowRecord:
    """The records of one run's rows, in order.

    Attributes:
        content: Shape (n_rows,), uint64: the hash of each row's content, as the run read it.
        keys: Shape (n_rows, 16), uint8: the first characters of the key of the row's call; zeros for none.
        status: Shape (n_rows,), uint8: an index into `STATUSES`.
        failure: Shape (n_rows,), uint8: 0 for none, else 1 + the index of the failure's kind in `FailureKind`.
        several: Shape (n_rows,), bool: whether more than one reply led to the answer.
        answers: For each result column, the 4-byte hashes of its values, shape (n_lines,); empty if no result frame was
            built.
        origin: Shape (n_lines,), int32: the row of each line of the result; None if each row has one line.
        agreement: For each field, the shares of agreement, shape (n_rows,), float64, NaN for none; empty if each row
            had one call.
        later_rows: Shape (n_later,), int32: the rows whose answer is in another reply than that of their key: a reply
            after a repair or a tool result, or the reply of the judge or the strong model.
        later_keys: Shape (n_later, 16), uint8: the first characters of the keys of those replies.
        samples: The samples of each row, None if each row had one call.
        example: Shape (n_rows,), bool: whether the row, or a near-duplicate, was among the run's examples; None if the
            run had no examples.
        second: The rows that were asked a second time for evidence, None for no rows.
        spent: The usage of rows that failed or took several replies; None for none, and in records of earlier versions.
    """

    content: Numbers
    keys: Numbers
    status: Numbers
    failure: Numbers
    several: Numbers
    answers: dict[str, Numbers] = field(default_factory=dict)
    origin: Numbers | None = None
    agreement: dict[str, Numbers] = field(default_factory=dict)
    later_rows: Numbers = field(default_factory=lambda: _NO_NUMBERS)
    later_keys: Numbers = field(default_factory=lambda: _NO_BEGINNINGS)
    samples: SampleRecord | None = None
    example: Numbers | None = None
    second: SecondRecord | None = None
    spent: SpentRecord | None = None
    _order: Numbers | None = None
    _lines: dict[str, Numbers] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.content)

    def find(self, content: Numbers) -> Numbers:
        """Return the first row with each hash of *content*, -1 for none; shape (n,), int64."""
        if not len(self.content):
            return np.full(len(content), -1, dtype=np.int64)
        if self._order is None:
            self._order = np.argsort(self.content, kind="stable")
        ordered = self.content[self._order]
        at = np.minimum(np.searchsorted(ordered, content), len(ordered) - 1)
        return np.where(ordered[at] == content, self._order[at], -1)

    def has_answer(self, column: str, rows: Numbers, hashes: Numbers) -> Numbers:
        """Return for each row whether its value in *column* had the given hash.

        Args:
            column: Name of a result column.
            rows: The rows, as `find` returned them; shape (n,).
            hashes: The hash of a value for each row; shape (n,).

        Returns:
            Shape (n,), bool; False for a row of -1.
        """
        known = self.answers[column]
        if self.origin is None:
            # A run without rows has no element that the -1 of an unknown row could index.
            return np.asarray((rows >= 0) & (known[rows] == hashes)) if len(known) else np.zeros(len(rows), dtype=bool)
        if column not in self._lines:
            first = self.find(self.content)[self.origin]
            self._lines[column] = _pairs(first, known)
        return np.asarray((rows >= 0) & np.isin(_pairs(rows, hashes), self._lines[column]))

    def arrays(self) -> dict[str, Numbers]:
        """Return the record as named arrays, for `store.RunFiles`."""
        given = {name: getattr(self, name) for name in ("content", "keys", "status", "failure", "several")}
        given |= {f"answer:{name}": array for name, array in self.answers.items()}
        given |= {f"agreement:{name}": array for name, array in self.agreement.items()}
        if len(self.later_rows):
            given |= {"later_rows": self.later_rows, "later_keys": self.later_keys}
        if self.samples is not None:
            given |= {f"sample:{name}": array for name, array in vars(self.samples).items()}
        if self.second is not None:
            given |= {f"second:{name}": array for name, array in vars(self.second).items()}
        if self.spent is not None:
            given |= self.spent.arrays()
        given |= {name: array for name in ("origin", "example") if (array := getattr(self, name)) is not None}
        return given

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Numbers]) -> RowRecord:
        """Build a record from the result of `arrays`.

        Raises:
            ValueError: If the arrays are not consistent.
        """
        made = cls(
            content=arrays["content"],
            keys=arrays["keys"],
            status=arrays["status"],
            failure=arrays["failure"],
            several=arrays["several"],
            answers=_named(arrays, "answer:"),
            origin=arrays.get("origin"),
            agreement=_named(arrays, "agreement:"),
            later_rows=arrays.get("later_rows", _NO_NUMBERS),
            later_keys=arrays.get("later_keys", _NO_BEGINNINGS),
            samples=SampleRecord(**samples) if (samples := _named(arrays, "sample:")) else None,
            example=arrays.get("example"),
            second=SecondRecord(**second) if (second := _named(arrays, "second:")) else None,
            spent=SpentRecord(**spent) if (spent := _named(arrays, "spent:")) else None,
        )
        made._check()
        return made

    def _check(self) -> None:
        """Check that all arrays describe the same rows, since they are read from a file."""
        rows, later = len(self), len(self.later_rows)
        lines = rows if self.origin is None else len(self.origin)
        whole = [
            (self.content, (rows,)),
            (self.keys, (rows, KEY_BYTES)),
            (self.status, (rows,)),
            (self.failure, (rows,)),
        ]
        whole += [(self.later_rows, (later,)), (self.later_keys, (later, KEY_BYTES))]
        whole += [(array, (lines,)) for array in self.answers.values()]
        within = [(self.status, 0, len(STATUSES)), (self.later_rows, 0, rows)]
        within += [(array, 0, 128) for array in (self.keys, self.later_keys)]
        if self.origin is not None:
            whole.append((self.origin, (lines,)))
            within.append((self.origin, 0, rows))
        if (samples := self.samples) is not None:
            members = samples.failure.shape[-1]
            whole += [(samples.failure, (rows, members)), (samples.chosen, (rows,)), (samples.how, (rows,))]
            whole.append((samples.keys, (rows, members, samples.keys.shape[-1])))
            within += [(samples.chosen, -1, members), (samples.keys, 0, 128)]
        flags: list[tuple[Numbers, tuple[int, ...]]] = [
            (array, (rows,)) for array in (self.several, self.example) if array is not None
        ]
        if (second := self.second) is not None:
            again = len(second.rows)
            whole += [(second.rows, (again,)), (second.keys, (again, KEY_BYTES))]
            within += [(second.rows, 0, rows), (second.keys, 0, 128)]
            flags.append((second.fields, (again, second.fields.shape[-1])))
        shares = [(array, (rows,)) for array in self.agreement.values()]
        if (spent := self.spent) is not None:
            own = len(spent.rows)
            whole += [(spent.rows, (own,)), (spent.tokens, (own, 5)), (spent.attempts, (own,))]
            within.append((spent.rows, 0, rows))
            shares += [(spent.cost_usd, (own,)), (spent.latency_s, (own,))]
        for arrays, kinds in ((whole, "ui"), (flags, "b"), (shares, "f")):
            if any(array.shape != shape or array.dtype.kind not in kinds for array, shape in arrays):
                raise ValueError("its arrays are not of the same rows")
        if any(array.size and not least <= array.min() <= array.max() < most for array, least, most in within):
            raise ValueError("its arrays point outside of its rows")


def record_of_calls(results: ResultTable, content: Numbers, *, packed: bool) -> RowRecord:
    """Return the current record of a run's rows, except for the answers.

    Args:
        results: The run's results.
        content: The hash of each row's content; shape (n_rows,), uint64.
        packed: Whether rows shared calls.
    """
    call_of_row = np.array(results.call_of_row, dtype=np.int64)
    outcomes = results.outcomes[:]  # a copy, since the loop may add calls
    # Rows without a call use the additional last element of the arrays below.
    # The usual case of one reply is inlined, since there may be a million outcomes.
    codes = [
        (_CACHED if o.cached else _OK)
        if o is not None and o.failure is None and len(o.metas) == 1 and not o.earlier
        else _code(o)
        for o in outcomes
    ]
    coded = np.frombuffer(bytes([*codes, _PENDING]), dtype=np.uint8)
    status, several = coded & _STATUS, coded >= _SEVERAL
    failure = np.zeros(len(outcomes) + 1, dtype=np.uint8)
    for call in np.flatnonzero(status == _FAILED).tolist():
        failure[call] = _kind(outcomes[call])
    keys = results.keys[: len(outcomes)]
    if packed:  # an answer from the cache may belong to the row's own call
        keys = [key if o is None else o.key or key for o, key in zip(outcomes, keys, strict=True)]
    # Rows without a call are skipped, never sent (hence failed), or not planned yet.
    none = np.where(call_of_row == SKIPPED, _SKIPPED, _PENDING).astype(np.uint8)
    own = np.zeros(len(call_of_row), dtype=np.uint8)
    for row, why in results.own_failures.items():
        none[row], own[row] = _FAILED, kind_number(why.kind)
    # A call planned after the copy has no outcome in it: its rows are pending.
    called = (call_of_row >= 0) & (call_of_row < len(outcomes))
    at = np.where(called, call_of_row, -1)
    known = np.concatenate([key_prefixes(keys), np.zeros((1, KEY_BYTES), dtype=np.uint8)])
    last = {call: o.last for call in np.flatnonzero(several).tolist() if (o := outcomes[call]) is not None and o.last}
    later = np.flatnonzero(np.isin(at, list(last))) if last else _NO_NUMBERS
    return RowRecord(
        content=content,
        keys=known[at],
        later_rows=later.astype(np.int32),
        later_keys=key_prefixes([last[call] for call in at[later].tolist()]),
        status=np.where(called, status[at], none).astype(np.uint8),
        failure=np.where(called, failure[at], own).astype(np.uint8),
        several=several[at],
    )


def record_of_prompts(results: ResultTable, prompts: Iterable[Prompt | Failure | None], *, packed: bool) -> RowRecord:
    """Return the current record of a list's rows, except for the answers. The content of a row is its prompt.

    Args:
        results: The run's results.
        prompts: One for each row; None for a skipped row, a failure for one that cannot be sent.
        packed: As for `record_of_calls`.
    """
    content = np.array([_fingerprint(prompt) for prompt in prompts], dtype=np.uint64)
    return record_of_calls(results, content, packed=packed)


def _fingerprint(prompt: Prompt | Failure | None) -> int:
    words = (
        b""
        if prompt is None or isinstance(prompt, Failure)
        else prompt_as_text(prompt).encode("utf-8", "surrogatepass")
    )
    return int.from_bytes(blake2b(words, digest_size=8).digest(), "little")


# Bits of a code: the status, and whether more than one reply led to the answer.
_STATUS, _SEVERAL = 0x0F, 0x10


def _code(outcome: Outcome | None) -> int:
    if outcome is None:
        return _PENDING
    several = _SEVERAL if len(outcome.metas) + len(outcome.earlier) > 1 else 0
    if outcome.failure is not None:
        return several | (_NOT_SENT if outcome.not_sent else _FAILED)
    return several | (_CACHED if outcome.cached else _OK)


def _kind(outcome: Outcome | None) -> int:
    return 0 if outcome is None or outcome.failure is None else kind_number(outcome.failure.kind)


def kind_number(kind: FailureKind) -> int:
    """Return the number that records a kind of failure."""
    return 1 + list(FailureKind).index(kind)


def key_prefixes(keys: list[str], length: int = KEY_BYTES) -> Numbers:
    """Return the first characters of each key, shape (n, length), uint8; zeros for a string that is not a key."""
    if set(map(len, keys)) - {_KEY_TEXT}:
        keys = [key if len(key) == _KEY_TEXT else _NO_KEY for key in keys]
    whole = np.frombuffer("".join(keys).encode("ascii"), dtype=np.uint8)
    return whole.reshape(-1, _KEY_TEXT)[:, :length]


def _pairs(rows: Numbers, hashes: Numbers) -> Numbers:
    return np.asarray((rows.astype(np.uint64) << np.uint64(32)) | hashes.astype(np.uint64))


def _named(arrays: Mapping[str, Numbers], prefix: str) -> dict[str, Numbers]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
