"""The decisions of an ensemble: one for each row, by a vote, a function or a judge."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pllm_notebook.ensemble.decisions import Decision, EnsembleSpec, decide
from pllm_notebook.ensemble.ensemble_rows import EnsembleRows
from pllm_notebook.ensemble.judge_prompt import render_judge_prompt
from pllm_notebook.ensemble.votes import VoteCount
from pllm_notebook.execution import SKIPPED, UNPLANNED, CallSpec, Decider, Outcome, ResultTable, is_retryable
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.formatting import counted, format_usd
from pllm_notebook.messages_types import Dialogue, Media, Prompt, Turn
from pllm_notebook.prompts import prompt_as_text
from pllm_notebook.types import Spent

__all__ = ["EnsembleResults"]

_Ready = tuple[int, Outcome | None]


class EnsembleResults(Decider):
    """Decide the rows of an ensemble (see `Decider`).

    Equal rows form one group, which is one call of `table`. A group has one call per member, and one more if the judge
    or the strong model is asked.

    Args:
        plan: The ensemble.
        rows: The rows of the run.
        results: The run's calls.

    Attributes:
        plan: As given.
        decisions: How each group was decided. Groups that are not decided yet are missing.
        judged: Number of groups that went to the judge or the strong model, cached answers included.
    """

    def __init__(self, plan: EnsembleSpec, rows: EnsembleRows, results: ResultTable) -> None:
        options = plan.members[0].spec.options
        raises = options.mode == "sync" or options.errors == "raise"
        super().__init__(rows.total // rows.members, rows.members, raises=raises)
        self.plan = plan
        self.decisions: dict[int, Decision] = {}
        self.judged = 0
        self._rows = rows
        rows.judge_prompt = self._judge_prompt
        rows.judged_row = lambda group: self.table.first_row[group]
        self._results = results
        # A batch asks the judge in one job; a run that sends one call at a time asks it last.
        self._waits_for_members = options.mode in ("batch", "sync")
        # The call of each sample, ordered by group.
        self._samples = array("q")
        self._failed_samples: dict[int, Outcome] = {}
        self._groups: defaultdict[int, list[int]] = defaultdict(list)
        self._judge_calls: dict[int, int] = {}
        # The number of answers so far of each group that some members have not answered.
        self._answered: Counter[int] = Counter()
        self._ready: list[_Ready] = []
        self._deciding = 0
        self._contested: list[int] = []
        self._judge_replies = 0

    @property
    def is_busy(self) -> bool:
        """Whether any group has yet to be decided or sent to the judge."""
        return bool(self._ready or self._deciding or self._contested)

    def outcomes(self, group: int) -> list[Outcome | None]:
        """Return each member's outcome for a group, None while it is pending. Callable from any thread."""
        members = self._rows.members
        return [self._sample(at) for at in range(group * members, (group + 1) * members)]

    def reply_of(self, row: int) -> tuple[CallSpec, str] | None:
        """Return the spec and the key of the reply behind a row's answer (see `Decider.reply_of`)."""
        group = self.table.call_of_row[row]
        decision = self.decisions.get(group)
        if decision is None:
            return None
        if decision.how == "escalated" and self.plan.further is not None and decision.reply:
            return self.plan.further, decision.reply
        chosen = None if decision.chosen is None else self.outcomes(group)[decision.chosen]
        if chosen is None or decision.chosen is None or chosen.entry is not None:
            return None
        return self.plan.members[decision.chosen].spec, chosen.last or chosen.key

    def samples(self, member: int) -> tuple[list[str], list[Outcome | None]]:
        """Return the keys and outcomes of one member's calls, by group. Callable from any thread."""
        places = range(member, len(self._samples), self._rows.members)
        keys = [self._results.keys[call] if (call := self._samples[at]) >= 0 else "" for at in places]
        return keys, [self._sample(at) for at in places]

    # What happens to calls.

    def planned(self, rows: Sequence[int]) -> None:
        """Register planned rows: their groups, and the calls that have already ended."""
        results, members = self._results, self._rows.members
        for row in rows:
            call, contested = results.call_of_row[row], self._rows.group_of(row)
            if contested is not None:
                self._planned_judge_call(contested, row, call)
                continue
            position, member = divmod(row, members)
            group = self._group(position, row, call) if member == 0 else self.table.call_of_row[position]
            if group < 0 or self._samples[at := group * members + member] != UNPLANNED:
                continue
            self._samples[at] = call
            if call >= 0:
                self._groups[call].append(group)
                if results.outcomes[call] is not None:
                    self._count_answer(group)
            else:
                self._failed_samples[at] = self._unsent(group, row, call)
                self._count_answer(group)

    def recorded(self, call: int, outcome: Outcome) -> None:
        """Take the outcome of a call."""
        is_judge = self._results.spec_of_call[call] == self._rows.members
        self._judge_replies += is_judge and not outcome.cached and outcome.failure is None
        for group in self._groups[call]:
            if is_judge:
                self._take(group, outcome)
            else:
                self._count_answer(group)

    def _group(self, position: int, row: int, call: int) -> int:
        """Return the group of a row by its first member's call. Negative if it has none."""
        table = self.table
        if call == SKIPPED:
            table.skip(position)
            table.progress.skipped += 1
            return -1
        if call < 0:
            failure = self._results.own_failures[row]
            table.fail(position, failure)
            table.count_failed(failure, 1)
            self._note_failure(position, failure)
            return -1
        group = table.add(position, self._results.keys[call], context=self._results.context_of_call.get(call, ""))
        if len(self._samples) < len(table.keys) * self._rows.members:
            self._samples.extend([UNPLANNED] * self._rows.members)
        table.weight[group] += 1
        outcome = table.outcomes[group]
        if outcome is not None:
            table.count(outcome, 1)
        return group

    def _planned_judge_call(self, group: int, row: int, call: int) -> None:
        if group in self._judge_calls or self.table.outcomes[group] is not None:
            return
        if call < 0:
            self._take(group, self._unsent(group, row, call))
            return
        self._judge_calls[group] = call
        self._groups[call].append(group)
        outcome = self._results.outcomes[call]
        if outcome is not None:
            self._take(group, outcome)

    def _unsent(self, group: int, row: int, call: int) -> Outcome:
        skipped = Failure(FailureKind.INPUT, "The row has a missing value. Nothing was sent for it.")
        failure = skipped if call == SKIPPED else self._results.own_failures[row]
        return Outcome(None, failure, self.table.keys[group], (), False)

    def _count_answer(self, group: int) -> None:
        self._answered[group] += 1
        if self._answered[group] == self._rows.members:
            del self._answered[group]
            self._take(group, None)

    def _take(self, group: int, further: Outcome | None) -> None:
        self._ready.append((group, further))
        self.woken.set()

    def _sample(self, at: int) -> Outcome | None:
        call = self._samples[at]
        return self._results.outcomes[call] if call >= 0 else self._failed_samples.get(at)

    # Deciding.

    def take_ready(self) -> Sequence[_Ready]:
        """Return the groups that can be decided, each with the judge's outcome."""
        ready, self._ready = self._ready, []
        self._deciding = len(ready)
        return ready

    def decide(self, ready: Sequence[_Ready]) -> list[tuple[Outcome, Decision] | None]:
        """Decide groups, with None for a group that must go to the judge. Runs in a worker thread."""
        return [decide(self.plan, self._answers(group), further, partial(self._question, group), self._context(group))
                for group, further in ready]  # fmt: skip

    def record(self, ready: Sequence[_Ready], decided: Sequence[tuple[Outcome, Decision] | None]) -> None:
        """Record the decisions."""
        self._deciding = 0
        for (group, _), made in zip(ready, decided, strict=True):
            if self.table.outcomes[group] is not None:
                continue
            if made is None:
                self._contested.append(group)
                continue
            outcome, self.decisions[group] = made
            self.table.record(group, outcome)
            if outcome.failure is not None:
                self._note_failure(self.table.first_row[group], outcome.failure)

    def add_rows(self, *, idle: bool) -> bool:
        """Queue the contested groups for the judge. Groups that become contested meanwhile go with the next call."""
        if not self._contested or (self._waits_for_members and not idle):
            return False
        contested, self._contested = self._contested, []
        self.judged += len(contested)
        for group in contested:
            self._rows.add(group)
            self._results.call_of_row.append(UNPLANNED)
        return True

    def reopen(self, kinds: set[FailureKind] | None) -> Iterable[int]:
        """Discard the decisions of the rows to retry, and return the calls that the retry sends."""
        results, members = self._results, self._rows.members
        groups = self.table.retryable(kinds)
        self.table.reopen(groups)
        groups += self._reopen_cells(kinds)
        self.first_failure = None
        self._ready, self._contested, self._deciding = [], [], 0
        self._answered.clear()
        retried = set(results.retryable(kinds)) | self._refusing(groups, kinds)
        # Calls that never ended are always sent.
        sent = {call for call in retried if results.outcomes[call] is None}
        for group in groups:
            self.decisions.pop(group, None)
            calls = [self._samples[at] for at in range(group * members, (group + 1) * members)]
            again = [call for call in calls if call in retried]
            judge = self._judge_calls.get(group, UNPLANNED)
            sent.update(again, (judge,) if judge in retried else ())
            self._answered[group] = sum(call != UNPLANNED and call not in retried for call in calls)
            if self._answered[group] == members:
                del self._answered[group]
                if judge not in retried:
                    self._take(group, results.outcomes[judge] if judge >= 0 else None)
        return sent

    def _reopen_cells(self, kinds: set[FailureKind] | None) -> list[int]:
        """Discard the assembled groups that lack a field whose call is retried, and return them."""
        found = []
        for group, decision in self.decisions.items():
            outcome = self.table.outcomes[group]
            again = any(is_retryable(cell.failure.kind, kinds) for cell in decision.cells)
            if again and outcome is not None and outcome.failure is None:
                self.table.count(outcome, -self.table.weight[group])
                self.table.before_retry[group] = outcome
                self.table.outcomes[group] = None
                found.append(group)
        return found

    def _refusing(self, groups: Sequence[int], kinds: set[FailureKind] | None) -> set[int]:
        """Return the calls of some groups that refused a question, if refusals are retried."""
        if self.plan.assembly is None or not is_retryable(FailureKind.REFUSAL, kinds):
            return set()
        members = self._rows.members
        places = [group * members + at for group in groups for at in range(self.plan.judging)]
        made: set[int] = set()
        for place in places:
            outcome = self._sample(place)
            answered = outcome is not None and outcome.failure is None
            if self._samples[place] >= 0 and outcome is not None and answered and None in outcome.value.values():
                made.add(self._samples[place])
        return made

    def _note_failure(self, position: int, failure: Failure) -> None:
        self.first_failure = self.first_failure or (position, failure)

    # What a judge is asked.

    def _answers(self, group: int) -> list[Outcome]:
        return [outcome for outcome in self.outcomes(group) if outcome is not None]

    def _context(self, group: int) -> Any:
        contexts = self._rows.contexts
        return None if contexts is None else contexts.of(self.table.first_row[group] * self._rows.members)

    def _prompt(self, group: int) -> Prompt:
        row = self.table.first_row[group] * self._rows.members
        (prompt,) = self._rows.prompts(range(row, row + 1))
        assert prompt is not None  # it has been asked
        assert not isinstance(prompt, Failure)
        return prompt

    def _question(self, group: int) -> str:
        """Return the prompt of a group as text, without the system prompt."""
        prompt = self._prompt(group)
        return prompt_as_text(replace(prompt, system=None) if isinstance(prompt, Dialogue) else prompt)

    def _judge_prompt(self, group: int) -> str | Dialogue:
        """Return the prompt of the judge or the strong model for a group. Callable from any thread."""
        plan, prompt, question = self.plan, self._prompt(group), self._question(group)
        if plan.decide != "judge":
            return question
        spec = plan.members[0].spec
        values = [outcome.value for outcome in self._answers(group) if outcome.failure is None]
        tally = VoteCount(plan.output, [plan.answer(value) for value in values])
        *history, _ = spec.encoder.dialogue(question).turns
        instruction = prompt.system or spec.system if isinstance(prompt, Dialogue) else spec.system
        text = render_judge_prompt(question, instruction, tally, reasonings=plan.reasonings(values), history=history)
        # A judge that cannot see what the members saw could only guess.
        media: tuple[Media, ...] = ()
        if isinstance(prompt, str | Dialogue):
            media = tuple(each for turn in spec.encoder.dialogue(prompt).turns for each in turn.media)
        return Dialogue((Turn("user", text, media),)) if media else text

    # What is shown.

    def release(self) -> None:
        """Drop the references to these results."""
        self._rows.judge_prompt, self._rows.judged_row = _no_prompt, _no_row

    def news(self, note: str, further_spent: Spent | None, cost_usd: float | None, *, ended: bool) -> str:
        """Return how often the judge was called, and the cost of a cascade (see `Decider.news`)."""
        plan = self.plan
        if not self.judged or plan.further is None or further_spent is None:
            return note
        who = "judge" if plan.decide == "judge" else plan.further.target.label
        called = f"{who} called on {self.judged:,} of {len(self.table.keys):,}"
        # Answers that were in the cache would make the comparison unfair.
        fair = ended and plan.decide == "escalate" and not self._results.progress.cached
        if fair and self._judge_replies and further_spent.cost_usd is not None and cost_usd is not None:
            alone = further_spent.cost_usd / self._judge_replies * len(self.table.keys)
            called = f"{called}: {format_usd(cost_usd)} instead of about {format_usd(alone)} for it alone"
        return f"{called}; {note}" if note else called

    def warnings(self) -> Sequence[str]:
        """Return the warnings to show at the end."""
        if self.plan.assembly is not None:
            return self._cell_warnings()
        errors = [decision.judge_error for decision in self.decisions.values() if decision.judge_error]
        if not errors:
            return ()
        who = "judge" if self.plan.decide == "judge" else "strong model"
        failed = f"The {who} failed on {len(errors):,} of {self.judged:,} calls"
        return (f"{failed}, which have the majority's answer instead. The first: {errors[0]}",)

    def _cell_warnings(self) -> Sequence[str]:
        """Warn about fields without a value in rows that have values in other fields."""
        kinds: Counter[FailureKind] = Counter()
        rows = 0
        for group, decision in self.decisions.items():
            kinds.update(cell.failure.kind for cell in decision.cells)
            rows += bool(decision.cells) * self.table.weight[group]
        if not rows:
            return ()
        named = ", ".join(f"{kind} ({times:,})" for kind, times in kinds.most_common())
        return (f"{counted(rows, 'row')} lack{'s' if rows == 1 else ''} a field: {named}. `.errors` names each.",)


def _no_row(group: int) -> int:
    """Return a placeholder: the run has ended and is no longer referenced."""
    return group


def _no_prompt(group: int) -> str:
    """Return nothing: the run has ended and is no longer referenced."""
    return ""
