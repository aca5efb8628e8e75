"""A program that asks, as a block: `with pllm.resume_directory(...) as session:`."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, get_args

from pllm_notebook.conversation import Prompt
from pllm_notebook.engine import hold_at_exit
from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.pipeline.agents import Agent
from pllm_notebook.pipeline.blocks import Block
from pllm_notebook.pipeline.calls import Call
from pllm_notebook.pipeline.dashboard import Standing, count
from pllm_notebook.pipeline.documents import Documents
from pllm_notebook.pipeline.failing import KEPT, ErrorResponse
from pllm_notebook.pipeline.identities import LLMIdentity, model_of
from pllm_notebook.pipeline.metadata import Metadata
from pllm_notebook.pipeline.minutes import Minutes
from pllm_notebook.pipeline.questions import Question, Stage
from pllm_notebook.pipeline.replies import Reply
from pllm_notebook.pipeline.retrieving import Answer, Failed, Place, Retrieved
from pllm_notebook.pipeline.sending import Courier
from pllm_notebook.pipeline.terms import Terms
from pllm_notebook.records import FailureKind
from pllm_notebook.run import options_for
from pllm_notebook.run.ask import target_for
from pllm_notebook.settings import current

__all__ = ["Session", "live"]

logger = logging.getLogger("pllm_notebook")

DEFAULT_AGENT = "default-agent"

# By directory: the session that a pickled reply of this process belongs to.
_live: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()


def live(directory: str) -> Session | None:
    """Return this process's newest session in a directory, None where there is none, or its block has ended."""
    session = _live.get(directory)
    return session if session is not None and session.goes_on else None


