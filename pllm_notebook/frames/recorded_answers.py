"""The answers of a run that is no longer in memory, read from the store by keys from the registry."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np

from pllm_notebook.ensemble import CellFailure, Vote, VoteCount, verdict_type
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import RowRecord
from pllm_notebook.failures import FailureKind
from pllm_notebook.frames.assembled_answers import AssembledAnswers
from pllm_notebook.frames.dtypes import Column, Kind, read_back
from pllm_notebook.frames.response_format import columns_as_before, output_of
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.row_evidence import quoted_names
from pllm_notebook.frames.samples import HOWS, NOT_ENDED, SampledRow
from pllm_notebook.frames.value_types import type_in
from pllm_notebook.protocols import Store
from pllm_notebook.providers import providers
from pllm_notebook.schema import (
    GRAMMAR,
    PLAIN,
    DecisionAnswer,
    Dialect,
    FittedSchema,
    Invalid,
    OutputType,
    QuotingSchema,
)
from pllm_notebook.settings import Options
from pllm_notebook.store import open_store
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish

__all__ = ["Answers", "Found", "columns_in"]

Found = tuple[Any]
"""A tuple of the value that was found. A value may be None, so None cannot mean that nothing was found."""

# Number of rows read at once. Their replies take a few megabytes.
_CHUNK = 5_000


class _Asked(NamedTuple):
    """The type and columns for reading the replies."""

    output: OutputType | None
    shape: ResultColumns
    columns: tuple[Column, ...]


class Answers:
    """A reader of one run's answers. Sends nothing.

    Args:
        header: The run's header in the registry.
        record: The record of the run's rows.
        response_format: The type, whose validators build the values. None for the replies' JSON values, checked
            against the recorded schema.
        interrupted: Whether the process ended before the run did. Rows that were recorded without an answer may then
            have one in the store.

    Raises:
        PllmError: If the run's answers are not values of replies (`call_tools`, `decide`).
        UsageError: If the type's columns differ from the run's.
    """

    def __init__(
        self, header: Mapping[str, Any], record: RowRecord, response_format: Any = None, *, interrupted: bool = False
    ) -> None:
        kind = header.get("answers")
        if kind != "values":
            what = {"calls": "calls of tools", "decision": "decisions between columns"}.get(str(kind), "not recorded")
            raise PllmError(
                f"The answers of the run {header['id']!r} are {what}, which the registry cannot read back. Run its "
                f"cell again: answers in the cache cost nothing."
            )
        self._header = header
        self._record = record
        self._interrupted = interrupted
        self._asked = _asked(header, response_format)
        self.shape, self.columns, self.output = self._asked.shape, self._asked.columns, self._asked.output

    def values(self) -> list[Found | None]:
        """Return the value of each row; None for a row without a value, or whose reply is not in the cache."""
        return self.values_of(range(len(self._record)))

    def values_of(self, wanted: Sequence[int]) -> list[Found | None]:
        """Return the values of some rows (see `values`)."""
        found: dict[int, Found | None] = {}
        answered = self._wanted()
        rows = [row for row in dict.fromkeys(wanted) if answered[row]]
        take = self._plain if self._header["ensemble"] is None else self._decided
        for at in range(0, len(rows), _CHUNK):
            some = rows[at : at + _CHUNK]
            for row, value in zip(some, take(some), strict=True):
                found[row] = value
        return [found.get(row) for row in wanted]

    def quotes_of(self, rows: Sequence[int]) -> dict[int, Mapping[str, str | None]]:
        """Return the quotes in the answers to some rows by field name. Rows without an answer are left out."""
        fitted, answered = self._fitted(self._header["dialect"]), self._wanted()
        if not isinstance(fitted, QuotingSchema):
            return {}
        own = [row for row in rows if answered[row]]
        return {row: fitted.quotes(text) for row, text in zip(own, self._own_texts(own), strict=True) if text}

    def table(self, values: Sequence[Found | None]) -> tuple[list[list[Any]], list[int]]:
        """Return the values of the answers column by column, and the position in *values* of each line."""
        columns, origin = self.shape.table_of([None if one is None else one[0] for one in values])
        return [read_back(column, own) for column, own in zip(self.columns, columns, strict=True)], origin

    def sampled(self, rows: Sequence[tuple[int, Any, int]]) -> Iterator[SampledRow]:
        """Yield the answers behind some rows, each given as (position to show, label to show, row of the run)."""
        samples = self._record.samples
        assert samples is not None
        kinds: list[str] = self._header["failure_kinds"]
        output, columns = self._asked.output, columns_in(self._header["ensemble"]["columns"])
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            members = self._members([row for _, _, row in some])
            for at, (position, label, row) in enumerate(some):
                values: list[Sequence[Any] | None] = []
                failures: list[str | None] = []
                for member, found in enumerate(members):
                    number, one = int(samples.failure[row, member]), found[at]
                    values.append(None if one is None else _parts(output, columns, one[0]))
                    failures.append(_failure_text(number, one is not None, kinds))
                chosen, how = int(samples.chosen[row]), int(samples.how[row])
                yield SampledRow(position, label, values, failures, HOWS[how - 1] if how else None,
                              None if chosen < 0 else chosen, {})  # fmt: skip

    @cached_property
    def assembled(self) -> AssembledAnswers | None:
        """The reader of answers that combine decided and written parts, None for other runs."""
        ensemble = self._header["ensemble"] or {}
        kept = ensemble.get("assembled")
        if kept is None:
            return None
        most_options, judging, *names = kept
        rest = ensemble["members"][judging:]
        written = _dialect(rest[0][2]) if rest and rest[0][2] is not None else GRAMMAR
        return AssembledAnswers(cast(OutputType, self._asked.output), most_options, judging, written, *names)

    def decided_answers(self, rows: Sequence[int]) -> list[Mapping[str, DecisionAnswer | None]]:
        """Return the answers to the questions of each of some rows, by question name."""
        assert self.assembled is not None
        texts = self._member_texts(rows)
        return [self.assembled.answers(texts, at) for at in range(len(rows))]

    def cells(self, rows: Sequence[int]) -> dict[int, tuple[CellFailure, ...]]:
        """Return the fields without a value of those *rows* that have other values."""
        assert self.assembled is not None
        own = [row for row in rows if self._wanted()[row]]
        texts, kinds = self._member_texts(own), self._header["failure_kinds"]
        found = {row: self.assembled.cells(texts, at, self._record, row, kinds) for at, row in enumerate(own)}
        return {row: cells for row, cells in found.items() if cells}

    def _member_texts(self, rows: Sequence[int]) -> list[list[bytes | None]]:
        samples = self._record.samples
        if samples is None:
            return []
        made = []
        for at in range(len(self._header["ensemble"]["members"])):
            keys = samples.keys[list(rows), at].copy()
            keys[samples.failure[list(rows), at] != 0] = 0
            made.append(self._texts(keys))
        return made

    def _wanted(self) -> np.ndarray[Any, Any]:
        status = self._record.status
        return (status <= 1) | (status == 4) if self._interrupted else status <= 1

    def replies(self, rows: Sequence[int]) -> list[StoredReply | None]:
        """Return the last reply of each of some rows; None without a reply, or if it is no longer in the cache."""
        store: Any = open_store()
        texts = ["" if not key[0] else str(key.tobytes(), "ascii") for key in self._keys(rows)]
        whole = store.keys_beginning(dict.fromkeys(text for text in texts if text))
        entries = store.get_many(list(whole.values())) if whole else {}
        return [entries.get(whole.get(text, "")) for text in texts]

    @property
    def wrapped(self) -> bool:
        """Whether replies contain the value as the property `value`."""
        fitted = self._fitted(self._header["dialect"])
        return fitted is not None and fitted.wrapped

    def _plain(self, rows: Sequence[int]) -> list[Found | None]:
        return self._values(self._own_texts(rows), self._fitted(self._header["dialect"]))

    def _own_texts(self, rows: Sequence[int]) -> list[bytes | None]:
        """Return the text of each row's answer: its last reply, or both replies combined if it was asked again."""
        texts, second = self._texts(self._keys(rows)), self._record.second
        fitted = self._fitted(self._header["dialect"])
        if second is None or not isinstance(fitted, QuotingSchema) or self._asked.output is None:
            return texts
        known, names = {row: at for at, row in enumerate(second.rows.tolist())}, quoted_names(self._asked.output)
        both = [(at, known[row]) for at, row in enumerate(rows) if row in known]
        before = self._texts(second.keys[[place for _, place in both]])
        for (at, place), first in zip(both, before, strict=True):
            fields = [name for name, taken in zip(names, second.fields[place].tolist(), strict=False) if taken]
            last = texts[at]
            texts[at] = None if first is None or last is None else fitted.combined(first, last, fields)
        return texts

    def _keys(self, rows: Sequence[int]) -> np.ndarray[Any, Any]:
        """Return the key prefix of each row's last reply, zeros without a reply."""
        record = self._record
        keys = record.keys[list(rows)].copy()
        at = np.searchsorted(record.later_rows, rows)
        for place, later in enumerate(at.tolist()):
            if later < len(record.later_rows) and record.later_rows[later] == rows[place]:
                keys[place] = record.later_keys[later]
        return keys

    def _decided(self, rows: Sequence[int]) -> list[Found | None]:
        """Return the decided answers: a member's, the judge's or the strong model's, or the majority of each field."""
        samples, ensemble = self._record.samples, self._header["ensemble"]
        if samples is None:
            return [None] * len(rows)
        if self.assembled is not None:
            texts = self._member_texts(rows)
            return [self.assembled.value(texts, at) for at in range(len(rows))]
        members = self._members(rows)
        replies = self._replies(rows, ensemble)
        vote = Vote(**ensemble["vote"])
        found: list[Found | None] = []
        for at, row in enumerate(rows):
            chosen, how = int(samples.chosen[row]), int(samples.how[row])
            decided_by = HOWS[how - 1] if how else ""
            if chosen >= 0:
                found.append(members[chosen][at])
            elif decided_by in ("judge", "escalated"):
                found.append(replies.get(row))
            elif decided_by in ("vote", "agreed", "fallback"):
                answers = [one[at] for one in members]
                ended = samples.failure[row] == 0
                lost = any(has and one is None for has, one in zip(ended.tolist(), answers, strict=True))
                given = [one[0] for one in answers if one is not None]
                found.append(None if lost or not given else (VoteCount(self._asked.output, given).majority(vote)[0],))
            else:  # a decision by the caller's function is not in a reply
                found.append(None)
        return found

    def _members(self, rows: Sequence[int]) -> list[list[Found | None]]:
        samples = self._record.samples
        assert samples is not None
        made = []
        for at, (_, _, dialect) in enumerate(self._header["ensemble"]["members"]):
            keys = samples.keys[list(rows), at].copy()
            ended = samples.failure[list(rows), at]
            keys[(ended != 0) & (ended != NOT_ENDED)] = 0
            made.append(self._read(keys, self._fitted(dialect)))
        return made

    def _replies(self, rows: Sequence[int], ensemble: Mapping[str, Any]) -> dict[int, Found | None]:
        record = self._record
        here = np.flatnonzero(np.isin(record.later_rows, rows))
        if not len(here):
            return {}
        judged = ensemble["decide"] == "judge"
        of: OutputType | None = verdict_type(self._asked.output) if judged else self._asked.output
        fitted = None if of is None else of.fit(_dialect(ensemble["further"]))
        found = self._read(record.later_keys[here], fitted)
        answers = [None if one is None else (one[0].answer,) if judged else one for one in found]
        return dict(zip(record.later_rows[here].tolist(), answers, strict=True))

    def _fitted(self, dialect: str | None) -> FittedSchema | None:
        output = self._asked.output
        return None if output is None or dialect is None else output.fit(_dialect(dialect))

    def _read(self, keys: np.ndarray[Any, Any], fitted: FittedSchema | None) -> list[Found | None]:
        """Return the value of the reply with each key prefix; None for zeros, or if it is not in the store."""
        return self._values(self._texts(keys), fitted)

    def _values(self, held: Sequence[bytes | None], fitted: FittedSchema | None) -> list[Found | None]:
        """Return the value of each text; None for None, or for a text without a valid value."""
        at = [place for place, entry in enumerate(held) if entry is not None]
        contents = [held[place] or b"" for place in at]
        found: list[Found | None] = [None] * len(held)
        if fitted is None:
            for place, content in zip(at, contents, strict=True):
                found[place] = (content.decode("utf-8", "surrogatepass"),)
            return found
        nothing = b"null" if self._asked.output is not None and self._asked.output.takes_null else b""
        read = fitted.parse_many([content or nothing for content in contents])
        for place, content, value in zip(at, contents, read, strict=True):
            if type(value) is not Invalid:
                found[place] = (value,)
            elif value.kind is FailureKind.INVALID_JSON:
                among = fitted.find(content.decode("utf-8", "surrogatepass"))
                if among is not None and among.failure is None:
                    found[place] = (among.value,)
        return found

    def _texts(self, keys: np.ndarray[Any, Any]) -> list[bytes | None]:
        """Return the text of the reply with each key prefix; None for zeros, or if it is not in the store."""
        store: Any = open_store()
        texts = ["" if not key[0] else str(key.tobytes(), "ascii") for key in keys]
        whole = store.keys_beginning(dict.fromkeys(text for text in texts if text))
        entries = _entries(
            store,
            list(whole.values()),
            takes_empty=self._header["takes_empty"],
            finishes=(Finish.COMPLETE, Finish.CALLED) if self._asked.output is not None else (Finish.COMPLETE,),
        )
        return [entries.get(whole.get(text, "")) for text in texts]


