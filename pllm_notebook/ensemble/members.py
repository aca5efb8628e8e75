"""The members of an ensemble: what each has made of a call, and when the last of them has ended it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from pllm_notebook.ensemble.decisions import EnsembleSpec
from pllm_notebook.execution import Chunk, Ledger, Outcome, Rows
from pllm_notebook.execution.courses import Courses
from pllm_notebook.messages_types import Dialogue, Media, Prompt
from pllm_notebook.prompts import prompt_as_text
from pllm_notebook.records import Failure, FailureKind

__all__ = ["Members"]


class Members:
    """Ask every member, and hear of their answers. Used on the engine's loop, except what says otherwise.

    Args:
        plan: Who they are.
        rows: What they are asked.
        courses: Makes their courses.
        planned: Called with each chunk that a member has planned, and whether it is the first member.
        heard: Called with each call that all of them have ended.

    Attributes:
        ledger: For the decided outcomes; its rows and calls are those of the first member.
    """

    def __init__(
        self,
        plan: EnsembleSpec,
        rows: Rows,
        courses: Courses,
        planned: Callable[[Chunk, bool], None],
        heard: Callable[[int], None],
    ) -> None:
        self._plan = plan
        self._rows = rows
        self._courses = courses
        self._heard = heard
        self._all = [
            courses.make(member.ask, rows, _Ear(planned, self._hear, first=at == 0))
            for at, member in enumerate(plan.members)
        ]
        self.ledger: Ledger = self._all[0].ledger.twin()
        # Of each call that not all have ended: how many have.
        self._ended: Counter[int] = Counter()

    def line_up(self) -> None:
        """Queue them to begin in their turn."""
        for member in self._all:
            self._courses.line_up(member.begin)

    def line_up_again(self, kinds: set[FailureKind] | None, calls: set[int]) -> None:
        """Queue them to ask *calls* again, each what it has no answer to; note the rest at once.

        Args:
            kinds: Of failures; None for those that can pass.
            calls: Not decided any more.
        """
        self._ended.clear()
        for member in self._all:
            # The ledger is the first member's; another may have planned calls that this one had not, at a stop.
            sent_again = {call for call in member.retryable(kinds) if call in calls or call >= len(self.ledger.keys)}
            self._courses.line_up_again(member, kinds, sent_again)
            for call, outcome in enumerate(member.ledger.outcomes):
                if outcome is not None and call not in sent_again and self._undecided(call):
                    self._hear(call)

    def release(self) -> None:
        """Let go of whoever hears of them (see `Endable.release`)."""
        self._heard = _nothing

    def outcomes(self, call: int) -> list[Outcome | None]:
        """Return what each member has made of *call*, None for what has not ended. From any thread."""
        ledgers = [member.ledger.outcomes for member in self._all]
        return [outcomes[call] if call < len(outcomes) else None for outcomes in ledgers]

    @property
    def ledgers(self) -> list[Ledger]:
        """Each member's own, in order."""
        return [member.ledger for member in self._all]

    def answers(self, call: int) -> list[Outcome]:
        """Return what has been made of *call*, in the members' order. From any thread."""
        return [outcome for outcome in self.outcomes(call) if outcome is not None]

    def question(self, call: int) -> str:
        """Return the prompt of *call* in words, without its instruction. From any thread."""
        prompt = self._prompt(call)
        return prompt_as_text(replace(prompt, system=None) if isinstance(prompt, Dialogue) else prompt)

    def instruction(self, call: int) -> str | None:
        """Return the instruction that *call* went with: its row's own, else the question's. From any thread."""
        prompt, common = self._prompt(call), self._plan.members[0].ask.system
        return prompt.system or common if isinstance(prompt, Dialogue) else common

    def media(self, call: int) -> tuple[Media, ...]:
        """Return what *call* shows, in order, from its history on. From any thread."""
        prompt = self._prompt(call)
        if not isinstance(prompt, str | Dialogue):
            return ()
        turns = self._plan.members[0].ask.dialogue(prompt).turns
        return tuple(each for turn in turns for each in turn.media)

    def _prompt(self, call: int) -> Prompt:
        row = self.ledger.first_row[call]
        (prompt,) = self._rows.prompts(range(row, row + 1))
        assert prompt is not None  # it has been asked
        assert not isinstance(prompt, Failure)
        return prompt

    def _undecided(self, call: int) -> bool:
        return call >= len(self.ledger.outcomes) or self.ledger.outcomes[call] is None

    def _hear(self, call: int) -> None:
        """Note that one more member has ended *call*."""
        self._ended[call] += 1
        if self._ended[call] == len(self._all):
            del self._ended[call]
            self._heard(call)


class _Ear:
    """What is heard of one member (see `Listener`)."""

    def __init__(self, planned: Callable[[Chunk, bool], None], hear: Callable[[int], None], *, first: bool) -> None:
        self._planned = planned
        self._hear = hear
        self._first = first

    def planned(self, ledger: Ledger, chunk: Chunk) -> None:
        self._planned(chunk, self._first)

    def recorded(self, call: int, outcome: Outcome) -> None:
        self._hear(call)


def _nothing(call: int) -> None:
    """Do nothing: nothing is decided any more."""
