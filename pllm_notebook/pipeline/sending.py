"""Sending what a session has gathered: each time one run over calls that may differ in everything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from pllm_notebook.conversation import Prompt
from pllm_notebook.engine import Engine, engine
from pllm_notebook.exceptions import StoreError, interrupted
from pllm_notebook.pipeline.calls import Call, ask_of
from pllm_notebook.pipeline.questions import Question
from pllm_notebook.pipeline.retrieving import Place
from pllm_notebook.run import Estimate, Purse, Run, WholePrompts, estimate_list, options_for, parts_of, start_list
from pllm_notebook.run.lists import Part
from pllm_notebook.settings import current

__all__ = ["Courier"]

# How often somebody who waits for more than an event looks again.
_LOOK_S = 0.05


class Courier:
    """Send calls, wait for them, and stop.

    Args:
        place: Where answers go.
        options: Of every run of the session.

    Attributes:
        runs: All that were begun, oldest first.
    """

    def __init__(self, place: Place, options: dict[str, Any]) -> None:
        self.runs: list[Run] = []
        self._place = place
        self._options = options
        # One for all runs: what a person allows is for the program, not for each group of its calls.
        self._purse = Purse(options_for(options).max_cost_usd)
        self._waiting: list[Callable[[], None]] = []

    @property
    def engine(self) -> Engine:
        """Where it all happens."""
        return engine(current().loop)

    @property
    def cost_usd(self) -> float | None:
        """US dollars that the session's calls cost so far, None once one of unknown price is among them."""
        costs = [run.cost for run in self.runs]
        return None if None in costs else sum((cost for cost in costs if cost is not None), 0.0)

    def send(self, questions: Sequence[Question], mode: str = "async", *, keep: bool = True) -> list[Run]:
        """Begin to ask, and give the runs at once: one, and one more where answers are to be replaced.

        Args:
            questions: Not done, each once.
            mode: "async" for the live API, "batch" for jobs.
            keep: Whether answers are stored.

        Raises:
            UsageError: When one cannot be asked as written. Nothing was sent for those that share its run.
            StoreError: When the directory cannot be opened. Nothing was sent.
        """
        begun = []
        for anew in (False, True):
            some = [question for question in questions if question.anew is anew]
            if some:
                cache = "off" if not keep else "refresh" if anew else "use"
                begun.append(self._begin(some, {"mode": mode, "cache": cache, "wait": mode != "batch"}))
        return begun

    def estimate(self, questions: Sequence[Question], mode: str) -> Estimate | None:
        """Estimate what asking would take, by `send`'s *mode*; None for nothing. Sends nothing."""
        parts = []
        for anew in (False, True):
            some = [question for question in questions if question.anew is anew]
            parts += self._parts(some, {"mode": mode, "cache": "refresh" if anew else "use"})
        return estimate_list(parts, cache_dir=self._place.directory) if parts else None

    def wait(self, ended: threading.Event) -> None:
        """Block until *ended* is set. An interrupt stops all that the session has on its way.

        Raises:
            KeyboardInterrupt: After an interrupt.
        """
        if ended.is_set():
            return
        try:
            self.engine.loop.wait(ended, self.stop)
        except KeyboardInterrupt:
            self.stop()
            told = "Stopped. What is answered is kept; run the program again to go on. Batch jobs go on."
            raise interrupted(told) from None

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Block until *condition*, asked on this thread now and then, holds."""
        while not condition():
            self.rest(_LOOK_S)

    def rest(self, seconds: float) -> None:
        """Block for some time; interruptible."""
        over = threading.Event()
        loop = self.engine.loop
        loop.call(loop.loop.call_later, seconds, over.set)
        self.wait(over)

    def stop_first(self, stop: Callable[[], None]) -> None:
        """Call *stop* whenever the session is stopped: it holds what is to be sent later."""
        self._waiting.append(stop)

    def stop(self) -> None:
        """Admit nothing more, and cancel what is on the wire; from any thread. Batch jobs go on."""
        for stop in self._waiting:
            stop()
        for run in self.runs:
            if not run.done():
                run.cancel()

    def _begin(self, questions: list[Question], options: dict[str, Any]) -> Run:
        if options["cache"] != "off" and not self._place.keeps:
            raise StoreError(
                f"{self._place.directory} can only be read: its answers are used, and new ones could not be kept "
                f"there. Go on in a copy of it, or make it writable. Nothing was sent."
            )
        parts = self._parts(questions, options)
        telling = _Telling(questions)
        for question in questions:
            question.sent(telling, "pending" if options["mode"] == "batch" else "sent")
        try:
            rows, place = _Rows(questions), self._place.directory
            run = start_list(parts, rows, telling.heard, cache_dir=place, purse=self._purse)
        except BaseException:
            for question in questions:
                question.sent(None, "asked")
            raise
        self.runs.append(run)
        telling.begin(run)
        watching = asyncio.run_coroutine_threadsafe(run.until_ended(), self.engine.loop.loop)
        watching.add_done_callback(lambda _: telling.over())
        return run

    def _parts(self, questions: Sequence[Question], options: dict[str, Any]) -> list[Part]:
        calls: dict[Hashable, Call] = {question.call.how: question.call for question in questions}
        asked = [(question.call.how, question.call.prompt) for question in questions]
        # Questions of their own for each run: a run learns about its prompts, and says so in its question.
        return parts_of(asked, lambda how: ask_of(calls[how], **{**self._options, **options}))


class _Rows(WholePrompts):
    """The calls of one run, in the order they were asked (see `run.Rows`)."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions
        self.total = len(questions)
        agents = dict.fromkeys(question.call.agent for question in questions)
        self.label = ", ".join(agents)

    def prompts(self, rows: range) -> Sequence[Prompt]:
        """Return the prompts of some rows."""
        return [question.call.prompt for question in self._questions[rows.start : rows.stop]]

    def name_of(self, row: int) -> str:
        """Return the name of a row: who asked, and which of its calls it is."""
        call = self._questions[row].call
        return f"{call.agent} {call.number}{f' {call.tag}' if call.tag else ''}".strip()

    def assemble(self, run: Run) -> list[Any]:
        """Return the values, None where there is none."""
        outcomes = [run.ledger.outcome(row) for row in range(self.total)]
        return [None if outcome is None else outcome.value for outcome in outcomes]

    def errors(self, run: Run) -> list[dict[str, Any]]:
        """Return the failures."""
        failures = [run.ledger.failure(row) for row in range(self.total)]
        return [
            {"position": row, "label": self.name_of(row), "kind": str(failure.kind), "message": failure.message}
            for row, failure in enumerate(failures)
            if failure is not None
        ]


class _Telling:
    """Report to questions how they ended. A row may end before its run's handle is returned."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions
        self._run: Run | None = None
        self._early: list[int] = []
        self._lock = threading.Lock()

    def begin(self, run: Run) -> None:
        """Take the run that the rows are of."""
        with self._lock:
            self._run, early = run, self._early
        for row in early:
            self._tell(run, row)

    def heard(self, row: int) -> None:
        """Note a row that has ended. On the engine's loop."""
        with self._lock:
            run = self._run
            if run is None:
                self._early.append(row)
                return
        self._tell(run, row)

    def over(self) -> None:
        """Note the run's end: what has no outcome by now gets none."""
        run = self._run
        assert run is not None
        for question in self._questions:
            question.broken(self, run.course.error)

    def _tell(self, run: Run, row: int) -> None:
        self._questions[row].heard(self, run.ledger.outcome(row), run.ledger.failure(row))
