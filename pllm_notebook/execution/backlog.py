"""What a run has still to send, and in which order: repairs first, then the plan's calls, alone or in packs."""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from pllm_notebook.execution.ahead import Ahead
from pllm_notebook.execution.arrivals import Content, PromptLost
from pllm_notebook.execution.call_spec import CallSpec, EncodedPrompt
from pllm_notebook.execution.outcomes import Ledger, Outcome
from pllm_notebook.execution.packing.packer import Pack, Packer
from pllm_notebook.execution.run_claims import ClaimDecision, RunClaims
from pllm_notebook.execution.settle import Arrival, Repair
from pllm_notebook.messages_types import Dialogue, Prompt, RawRequest
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.stored_reply import StoredReply

__all__ = ["AnswerLookup", "Backlog", "Offer"]

# Of calls that another process asks: how many are looked at in one go, and how often one offer looks for a free one.
_MOST_AT_ONCE = 500
_TRIES = 8


class Offer(NamedTuple):
    """A call that can be sent now.

    Attributes:
        key: Of the call.
        content: Makes the wire's bytes, in the dress of the moment, with the output limit that it is given.
        size: Number of those bytes.
        tag: What it is for: a call of the ledger by its index, a repair, or a pack.
        whole: Whether it must have the output limit of its question: it asks for several answers at once, of which
            only the first would be seen to be cut off.
    """

    key: str
    content: Content
    size: int
    tag: int | Repair | Pack
    whole: bool = False


class AnswerLookup(Protocol):
    """Looks for an answer that has come since the run was planned."""

    def __call__(
        self,
        call: int,
        keys: Callable[[], list[str]],
        found: Callable[[StoredReply], Arrival] | None,
        *,
        look: bool = False,
    ) -> bool:
        """Take the answer, if there is one, in place of sending the call; False when there is none.

        Args:
            call: Index in the ledger.
            keys: Gives the keys that would answer it.
            found: Makes of an answer what comes next, None for the row's own call.
            look: Whether to look in any case; else only where an answer can have come from within this process.
        """