class Session(Block):
    """A program's calls, answers and notes in one directory. Made by `resume_directory`.

    Args:
        place: The directory.
        terms: What it was begun with.

    Attributes:
        terms: As given.
        agents: By name.
        documents: What was asked about, each once.
        metadata: Notes that outlive the program.
    """

    def __init__(self, place: Place, terms: Terms) -> None:
        super().__init__(place.directory, terms.log_level)
        _ = place.store  # opened now, so that a directory that cannot be used is told before anything is asked
        self.terms = terms
        self.agents: dict[str, Agent] = {}
        self._place = place
        self._minutes = Minutes(self.directory)
        self._minutes.begin()
        self.metadata = Metadata(self._minutes.metadata, self.persist)
        self.documents = Documents(self.directory)
        self._questions: dict[tuple[Hashable, str], Question] = {}
        self._told: set[Question] = set()
        # Equal calls of several threads are one question.
        self._lock = threading.Lock()
        self._retried: frozenset[FailureKind] | None = None
        # Answers of a cohort that was asked anew are the new ones when the program goes on.
        self._anew_since = (self._minutes.anew_since or time.time()) if terms.ignore_cache else None
        self._courier = Courier(place, {} if terms.max_cost_usd is None else {"max_cost_usd": terms.max_cost_usd})
        if current().loop == "notebook":
            # Begun here: a thread that sends what has gathered has no loop of the notebook's to begin it on.
            _ = self._courier.engine
        self._strategy = terms.make(place, self._courier)
        _live[self.directory] = self

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {stage}" for stage, count in self.counts().items() if count)
        return f"<Session {self.directory!r} ({self.strategy}): {counts or 'nothing asked'}>"

    @property
    def strategy(self) -> str:
        """One of "sync", "async", "batch" and "hybrid"."""
        return self.terms.strategy

    # Asking.

    def agent(self, name: str | int = DEFAULT_AGENT, *, dashboard: bool = False) -> Agent:
        """Return the agent of this name: the same one within a session, with its notes of earlier ones.

        A context manager, also of `async with`; its block ends as the session's does.

        Args:
            name: Its name; a whole number is one too.
            dashboard: Whether to show the session's dashboard.
        """
        name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not isinstance(name, str) or not name:
            raise UsageError(f"An agent's name is text, not {name!r}. Nothing was sent.")
        if name not in self.agents:
            self.agents[name] = Agent(self, name, self._minutes.agents.get(name), self.persist)
        if dashboard:
            self.dashboard()
        return self.agents[name]

    def resolve_all(self, replies: Iterable[Reply]) -> list[Any]:
        """Wait for all, and give their texts in order.

        Args:
            replies: A generator of them has asked all before the first is waited for.

        Raises:
            ErrorResponse: At the first that failed, with `errors="raise"`; with "coerce" it stands in the text's place.
        """
        values: list[Any] = []
        for reply in list(replies):
            try:
                values.append(reply.resolve())
            except ErrorResponse as error:
                if self.terms.errors == "raise":
                    raise
                values.append(error)
        return values

    def barrier(self) -> None:
        """Go on only when all that has been asked so far is done, answered or failed.

        What comes after it then finds the same in every run of the program, whichever job was quicker. Batch and
        hybrid sessions do so by themselves wherever a value is awaited.
        """
        self._strategy.barrier()

    def retry_failed(self, kinds: Iterable[str] | None = None) -> None:
        """Ask what has failed again, from here on; until then no failure is asked again.

        A paid failure (refusal, truncated, schema) is paid for again, and its reply replaced.

        Args:
            kinds: Of failures (see docs/errors.md), None for all.
        """
        wanted = frozenset(FailureKind) if kinds is None else frozenset(FailureKind(kind) for kind in kinds)
        self._retried = wanted | (self._retried or frozenset())
        for question in self.questions:
            if question.error is not None and question.error.kind in wanted:
                question.again()
                self._told.discard(question)
                question.handed = True
                self._strategy.asked(question)

    def retrieve(self, of: Call | Reply) -> Retrieved:
        """Return what there is of a call: present, pending, failed or absent. Sends nothing."""
        return of.retrieve() if isinstance(of, Reply) else self._place.retrieve(of, self._anew_since)

    # What agents and replies ask of it.

    def hashed_by(self, hash_by: Sequence[str] | None) -> Sequence[str] | None:
        """Return the `hash_by` of a call: its own, else the session's."""
        return self.terms.hash_by if hash_by is None else hash_by

    @property
    def gathers(self) -> bool:
        """Whether nothing is sent before a value is needed."""
        return self._strategy.gathers

    # Notes under the names that other packages have for them.

    @property
    def userdata(self) -> Metadata:
        """The same as `metadata`."""
        return self.metadata

    def save_userdata(self, name: str, value: Any) -> None:
        """Keep a note (see `metadata`), at once.

        Raises:
            UsageError: For a value that JSON does not have. Of a reply keep its text.
        """
        self.metadata[name] = value

    def load_userdata(self, name: str) -> Any:
        """Return a note that was kept in this run of the program or an earlier one.

        Raises:
            UsageError: Where there is none of that name.
        """
        try:
            return self.metadata[name]
        except KeyError:
            raise UsageError(f"There is no note {name!r}.{guess(str(name), self.metadata)} Nothing was sent.") from None

    @property
    def session_counter(self) -> int:
        """Which session of its directory this is, counted from 1."""
        return self._minutes.sessions

    def get_session_counter(self) -> int:
        """Return `session_counter`."""
        return self.session_counter

    def model_of(self, llm: str | LLMIdentity | None) -> str:
        """Return the model of a call, of which *llm* is what was said; the one that is configured where nothing was."""
        return model_of(llm, self.terms.provider, self.terms.model) or target_for(options_for({})).label

    def read(self, documents: Sequence[Any]) -> tuple[Prompt, tuple[str, ...]]:
        """Read what is asked, and keep what is new of it; give the hashes of the documents too."""
        return self.documents.read(documents)

    def reply_to(self, call: Call) -> Reply:
        """Return the lazy reply to a call. Sends nothing.

        Raises:
            UsageError: When it cannot be asked as written, or the block has ended.
        """
        self._must_go_on()
        try:
            key = self._place.key(call)
        except ErrorResponse as error:  # a prompt that is none fails alone, as in a frame
            unsent = Question(self._place, call, "")
            unsent.refused(error)
            return Reply(self._place, call, unsent, self)
        with self._lock:
            question = self._questions.get((call.how, key))
            if question is None:
                question = self._questions[call.how, key] = Question(self._place, call, key, self._anew_since)
                self._look(question)
        if question.error is not None and question.error.kind not in KEPT:
            # It was stopped, or the key was refused: asked once more, it may go well.
            question.reopen()
            self._look(question)
        return Reply(self._place, call, question, self)

    def asked(self, question: Question) -> None:
        """Note that an agent has asked; send where the strategy does.

        Raises:
            ErrorResponse: In "sync" with `errors="raise"`, where it has failed.
        """
        with self._lock:
            new, question.handed = not question.handed, True
        if new:
            self._strategy.asked(question)
        if self.strategy == "sync" and question.error is not None:
            self._tell(question)
            if self.terms.errors == "raise":
                raise question.error

    def answer_of(self, question: Question) -> Answer:
        """Wait for an answer as the strategy has it.

        Raises:
            ErrorResponse: Where it has failed.
            Paused: Where the block is to end here.
        """
        if self.goes_on:
            self._strategy.need(question)
        hold_at_exit()
        try:
            return question.answer()
        except ErrorResponse:
            self._tell(question)
            raise

    def _look(self, question: Question) -> None:
        found = question.look()
        if isinstance(found, Failed) and found.error.kind in (self._retried or ()):
            question.again()

    def _tell(self, question: Question) -> None:
        if self.terms.errors == "coerce" and question not in self._told:
            logger.warning("%s", question.error)
        self._told.add(question)

    # What a person looks at.

    @property
    def questions(self) -> list[Question]:
        """The calls of this run of the program, each once, in the order they were asked."""
        return list(self._questions.values())

    @property
    def cost_usd(self) -> float | None:
        """US dollars that this run of the program paid so far, None for unknown; of a job while it looked on."""
        return self._courier.cost_usd

    @property
    def total_cost_usd(self) -> float | None:
        """US dollars that the answers of this run's calls cost, whichever run of the program paid, None for unknown."""
        costs = [question.cost_usd for question in self.questions]
        return None if None in costs else sum((cost for cost in costs if cost is not None), 0.0)

    @property
    def simulated(self) -> bool:
        """Whether some of the answers are invented, those that were stored before among them."""
        models = {question.call.model: question.call for question in self.questions}
        return any(self._place.ask(call).target.simulated for call in models.values())

    def counts(self) -> dict[Stage, int]:
        """Count the calls by where they stand (see `Question.stage`)."""
        found = Counter(question.stage for question in self.questions)
        return {stage: found[stage] for stage in get_args(Stage)}

    def standing(self) -> Standing:
        """Return the session's status, as its dashboard shows it."""
        # A copy: the program may name another agent while a dashboard's thread reads.
        asked = {name: agent.asked for name, agent in list(self.agents.items())}
        counts, agents, models = count(asked, self._place)
        return Standing(
            label=self.directory,
            strategy="dry run" if self.terms.dry_run else self.strategy,
            models=models,
            simulated=self.simulated,
            counts=counts,
            agents=agents,
            cost_usd=self.cost_usd,
            total_cost_usd=self.total_cost_usd,
            elapsed_s=time.monotonic() - self._began,
            state=self._state,
        )

    def export_all(self, path: str | os.PathLike[str]) -> int:
        """Write down every call of this run of the program (see `exporting.export_all`); give how many."""
        from pllm_notebook.pipeline.exporting import export_all

        return export_all(self, path)

    # The block.

    def persist(self) -> None:
        """Write the notes down, and what the next run of the program must know; at the block's end it is done anyway.

        Raises:
            StoreError: If they cannot be written.
        """
        agents = {
            name: {"asked": len(agent.history), "metadata": agent.metadata.as_json()}
            for name, agent in self.agents.items()
        }
        finished = not self.goes_on and self.summary is None
        self._minutes.anew_since = None if finished else self._anew_since
        self._minutes.write(self.metadata.as_json(), agents)

    def _finish(self) -> None:
        self._strategy.finish()
        unseen = [question.error for question in self.questions if question.error and question not in self._told]
        if unseen:
            logger.warning("%d calls failed that the program did not look at; the first: %s", len(unseen), unseen[0])

    def _drain(self) -> None:
        self._strategy.drain()

    def _stop(self) -> None:
        self._strategy.stop()
