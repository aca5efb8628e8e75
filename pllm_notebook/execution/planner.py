"""From rows to calls: keys, duplicates, look-ups, and reading what is known. Runs in a worker thread."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import orjson

from pllm_notebook.execution.arrivals import PromptLost
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.failure_recorder import FailureRecorder
from pllm_notebook.execution.outcomes import Ledger, Outcome
from pllm_notebook.execution.settle import Arrival, Repair, Settled
from pllm_notebook.execution.user_code import settle_with_timeout
from pllm_notebook.messages_types import Prompt
from pllm_notebook.protocols import Store
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.records import Failure
from pllm_notebook.stored_reply import StoredReply

__all__ = ["Chunk", "Planner", "Prompts", "WholePrompts"]

# The first chunk is small, so that the first calls leave at once; the rest are as large as one look-up.
_FIRST_CHUNK = 256
_CHUNK = 5_000

# Servers of which a person has been warned: name, host of the answers, host of today.
_told_of_hosts: set[tuple[str, str, str]] = set()

logger = logging.getLogger("pllm_notebook")


class Prompts(Protocol):
    """Where prompts come from."""

    @property
    def source(self) -> str:
        """The template that all rows share, as written; "" where there is none."""

    def prompts(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the prompts of some rows; None for one to skip, a failure for one that cannot be sent."""

    def items(self, rows: range) -> Sequence[bytes]:
        """Return what a pack holds of each row, as JSON: its columns, or its whole prompt; of rows that can be sent."""


