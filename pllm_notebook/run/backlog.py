"""What a run has still to send, and in which order: repairs first, then the plan's calls, alone or in packs."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from pllm_notebook.conversation import Body, Dialogue, Prompt
from pllm_notebook.entry import Entry
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.run.ahead import Ahead
from pllm_notebook.run.arrivals import Content, PromptLost
from pllm_notebook.run.ask import Ask, Words
from pllm_notebook.run.outcomes import Ledger, Outcome
from pllm_notebook.run.packing import Pack, Packing
from pllm_notebook.run.settle import Arrival, Repair

__all__ = ["Backlog", "Offer"]


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


class Backlog:
    """Calls that wait to be sent. Used on the engine's loop alone.

    Args:
        ask: The question.
        ledger: The run's.
        prompt: Makes one row's prompt.
        packing: None to send each row in a call of its own.
        answered: Called with a call and the keys that would answer it, just before it is offered: True when one
            of them has been found, and the call needs no sending. The last argument makes of it what comes next,
            None for the row's own call.
        lost: Called with a call that can be sent no more, and why.

    Attributes:
        ahead: Where prompts show files, what makes them beside the loop; None to make each when it is its turn.
    """

    def __init__(
        self,
        ask: Ask,
        ledger: Ledger,
        prompt: Callable[[int], Prompt],
        packing: Packing | None,
        answered: Callable[[int, Callable[[], list[str]], Callable[[Entry], Arrival] | None], bool],
        lost: Callable[[int, Failure], None],
    ) -> None:
        self._ask = ask
        self._ledger = ledger
        self._prompt = prompt
        self._packing = packing
        self._most = 1 if packing is None else packing.size
        self._answered = answered
        self._lost = lost
        self.ahead: Ahead | None = None
        # Calls of the plan, the first `_head` of them already taken. An array, since there may be a million.
        self._pending = array("q")
        self._head = 0
        self._repairs: deque[Repair] = deque()

    def __bool__(self) -> bool:
        return bool(self._repairs) or self._head < len(self._pending)

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
        if self._packing is not None:
            calls, alone = self._packing.parted(calls)
            self._repairs.extend(alone)
        self._pending, self._head = array("q", calls), 0
        if self.ahead is not None:
            self.ahead.forget()

    def drain(self, failure: Failure) -> Iterator[tuple[int, Outcome]]:
        """Give up everything: each call with the outcome that *failure* makes of it."""
        calls, repairs = self._pending[self._head :], list(self._repairs)
        self._pending, self._head = array("q"), 0
        self._repairs.clear()
        for call in calls:
            yield call, Outcome(None, failure, self._ledger.keys[call], (), False)
        for repair in repairs:
            yield repair.call, repair.failed(failure)

    def offer(self, *, planned: bool) -> Offer | None:
        """Give what goes next, None for nothing now; it stays here until it is taken.

        Args:
            planned: Whether no more calls will come; until then only full packs go.
        """
        while self._repairs:
            repair = self._repairs[0]
            if not self._answered(repair.call, partial(_own_key, repair), repair.found):
                made = repair.content(self._ask, self._prompt)
                if not isinstance(made, Failure):
                    return Offer(repair.key, *made, repair)
                self._lost(repair.call, made)
            self._repairs.popleft()
        if len(self._pending) - self._head < self._most and not planned:
            return None
        ask = self._ask
        while calls := self._unanswered():
            if self._packing is not None:
                pack, asked = self._packing.pack(calls), self._packing.asked
                return Offer(pack.key, partial(asked.content, pack.text), asked.size(pack.text), pack)
            call = calls[0]
            words = self.words(call) if self.ahead is None else self.ahead.words(call)
            if words is None:
                return None
            if not isinstance(words, Failure):
                content = partial(ask.content, words)
                return Offer(self._ledger.keys[call], content, ask.size(words), call, several(words))
            self._pass()
            self._lost(call, words)
        return None

    def take(self, offer: Offer) -> None:
        """Note that *offer* is on its way."""
        if isinstance(offer.tag, int):
            self._pass()
        elif isinstance(offer.tag, Pack):
            self._head += len(offer.tag.calls)
        else:
            self._repairs.popleft()

    def _pass(self) -> None:
        self._head += 1
        if self.ahead is not None:
            self.ahead.forget()

    def words(self, call: int) -> Words | Failure:
        """Make a call's prompt once more; the plan has kept its key alone. From any thread."""
        try:
            prompt = self._prompt(self._ledger.first_row[call])
        except PromptLost as lost:
            return lost.failure
        words = self._ask.words(prompt)
        # A file is read each time, and the answer to another file must not be kept as the answer to this one.
        if isinstance(prompt, Dialogue) and isinstance(words, Body) and self._ask.key(words) != self._ledger.keys[call]:
            told = "A file that the prompt shows has changed since the run began. Nothing was sent for this row."
            return Failure(FailureKind.INPUT, told)
        return words

    def _unanswered(self) -> Sequence[int]:
        """Look at the next calls that go together, and let go of those that are answered by now."""
        calls: list[int] = []
        at = self._head
        while at < len(self._pending) and len(calls) < self._most:
            call = self._pending[at]
            at += 1
            if not self._answered(call, partial(self._keys, call), None):
                calls.append(call)
        if at - len(calls) > self._head:  # the answered ones are behind us now
            self._head = at - len(calls)
            self._pending[self._head : at] = array("q", calls)
        return calls

    def _keys(self, call: int) -> list[str]:
        own = self._ledger.keys[call]
        return [own] if self._packing is None else [own, self._packing.alone(call).key]


def several(words: Words) -> bool:
    """Tell whether a caller's own body asks for several answers at once."""
    if not isinstance(words, Body):
        return False
    config = words.fields.get("generationConfig")
    wanted = words.fields.get("n"), config.get("candidateCount") if isinstance(config, dict) else None
    return any(number not in (None, 1) for number in wanted)


def _own_key(repair: Repair) -> list[str]:
    return [repair.key]
