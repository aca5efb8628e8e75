"""Turn rows into calls: keys, duplicates, cache hits.

`Planner` works in a worker thread, a chunk of rows at a time; `plan` records on the loop what each chunk found.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import repeat
from typing import NamedTuple

from pllm_notebook.exceptions import sentence
from pllm_notebook.execution.call_spec import CallSpec, EncodedPrompt
from pllm_notebook.execution.follow_ups import FollowUp, PromptUnavailable, UnreadReply
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.replies import ReplyParser, Step
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.execution.row_source import ContextualRows, MixedRows, QuotedRows, RowSource
from pllm_notebook.execution.token_question import TokenQuestion, beside
from pllm_notebook.execution.user_code import read_with_timeout
from pllm_notebook.failures import FailedCall, Failure, FailureKind, ways_to_send_again
from pllm_notebook.messages_types import Dialogue, Prompt, RawRequest
from pllm_notebook.protocols import Store
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.runtime import is_first_time
from pllm_notebook.stored_reply import StoredReply

__all__ = ["Chunk", "Planner", "earlier_rejections", "is_own"]

# The first chunk is small, so that the first calls are sent at once; the others are as large as one lookup.
_FIRST_CHUNK = 256
_CHUNK = 5_000

# Statuses that show that this request can never succeed. Other statuses of the same kind (a proxy's 405, a 410) are
# as often caused by the server; sending again shows which.
_FINAL_STATUS = frozenset({400, 413, 422})

logger = logging.getLogger("pllm_notebook")


class Chunk(NamedTuple):
    """The plan of some rows of one spec.

    Attributes:
        spec: Index of the spec.
        rows: The rows, in order.
        weights: Number of these rows that each call answers, for new and known calls.
        steps: Calls that the store answers or continues.
        rejected: Calls that a provider has rejected before. They are not automatically sent again.
        missing: Calls that must be sent.
        skipped: Number of rows with a missing value.
        failed: Number of rows that cannot be sent.
    """

    spec: int
    rows: Sequence[int]
    weights: dict[int, int]
    steps: list[tuple[UnreadReply, Step]]
    rejected: list[tuple[int, Outcome]]
    missing: list[int]
    skipped: int
    failed: int


class _Added(NamedTuple):
    """The calls assigned to rows.

    Attributes:
        weights: Number of these rows that each call answers.
        plain: If rows share calls, the key of each new call when sent alone.
        skipped: Number of rows that are not sent.
        failed: Number of rows that cannot be sent.
    """

    weights: dict[int, int]
    plain: dict[int, str]
    skipped: int
    failed: int


class Planner:
    """Plan the rows once, and continue after a stop. Used by one worker thread at a time.

    Args:
        specs: The specs of the calls.
        rows: The source of prompts. It may grow later.
        results: The table that is filled. Calls are only added.
        store: The store, None for no lookups.

    Attributes:
        rows: The source of prompts.
        at: The first row that has not been planned.
        stopped: Whether planning is stopped. Set on the loop.
        contexts: The validation contexts of the rows, None for none.
        on_miss: Called once, in the worker, before the first calls that the store does not answer are returned.
    """

    def __init__(self, specs: Sequence[CallSpec], rows: RowSource, results: ResultTable, store: Store | None) -> None:
        self.rows = rows
        self._specs = specs
        self._spec_of_row = rows.spec_of_row if isinstance(rows, MixedRows) else None
        self._results = results
        self._store = store
        self.contexts = rows.contexts if isinstance(rows, ContextualRows) else None
        for spec in specs:
            spec.contexts = self.contexts
            spec.evidence = rows.evidence if isinstance(rows, QuotedRows) else None
        self.on_miss: Callable[[], None] | None = None
        self.at = 0
        self.stopped = False
        self._checked_hosts: set[int] = set()

    def next_chunks(self) -> list[Chunk]:
        """Plan the next rows, grouped by spec. Return no chunks if there are no more rows or the run stops."""
        if self.at >= self.rows.total or self.stopped:
            return []
        rows = range(self.at, min(self.at + (_CHUNK if self.at else _FIRST_CHUNK), self.rows.total))
        prompts, spec_of_row = self.rows.prompts(rows), self._spec_of_row
        if spec_of_row is None:
            chunks = [self._chunk(0, rows, prompts)]
        else:
            parts: dict[int, tuple[list[int], list[Prompt | Failure | None]]] = {}
            for row, prompt in zip(rows, prompts, strict=True):
                part = parts.setdefault(spec_of_row[row], ([], []))
                part[0].append(row)
                part[1].append(prompt)
            chunks = [self._chunk(spec, *parts[spec]) for spec in sorted(parts)]
        self.at = rows.stop
        return chunks

    def prompt(self, row: int) -> Prompt:
        """Build one row's prompt.

        Raises:
            PromptUnavailable: If it could be built when the row was planned, but not now.
        """
        (prompt,) = self.rows.prompts(range(row, row + 1))
        assert prompt is not None
        if isinstance(prompt, Failure):
            raise PromptUnavailable(prompt)
        return prompt

    def encode_again(self, call: int) -> EncodedPrompt | Failure:
        """Build a call's prompt again for sending, since the plan kept only its key. Callable from any thread."""
        results = self._results
        spec = self._specs[results.spec_of_call[call]]
        try:
            made = self.prompt(results.first_row[call])
        except PromptUnavailable as lost:
            return lost.failure
        encoded = spec.encoded(made, again=True)
        # Files are read each time, and the answer to a changed file must not be stored for the old one.
        if (
            isinstance(made, Dialogue)
            and isinstance(encoded, RawRequest)
            and results.keys[call] not in ((key := spec.key(encoded)), beside(key))
        ):
            message = "A file that the prompt shows has changed since the run began. Nothing was sent for this row."
            return Failure(FailureKind.INPUT, message)
        return encoded

    def _chunk(self, at: int, rows: Sequence[int], prompts: Sequence[Prompt | Failure | None]) -> Chunk:
        spec, first_new = self._specs[at], len(self._results.keys)
        weights, plain, skipped, failed = self._add(at, rows, prompts)
        replies, missing = self._look_up(at, range(first_new, len(self._results.keys)), plain)
        parser = ReplyParser(spec, self._store, self.prompt)
        steps = read_with_timeout(parser, replies, lambda: self.stopped) if replies else []
        valid = [each.key for each in steps if isinstance(each, Outcome) and each.failure is None]
        if valid and self._store is not None:  # the type's own validators may have changed since they failed
            self._store.note_valid(valid)
        if self.on_miss is not None and (missing or not all(isinstance(each, Outcome) for each in steps)):
            on_miss, self.on_miss = self.on_miss, None
            on_miss()
        if spec.options.shard is not None:
            steps, replies, missing = self._own(spec.options.shard, steps, replies, missing)
        steps, rejected, missing = self._rejected(at, steps, missing, plain)
        if missing and spec.options.cache != "only":
            spec.target.load()
        return Chunk(at, rows, weights, list(zip(replies, steps, strict=True)), rejected, missing, skipped, failed)

    def _add(self, at: int, rows: Sequence[int], prompts: Sequence[Prompt | Failure | None]) -> _Added:
        """Assign calls to rows, and outcomes to rows that cannot be sent."""
        results, spec = self._results, self._specs[at]
        first_new = len(results.keys)
        weights: dict[int, int] = {}
        plain: dict[int, str] = {}
        skipped = failed = 0
        contexts = repeat("", len(rows)) if self.contexts is None else self.contexts.ids(rows)
        for row, prompt, context in zip(rows, prompts, contexts, strict=True):
            if prompt is None:
                results.skip(row)
                skipped += 1
                continue
            encoded = prompt if isinstance(prompt, Failure) else spec.encoded(prompt)
            if isinstance(encoded, Failure):
                results.fail(row, encoded)
                failed += 1
                continue
            if isinstance(context, Failure):
                results.fail(row, context)
                failed += 1
                continue
            call = results.add(row, spec.key(encoded), at, context)
            weights[call] = weights.get(call, 0) + 1
            if spec.pack is not None and call >= first_new:
                plain[call] = spec.plain_key(encoded)
        return _Added(weights, plain, skipped, failed)

    def _look_up(self, at: int, new: range, plain: Mapping[int, str]) -> tuple[list[UnreadReply], list[int]]:
        """Return the stored replies to new calls, and the calls that have none."""
        results, spec = self._results, self._specs[at]
        found = self._known(at, results.keys[new.start : new.stop])
        if spec.tokens is not None:
            found = self._with_tokens(at, spec.tokens, new, found)
        # A row's own answer is at least as good as one from a pack.
        if plain:
            found |= self._known(at, [key for call, key in plain.items() if results.keys[call] not in found])
        replies, missing = [], []
        for call in new:
            key = results.keys[call]
            entry = found.get(key)
            if entry is None and call in plain:
                key = plain[call]
                entry = found.get(key)
            if entry is not None:
                replies.append(UnreadReply(call, key, entry, results.first_row[call]))
            else:
                missing.append(call)
        return replies, missing

    def _own(
        self, shard: tuple[int, int], steps: list[Step], replies: list[UnreadReply], missing: list[int]
    ) -> tuple[list[Step], list[UnreadReply], list[int]]:
        """Omit the calls of other shards: those that must be sent, and those that continue a stored reply."""
        keys = self._results.keys
        pairs = [
            (step, reply)
            for step, reply in zip(steps, replies, strict=True)
            if isinstance(step, Outcome) or is_own(keys[reply.call], shard)
        ]
        left = [call for call in missing if is_own(keys[call], shard)]
        return [step for step, _ in pairs], [reply for _, reply in pairs], left

    def _rejected(
        self, at: int, steps: list[Step], missing: list[int], plain: dict[int, str]
    ) -> tuple[list[Step], list[tuple[int, Outcome]], list[int]]:
        """Remove the calls that a provider has rejected before from those that would be sent."""
        keys = self._results.keys
        sent = [keys[call] for call in missing] + [plain[call] for call in missing if call in plain]
        sent += [each.key for each in steps if isinstance(each, FollowUp)]
        known = earlier_rejections(self._specs[at], self._store, sent)
        if not known:
            return steps, [], missing
        steps = [each.failed(known[each.key]) if isinstance(each, FollowUp) and each.key in known else each
                   for each in steps]  # fmt: skip
        rejected, left = [], []
        for call in missing:
            key = next((key for key in (keys[call], plain.get(call, "")) if key in known), None)
            if key is None:
                left.append(call)
            else:
                rejected.append((call, Outcome(None, known[key], key, (), True)))
        return steps, rejected, left

    def _with_tokens(
        self, at: int, tokens: TokenQuestion, new: range, found: dict[str, StoredReply]
    ) -> dict[str, StoredReply]:
        """Replace the key of calls whose stored reply has no probabilities by a second key, and look those up."""
        keys = self._results.keys
        plain = [call for call in new if (e := found.get(keys[call])) is not None and not tokens.has_tokens(e)]
        later = self._known(at, [beside(keys[call]) for call in plain])
        for call in plain:
            if self._specs[at].options.cache != "only" or beside(keys[call]) in later:
                keys[call] = beside(keys[call])
        return found | later

    def _known(self, at: int, keys: list[str]) -> dict[str, StoredReply]:
        """Look up the replies that this run can use."""
        spec = self._specs[at]
        if self._store is None or spec.options.cache == "refresh" or not keys:
            return {}
        found = self._store.get_many(keys)
        known = {key: entry for key, entry in found.items() if entry.satisfies(spec.output_limit, spec.takes_empty)}
        if known and at not in self._checked_hosts:
            self._checked_hosts.add(at)
            _report_host(spec.target, next(iter(known.values())))
        return known


