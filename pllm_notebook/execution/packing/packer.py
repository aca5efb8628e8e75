"""Build packs from waiting calls, and split their replies into the replies of their rows.

A pack is one call on the wire and one reply in the store. Each of its rows is a separate call in the result table, with
its own key. A row that a pack leaves unanswered is sent alone (`SingleCall`).
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
    """Calls that are sent in one request.

    Attributes:
        key: Key of the packed call.
        calls: Indexes in the result table, in the order of the items.
        text: The packed prompt, as JSON.
    """

    key: str
    calls: tuple[int, ...]
    text: bytes


def pack_text(asked: CallSpec, source: str, items: Sequence[bytes]) -> bytes:
    """Encode the prompt of a pack.

    Args:
        asked: The pack's spec (`CallSpec.packed`).
        source: The rows' template (`Rows.source`).
        items: One item for each row (`Rows.items`).
    """
    text = asked.encoded(packed(source, items))
    assert isinstance(text, bytes)  # every item was encoded when its row was planned
    return text


def should_unpack(failure: Failure) -> bool:
    """Return whether the rows of a failed pack are sent one by one, since one row may have caused the failure."""
    return not (failure.kind.retried or failure.kind.fatal)


class Packer:
    """Combine one run's calls into packs, and split the replies.

    Args:
        spec: The spec of the calls, with `pack` set.
        rows: The rows.
        results: The run's results.
        prompt: Builds one row's prompt.
        store: Keeps the replies to whole packs, None to keep nothing.
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
        """Build one pack from *calls*, in order."""
        items: list[bytes] = []
        for call in calls:
            row = self._results.first_row[call]
            items += self._rows.items(range(row, row + 1))
        text = pack_text(self.pack_spec, self._rows.source, items)
        return Pack(self.pack_spec.key(text), tuple(calls), text)

    def split_retries(self, calls: Sequence[int]) -> tuple[list[int], list[SingleCall]]:
        """Split the calls of a retry into those to pack and those to send alone.

        A call that failed after it was sent goes alone, since it could make a pack fail for the other rows too.
        """
        outcomes = self._results.outcomes
        sent = [call for call in calls if (outcome := outcomes[call]) is not None and _was_sent(outcome)]
        alone = set(sent)
        return [call for call in calls if call not in alone], [self.alone(call) for call in sent]

    def tokens(self, pack: Pack) -> float:
        """Estimate how many tokens a pack takes, for the token limit."""
        each = self._spec.options.max_output_tokens or DEFAULT_OUTPUT_TOKENS
        return self.pack_spec.size(pack.text) / BYTES_PER_TOKEN + each * len(pack.calls)

    def alone(self, call: int, metas: tuple[bytes, ...] = ()) -> SingleCall:
        """Return the call that sends a row alone."""
        row = self._results.first_row[call]
        encoded = self._spec.encoded(self._prompt(row))
        assert not isinstance(encoded, Failure)  # the plan has encoded it before
        return SingleCall(call, row, self._spec.plain_key(encoded), metas)

    def unpack_reply(
        self, pack: Pack, whole: StoredReply, schema_level: int
    ) -> tuple[list[UnreadReply], list[SingleCall]]:
        """Split the reply to a pack into the replies of its rows, and store the whole reply.

        Args:
            pack: The pack.
            whole: The reply.
            schema_level: The level of structured output that the request used.

        Returns:
            The rows' replies, not yet stored, which share the call's tokens and cost; and the calls for rows to send
            alone, which share them if no row was answered.
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
        """Replace an older pack's answer to a row after the row was answered alone. Does so only with cache="refresh".

        Otherwise a row with an answer from a pack is not sent again. With cache="refresh", the older answer would stay
        in the store and be found before the row's own reply. It is replaced by an answer that was cut off before its
        first token, which no row can use.

        Args:
            alone: The row's own call.
            entry: The reply to it, which was put into the store first, so that the row always has an answer there.
        """
        key = self._results.keys[alone.call]
        if self._store is None or self._spec.options.cache != "refresh" or key not in self._store.get_many([key]):
            return
        metadata = entry.metadata | {"usage": None, "cost_usd": 0.0, "pack": self.size}
        self._put(self._store, key, StoredReply(Finish.TRUNCATED, b"", 0, 1, orjson.dumps(metadata), b""))

    def _keep(self, pack: Pack, whole: StoredReply, *, borne: bool) -> None:
        """Store the whole reply just before the replies of its rows, so that one commit contains all of them."""
        if self._store is None:
            return
        metadata = whole.metadata | {"pack": self.size, "pack_cost_usd": whole.metadata["cost_usd"]}
        if borne:
            # The rows' entries have the cost: the total cost of a cache is the sum over its entries.
            metadata["cost_usd"] = 0.0
        kept = StoredReply(
            whole.finish, whole.text, whole.output_tokens, whole.output_limit, orjson.dumps(metadata), whole.raw
        )
        self._put(self._store, pack.key, kept)

    def _put(self, store: Store, key: str, entry: StoredReply) -> None:
        try:
            store.put(key, entry, _unless_lost)
        except Exception as error:  # the store was closed; the user hears of it when the rows' replies are stored
            _unless_lost(error)


def _was_sent(outcome: Outcome) -> bool:
    return outcome.failure is None or outcome.failure.kind not in (FailureKind.BUDGET, FailureKind.NOT_CACHED)


def _unless_lost(error: BaseException | None) -> None:
    if error is not None:
        logger.warning("What a pack left besides its rows' answers cannot be saved; they are not touched: %s", error)