class Backlog:
    """Calls that wait to be sent. Used on the engine's loop alone.

    Args:
        ask: The question.
        ledger: The run's.
        prompt: Makes one row's prompt.
        packing: None to send each row in a call of its own.
        answered: Looks for an answer that has come meanwhile, just before a call is offered.
        lost: Called with a call that can be sent no more, and why.
        claims: The run's; None where no other process asks the same.

    Attributes:
        in_jobs: Calls that wait in a batch job and are not waited for, with its id.
        unclaimed: Whether the last offer gave up looking for a call that nobody else asks: look again soon.
        ahead: Where prompts show files, what makes them beside the loop; None to make each when it is its turn.
    """

    def __init__(
        self,
        ask: CallSpec,
        ledger: Ledger,
        prompt: Callable[[int], Prompt],
        packing: Packer | None,
        answered: AnswerLookup,
        lost: Callable[[int, Failure], None],
        claims: RunClaims | None = None,
    ) -> None:
        self._ask = ask
        self._ledger = ledger
        self._prompt = prompt
        self._packer = packing
        self._most = 1 if packing is None else packing.size
        self._answered = answered
        self._lost = lost
        self.ahead: Ahead | None = None
        # Calls of the plan, the first `_head` of them already taken. An array, since there may be a million.
        self._pending = array("q")
        self._head = 0
        self._repairs: deque[Repair] = deque()
        self._claims = claims or RunClaims(None, "live", None, waits=False, soon=lambda work: work(), now=lambda: 0.0)
        # Calls behind the head that are claimed, and those that another process asks, or a job that is waited for.
        self._cleared = 0
        self._elsewhere: deque[int | Repair] = deque()
        self._repair_keys: defaultdict[int, list[str]] = defaultdict(list)
        self.in_jobs: dict[int, str] = {}
        self.unclaimed = False

    def __bool__(self) -> bool:
        return bool(self._repairs) or self._head < len(self._pending) or bool(self._elsewhere)

    @property
    def elsewhere(self) -> int:
        """Number of calls that another process asks; their answers are looked for, or they become free."""
        return len(self._elsewhere)

    @property
    def requests(self) -> int:
        """Number of requests that all of it takes."""
        return len(self._repairs) + -(-(len(self._pending) - self._head) // self._most)

    def extend(self, calls: Iterable[int]) -> None:
        """Add calls of the plan."""
        self._pending.extend(calls)

    def repair(self, repairs: Iterable[Repair]) -> None:
        """Add what goes before them."""
        self._repairs.extend(repairs)

    def give_up(self, repair: Repair) -> None:
        """Let go of a further call that is not to be sent; the first that waits."""
        assert self._repairs[0] is repair
        self._repairs.popleft()

    def restart(self, calls: Sequence[int]) -> None:
        """Hold the calls of a retry and nothing else; of packs, what failed goes alone."""
        self._repairs.clear()
        if self._packer is not None:
            calls, alone = self._packer.split_retries(calls)
            self._repairs.extend(alone)
        self._pending, self._head, self._cleared = array("q", calls), 0, 0
        self._elsewhere.clear()
        self.in_jobs.clear()
        if self.ahead is not None:
            self.ahead.forget()

    def drain(self, failure: Failure) -> Iterator[tuple[int, Outcome]]:
        """Drop everything: yield each call with the outcome that *failure* makes of it."""
        calls, repairs = self._pending[self._head :], list(self._repairs)
        calls.extend(tag for tag in self._elsewhere if not isinstance(tag, Repair))
        repairs.extend(tag for tag in self._elsewhere if isinstance(tag, Repair))
        self._pending, self._head, self._cleared = array("q"), 0, 0
        self._repairs.clear()
        self._elsewhere.clear()
        for call in calls:
            yield call, Outcome(None, failure, self._ledger.keys[call], (), False)
        for repair in repairs:
            yield repair.call, repair.failed(failure)

    def offer(self, *, planned: bool) -> Offer | None:
        """Return what goes next, None for nothing now; it stays here until it is taken.

        Args:
            planned: Whether no more calls will come; until then only full packs go.
        """
        self.unclaimed = False
        while self._repairs:
            repair = self._repairs[0]
            if self._claimed(repair) and not self._answered(repair.call, partial(_own_key, repair), repair.found):
                made = repair.content(self._ask, self._prompt)
                if not isinstance(made, Failure):
                    return Offer(repair.key, *made, repair)
                self._lost(repair.call, made)
            self._repairs.popleft()
        if len(self._pending) - self._head < self._most and not planned:
            return None
        ask = self._ask
        while calls := self._unanswered():
            if self._packer is not None:
                pack, asked = self._packer.pack(calls), self._packer.asked
                return Offer(pack.key, partial(asked.content, pack.text), asked.size(pack.text), pack)
            call = calls[0]
            encoded = self.encoded(call) if self.ahead is None else self.ahead.encoded(call)
            if encoded is None:
                return None
            if not isinstance(encoded, Failure):
                content = partial(ask.content, encoded)
                return Offer(self._ledger.keys[call], content, ask.size(encoded), call, several(encoded))
            self._pass()
            self._lost(call, encoded)
        return None

    def take(self, offer: Offer) -> None:
        """Note that *offer* is on its way."""
        if isinstance(offer.tag, int):
            self._pass()
        elif isinstance(offer.tag, Pack):
            self._head += len(offer.tag.calls)
            self._cleared -= len(offer.tag.calls)
        else:
            self._repairs.popleft()

    def ended(self, call: int) -> None:
        """Let other processes have a call whose outcome is known, and the repairs that led to it."""
        self._claims.release_soon((self._ledger.keys[call], *self._repair_keys.pop(call, ())))

    def look_elsewhere(self) -> None:
        """Look what has become of the calls that another process asks: answered, free, or in a batch job."""
        tags = [self._elsewhere.popleft() for _ in range(min(len(self._elsewhere), _MOST_AT_ONCE))]
        verdict = self._claims.take([self._key(tag) for tag in tags], again=True)
        for tag in tags:
            if not self._settled(tag, verdict, look=True):
                self._first(tag)

    def _claim(self) -> None:
        """Claim the next calls, where none is; those that this process may not send leave the queue."""
        ahead = self._claims.ahead
        if not ahead:
            self._cleared = len(self._pending) - self._head
            return
        # Whole packs; and more at a time while all are asked elsewhere, yet not for longer than the loop may be deaf.
        count = -(-ahead // self._most) * self._most
        for _ in range(_TRIES):
            calls = self._pending[self._head : self._head + count]
            if self._cleared or not calls:
                return
            verdict = self._claims.take([self._ledger.keys[call] for call in calls])
            free = array("q", [call for call in calls if not self._settled(call, verdict, look=verdict.look)])
            self._head += len(calls) - len(free)
            self._pending[self._head : self._head + len(free)] = free
            self._cleared = len(free)
            if len(free) < len(calls) and self.ahead is not None:
                self.ahead.forget()
            count = min(2 * count, max(count, _MOST_AT_ONCE))
        self.unclaimed = not self._cleared and self._head < len(self._pending)

    def _claimed(self, repair: Repair) -> bool:
        """Claim a repair; False where this process may not send it now, or need not."""
        if not self._claims.ahead:
            return True
        self._repair_keys[repair.call].append(repair.key)
        verdict = self._claims.take([repair.key])
        return not self._settled(repair, verdict, look=verdict.look)

    def _settled(self, tag: int | Repair, verdict: ClaimDecision, *, look: bool) -> bool:
        """Take a call out of the queue that needs no sending now; False where it is this run's to send."""
        key, call = self._key(tag), tag if isinstance(tag, int) else tag.call
        if look:
            keys = partial(self._keys, call) if isinstance(tag, int) else partial(_own_key, tag)
            if self._answered(call, keys, None if isinstance(tag, int) else tag.found, look=True):
                self._claims.release([key])
                return True
        if key in verdict.free:
            return False
        if key in verdict.in_jobs and not self._claims.waits:
            self.in_jobs[call] = verdict.in_jobs[key]
        else:
            self._elsewhere.append(tag)
        return True

    def _first(self, tag: int | Repair) -> None:
        """Put a call that is free now before all others."""
        if isinstance(tag, Repair):
            self._repairs.appendleft(tag)
            return
        if not self._head:  # only where the queue was begun again meanwhile
            self._pending.insert(0, tag)
        else:
            self._head -= 1
            self._pending[self._head] = tag
        self._cleared += 1
        if self.ahead is not None:
            self.ahead.forget()

    def _key(self, tag: int | Repair) -> str:
        return self._ledger.keys[tag] if isinstance(tag, int) else tag.key

    def _pass(self) -> None:
        self._head += 1
        self._cleared -= 1
        if self.ahead is not None:
            self.ahead.forget()

    def encoded(self, call: int) -> EncodedPrompt | Failure:
        """Make a call's prompt once more; the plan has kept its key alone. From any thread."""
        try:
            prompt = self._prompt(self._ledger.first_row[call])
        except PromptLost as lost:
            return lost.failure
        encoded = self._ask.encoded(prompt)
        # A file is read each time, and the answer to another file must not be kept as the answer to this one.
        if (
            isinstance(prompt, Dialogue)
            and isinstance(encoded, RawRequest)
            and self._ask.key(encoded) != self._ledger.keys[call]
        ):
            told = "A file that the prompt shows has changed since the run began. Nothing was sent for this row."
            return Failure(FailureKind.INPUT, told)
        return encoded

    def _unanswered(self) -> Sequence[int]:
        """Look at the next calls that go together, and let go of those that are answered by now."""
        calls: list[int] = []
        self._claim()
        at, end = self._head, self._head + self._cleared
        while at < end and len(calls) < self._most:
            call = self._pending[at]
            at += 1
            if not self._answered(call, partial(self._keys, call), None):
                calls.append(call)
        if at - len(calls) > self._head:  # the answered ones are behind us now
            self._cleared -= at - len(calls) - self._head
            self._head = at - len(calls)
            self._pending[self._head : at] = array("q", calls)
        return calls

    def _keys(self, call: int) -> list[str]:
        own = self._ledger.keys[call]
        return [own] if self._packer is None else [own, self._packer.alone(call).key]


def several(encoded: EncodedPrompt) -> bool:
    """Return whether a caller's own body asks for several answers at once."""
    if not isinstance(encoded, RawRequest):
        return False
    config = encoded.fields.get("generationConfig")
    wanted = encoded.fields.get("n"), config.get("candidateCount") if isinstance(config, dict) else None
    return any(number not in (None, 1) for number in wanted)


def _own_key(repair: Repair) -> list[str]:
    return [repair.key]
