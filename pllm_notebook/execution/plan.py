"""Rows to calls: keys, duplicates, cache hits.

`Planner` works in a worker thread, a chunk of rows at a time; `plan` records on the loop what each chunk found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from pllm_notebook.execution.arrivals import PromptLost
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.failure_recorder import FailureRecorder
from pllm_notebook.execution.outcomes import Ledger, Outcome
from pllm_notebook.execution.row_source import RowSource
from pllm_notebook.execution.settle import Arrival, Repair, Settled
from pllm_notebook.execution.user_code import settle_with_timeout
from pllm_notebook.messages_types import Prompt
from pllm_notebook.protocols import Store
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.records import Failure
from pllm_notebook.stored_reply import StoredReply

__all__ = ["Chunk", "Planner"]

# The first chunk is small, so that the first calls leave at once; the rest are as large as one look-up.
_FIRST_CHUNK = 256
_CHUNK = 5_000

# Servers of which a person has been warned: name, host of the answers, host of today.
_told_of_hosts: set[tuple[str, str, str]] = set()

logger = logging.getLogger("pllm_notebook")


class Chunk(NamedTuple):
    """What is known of some rows.

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
    """Plan the rows once, and continue where it was stopped. Used by one worker thread at a time.

    Attributes:
        rows: Where the prompts come from.
    """

    def __init__(self, spec: CallSpec, rows: RowSource, results: Ledger, store: Store | None) -> None:
        self.rows = rows
        self._ask = spec
        self._ledger = results
        self._store = store
        self._failures = FailureRecorder(spec, store, self.prompt, rows)
        self._at = 0
        self._checked_host = False

    def release(self) -> None:
        """Let go of what refers to this planner. It still makes prompts: failed calls may yet be written with them."""
        del self._failures

    def next_chunk(self, stopped: Callable[[], bool]) -> Chunk | None:
        """Plan the next rows; None where there are no more, or *stopped* says so."""
        total = self.rows.total
        if self._at >= total or stopped():
            return None
        size = _CHUNK if self._at else _FIRST_CHUNK
        rows = range(self._at, min(self._at + size, total))
        chunk = self._chunk(rows, stopped)
        self._at = rows.stop
        if chunk.missing and self._ask.options.cache != "only":
            self._ask.target.load()
        return chunk

    def prompt(self, row: int) -> Prompt:
        """Make one row's prompt.

        Raises:
            PromptLost: Where it could be made when the row was planned, and cannot be now.
        """
        (prompt,) = self.rows.prompts(range(row, row + 1))
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
        for row, prompt in zip(rows, self.rows.prompts(rows), strict=True):
            if prompt is None:
                ledger.skip(row)
                skipped += 1
                continue
            words = prompt if isinstance(prompt, Failure) else ask.encoded(prompt)
            if isinstance(words, Failure):
                ledger.fail(row, words)
                failed += 1
                continue
            call = ledger.add(row, ask.key(words))
            weights[call] = weights.get(call, 0) + 1
            if ask.pack is not None and call >= first_new:
                plain[call] = ask.plain_key(words)
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
        if known and not self._checked_host:
            self._checked_host = True
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
