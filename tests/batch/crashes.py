"""Every way to crash while a batch is sent, in virtual time: what is paid twice, and what is never finished.

One scenario: a kernel plans two rows and drives them; it dies at one point (before or after a commit of
the journal, a request or an intake) or lives; two minutes later another kernel goes on, and a person runs the cell
again. The answer to the creation comes, or is lost, or there was no creation; the provider lists jobs at
once, late, or later than the grace period; a stranger makes a job of the same size meanwhile, or does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pllm_notebook.batch import (
    AnswerSink,
    Driver,
    Job,
    JobResult,
    JobState,
    Journal,
    JournalAccess,
    LineOutcome,
    Poller,
    PollTimes,
    Recreation,
    never,
)
from pllm_notebook.protocols import TransportFault
from tests.batch.modelled import LIMITS, PLAN, Died, Fuse, ModelBatchAPI, MortalDatabase, Provider, inline, outgoing
from tests.engine.virtual import run_virtual

KEYS = ["key-0", "key-1"]
GRACE_S = 1800.0
LAGS_S = (0.0, 600.0, 2 * GRACE_S)
PROVIDERS = ("openai", "anthropic", "google")
_EPOCH = 1_800_000_000.0
_DOWN_S = 120.0
_HORIZON_S = 3 * 86_400.0


@dataclass(frozen=True)
class Scenario:
    """One way for things to go wrong.

    Attributes:
        provider: Anthropic keeps no labels.
        lag_s: Of the provider's list.
        creating: What becomes of the first creation (see `Provider.creating`).
        stranger_s: How long a stranger's job takes, None for none.
        point: Where the first kernel dies, 0 for nowhere.
        naive: Whether jobs are recorded after they were created.
        allowed: Whether a job that was not found may be created again.
    """

    provider: str
    lag_s: float
    creating: str = "answered"
    stranger_s: float | None = None
    point: int = 0
    naive: bool = False
    allowed: bool = True


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        died: Whether the point was reached.
        paid_twice: Rows.
        unfinished: Rows without an answer after three days.
        creates: Requests to create a job.
    """

    died: bool
    paid_twice: int
    unfinished: int
    creates: int


class NaiveDriver(Driver):
    """The known-bad order: a job is created, and then recorded; one that was not recorded is created again."""

    async def advance(self, job_id: str) -> Job:
        job = self.journal.job(job_id)
        if job.state is not JobState.UPLOADED:
            return await super().advance(job_id)
        try:
            api = self._apis(job)
            assert api is not None
            remote = await api.create(self.journal.spool.requests(job_id), job.uploaded, job.label)
        except TransportFault:
            return job
        return self.journal.created(job_id, remote)


def scenarios(*, lags_s: Sequence[float] = LAGS_S, providers: Sequence[str] = PROVIDERS) -> Iterator[Scenario]:
    """Every combination, without the points to die at: those are found by going through one alive."""
    for provider, lag_s, creating, stranger_s in itertools.product(
        providers, lags_s, ("answered", "lost", "down"), (None, 600.0, 86_400.0)
    ):
        yield Scenario(provider, lag_s, creating, stranger_s)


def play_all(scenario: Scenario, directory: str) -> list[tuple[Scenario, Outcome]]:
    """Play a scenario with a kernel that lives, and with one that dies at each of its points in turn."""
    played = []
    for point in itertools.count():
        one = replace(scenario, point=point)
        outcome = play(one, directory)
        if point and not outcome.died:
            return played
        played.append((one, outcome))
    raise AssertionError


def play(scenario: Scenario, directory: str) -> Outcome:
    """Play one scenario, with a journal of its own on disk below *directory*."""
    home = tempfile.mkdtemp(dir=directory)
    try:
        return run_virtual(lambda: _play(scenario, home))
    finally:
        shutil.rmtree(home)


async def _play(scenario: Scenario, home: str) -> Outcome:
    loop = asyncio.get_running_loop()

    def clock() -> float:
        return _EPOCH + loop.time()

    provider = Provider(
        clock,
        keeps_labels=scenario.provider != "anthropic",
        lag_s=scenario.lag_s,
        creating=[] if scenario.creating == "answered" else [scenario.creating],
        stranger_s=scenario.stranger_s,
    )
    store: set[str] = set()
    fuse = Fuse(scenario.point)
    died = False
    try:
        await _kernel(scenario, home, provider, store, fuse, clock)
    except Died:
        died = True
        await asyncio.sleep(_DOWN_S)
        await _kernel(scenario, home, provider, store, Fuse(), clock)
    return Outcome(died, provider.paid_twice(), len(KEYS) - len(store), provider.creates)


async def _kernel(
    scenario: Scenario, home: str, provider: Provider, store: set[str], fuse: Fuse, clock: Callable[[], float]
) -> None:
    database = MortalDatabase(home, fuse)
    names = itertools.count()
    journal = Journal(database, clock, lambda: f"{os.path.basename(home)}-{fuse.at}-{next(names)}")
    api = ModelBatchAPI(provider, fuse)

    async def take(job: Job, arrivals: Sequence[JobResult]) -> list[LineOutcome]:
        fuse.point()
        store.update(one.line.key for one in arrivals if one.result.raw is not None)
        fuse.point()
        return [LineOutcome("" if one.result.raw is not None else one.result.failure) for one in arrivals]

    access = JournalAccess(journal, owner=f"kernel-{fuse.at}", clock=clock, in_thread=inline)
    answers = AnswerSink(take, lambda keys: store.intersection(keys))
    recreation = Recreation((lambda job: True) if scenario.allowed else never, GRACE_S)
    made = NaiveDriver if scenario.naive else Driver
    driver = made(access, lambda job: api, answers, recreation)
    poller = Poller(driver, PollTimes(first_s=300.0, growth=2.0, most_s=14_400.0, draw=lambda: 0.5))
    try:
        pending = journal.pending(KEYS)
        missing = [key for key in KEYS if key not in store and key not in pending]
        if missing:
            journal.plan(PLAN, outgoing(missing), LIMITS)
        poller.start()
        async with asyncio.timeout(_HORIZON_S):
            await poller.until_final([job.id for job in journal.jobs()])
    except TimeoutError:
        pass
    finally:
        await _end(poller)
        database.close()


async def _end(poller: Poller) -> None:
    with contextlib.suppress(Died):
        await poller.stop()


@dataclass
class Line:
    """One line of the table: scenarios played, and what came of them together."""

    name: str
    lag_s: float
    played: int = 0
    paid_twice: int = 0
    unfinished: int = 0
    recreated: int = 0

    def count(self, outcome: Outcome) -> None:
        self.played += 1
        self.paid_twice += outcome.paid_twice
        self.unfinished += outcome.unfinished
        self.recreated += outcome.creates > 1


def table(directory: str, told: Callable[[Line], None]) -> list[Line]:
    """Play everything, and tell of each line of the table when it is complete."""
    lines = []
    for name, naive, allowed in (
        ("recorded after (known bad)", True, True),
        ("ours, asked and allowed", False, True),
        ("ours, not asked", False, False),
    ):
        for lag_s in LAGS_S:
            for provider in PROVIDERS:
                line = Line(f"{name}, {provider}", lag_s)
                for scenario in scenarios(lags_s=[lag_s], providers=[provider]):
                    for _, outcome in play_all(replace(scenario, naive=naive, allowed=allowed), directory):
                        line.count(outcome)
                told(line)
                lines.append(line)
    return lines
