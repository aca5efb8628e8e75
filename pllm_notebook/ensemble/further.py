"""What the members differ on, put to the judge or the strong model in waves: the next gathers while one is out."""

from __future__ import annotations

from pllm_notebook.ensemble.deciding import Deciding
from pllm_notebook.ensemble.decisions import EnsembleSpec
from pllm_notebook.ensemble.judge_prompt import render_judge_prompt
from pllm_notebook.ensemble.members import Members
from pllm_notebook.ensemble.votes import VoteCount
from pllm_notebook.ensemble.waves import Wave
from pllm_notebook.execution.courses import Courses
from pllm_notebook.execution.ending import Ending
from pllm_notebook.execution.execute import Execution
from pllm_notebook.messages_types import Dialogue, Turn

__all__ = ["Further"]


class Further:
    """Ask further. Used on the engine's loop alone.

    Args:
        plan: Who is asked.
        courses: Makes the waves' courses.
        deciding: Takes what comes of them.
        ending: No wave is sent once something stops the run.
        members: Their answers go onto the ballot.

    Attributes:
        judged: Calls that were asked further, whether or not the store answered.
    """

    def __init__(
        self,
        plan: EnsembleSpec,
        courses: Courses,
        deciding: Deciding,
        ending: Ending,
        members: Members,
    ) -> None:
        self.judged = 0
        self._plan = plan
        self._courses = courses
        self._deciding = deciding
        self._ending = ending
        self._members = members
        self._batch = plan.members[0].ask.options.mode == "batch"
        self._contested: list[int] = []
        self._waves: list[Execution] = []

    def __bool__(self) -> bool:
        return bool(self._contested)

    def __repr__(self) -> str:
        return f"Further(contested={len(self._contested)}, judged={self.judged})"

    @property
    def who(self) -> str:
        """Who is asked, as a person calls it."""
        return "judge" if self._plan.decide == "judge" else "strong model"

    def take(self, call: int) -> None:
        """Ask *call* further with the next wave."""
        self._contested.append(call)

    def forget(self) -> None:
        """Forget what waits for the next wave."""
        self._contested = []

    def send(self) -> None:
        """Send the next wave, if there is one and the time is right."""
        courses = self._courses
        busy = bool(self._waves) and self._waves[-1].state == "running"
        if not self._contested or busy or self._ending.stopping is not None or (courses.serial and courses.going):
            return
        if self._batch and (courses.going or self._deciding.busy):
            return  # all further calls in one job
        assert self._plan.further is not None  # else nothing is contested
        calls, self._contested = self._contested, []
        self.judged += len(calls)
        wave = Wave(
            calls, self._ballot if self._plan.decide == "judge" else self._members.question, self._deciding.take
        )
        self._waves.append(courses.make(self._plan.further, wave, wave))
        courses.begin(self._waves[-1])

    def alone_usd(self, calls: int) -> float | None:
        """Return what *calls* would have cost had all been put to the stronger model, by those that were.

        None where this run sent it none, or nobody knows its price.
        """
        sent = sum(wave.throughput.done for wave in self._waves)
        costs = [wave.spent.cost_usd for wave in self._waves]
        if not sent or None in costs:
            return None
        return sum(cost for cost in costs if cost is not None) / sent * calls

    def _ballot(self, call: int) -> str | Dialogue:
        plan, question = self._plan, self._members.question(call)
        values = [outcome.value for outcome in self._members.answers(call) if outcome.failure is None]
        tally = VoteCount(plan.output, [plan.answer(value) for value in values])
        asked = plan.members[0].ask
        *history, _ = asked.dialogue(question).turns
        instruction = self._members.instruction(call)
        told = render_judge_prompt(question, instruction, tally, reasonings=plan.reasonings(values), history=history)
        # A judge that cannot see what the others saw could only guess.
        shown = self._members.media(call)
        return Dialogue((Turn("user", told, shown),)) if shown else told
