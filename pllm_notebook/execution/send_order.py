"""What a run sends next to one model: follow-up calls first, then the plan's calls, alone or in packs.

Just before it is sent, a call is claimed and looked up once more; calls that another process sends are left to it.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from pllm_notebook.execution.cache_recheck import CacheRecheck
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.follow_ups import FollowUp, UnreadReply
from pllm_notebook.execution.next_call import FoundReply, NextCall, Tag
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.packing.packer import Pack, Packer
from pllm_notebook.execution.plan import Planner
from pllm_notebook.execution.prefetch import Prefetcher
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.execution.run_claims import ClaimDecision, RunClaims
from pllm_notebook.execution.same_requests import SameRequests
from pllm_notebook.execution.services import RunServices
from pllm_notebook.execution.wire_body import wants_several
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import RawRequest
from pllm_notebook.prompts import packed as packed_prompt

__all__ = ["SendOrder"]

# For calls that another process sends: how many are looked up at once, and how often one turn tries to claim others.
_MOST_AT_ONCE = 500
_TRIES = 8
# Claims of ended calls are released together: each release costs a transaction, and other processes look rarely.
_RELEASED_TOGETHER_S = 0.05


class SendOrder:
    """Calls of one spec that wait to be sent. Used on the engine's loop alone.

    Attributes:
        spec: The spec of the calls.
        results: The table that the calls belong to.
        prompt: Builds a row's prompt.
        found: Answers to calls that left without being sent, for the queue to take.
        unsendable: Calls that left because they cannot be sent, and why, for the queue to take.
        elsewhere: Calls that another process sends, or that wait in a batch job this run waits for. Their answers are
            looked up until they appear or the calls are free.
        in_jobs: Calls that wait in a batch job this run does not wait for, with the job's id.
        unclaimed: Whether the last turn found only calls that are claimed elsewhere, and gave up: look again soon.
        encoded: Encodes a call's prompt again; from any thread.
        prefetch: Builds prompts with files outside the loop; None to build each prompt in its turn.
    """

    def __init__(self, spec: CallSpec, planner: Planner, results: ResultTable, services: RunServices) -> None:
        options, store, loop = spec.options, services.store, services.engine.loop.loop
        self.spec = spec
        self.results = results
        self.claims = RunClaims(
            # A run with cache="refresh" wants its own answers.
            None if store is None or options.cache == "refresh" else store.claims,
            "batch" if options.mode == "batch" else "live",
            services.jobs,
            waits=bool(options.wait),
            soon=partial(loop.call_later, _RELEASED_TOGETHER_S),
            now=loop.time,
        )
        self.recheck = CacheRecheck(spec, store, services.refresh_since, results.repeated)
        self.packing: Packer | None = None
        if spec.packed is not None:
            self.packing = Packer(spec, planner.rows, results, planner.prompt, store)
            # Packs are built only when they are sent. Compared with an empty one, the first shows the common prefix.
            spec.packed.expect(packed_prompt(planner.rows.source, ()))
        self.found: list[FoundReply] = []
        self.unsendable: list[tuple[int, Failure]] = []
        self.prefetch: Prefetcher | None = None
        self.in_jobs: dict[int, str] = {}
        self.unclaimed = False
        self.prompt, self.encoded = planner.prompt, planner.encode_again
        self._most = 1 if self.packing is None else self.packing.size
        # Calls of the plan; the first `_head` of them are already taken. An array, since there may be a million.
        self._pending = array("q")
        self._head = 0
        self._follow_ups: deque[FollowUp] = deque()
        # Number of calls from the head on that are claimed.
        self._cleared = 0
        self.elsewhere: deque[int | FollowUp] = deque()
        # Keys of calls waiting for a retry whose claims were released while the run was paused.
        self._released: set[str] = set()
        self._follow_up_keys: defaultdict[int, list[str]] = defaultdict(list)
        # Only rows with contexts can make equal requests that are separate calls.
        self._same = None if planner.contexts is None else SameRequests(results)

    @property
    def has_calls(self) -> bool:
        """Whether any call waits to be sent."""
        return self.has_next or (self._same is not None and any(self._same.waiting.values()))

    @property
    def has_next(self) -> bool:
        """Whether any call waits to be sent, apart from those that wait for the reply to another call."""
        return bool(self._follow_ups) or self._head < len(self._pending) or bool(self.elsewhere)

    @property
    def requests(self) -> int:
        """Number of requests that the waiting calls take."""
        return len(self._follow_ups) + -(-(len(self._pending) - self._head) // self._most)

    def rows_in_jobs(self) -> Counter[str]:
        """Return how many rows wait in batch jobs that this run does not wait for, by job id."""
        rows: Counter[str] = Counter()
        for call, job in self.in_jobs.items():
            rows[job] += self.results.weight[call]
        return rows

    def extend(self, calls: Iterable[int]) -> None:
        """Add calls of the plan."""
        self._pending.extend(calls)

    def push(self, *follow_ups: FollowUp) -> None:
        """Add follow-up calls; they are sent before the plan's."""
        self._follow_ups.extend(follow_ups)

    def drop_first(self, follow_up: FollowUp) -> None:
        """Drop *follow_up*, the follow-up call that is next."""
        assert self._follow_ups[0] is follow_up
        self._follow_ups.popleft()

    def reset(self, calls: Sequence[int]) -> None:
        """Replace everything by the calls of a retry. Calls that failed in a pack are sent alone."""
        self._follow_ups.clear()
        if self.packing is not None:
            calls, alone = self.packing.split_retries(calls)
            self._follow_ups.extend(alone)
        self._pending, self._head, self._cleared = array("q", calls), 0, 0
        self.elsewhere.clear()
        self._released.clear()
        if self._same is not None:
            self._same = SameRequests(self.results)
        self.in_jobs.clear()
        self._forget_prefetched()

    def drain(self, failure: Failure) -> Iterator[tuple[int, Outcome]]:
        """Drop all calls; yield each of them with its outcome, which fails with *failure*."""
        calls, follow_ups = self._pending[self._head :], list(self._follow_ups)
        calls.extend(tag for tag in self.elsewhere if not isinstance(tag, FollowUp))
        if self._same is not None:
            calls.extend(self._same.drain())
        follow_ups.extend(tag for tag in self.elsewhere if isinstance(tag, FollowUp))
        self._pending, self._head, self._cleared = array("q"), 0, 0
        self._follow_ups.clear()
        self.elsewhere.clear()
        for call in calls:
            yield call, Outcome(None, failure, self.results.keys[call], (), False)
        for follow_up in follow_ups:
            yield follow_up.call, follow_up.failed(failure)

    def peek(self, *, planned: bool) -> NextCall | None:
        """Return the call to send next, None for nothing now. The call stays here until `take`.

        Args:
            planned: Whether no more calls will come; until then only full packs are sent.
        """
        self.unclaimed = False
        while self._follow_ups:
            follow_up = self._follow_ups[0]
            if self._claim_follow_up(follow_up) and not self._is_stored(follow_up):
                made = follow_up.content(self.spec, self.prompt)
                if not isinstance(made, Failure):
                    return NextCall(follow_up.key, *made, follow_up)
                self.unsendable.append((follow_up.call, made))
            self._follow_ups.popleft()
        if len(self._pending) - self._head < self._most and not planned:
            return None
        spec = self.spec
        while calls := self._next_calls():
            if self.packing is not None:
                pack, packed = self.packing.pack(calls), self.packing.pack_spec
                return NextCall(pack.key, partial(packed.content, pack.text), packed.size(pack.text), pack)
            call = calls[0]
            encoded = self.encoded(call) if self.prefetch is None else self.prefetch.encoded(call)
            if encoded is None:
                return None
            if not isinstance(encoded, Failure):
                content, several = partial(spec.content, encoded), False
                if isinstance(encoded, RawRequest):
                    several = wants_several(encoded)
                return NextCall(self.results.keys[call], content, spec.size(encoded), call, several)
            self._pass()
            self.unsendable.append((call, encoded))
        return None

    def take(self, tag: Tag) -> None:
        """Remove the call that `peek` returned, since it is being sent."""
        if self._same is not None and not isinstance(tag, FollowUp):
            self._same.note((tag,) if isinstance(tag, int) else tag.calls)
        if isinstance(tag, int):
            self._pass()
        elif isinstance(tag, Pack):
            self._head += len(tag.calls)
            self._cleared -= len(tag.calls)
        else:
            self._follow_ups.popleft()

    def release_claims(self, call: int) -> None:
        """Release the claims of an ended call and its follow-up calls, and the calls that waited for it."""
        if self._same is not None:
            for repeat in self._same.freed_by(call):
                self._push_front(repeat)
        if self.claims.ahead:
            self.claims.release_soon((self.results.keys[call], *self._follow_up_keys.pop(call, ())))

    def release_unsent(self) -> None:
        """Release the claims of calls that are not yet sent. They are claimed again in their turn."""
        if self.claims.ahead:
            calls, self._cleared = self._pending[self._head : self._head + self._cleared], 0
            keys = [self.results.keys[call] for call in calls]
            self.claims.release([*keys, *(follow_up.key for follow_up in self._follow_ups)])

    def release_waiting(self, tag: Tag, key: str) -> None:
        """Release the claims of a call that waits for a retry while the run is paused."""
        self._released.add(key)
        self.claims.release(self._claimed_by(tag))

    def is_still_wanted(self, tag: Tag, key: str) -> bool:
        """Return whether a call that waits for a retry must still be sent; False if answered, or sent elsewhere."""
        if key in self._released:
            self._released.discard(key)
            calls = tag.calls if isinstance(tag, Pack) else (tag,)
            decision = self.claims.take(self._claimed_by(tag), again=True)
            left = [one for one in calls if not self._leaves(one, decision, look=True)]
            if len(left) < len(calls):
                for call in reversed(left):  # the rest of a pack, which is not sent
                    self._push_front(call)
                return False
        if isinstance(tag, Pack):
            return True
        at, follow_up = (tag, None) if isinstance(tag, int) else (tag.call, tag)
        return not (self.recheck.may_find(at) and self.take_if_stored(at, (key,), follow_up))

    def look_elsewhere(self, *, paused: bool) -> None:
        """Check the calls that another process sends: by now they may be answered, free, or in a batch job.

        Args:
            paused: Whether the run is paused, so that free calls are not claimed for now.
        """
        tags = [self.elsewhere.popleft() for _ in range(min(len(self.elsewhere), _MOST_AT_ONCE))]
        decision = self.claims.take([self._key(tag) for tag in tags], again=True)
        for tag in tags:
            if not self._leaves(tag, decision, look=True):
                self._push_front(tag)
        if paused:
            self.release_unsent()

    def take_if_stored(self, call: int, keys: Iterable[str], follow_up: FollowUp | None) -> bool:
        """Take the answer to *call* if it is stored by now under one of *keys*; return whether it is.

        Args:
            call: Index of the call.
            keys: Possible keys of its answer.
            follow_up: The follow-up call to answer, None for the row's own call.
        """
        found = self.recheck.find(call, keys)
        if found is None:
            return False
        key, entry, is_stored = found
        row = self.results.first_row[call]
        reply = UnreadReply(call, key, entry, row) if follow_up is None else follow_up.found(entry)
        self.found.append(FoundReply(key, reply, is_stored))
        return True

    def _is_stored(self, follow_up: FollowUp) -> bool:
        call = follow_up.call
        return self.recheck.may_find(call) and self.take_if_stored(call, (follow_up.key,), follow_up)

    def _claim(self) -> None:
        """Claim the next calls if none are claimed. Calls that this process may not send leave the queue."""
        ahead = self.claims.ahead
        if not ahead:
            self._cleared = len(self._pending) - self._head
            return
        # Whole packs. While all calls are sent elsewhere, try more at a time, but not so many that the loop blocks.
        count = -(-ahead // self._most) * self._most
        for _ in range(_TRIES):
            calls = self._pending[self._head : self._head + count]
            if self._cleared or not calls:
                return
            decision = self.claims.take([self.results.keys[call] for call in calls])
            free = array("q", [call for call in calls if not self._leaves(call, decision, look=decision.look)])
            self._head += len(calls) - len(free)
            self._pending[self._head : self._head + len(free)] = free
            self._cleared = len(free)
            if len(free) < len(calls):
                self._forget_prefetched()
            count = min(2 * count, max(count, _MOST_AT_ONCE))
        self.unclaimed = not self._cleared and self._head < len(self._pending)

    def _claim_follow_up(self, follow_up: FollowUp) -> bool:
        """Claim a follow-up call; False if this process may not, or need not, send it now."""
        if not self.claims.ahead:
            return True
        self._follow_up_keys[follow_up.call].append(follow_up.key)
        decision = self.claims.take([follow_up.key])
        return not self._leaves(follow_up, decision, look=decision.look)

    def _leaves(self, tag: int | FollowUp, decision: ClaimDecision, *, look: bool) -> bool:
        """Take a call out of the queue if it need not be sent now; False if this run must send it."""
        key, follow_up = self._key(tag), None if isinstance(tag, int) else tag
        call = tag if isinstance(tag, int) else tag.call
        if look and self.take_if_stored(call, (key,) if follow_up else self._keys(call), follow_up):
            self.claims.release([key])
            return True
        if key in decision.free:
            return False
        if key in decision.in_jobs and not self.claims.waits:
            self.in_jobs[call] = decision.in_jobs[key]
        else:
            self.elsewhere.append(tag)
        return True

    def _push_front(self, tag: int | FollowUp) -> None:
        """Put a call that is now free before all others."""
        if isinstance(tag, FollowUp):
            self._follow_ups.appendleft(tag)
            return
        if not self._head:  # only if the queue was reset in the meantime
            self._pending.insert(0, tag)
        else:
            self._head -= 1
            self._pending[self._head] = tag
        self._cleared += 1
        self._forget_prefetched()

    def _next_calls(self) -> Sequence[int]:
        """Return the next calls to send together. Calls that are answered by now leave the queue."""
        calls: list[int] = []
        if self._cleared < self._most:
            self._claim()
        at, end = self._head, self._head + self._cleared
        while at < end and len(calls) < self._most:
            call = self._pending[at]
            at += 1
            if self._same is not None and call in self.results.repeated and self._same.holds(call, calls):
                continue
            if not (self.recheck.may_find(call) and self.take_if_stored(call, self._keys(call), None)):
                calls.append(call)
        if at - len(calls) > self._head:  # drop the calls that were answered or held back
            self._cleared -= at - len(calls) - self._head
            self._head = at - len(calls)
            self._pending[self._head : at] = array("q", calls)
        return calls

    def _claimed_by(self, tag: Tag) -> Sequence[str]:
        return [self.results.keys[call] for call in tag.calls] if isinstance(tag, Pack) else [self._key(tag)]

    def _key(self, tag: int | FollowUp) -> str:
        return self.results.keys[tag] if isinstance(tag, int) else tag.key

    def _keys(self, call: int) -> Sequence[str]:
        key = self.results.keys[call]
        return (key,) if self.packing is None else (key, self.packing.alone(call).key)

    def _pass(self) -> None:
        self._head += 1
        self._cleared -= 1
        self._forget_prefetched()

    def _forget_prefetched(self) -> None:
        if self.prefetch is not None:
            self.prefetch.forget()
