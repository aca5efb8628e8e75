"""A life from its seed: processes that run, are killed and begin again over one disk, and a calm end."""

from __future__ import annotations

import asyncio
import logging
import random
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from pllm_notebook.execution import LiveRun
from pllm_notebook.execution.gc_tuning import relaxed_gc
from tests.simulation.accounts import Accounts, Rules
from tests.simulation.asking import RATES, Asker, Sink
from tests.simulation.disk import Disk, DiskFaults, SimStore
from tests.simulation.invariants import Reports, check_calm, check_run, check_secrets
from tests.simulation.provider import Provider, ProviderFaults
from tests.simulation.scenario import Scenario, Step, draw
from tests.simulation.world import Process, Trace

__all__ = ["Lived", "live", "play"]


@dataclass
class Lived:
    """What came of a life.

    Attributes:
        seed: Of it.
        faults: Invariants that did not hold; [] for none.
        trace: What happened.
        runs: Runs that were begun.
        kills: Processes that were killed.
        requests: Requests that the provider had whole.
        paid: What became of each that was paid for.
    """

    seed: int
    faults: list[str]
    trace: list[tuple[Any, ...]]
    runs: int = 0
    kills: int = 0
    requests: int = 0
    paid: dict[str, int] = field(default_factory=dict)


def live(seed: int) -> Lived:
    """Live the life of *seed* to its end, and check it."""
    return play(draw(seed))


def play(scenario: Scenario) -> Lived:
    """Live a life that was written down instead of drawn, to its end, and check it."""
    return _Life(scenario).lived()