def earlier_rejections(spec: CallSpec, store: Store | None, keys: Sequence[str]) -> dict[str, Failure]:
    """Return the failures of calls that a provider has rejected before and that are not automatically sent again.

    With `cache="refresh"` there are none, since everything is sent.
    """
    if store is None or spec.options.cache == "refresh" or not keys:
        return {}
    found = store.rejected(keys)
    return {key: _with_time(call) for key, call in found.items() if _is_final(call)}


def _is_final(call: FailedCall) -> bool:
    """Return whether the call would be rejected again: the row itself was rejected, with a final status."""
    return call.about_row and call.failure.status in _FINAL_STATUS


def _with_time(call: FailedCall) -> Failure:
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(call.at))
    advice = (
        f" Rejected at {when} UTC and not sent again, since the request is the same; "
        f"{ways_to_send_again(str(call.failure.kind))} sends it."
    )
    return replace(call.failure, message=sentence(call.failure.message) + advice)


def is_own(key: str, shard: tuple[int, int] | None) -> bool:
    """Return whether a call belongs to this shard: *shard* is its number and the number of shards."""
    return shard is None or int.from_bytes(sha256(key.encode()).digest()[:8]) % shard[1] == shard[0]


def _report_host(target: ResolvedModel, entry: StoredReply) -> None:
    """Warn, once for each pair of hosts, that cached answers under a server's name came from another host."""
    if not target.host:
        return
    before = entry.metadata.get("host", "")
    hosts = (target.provider, before, target.host)
    if before and before != target.host and is_first_time("host", *hosts):
        logger.warning(
            "Answers in the cache under the name %r were made at %s, and it is at %s now. They are used, since a "
            "server is known by its name; give the new one a name of its own if it answers otherwise.",
            *hosts,
        )
