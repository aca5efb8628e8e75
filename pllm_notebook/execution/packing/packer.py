"""Packs: built from waiting calls, and split into the replies of their rows.

A pack is one call on the wire and one reply in the store; every row of it is a call of the table
with a key of its own. What a pack leaves open goes on as the row's plain call (`SingleCall`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from pllm_notebook.execution.call_spec import BYTES_PER_TOKEN, DEFAULT_OUTPUT_TOKENS, CallSpec
from pllm_notebook.execution.follow_ups import SingleCall, UnreadReply
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.packing.pack_reply import divide_usage, row_replies, row_text, split_reply
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.execution.row_source import RowSource
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Prompt
from pllm_notebook.prompts import packed
from pllm_notebook.protocols import Store
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish

__all__ = ["Pack", "Packer", "pack_text", "should_unpack"]

logger = logging.getLogger("pllm_notebook")


@dataclass(frozen=True, slots=True)
class Pack:
    """Calls that share one.

    Attributes:
        key: Of the packed call.
        calls: Indexes in the result table; their order is that of the items.
        text: The packed prompt, as JSON.
    """

    key: str
    calls: tuple[int, ...]
    text: bytes


def pack_text(asked: CallSpec, source: str, items: Sequence[bytes]) -> bytes:
    """Encode the prompt of a pack.

    Args:
        asked: `CallSpec.packed`.
        source: `Rows.source`.
        items: `Rows.items` of each row.
    """
    text = asked.encoded(packed(source, items))
    assert isinstance(text, bytes)  # every item has been encoded before
    return text


def should_unpack(failure: Failure) -> bool:
    """Return whether a pack that failed so is sent again row by row: one row may have caused it."""
    return not (failure.kind.retried or failure.kind.fatal)


class Packer:
    """Combine one run's calls into packs, and split the replies.

    Args:
        spec: The run's question; it packs.
        rows: The rows.
        results: The run's.
        prompt: Makes one row's prompt.
        store: Where the whole replies go, None to keep nothing.
    """

    def __init__(
        self,
        spec: CallSpec,
        rows: RowSource,
        results: ResultTable,
        prompt: Callable[[int], Prompt],
        store: Store | None,
    ) -> None:
        assert spec.pack is not None
        assert spec.packed is not None
        self.size = spec.pack
        self.pack_spec = spec.packed
        self._spec = spec
        self._rows = rows
        self._results = results
        self._prompt = prompt
        self._store = store

    def pack(self, calls: Sequence[int]) -> Pack:
        """Make one pack of *calls*, in their order."""
        items: list[bytes] = []
        for call in calls:
            row = self._results.first_row[call]
            items += self._rows.items(range(row, row + 1))
        text = pack_text(self.pack_spec, self._rows.source, items)
        return Pack(self.pack_spec.key(text), tuple(calls), text)

    def split_retries(self, calls: Sequence[int]) -> tuple[list[int], list[SingleCall]]:
        """Split the calls of a retry into those to pack again and those that failed, which go alone.

        What failed once it was sent may spoil a pack for its neighbours too.
        """
        outcomes = self._results.outcomes
        sent = [call for call in calls if (outcome := outcomes[call]) is not None and _was_sent(outcome)]
        alone = set(sent)
        return [call for call in calls if call not in alone], [self.alone(call) for call in sent]

    def tokens(self, pack: Pack) -> float:
        """Estimate what a pack takes of the token limit."""
        each = self._spec.options.max_output_tokens or DEFAULT_OUTPUT_TOKENS
        return self.pack_spec.size(pack.text) / BYTES_PER_TOKEN + each * len(pack.calls)

    def alone(self, call: int, metas: tuple[bytes, ...] = ()) -> SingleCall:
        """Return a row's own call."""
        row = self._results.first_row[call]
        encoded = self._spec.encoded(self._prompt(row))
        assert not isinstance(encoded, Failure)  # the plan has read it before
        return SingleCall(call, row, self._spec.plain_key(encoded), metas)

    def unpack_reply(
        self, pack: Pack, whole: StoredReply, schema_level: int
    ) -> tuple[list[UnreadReply], list[SingleCall]]:
        """Split a pack's reply into those of its rows, and put the whole of it into the store.

        Args:
            pack: What was asked.
            whole: The reply.
            schema_level: The level of structured output it was sent on.

        Returns:
            The rows' own replies, still to be stored, which bear the call's tokens and cost between them;
            and the rows to be asked alone, which bear them where no row was answered.
        """
        target, fitted = self._spec.target, self._spec.fitted
        parts = split_reply(whole.text.decode("utf-8", "surrogatepass"), whole.finish, len(pack.calls))
        if target.unenforced_schema and not parts.as_requested:
            # A server that enforced the schema could not have written this.
            target.quirks.note_odd_reply(self.pack_spec.schema_level, target.label, schema_level)
        texts = {}
        for place, answer in sorted(parts.answers.items()):
            text = row_text(answer, structured=fitted is not None, wrapped=fitted is not None and fitted.wrapped)
            if text is not None:
                texts[place] = text
        entries = row_replies(
            whole,
            texts,
            pack=self.size,
            pack_id=pack.key,
            output_limit=self._spec.output_limit,
            raw=whole.raw if self._store is None else b"",
        )
        self._keep(pack, whole, borne=bool(entries))
        replies, alone = [], []
        carried: list[tuple[bytes, ...]] = [()] * len(pack.calls)
        if not entries:
            carried = [(orjson.dumps(share),) for share in divide_usage(whole.metadata, len(pack.calls))]
        for place, call in enumerate(pack.calls):
            if place in entries:
                row, key = self._results.first_row[call], self._results.keys[call]
                replies.append(UnreadReply(call, key, entries[place], row, cached=False, schema_level=schema_level))
            else:
                alone.append(self.alone(call, carried[place]))
        if alone:
            logger.info("%s: %d of a pack's %d rows are asked alone", target.label, len(alone), len(pack.calls))
        return replies, alone

    def supersede(self, alone: SingleCall, entry: StoredReply) -> None:
        """Retire an older pack's answer to a row, now that a reply to the row alone has come.

        Where the cache is used, a pack that has an answer for the row is not asked again. Where it is refreshed, the
        older answer would stay, and be found before the reply of the row's own. What takes its place is the pack's
        answer cut off before its first token, which serves no row.

        Args:
            alone: What was asked.
            entry: Its reply, which was put into the store before: until it is there, the older answer stays.
        """
        key = self._results.keys[alone.call]
        if self._store is None or self._spec.options.cache != "refresh" or key not in self._store.get_many([key]):
            return
        metadata = entry.metadata | {"usage": None, "cost_usd": 0.0, "pack": self.size}
        self._put(self._store, key, StoredReply(Finish.TRUNCATED, b"", 0, 1, orjson.dumps(metadata), b""))

    def _keep(self, pack: Pack, whole: StoredReply, *, borne: bool) -> None:
        """Put the whole reply into the store, just before its rows', so that one group has them all."""
        if self._store is None:
            return
        metadata = whole.metadata | {"pack": self.size, "pack_cost_usd": whole.metadata["cost_usd"]}
        if borne:
            # Its rows bear it: what the answers of a cache have cost is a sum over its entries.
            metadata["cost_usd"] = 0.0
        kept = StoredReply(
            whole.finish, whole.text, whole.output_tokens, whole.output_limit, orjson.dumps(metadata), whole.raw
        )
        self._put(self._store, pack.key, kept)

    def _put(self, store: Store, key: str, entry: StoredReply) -> None:
        try:
            store.put(key, entry, _unless_lost)
        except Exception as error:  # a store that was closed under us; the rows' own say so to the person
            _unless_lost(error)


def _was_sent(outcome: Outcome) -> bool:
    return outcome.failure is None or outcome.failure.kind not in (FailureKind.BUDGET, FailureKind.NOT_CACHED)


def _unless_lost(error: BaseException | None) -> None:
    if error is not None:
        logger.warning("What a pack left besides its rows' answers cannot be saved; they are not touched: %s", error)
