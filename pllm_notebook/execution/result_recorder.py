"""The results of a run's calls to one model: replies are stored, failures are evaluated and recorded.

A reply is passed to the store at once, so that it is kept in any case. Replies on disk wait in groups for the loop of
`execute`. A rejected call is held until it is known whether the provider rejects only this row or every row.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property, partial

from pllm_notebook.engine import RunQueue
from pllm_notebook.exceptions import ProviderRejectedError, StoppedError
from pllm_notebook.execution.committed_replies import CommittedReplies
from pllm_notebook.execution.failure_recorder import FailureOrigin, FailureRecorder, full_message
from pllm_notebook.execution.follow_ups import FollowUp, SingleCall, UnreadReply, WiderCall
from pllm_notebook.execution.next_call import Tag
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.packing.packer import Pack, should_unpack
from pllm_notebook.execution.rejections import (
    RejectionTracker,
    row_rejection,
    shared_message,
    shared_rejection,
)
from pllm_notebook.execution.row_source import DerivedRows, RowSource
from pllm_notebook.execution.run_events import RunEvents
from pllm_notebook.execution.send_order import SendOrder
from pllm_notebook.execution.services import RunServices
from pllm_notebook.execution.stop import Halt, Reason, State, row_error
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.pending_call import CallResult
from pllm_notebook.redaction import redact
from pllm_notebook.schema import Misread
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish, Reply

__all__ = ["ResultRecorder"]

logger = logging.getLogger("pllm_notebook")


class ResultRecorder:
    """Process the results of one spec's calls. Used on the engine's loop.

    Args:
        order: The calls waiting to be sent, to which follow-up calls are added.
        services: Shared services, which the run does not own.
        rows: The rows.
        raises: Whether the first failed row ends the run.

    Attributes:
        open: Number of calls taken but not recorded: being sent, stored, read, or waiting for their tools.
        run_queue: The run's queue at the dispatcher.
        raises: Whether the first failed row ends the run.
        halted: Why nothing more is sent to this model, None if it is not halted. The first reason counts.
        fault: An internal error that ends the run, None for none.
        fails_with: The failure of each call that is not sent while the run continues; None while calls are sent.
        origin: Description of the origin of its failures, None for none.
        any_cached: Whether the store had a valid answer to any of its calls.
        replies: Replies that are being stored, or are on disk and not yet read.
        unasked: Number of rows that keep their first answer, since the second question was not sent.
        events: Sends events to listeners, None if there are none.
    """

    events: RunEvents | None = None
    origin: FailureOrigin | None = None

    def __init__(self, order: SendOrder, services: RunServices, rows: RowSource, *, raises: bool) -> None:
        store = services.store
        self.order = order
        self.spec, self.results = order.spec, order.results
        self.open = 0
        self.run_queue: RunQueue
        self.raises = raises
        self.halted: Halt | None = None
        self.fault: Exception | None = None
        self.fails_with: Failure | None = None
        self.any_cached = False
        self.unasked = 0
        self.rejections = RejectionTracker(at_once=raises)
        self._rows = rows
        self._store = store
        self.replies = CommittedReplies(store, services.engine, self._note_unsaved)

    @cached_property
    def failures(self) -> FailureRecorder:
        """The recorder of its calls' failures, created with the first one."""
        return FailureRecorder(self.spec, self._store, self.order.prompt, self._rows, self.origin)

    def reset(self) -> None:
        """Reset for a retry: not halted, and no call is held."""
        self.halted = self.fault = self.fails_with = None
        self.unasked = 0
        self.rejections = RejectionTracker(at_once=self.raises)
        self.replies.over = False

    def halt(self, state: State, reason: Reason) -> None:
        """Send nothing more, for *reason*. The loop of `execute` decides the consequences for the run."""
        if self.halted is None:
            self.halted = Halt(state, reason)
        self.replies.wake()

    def fail_all(self, failure: Failure) -> None:
        """Fail all waiting and later calls with *failure*. They are not sent."""
        self.fails_with = failure
        for call, outcome in self.order.drain(failure):
            self.record_unsent(call, outcome)

    def fail(self, error: Exception) -> None:
        """End the run because of an internal error."""
        self.fault = self.fault or error
        self.halt("failed", error)

    def record(self, call: int, outcome: Outcome, *, raises: bool = True) -> None:
        """Record the outcome of a call. From here on its rows are reported as done.

        Args:
            call: Index in the table.
            outcome: The outcome.
            raises: Whether a failure ends a run that stops at its first one; False if something else ends it.
        """
        self.results.record(call, outcome)
        self.order.release_claims(call)
        if outcome.failure is None:
            self.any_cached = self.any_cached or outcome.cached
        else:
            self.replies.wake()
            row = self.results.first_row[call]
            position = self._rows.position_of(row) if isinstance(self._rows, DerivedRows) else row
            # Log only the kind: a row's text, or a provider's quote of it, must not go into a log.
            logger.info(
                "%s: row %s failed: %s (status %s)",
                self.spec.target.label, position, outcome.failure.kind, outcome.failure.status,
            )  # fmt: skip
            if raises:
                self.raise_at(row, outcome.failure)

    def record_unsent(self, call: int, outcome: Outcome) -> None:
        """Record a call that is not sent. If it was a second question, *outcome* is the first answer."""
        if outcome.failure is None:
            self.unasked += self.results.weight[call]
            self.replies.wake()
        self.record(call, outcome)

    def raise_at(self, row: int, failure: Failure) -> None:
        """Stop at a failed row if the caller requested that."""
        if self.raises:
            self.halt("failed", row_error(row, failure))

    def note_failure(self, reply: UnreadReply, outcome: Outcome, failure: Failure) -> None:
        """Store the failure of a reply that was read for the first time."""
        if not outcome.cached:
            self.failures.note(outcome.key, reply.row, failure, reply.dialogue)

    def fail_unsent(self, call: int, failure: Failure) -> None:
        """Record the failure of a call that was not sent."""
        self.record(call, Outcome(None, failure, self.results.keys[call], (), False))

    # Replies.

    def take_unsent(self) -> None:
        """Process calls that left the order without being sent: answered by others, or impossible to send."""
        found, self.order.found = self.order.found, []
        unsendable, self.order.unsendable = self.order.unsendable, []
        self.open += len(found)
        for each in found:
            self.take_reply(each.key, each.reply, stored=each.is_stored)
        for call, failure in unsendable:
            self.fail_unsent(call, failure)

    def take_reply(self, key: str, reply: UnreadReply, *, stored: bool = False) -> None:
        """Store one reply. It cannot be cancelled from here on.

        Args:
            key: Key of the reply.
            reply: The reply. Its call is open until it is recorded.
            stored: Whether it is already on disk, possibly written by another process.
        """
        # A reply that cannot answer a later call must not replace one that can.
        fresh = self.spec.options.cache != "refresh" or reply.entry.usable(self.spec.takes_empty)
        self.replies.put(key, reply, keeps=fresh and not stored)

    def drop_committed(self) -> None:
        """Drop the replies that are on disk and have not been read: their rows stay pending."""
        self.open -= len(self.replies.take())
        self.replies.wake()

    def _note_unsaved(self, reply: UnreadReply) -> None:
        self.results.unsaved += self.results.weight[reply.call]
        if self.order.has_calls or not self.results.planned:
            # Replies paid for from here on could not be stored either.
            self.halt("failed", self._incomplete)

    def check_store(self) -> None:
        """Stop if the cache cannot be written: new replies would be paid for but lost."""
        if self._store is not None and (reason := self._store.unwritable):
            self.halt("failed", partial(StoppedError, reason))

    def _incomplete(self, *, kept: int, total: int) -> StoppedError:
        message = (
            f"incomplete: {self.results.unsaved:,} unsaved. The cache cannot be written, so no more calls were sent; "
            f"the answers that it lacks are in this run alone."
        )
        return StoppedError(message, kept=kept, total=total)

    def take_result(self, key: str, tag: Tag, schema_level: int, result: CallResult, cost_usd: float | None) -> None:
        """Process the result of a call.

        Args:
            key: Key of the call.
            tag: Purpose of the call.
            schema_level: The schema level at which it was sent.
            result: The reply or failure, with its attempts and charges.
            cost_usd: Cost of the reply or of the failed requests in US dollars; None if unknown.
        """
        if self.events is not None:
            prompt = partial(self.order.prompt, self.results.first_row[tag]) if isinstance(tag, int) else None
            self.events.call_ended(self.spec, result, cost_usd, prompt)
        reply = result.result
        if isinstance(reply, Failure):
            self._take_failure(tag, reply, result, cost_usd)
            return
        self.order.recheck.own_replies += 1
        cut = _cut_by_budget(reply, result.output_limit)
        entry = self._entry(tag, reply, result, cost_usd, cut=cut)
        self.rejections.success()
        if self.rejections.held:
            self.fail_rejected(among_answers=True)
        if entry is None:
            self.replies.wake()
        elif isinstance(tag, Pack):
            self._take_pack(tag, entry, schema_level)
        elif cut:
            self._ask_for_more(key, tag, entry)
        elif isinstance(tag, int):
            self.take_reply(
                key, UnreadReply(tag, key, entry, self.results.first_row[tag], cached=False, schema_level=schema_level)
            )
        else:
            self.take_reply(key, tag.arrived(entry, schema_level))
            if self.order.packing is not None and isinstance(tag, SingleCall):
                self.order.packing.supersede(tag, entry)

    def _entry(
        self, tag: Tag, reply: Reply, result: CallResult, cost_usd: float | None, *, cut: bool
    ) -> StoredReply | None:
        """Return the stored form of a reply; None if it cannot be stored, and its rows have failed."""
        assert result.raw is not None
        target = self.spec.target
        spec = self.order.packing.pack_spec if self.order.packing is not None and isinstance(tag, Pack) else self.spec
        try:
            if spec.output is not None and spec.output.questions and reply.finish is Finish.COMPLETE:
                spec.output.check(reply.text)
            return StoredReply.of(
                reply,
                result.raw.body if spec.tokens is None else spec.tokens.kept(result.raw.body, reply.text),
                asked=target.label,
                output_limit=result.output_limit if cut else spec.output_limit,
                cost_usd=cost_usd,
                latency_s=result.latency_s,
                attempts=result.attempts,
                host=target.host,
            )
        except Misread as error:  # an error of the endpoint: only its row fails, and nothing is logged
            self._reject_reply(tag, reply, result, str(error))
            return None
        except Exception as error:  # its metadata cannot be encoded: only its row fails, possibly paid for
            logger.exception("A reply could not be taken in")
            self._reject_reply(tag, reply, result, f"{type(error).__name__}: {error}")
            return None

    def _reject_reply(self, tag: Tag, reply: Reply, result: CallResult, why: str) -> None:
        """Fail the rows of a reply that cannot be stored and was possibly paid for."""
        message = redact(f"The reply could not be taken in: {why}"[:500])
        self.open -= 1
        self._fail(tag, Failure(FailureKind.MALFORMED, message, 200, reply.text[:2000], result.attempts, cost_usd=None))

    def _take_pack(self, pack: Pack, entry: StoredReply, schema_level: int) -> None:
        assert self.order.packing is not None
        replies, alone = self.order.packing.unpack_reply(pack, entry, schema_level)
        self.order.push(*alone)
        self.open += len(replies) - 1
        self.order.recheck.keep_first(replies)
        for reply in replies:
            self.take_reply(reply.key, reply)
        self.replies.wake()

    def _ask_for_more(self, key: str, tag: int | FollowUp, entry: StoredReply) -> None:
        """Send a call again whose answer was cut off at a limit set by the budget."""
        call = tag if isinstance(tag, int) else tag.call
        before = tag.metas if isinstance(tag, WiderCall) else ()
        inner = tag.inner if isinstance(tag, WiderCall) else tag if isinstance(tag, FollowUp) else None
        row = self.results.first_row[call]
        self.open -= 1
        self.order.push(WiderCall(call, row, key, entry.output_limit, (*before, entry.meta), inner))
        self.replies.wake()

    # Failures.

    def _take_failure(self, tag: Tag, failure: Failure, result: CallResult, cost_usd: float | None) -> None:
        self.open -= 1
        message = redact(full_message(failure))
        if result.over_budget:
            message += (
                " It was not tried again: with what may have been paid for it already, one more request could have "
                f"passed max_cost_usd={self.spec.options.max_cost_usd:g}."
            )
        cost = None if result.maybe_paid else cost_usd
        failure = replace(failure, message=message, attempts=result.attempts, cost_usd=cost)
        if self.rejections.holds(failure):
            self.rejections.hold(tag, failure)
        else:
            self._fail(tag, failure)
        self.settle_rejections()
        self.replies.wake()

    @property
    def may_answer(self) -> int:
        """Number of calls whose answer could still show that a rejection does not affect every row."""
        return self.open - self.run_queue.adapted if self.rejections.suspected is not None else self.open

    def settle_rejections(self) -> None:
        """Decide about rejected calls, once no missing result could change the decision."""
        rejections = self.rejections
        if not rejections.held or self.halted is not None:
            return
        if self.may_answer and not rejections.at_once:
            return
        over = self.results.planned and not self.order.has_calls
        shared = rejections.verdict(over=over, known=self.any_cached)
        if shared is not None:
            self._stop_at(shared)
        elif over or rejections.at_once:
            self.fail_rejected(among_answers=rejections.answered)

    def fail_rejected(self, *, among_answers: bool) -> None:
        """Fail the held calls individually.

        Args:
            among_answers: Whether other calls were answered, so that the rejection is known to concern the row.
        """
        for tag, failure in self.rejections.release():
            self._fail(tag, row_rejection(failure), about_row=among_answers)

    def _stop_at(self, rejection: Failure) -> None:
        """Stop because of a rejection that affects every row. The next run sends the held calls."""
        held = self.rejections.release()
        for tag, failure in held:
            self._fail(tag, shared_rejection(failure), about_row=False, raises=False)
        rejection = shared_rejection(rejection)
        message = shared_message(self.spec.target.label, rejection, len(held))
        logger.error("%s", message)
        self.halt("failed", partial(ProviderRejectedError, message, kind=rejection.kind, status=rejection.status))

    def _fail(self, tag: Tag, failure: Failure, *, about_row: bool = True, raises: bool = True) -> None:
        if failure.kind is FailureKind.CANCELLED:
            return  # the row stays pending, since its answer is unknown
        if isinstance(tag, FollowUp):
            row = self.results.first_row[tag.call]
            self.failures.note(tag.key, row, failure, tag.dialogue, about_row=about_row)
            self.record(tag.call, tag.failed(failure), raises=raises)
        elif isinstance(tag, Pack) and self.order.packing is not None and should_unpack(failure):
            self.order.push(*map(self.order.packing.alone, tag.calls))
        else:
            for call in tag.calls if isinstance(tag, Pack) else (tag,):
                key = self.results.keys[call]
                self.failures.note(key, self.results.first_row[call], failure, about_row=about_row)
                self.record(call, Outcome(None, failure, key, (), False), raises=raises)


def _cut_by_budget(reply: Reply, limit: int | None) -> bool:
    """Return whether an answer was cut off at *limit*, set by the budget; None for no such limit.

    A model that stops far below it has reached a limit of its own, and would reach it again.
    """
    if limit is None or reply.finish is not Finish.TRUNCATED:
        return False
    return reply.usage is None or 2 * reply.usage.output_tokens >= limit
