"""From a call that has landed to an outcome in the books: stored, read, taken apart, and asked further."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pllm_notebook.engine import Engine, Landing
from pllm_notebook.exceptions import ProviderRejectedError, StoppedError, sentence
from pllm_notebook.execution.backlog import Backlog
from pllm_notebook.execution.books import Books
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.ending import Ending, Owner
from pllm_notebook.execution.failure_recorder import FailureRecorder, full_message
from pllm_notebook.execution.intake import Intake
from pllm_notebook.execution.meanwhile import Meanwhile
from pllm_notebook.execution.outcomes import Outcome
from pllm_notebook.execution.packing.packer import Pack, Packer, should_unpack
from pllm_notebook.execution.rejections import RejectionTracker, row_rejection, shared_rejection
from pllm_notebook.execution.settle import Alone, Arrival, Calling, Repair, Settled, Wider
from pllm_notebook.execution.watched import watched
from pllm_notebook.execution.workshop import Workshop
from pllm_notebook.messages_types import Prompt
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind, Finish, Reply
from pllm_notebook.redaction import redact
from pllm_notebook.stored_reply import StoredReply

__all__ = ["Reception"]

logger = logging.getLogger("pllm_notebook")


class Reception:
    """Receive what one run's calls ended with. Used on the engine's loop alone.

    Args:
        ask: The question.
        engine: Whose loop and workers read replies.
        store: None to keep nothing.
        prompt: Makes one row's prompt, for repair turns.
        ending: Whether something stops the run already.
        books: The run's.
        backlog: Takes what must be asked further.
        packing: None where each row has a call of its own.
        failures: What failed calls leave in the store.
        meanwhile: Told of the run's own replies.
        refusals: Holds refused calls until it can be told whether every row would be refused.
        owner: The run, which ends when the provider refuses it as a whole or answers cannot be saved.
        worked: Called when the last of the tools that ran has ended: what gathers calls may now have them all.
    """

    def __init__(
        self,
        ask: CallSpec,
        engine: Engine,
        store: Store | None,
        prompt: Callable[[int], Prompt],
        *,
        ending: Ending,
        books: Books,
        backlog: Backlog,
        packing: Packer | None,
        failures: FailureRecorder,
        meanwhile: Meanwhile,
        rejections: RejectionTracker,
        owner: Owner,
        worked: Callable[[], None],
    ) -> None:
        self._ask = ask
        self._ending = ending
        self._books = books
        self._ledger = books.ledger
        self._backlog = backlog
        self._packer = packing
        self._failures = failures
        self._meanwhile = meanwhile
        self._rejections = rejections
        self._owner = owner
        self._worked = worked
        self._intake = Intake(ask, engine, store, prompt, self._take_settled, self._take_unsaved, self.fail)
        self._workshop = Workshop(ask, engine, store, prompt, self._take_worked)

    @property
    def working(self) -> int:
        """Replies whose tools are being run: a further call comes of most of them."""
        return self._workshop.working

    def landed(
        self, key: str, tag: int | Repair | Pack, schema_level: int, landing: Landing, cost_usd: float | None
    ) -> None:
        """Take what a call ended with (see `Landed`)."""
        result = landing.result
        if isinstance(result, Failure):
            self._books.open -= 1
            told = redact(full_message(result)) + (self._no_money_left() if landing.short else "")
            paid = None if landing.maybe_paid else result.cost_usd
            failure = replace(result, message=told, attempts=landing.attempts, cost_usd=paid)
            if self._rejections.holds(failure):
                self._rejections.hold(tag, failure)
            else:
                self._fail(tag, failure)
            self._owner.go_on()
            return
        self._meanwhile.own_reply()
        self._rejections.success()
        if self._rejections:
            self._let_fail(among_answers=True)
        assert landing.raw is not None
        asked = self._packer.asked if self._packer is not None and isinstance(tag, Pack) else self._ask
        cut = cut_by_us(result, landing.output_limit)
        try:
            entry = StoredReply.of(
                result,
                landing.raw.body,
                asked=self._ask.target.label,
                output_limit=landing.output_limit if cut else asked.output_limit,
                cost_usd=cost_usd,
                latency_s=landing.latency_s,
                attempts=landing.attempts,
                host=self._ask.target.host,
            )
        except Exception as error:  # what it says of itself cannot be written: its row's failure, and perhaps paid
            logger.exception("A reply could not be taken in")
            told = redact(f"The reply could not be taken in: {type(error).__name__}: {error}"[:500])
            self._books.open -= 1
            failure = Failure(FailureKind.MALFORMED, told, 200, result.text[:2000], landing.attempts, cost_usd=None)
            self._fail(tag, failure)
            self._owner.go_on()
            return
        if isinstance(tag, Pack):
            self._take_pack(tag, entry, schema_level)
        elif cut:
            self._ask_again(key, tag, entry)
        elif isinstance(tag, int):
            self.take(
                key, Arrival(tag, key, entry, self._ledger.first_row[tag], cached=False, schema_level=schema_level)
            )
        else:
            self.take(key, tag.arrived(entry, schema_level))
            if self._packer is not None and isinstance(tag, Alone):
                self._packer.supersede(tag, entry)

    def _ask_again(self, key: str, tag: int | Repair, entry: StoredReply) -> None:
        """Send a call again whose answer was cut off at a limit that a ceiling on cost had set."""
        call = tag if isinstance(tag, int) else tag.call
        before = tag.metas if isinstance(tag, Wider) else ()
        inner = tag.inner if isinstance(tag, Wider) else tag if isinstance(tag, Repair) else None
        row = self._ledger.first_row[call]
        self._books.open -= 1
        self._backlog.repair([Wider(call, row, key, entry.output_limit, (*before, entry.meta), inner)])
        self._owner.go_on()

    def take(self, key: str, arrival: Arrival, *, stored: bool = False) -> None:
        """Store and read one answer, whoever brought it; its call is open in the books until then."""
        self._intake.take(key, arrival, stored=stored)

    def run_tools(self, calling: Calling) -> None:
        """Run what a stored reply calls; its call is open in the books until then."""
        self._books.open += 1
        self._take_settled([(calling.arrival, calling)])

    def let_go(self) -> None:
        """Wait for no tool any longer: the run is to end, and a row whose tool still runs stays pending."""
        self._books.open -= self._workshop.let_go()

    def let_go_of_reading(self) -> None:
        """Wait no longer for replies that are being read; their rows stay pending, and the store has them."""
        self._books.open -= self._intake.let_go()

    def fail(self, error: Exception) -> None:
        """End the run by a fault of ours (see `watched`)."""
        self._owner.fail(error)

    def _take_pack(self, pack: Pack, entry: StoredReply, schema_level: int) -> None:
        assert self._packer is not None
        arrivals, alone = self._packer.unpack_reply(pack, entry, schema_level)
        self._backlog.repair(alone)
        self._books.open += len(arrivals) - 1
        self._meanwhile.keep_first(arrivals)
        for arrival in arrivals:
            self.take(arrival.key, arrival)
        self._owner.go_on()

    @watched
    def _take_settled(self, settled: list[tuple[Arrival, Settled]]) -> None:
        """Take what has been stored and read."""
        for arrival, outcome in settled:
            if isinstance(outcome, Calling) and self._ending.stopping is None:
                self._workshop.take(outcome)
                continue
            self._books.open -= 1
            if isinstance(outcome, Calling):
                continue  # the row stays pending
            if isinstance(outcome, Outcome):
                if outcome.failure is not None and not outcome.cached:
                    self._failures.note(outcome.key, arrival.row, outcome.failure, arrival.said)
                self._books.record(arrival.call, outcome)
            else:
                self._backlog.repair((outcome,))
        self._owner.go_on()

    def _take_worked(self, settled: list[tuple[Arrival, Settled]]) -> None:
        self._take_settled(settled)
        if not self._workshop.working:
            self._worked()

    @watched
    def _take_unsaved(self, arrival: Arrival) -> None:
        self._books.unsaved += self._ledger.weight[arrival.call]
        if self._backlog or not self._books.planned:
            # What is paid for from here on could not be kept either.
            self._owner.stop("failed", self._incomplete)

    def _incomplete(self, *, kept: int, total: int) -> StoppedError:
        message = (
            f"incomplete: {self._books.unsaved:,} unsaved. The cache cannot be written, so no more calls were sent; "
            f"the answers that it lacks are in this run alone."
        )
        return StoppedError(message, kept=kept, total=total)

    # Failures.

    def judge(self) -> None:
        """Decide about calls that were refused, once nothing is out that could tell more."""
        rejections = self._rejections
        if not rejections or self._ending.stopping is not None:
            return
        if self._books.open and not rejections.at_once:
            return
        over = self._books.planned and not self._backlog
        met_by_all = rejections.verdict(over=over, known=self._books.throughput.cached > 0)
        if met_by_all is not None:
            self._reject(met_by_all)
        elif over or rejections.at_once:
            self._let_fail(among_answers=rejections.answered)

    def _let_fail(self, *, among_answers: bool) -> None:
        """Let the calls that are held fail by themselves.

        Args:
            among_answers: Whether others were answered, so that the refusal is known to be about the row.
        """
        for tag, failure in self._rejections.release():
            self._fail(tag, row_rejection(failure), about_row=among_answers)

    def _reject(self, refusal: Failure) -> None:
        """End the run by a refusal that every row would meet; what is held is sent by the next run."""
        held = self._rejections.release()
        for tag, failure in held:
            self._fail(tag, shared_rejection(failure), about_row=False, raises=False)
        refusal = shared_rejection(refusal)
        how = "what every row sends" if refusal.kind is FailureKind.REJECTED else f"({refusal.kind.replace('_', ' ')})"
        message = f"{self._ask.target.label} refused {how}: {refusal.message}"
        if len(held) > 1:
            told = f"{len(held):,} calls were refused with no answer between, so the rest was not sent."
            message = f"{sentence(message)} {told}"
        logger.error("%s", message)
        self._owner.stop("failed", partial(ProviderRejectedError, message, kind=refusal.kind, status=refusal.status))

    def _fail(self, tag: int | Repair | Pack, failure: Failure, *, about_row: bool = True, raises: bool = True) -> None:
        if failure.kind is FailureKind.CANCELLED:
            return  # the row stays pending: nobody knows its answer
        if isinstance(tag, Repair):
            row = self._ledger.first_row[tag.call]
            self._failures.note(tag.key, row, failure, tag.said, about_row=about_row)
            self._books.record(tag.call, tag.failed(failure), raises=raises)
        elif isinstance(tag, Pack) and self._packer is not None and should_unpack(failure):
            self._backlog.repair(map(self._packer.alone, tag.calls))
        else:
            for call in tag.calls if isinstance(tag, Pack) else (tag,):
                key = self._ledger.keys[call]
                self._failures.note(key, self._ledger.first_row[call], failure, about_row=about_row)
                self._books.record(call, Outcome(None, failure, key, (), False), raises=raises)

    def _no_money_left(self) -> str:
        return (
            " It was not tried again: with what may have been paid for it already, one more request could have passed "
            f"max_cost_usd={self._ask.options.max_cost_usd:g}."
        )


def cut_by_us(reply: Reply, limit: int | None) -> bool:
    """Return whether an answer was cut off at *limit*, which a ceiling on cost had set; None for no such limit.

    A model that ends far below it has met a limit of its own, and would meet it again.
    """
    if limit is None or reply.finish is not Finish.TRUNCATED:
        return False
    return reply.usage is None or 2 * reply.usage.output_tokens >= limit
