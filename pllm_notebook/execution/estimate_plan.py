"""Find the calls that a run would send, before any is sent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from pllm_notebook.execution.call_spec import CallSpec, EncodedPrompt
from pllm_notebook.execution.follow_ups import NextTurn, UnreadReply
from pllm_notebook.execution.packing.packer import pack_text
from pllm_notebook.execution.plan import earlier_rejections
from pllm_notebook.execution.replies import ReplyParser
from pllm_notebook.execution.row_source import QuotedRows, RowSource
from pllm_notebook.execution.token_question import beside
from pllm_notebook.execution.wire_body import MediaBody
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Prompt
from pllm_notebook.protocols import Store
from pllm_notebook.stored_reply import StoredReply

__all__ = ["EstimatePlan"]

# Maximum calls, and maximum bytes of their files, that are looked up at a time.
_CHUNK = 5_000
_MOST_BYTES = 16 * 2**20
_REPLIES = 200


class EstimatePlan:
    """Iterate over the rows once and yield the requests that would be sent. Sends nothing; reads the store.

    Args:
        spec: The spec of the calls.
        rows: The rows.
        store: The store, None to assume that nothing is cached.
        pending: Returns which keys already wait in batch jobs.

    Attributes:
        skipped: Number of rows with a missing value. All counts are complete at the end of the iteration.
        unsendable: Number of rows that would fail before sending.
        sendable: Number of rows that can be sent.
        distinct: Number of calls of those rows; equal rows share one.
        cached: Number of these calls that the store answers.
        rejected: Number of these calls that a provider has rejected and that are not automatically sent again.
        pending: Number of these calls that wait in batch jobs.
        calls: Number of these calls that would be sent.
        replies: The first stored replies to these calls.
        lacking: Number of calls answered by the store that would be repeated because of missing evidence.
    """

    def __init__(
        self,
        spec: CallSpec,
        rows: RowSource,
        store: Store | None,
        pending: Callable[[list[str]], Collection[str]] = lambda keys: (),
    ) -> None:
        self._spec = spec
        self._rows = rows
        self._store = store
        self._waiting = pending
        self.skipped = self.unsendable = self.sendable = self.distinct = 0
        self.cached = self.rejected = self.pending = self.calls = self.lacking = 0
        spec.evidence = rows.evidence if isinstance(rows, QuotedRows) else None
        self.replies: list[StoredReply] = []

    def requests(self) -> Iterator[tuple[CallSpec, EncodedPrompt]]:
        """Yield each request with its spec; if rows share calls, the requests and spec of whole packs."""
        spec = self._spec
        items: list[bytes] = []
        for row, encoded in self._calls():
            if spec.pack is None or spec.packed is None:
                yield spec, encoded
                continue
            items += self._rows.items(range(row, row + 1))
            if len(items) == spec.pack:
                yield spec.packed, pack_text(spec.packed, self._rows.source, items)
                items = []
        if items and spec.packed is not None:  # the last pack is not full
            yield spec.packed, pack_text(spec.packed, self._rows.source, items)

    def _calls(self) -> Iterator[tuple[int, EncodedPrompt]]:
        for new in self._new():
            self.distinct += len(new)
            left = self._left(new)
            self.calls += len(left)
            del new
            left.reverse()
            while left:  # release each before the next group is built
                yield left.pop()

    def _new(self) -> Iterator[dict[str, tuple[int, EncodedPrompt]]]:
        """Yield the calls that no earlier row has, by key, in groups that are looked up together."""
        seen: set[str] = set()
        for start in range(0, self._rows.total, _CHUNK):
            chunk = range(start, min(start + _CHUNK, self._rows.total))
            new: dict[str, tuple[int, EncodedPrompt]] = {}
            held = 0
            for row, prompt in zip(chunk, self._rows.prompts(chunk), strict=True):
                if prompt is None:
                    self.skipped += 1
                    continue
                encoded = prompt if isinstance(prompt, Failure) else self._spec.encoded(prompt)
                if isinstance(encoded, Failure):
                    self.unsendable += 1
                    continue
                self.sendable += 1
                key = self._spec.key(encoded)
                if key in seen:
                    continue
                seen.add(key)
                new[key] = row, encoded
                held += encoded.uncounted if isinstance(encoded, MediaBody) else 0
                if held >= _MOST_BYTES:
                    yield new
                    new, held = {}, 0
            if new:
                yield new

    def _left(self, new: Mapping[str, tuple[int, EncodedPrompt]]) -> list[tuple[int, EncodedPrompt]]:
        """Return the calls that would be sent, in order, and count the others."""
        known = self._known(new)
        if len(self.replies) < _REPLIES:
            self.replies += list(known.values())[:_REPLIES]
        hits = {key for key, entry in known.items() if entry.satisfies(self._spec.output_limit, self._spec.takes_empty)}
        rejected = self._rejected(new, hits)
        waiting = set(self._waiting([key for key in new if key not in hits and key not in rejected]))
        self.cached += len(hits)
        if self._spec.evidence is not None:
            self.lacking += self._lacking({key: (new[key][0], known[key]) for key in hits})
        self.rejected += len(rejected)
        self.pending += len(waiting)
        return [call for key, call in new.items() if key not in hits and key not in rejected and key not in waiting]

    def _lacking(self, known: Mapping[str, tuple[int, StoredReply]]) -> int:
        """Return the number of stored answers that a run would request again."""
        replies = [UnreadReply(0, key, entry, row) for key, (row, entry) in known.items()]
        steps = ReplyParser(self._spec, self._store, self._prompt).read(replies)
        return sum(isinstance(step, NextTurn) and step.first is not None for step in steps)

    def _prompt(self, row: int) -> Prompt:
        (prompt,) = self._rows.prompts(range(row, row + 1))
        assert prompt is not None
        assert not isinstance(prompt, Failure)  # it has a key
        return prompt

    def _known(self, new: Mapping[str, tuple[int, EncodedPrompt]]) -> dict[str, StoredReply]:
        """Look up stored replies. If there is none from a pack, a row's own answer is used."""
        spec, store = self._spec, self._store
        if store is None or spec.options.cache == "refresh":
            return {}
        known = store.get_many(list(new))
        if spec.tokens is not None:
            bare = [key for key, entry in known.items() if not spec.tokens.has_tokens(entry)]
            found = store.get_many([beside(key) for key in bare])
            for key in bare:
                known.pop(key)
                if (entry := found.get(beside(key))) is not None:
                    known[key] = entry
        if spec.pack is not None:
            left = [
                key for key in new if key not in known or not known[key].satisfies(spec.output_limit, spec.takes_empty)
            ]
            plain = {spec.plain_key(new[key][1]): key for key in left}
            known |= {plain[key]: entry for key, entry in store.get_many(list(plain)).items()}
        return known

    def _rejected(self, new: Mapping[str, tuple[int, EncodedPrompt]], hits: Collection[str]) -> set[str]:
        """Return the keys of calls that were rejected, in a pack or alone."""
        left = {key: key for key in new if key not in hits}
        if self._spec.pack is not None:
            left |= {self._spec.plain_key(new[key][1]): key for key in list(left)}
        return {left[key] for key in earlier_rejections(self._spec, self._store, list(left))}
