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

from pllm_notebook.engine import hold_at_exit
from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.execution import options_for
from pllm_notebook.execution.call_spec import resolve_model
from pllm_notebook.messages_types import Prompt
from pllm_notebook.records import FailureKind
from pllm_notebook.sessions.agent import Agent
from pllm_notebook.sessions.call import Call
from pllm_notebook.sessions.dashboard import SessionStatus, count
from pllm_notebook.sessions.documents import Documents
from pllm_notebook.sessions.error_response import STORED_KINDS, ErrorResponse
from pllm_notebook.sessions.lazy_reply import LazyReply
from pllm_notebook.sessions.llm_identity import LLMIdentity, model_of
from pllm_notebook.sessions.metadata import Metadata
from pllm_notebook.sessions.sender import SessionSender
from pllm_notebook.sessions.session_call import SessionCall, Stage
from pllm_notebook.sessions.session_config import SessionConfig
from pllm_notebook.sessions.session_context import SessionContext
from pllm_notebook.sessions.session_file import SessionFile
from pllm_notebook.sessions.session_store import AnswerRecord, Failed, Retrieved, SessionStore
from pllm_notebook.settings import current

__all__ = ["Session", "live_session"]

logger = logging.getLogger("pllm_notebook")

DEFAULT_AGENT = "default-agent"

# By directory: the session that a pickled reply of this process belongs to.
_live: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()


def live_session(directory: str) -> Session | None:
    """Return this process's newest session in a directory, None where there is none, or its block has ended."""
    session = _live.get(directory)
    return session if session is not None and session.is_open else None