class WholePrompts(ABC):
    """Prompts that share no template: what a pack would hold of a row is its whole prompt."""

    source = ""

    @abstractmethod
    def prompts(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the prompts of some rows (see `Prompts`)."""

    def items(self, rows: range) -> Sequence[bytes]:
        """Return what a pack holds of each row that can be sent."""
        return [orjson.dumps(prompt) for prompt in self.prompts(rows) if isinstance(prompt, str)]


class Chunk(NamedTuple):
    """What the planner found out about some rows.

    Attributes:
        weights: Rows of this chunk that each call answers, whether or not the call is new.
        settled: Calls that the store answers, or goes on with.
        rejected: Calls that a provider has rejected before; they are not sent again unasked.
        missing: Calls that must be sent.
        skipped: Rows with a missing value.
        failed: Rows that cannot be sent.
    """

    weights: dict[int, int]
    settled: list[tuple[Arrival, Settled]]
    rejected: list[tuple[int, Outcome]]
    missing: list[int]
    skipped: int
    failed: int


class Planner:
    """Walk the rows once, and go on from where it was stopped.

    Args:
        ask: The question.
        rows: The rows' prompts.
        total: Number of rows.
        ledger: Filled as it goes; calls are only ever added.
        store: None to look nowhere.
    """

    def __init__(self, ask: CallSpec, rows: Prompts, total: int, ledger: Ledger, store: Store | None) -> None:
        self._ask = ask
        self._rows = rows
        self._total = total
        self._ledger = ledger
        self._store = store
        self._failures = FailureRecorder(ask, store, self.prompt, rows)
        self._at = 0
        self._looked_at_host = False

    def release(self) -> None:
        """Let go of what holds this planner. It still makes prompts: failed calls may yet be written down with them."""
        del self._failures

    def walk(self, take: Callable[[Chunk], None], stopped: Callable[[], bool]) -> None:
        """Plan what is left, a chunk at a time, until done or *stopped* says so."""
        size = _CHUNK if self._at else _FIRST_CHUNK
        while self._at < self._total and not stopped():
            rows = range(self._at, min(self._at + size, self._total))
            take(self._chunk(rows, stopped))
            self._at, size = rows.stop, _CHUNK

    def prompt(self, row: int) -> Prompt:
        """Make one row's prompt.

        Raises:
            PromptLost: Where it could be made when the row was planned, and cannot be now.
        """
        (prompt,) = self._rows.prompts(range(row, row + 1))
        assert prompt is not None
        if isinstance(prompt, Failure):
            raise PromptLost(prompt)
        return prompt

    def _chunk(self, rows: range, stopped: Callable[[], bool]) -> Chunk:
        ledger, ask = self._ledger, self._ask
        first_new = len(ledger.keys)
        weights: dict[int, int] = {}
        plain: dict[int, str] = {}
        skipped = failed = 0
        for row, prompt in zip(rows, self._rows.prompts(rows), strict=True):
            if prompt is None:
                ledger.skip(row)
                skipped += 1
                continue
            encoded = prompt if isinstance(prompt, Failure) else ask.encoded(prompt)
            if isinstance(encoded, Failure):
                ledger.fail(row, encoded)
                failed += 1
                continue
            call = ledger.add(row, ask.key(encoded))
            weights[call] = weights.get(call, 0) + 1
            if ask.pack is not None and call >= first_new:
                plain[call] = ask.plain_key(encoded)
        new = range(first_new, len(ledger.keys))
        found = self._known(ledger.keys[first_new:])
        # An answer of the row's own is at least as good as one out of a pack.
        found |= self._known([key for call, key in plain.items() if ledger.keys[call] not in found])
        arrivals, missing = [], []
        for call in new:
            key = ledger.keys[call]
            entry = found.get(key)
            if entry is None and call in plain:
                key = plain[call]
                entry = found.get(key)
            if entry is not None:
                arrivals.append(Arrival(call, key, entry, ledger.first_row[call]))
            else:
                missing.append(call)
        settled = settle_with_timeout(ask, self._store, self.prompt, arrivals, stopped)
        self._failures.valid([each.key for each in settled if isinstance(each, Outcome) and each.failure is None])
        settled, rejected, missing = self._rejected(settled, missing, plain)
        return Chunk(weights, list(zip(arrivals, settled, strict=True)), rejected, missing, skipped, failed)

    def _rejected(
        self, settled: list[Settled], missing: list[int], plain: dict[int, str]
    ) -> tuple[list[Settled], list[tuple[int, Outcome]], list[int]]:
        """Take out, of what would be sent, the calls that a provider has rejected before."""
        keys = self._ledger.keys
        sent = [keys[call] for call in missing] + [plain[call] for call in missing if call in plain]
        known = self._failures.rejected(sent + [each.key for each in settled if isinstance(each, Repair)])
        if not known:
            return settled, [], missing
        settled = [each.failed(known[each.key]) if isinstance(each, Repair) and each.key in known else each
                   for each in settled]  # fmt: skip
        rejected, left = [], []
        for call in missing:
            key = next((key for key in (keys[call], plain.get(call, "")) if key in known), None)
            if key is None:
                left.append(call)
            else:
                rejected.append((call, Outcome(None, known[key], key, (), True)))
        return settled, rejected, left

    def _known(self, keys: list[str]) -> dict[str, StoredReply]:
        """Look up the replies that this run can use."""
        if self._store is None or self._ask.options.cache == "refresh" or not keys:
            return {}
        found = self._store.get_many(keys)
        known = {
            key: entry for key, entry in found.items() if entry.satisfies(self._ask.output_limit, self._ask.takes_empty)
        }
        if known and not self._looked_at_host:
            self._looked_at_host = True
            _tell_of_host(self._ask.target, next(iter(known.values())))
        return known


def _tell_of_host(target: ResolvedModel, entry: StoredReply) -> None:
    """Warn, once for each pair of hosts, that a server's name stood for another machine when it answered."""
    if not target.host:
        return
    before = entry.metadata.get("host", "")
    told = (target.provider, before, target.host)
    if before and before != target.host and told not in _told_of_hosts:
        _told_of_hosts.add(told)
        logger.warning(
            "Answers in the cache under the name %r were made at %s, and it is at %s now. They are used, since a "
            "server is known by its name; give the new one a name of its own if it answers otherwise.",
            *told,
        )