def columns_in(described: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Return the columns that a header describes."""
    return tuple(Column(c["name"], Kind(c["kind"]), tuple(c["categories"]), type_in(c.get("type"))) for c in described)


def _dialect(name: str) -> Dialect:
    """Return the dialect named in a header: a provider's, or one without a provider."""
    known = (GRAMMAR, PLAIN, *(provider.dialect for provider in providers()))
    return next(each for each in known if each.name == name)


def _entries(store: Store, keys: list[str], *, takes_empty: bool, finishes: Collection[Finish]) -> dict[str, bytes]:
    """Return the texts of the replies that are answers: they have one of *finishes*, and text unless it may be empty.

    A typed answer may come with tool calls, which were not run.
    """
    found = store.get_many(keys) if keys else {}
    return {
        key: entry.text
        for key, entry in found.items()
        if entry.finish in finishes and (entry.text or (takes_empty and entry.finish is Finish.COMPLETE))
    }


def _parts(output: OutputType | None, columns: Sequence[Column], value: Any) -> Sequence[Any]:
    parts = (value,) if output is None else output.field_values(value)
    return [read_back(column, [part])[0] for column, part in zip(columns, parts, strict=True)]


def _failure_text(number: int, found: bool, kinds: Sequence[str]) -> str | None:
    if number == NOT_ENDED:
        return None
    if number:
        return kinds[number - 1]
    return None if found else "The answer is no longer in the cache."


def _asked(header: Mapping[str, Any], response_format: Any) -> _Asked:
    options = replace(Options(), **header["shaping"])
    made = columns_in(header["made"])
    if response_format is not None:
        shape = columns_as_before(response_format, options, header["fields"], header["id"])
        return _Asked(output_of(response_format, options), shape, shape.columns)
    output = None if header["schema"] is None else OutputType.of_recorded(header["schema"])
    if output is not None and options.evidence:
        output = output.with_evidence()
    names = header["field_names"]
    if isinstance(options.explode, str) and output is not None and output.fields is not None:
        # The schema contains the JSON names.
        options = replace(options, explode=output.fields[names.index(options.explode)].name)
    shape = ResultColumns(output, options)
    if len(shape.columns) != len(header["fields"]):
        raise PllmError(
            f"The answers of the run {header['id']!r} cannot be read by its schema alone. Pass the type: "
            f"pllm.run({header['id']!r}).to_frame(response_format=…)."
        )
    return _Asked(output, shape, made[: len(shape.columns)])