class Session(SessionContext):
    """A program's calls, answers and notes in one directory. Made by `resume_directory`.

    Args:
        session_store: The directory.
        terms: What it was begun with.

    Attributes:
        terms: As given.
        agents: By name.
        documents: What was asked about, each once.
        metadata: Notes that outlive the program.
    """

    def __init__(self, session_store: SessionStore, terms: SessionConfig) -> None:
        super().__init__(session_store.directory, terms.log_level)
        _ = session_store.store  # opened now, so that a directory that cannot be used is told before anything is asked
        self.terms = terms
        self.agents: dict[str, Agent] = {}
        self._session_store = session_store
        self._file = SessionFile(self.directory)
        self._file.begin()
        self.metadata = Metadata(self._file.metadata, self.persist)
        self.documents = Documents(self.directory)
        self._session_calls: dict[tuple[Hashable, str], SessionCall] = {}
        self._reported: set[SessionCall] = set()
        # Equal calls of several threads are one question.
        self._lock = threading.Lock()
        self._retried: frozenset[FailureKind] | None = None
        # Answers of a cohort that was asked anew are the new ones when the program goes on.
        self._refresh_since = (self._file.refresh_since or time.time()) if terms.ignore_cache else None
        self._sender = SessionSender(
            session_store, {} if terms.max_cost_usd is None else {"max_cost_usd": terms.max_cost_usd}
        )
        if current().loop == "notebook":
            # Begun here: a thread that sends what has gathered has no loop of the notebook's to begin it on.
            _ = self._sender.engine
        self._strategy = terms.make(session_store, self._sender)
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
            self.agents[name] = Agent(self, name, self._file.agents.get(name), self.persist)
        if dashboard:
            self.dashboard()
        return self.agents[name]

    def resolve_all(self, replies: Iterable[LazyReply]) -> list[Any]:
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
        for session_call in self.questions:
            if session_call.error is not None and session_call.error.kind in wanted:
                session_call.reset()
                self._reported.discard(session_call)
                session_call.submitted = True
                self._strategy.asked(session_call)

    def retrieve(self, of: Call | LazyReply) -> Retrieved:
        """Return what there is of a call: present, pending, failed or absent. Sends nothing."""
        return of.retrieve() if isinstance(of, LazyReply) else self._session_store.retrieve(of, self._refresh_since)

    # What agents and replies ask of it.

    def hash_by_for(self, hash_by: Sequence[str] | None) -> Sequence[str] | None:
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
        return self._file.sessions

    def get_session_counter(self) -> int:
        """Return `session_counter`."""
        return self.session_counter

    def model_of(self, llm: str | LLMIdentity | None) -> str:
        """Return the model of a call, of which *llm* is what was said; the one that is configured where nothing was."""
        return model_of(llm, self.terms.provider, self.terms.model) or resolve_model(options_for({})).label

    def read(self, documents: Sequence[Any]) -> tuple[Prompt, tuple[str, ...]]:
        """Read what is asked, and keep what is new of it; give the hashes of the documents too."""
        return self.documents.read(documents)

    def reply_to(self, call: Call) -> LazyReply:
        """Return the lazy reply to a call. Sends nothing.

        Raises:
            UsageError: When it cannot be asked as written, or the block has ended.
        """
        self._check_open()
        try:
            key = self._session_store.key(call)
        except ErrorResponse as error:  # a prompt that is none fails alone, as in a frame
            unsent = SessionCall(self._session_store, call, "")
            unsent.reject(error)
            return LazyReply(self._session_store, call, unsent, self)
        with self._lock:
            session_call = self._session_calls.get((call.how, key))
            if session_call is None:
                session_call = self._session_calls[call.how, key] = SessionCall(
                    self._session_store, call, key, self._refresh_since
                )
                self._refresh(session_call)
        if session_call.error is not None and session_call.error.kind not in STORED_KINDS:
            # It was stopped, or the key was refused: asked once more, it may go well.
            session_call.reopen()
            self._refresh(session_call)
        return LazyReply(self._session_store, call, session_call, self)

    def asked(self, session_call: SessionCall) -> None:
        """Note that an agent has asked; send where the strategy does.

        Raises:
            ErrorResponse: In "sync" with `errors="raise"`, where it has failed.
        """
        with self._lock:
            new, session_call.submitted = not session_call.submitted, True
        if new:
            self._strategy.asked(session_call)
        if self.strategy == "sync" and session_call.error is not None:
            self._report(session_call)
            if self.terms.errors == "raise":
                raise session_call.error

    def wait_for_answer(self, session_call: SessionCall) -> AnswerRecord:
        """Wait for an answer as the strategy has it.

        Raises:
            ErrorResponse: Where it has failed.
            Paused: Where the block is to end here.
        """
        if self.is_open:
            self._strategy.wait_for(session_call)
        hold_at_exit()
        try:
            return session_call.answer()
        except ErrorResponse:
            self._report(session_call)
            raise

    def _refresh(self, session_call: SessionCall) -> None:
        found = session_call.refresh()
        if isinstance(found, Failed) and found.error.kind in (self._retried or ()):
            session_call.reset()

    def _report(self, session_call: SessionCall) -> None:
        if self.terms.errors == "coerce" and session_call not in self._reported:
            logger.warning("%s", session_call.error)
        self._reported.add(session_call)

    # What a person looks at.

    @property
    def questions(self) -> list[SessionCall]:
        """The calls of this run of the program, each once, in the order they were asked."""
        return list(self._session_calls.values())

    @property
    def cost_usd(self) -> float | None:
        """US dollars that this run of the program paid so far, None for unknown; of a job while it looked on."""
        return self._sender.cost_usd

    @property
    def total_cost_usd(self) -> float | None:
        """US dollars that the answers of this run's calls cost, whichever run of the program paid, None for unknown."""
        costs = [session_call.cost_usd for session_call in self.questions]
        return None if None in costs else sum((cost for cost in costs if cost is not None), 0.0)

    @property
    def simulated(self) -> bool:
        """Whether some of the answers are invented, those that were stored before among them."""
        models = {session_call.call.model: session_call.call for session_call in self.questions}
        return any(self._session_store.ask(call).target.simulated for call in models.values())

    def counts(self) -> dict[Stage, int]:
        """Count the calls by where they stand (see `SessionCall.stage`)."""
        found = Counter(session_call.stage for session_call in self.questions)
        return {stage: found[stage] for stage in get_args(Stage)}

    def standing(self) -> SessionStatus:
        """Return the session's status, as its dashboard shows it."""
        # A copy: the program may name another agent while a dashboard's thread reads.
        asked = {name: agent.asked for name, agent in list(self.agents.items())}
        counts, agents, models = count(asked, self._session_store)
        return SessionStatus(
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
        """Write down every call of this run of the program (see `session_export.export_all`); give how many."""
        from pllm_notebook.sessions.session_export import export_all

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
        finished = not self.is_open and self.summary is None
        self._file.refresh_since = None if finished else self._refresh_since
        self._file.write(self.metadata.as_json(), agents)

    def _finish(self) -> None:
        self._strategy.finish()
        unseen = [
            session_call.error
            for session_call in self.questions
            if session_call.error and session_call not in self._reported
        ]
        if unseen:
            logger.warning("%d calls failed that the program did not look at; the first: %s", len(unseen), unseen[0])

    def _drain(self) -> None:
        self._strategy.drain()

    def _stop(self) -> None:
        self._strategy.stop()