class _Life:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._seed = str(scenario.seed)
        self._trace = Trace()
        self._disk = Disk()
        self._accounts = Accounts()
        self._reports = Reports(self._disk, self._accounts)
        # Objects, as text of Arrow's holds no half of a character.
        texts = pd.Series(scenario.cells, [n // 2 for n in range(len(scenario.cells))], dtype=object)
        self._frame = pd.DataFrame({"text": texts})
        self._faults = self._accounts.faults
        self._log: list[str] = []
        self._lived = Lived(scenario.seed, self._faults, self._trace.events)
        self._processes = 0
        self._process: Process
        self._provider: Provider
        self._store: SimStore
        self._asker: Asker
        self._damaging: random.Random
        self._going: list[LiveRun] = []
        # What these have told was on disk before something there was damaged.
        self._outdated: set[LiveRun] = set()
        # What these have told may have another value by now: a later answer was asked for by the caller's wish.
        self._replaced: set[LiveRun] = set()

    def lived(self) -> Lived:
        handler = _Listener(self._log, self._faults)
        logger = logging.getLogger("pllm_notebook")
        before = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._live()
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before[0])
            logger.propagate = before[1]
        check_secrets(self._faults, self._log, self._disk)
        self._lived.requests = self._accounts.requests
        self._lived.paid = dict(self._accounts.states())
        return self._lived

    def _live(self) -> None:
        up = False
        for number, step in enumerate(self._scenario.steps):
            if up and step.restarts:
                self._leave()
                up = False
            if not up:
                self._enter()
                up = True
            self._damage(step)
            up = self._play(number, step)
        if up:
            self._leave()
        if not self._faults:
            self._end_calmly()

    # Processes.

    def _enter(self) -> None:
        self._processes += 1
        self._process = Process(self._processes, self._seed, self._trace, self._scenario.delays_s)
        self._process.on_death = self._died
        self._provider = Provider(self._process, self._accounts, ProviderFaults(), RATES, self._seed)
        self._store = SimStore(self._process, self._disk, self._accounts, DiskFaults(), self._seed)
        account = f"{self._seed} {self._processes} {id(self)}"
        self._asker = Asker(
            self._process, self._provider, self._store, account, unenforced_schema=self._scenario.unenforced_schema
        )
        # Of one process: the same change made twice would mend what it damaged.
        self._damaging = random.Random(f"{self._seed}:{self._processes}:damage")
        self._going = []

    def _leave(self) -> None:
        if self._accounts.unwritten():
            self._faults.append(f"I7: answers are not written yet: {self._accounts.unwritten()}")
        self._process.dies_at = None
        self._process.run(self._store.finish())
        self._store.close()
        self._faults.extend(f"I7: left behind: {what}" for what in self._process.leave())
        self._faults.extend(self._process.faults)
        if self._provider.open:
            self._faults.append(f"I7: {self._provider.open} connections were left open")
        if any(state in ("out", "in hand", "queued") for state in self._accounts.states()):
            self._faults.append(f"I7: answers are still on their way: {self._accounts.states()}")

    def _died(self) -> None:
        for run in self._going:
            if run not in self._outdated:
                self._reports.hear(run, self._store, replaced=run in self._replaced)
        self._accounts.killed()

    # Steps.

    def _play(self, number: int, step: Step) -> bool:
        """Play one step; False when the process did not outlive it."""
        process, options = self._process, step.options
        self._accounts.rules = Rules(
            step=number,
            # A question of fewer samples leaves answers unused that belong to the others.
            copies=max(each.question.samples for each in self._scenario.steps[: number + 1]),
            hedged=bool(options.get("hedge")),
            pack=step.question.pack,
            again=options.get("cache") in ("refresh", "off") or bool(step.retried),
            salt=step.question.word,
            ceiling="max_cost_usd" in options,
            beside=step.beside_at_s is not None,
        )
        self._provider.faults = step.provider
        self._store.faults = replace(step.disk, full=tuple(process.now() + at for at in step.disk.full))
        process.dies_at = None if step.dies_at is None else process.steps + step.dies_at
        process.run(self._step(step))
        if options.get("cache") == "off":
            self._accounts.forgotten()
        if self._accounts.rules.again:
            self._reports.forget()
            self._replaced.update(self._going)
        ceiling = options.get("max_cost_usd")
        if ceiling is not None and step.beside_at_s is None and self._accounts.spent_usd(number) > ceiling * (1 + 1e-9):
            self._faults.append(f"budget: {self._accounts.spent_usd(number)} of {ceiling} was spent")
        if process.dead or process.faults:
            self._lived.kills += process.dead
            self._faults.extend(process.faults)
            for run in self._going:
                if not run.done():
                    relaxed_gc().end()
            process.throw_away()
            return False
        return True

    async def _step(self, step: Step) -> None:
        loop = self._process.loop
        run, sink = self._start(step)
        if step.cancelled_at_s is not None:
            loop.call_later(step.cancelled_at_s, run.cancel)
        beside = None
        if step.beside_at_s is not None:
            await asyncio.sleep(step.beside_at_s)
            beside = self._start(step)
            if step.beside_cancelled_at_s is not None:
                loop.call_later(step.beside_cancelled_at_s, beside[0].cancel)
        await self._ended(run, sink, step)
        if beside is not None:
            await self._ended(*beside, step)
        if step.retried is not None and not run.execution.broken:
            run.retry(step.retried or None)
            await asyncio.sleep(0)
            await self._ended(run, sink, step)

    async def _ended(self, run: LiveRun, sink: Sink, step: Step) -> None:
        await sink.ended.wait()
        assert sink.last is not None
        if self._process.dead:
            return
        self._reports.hear(run, self._store)
        check_run(self._faults, run, self._frame, step.question, sink.last)

    def _start(self, step: Step) -> tuple[LiveRun, Sink]:
        run, sink = self._asker.make(step, self._frame)
        self._going.append(run)
        self._lived.runs += 1
        run.start()
        return run, sink

    def _damage(self, step: Step) -> None:
        rng, answers = self._damaging, self._disk.answers
        for key in rng.sample(list(answers), min(step.damages, len(answers))):
            whole = bytearray(answers[key])
            whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            answers[key] = bytes(whole[: rng.choice((len(whole), len(whole), rng.randrange(len(whole))))])
            self._accounts.damaged(key)
        if step.damages:
            self._reports.forget()
            self._outdated.update(self._going)

    # The end.

    def _end_calmly(self) -> None:
        """Let all go well: what can be answered is, and then nothing is left to send."""
        calm = Step(self._scenario.steps[-1].question)
        self._enter()
        number = len(self._scenario.steps)
        for again in (False, True):
            before = self._accounts.requests
            if not self._play(number + again, calm):
                return
            check_calm(self._faults, self._going[-1], self._accounts.requests - before, again=again)
        self._leave()


class _Listener(logging.Handler):
    def __init__(self, log: list[str], faults: list[str]) -> None:
        super().__init__()
        self._log = log
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        told = f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}"
        self._log.append(told)
        if record.exc_info and record.levelno >= logging.ERROR:
            self._faults.append(f"an error of the package's own: {told}")
