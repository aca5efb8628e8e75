"""A resumable program as a block: `with pllm.resume_directory(...) as session:`."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, get_args

from pllm_notebook.engine import hold_at_exit
from pllm_notebook.exceptions import UsageError, guess, with_article
from pllm_notebook.execution import options_for, resolve_model
from pllm_notebook.failures import FailureKind, kinds_named
from pllm_notebook.messages_types import Prompt
from pllm_notebook.sessions.agent import Agent
from pllm_notebook.sessions.call import Call
from pllm_notebook.sessions.dashboard import SessionStatus, count
from pllm_notebook.sessions.documents import Documents
from pllm_notebook.sessions.error_response import ErrorResponse
from pllm_notebook.sessions.lazy_reply import LazyReply
from pllm_notebook.sessions.live_sessions import register_session
from pllm_notebook.sessions.llm_identity import LLMIdentity, model_of
from pllm_notebook.sessions.llm_response import LLMResponse
from pllm_notebook.sessions.metadata import Metadata
from pllm_notebook.sessions.sender import SessionSender
from pllm_notebook.sessions.session_call import SessionCall, Stage
from pllm_notebook.sessions.session_config import SessionConfig
from pllm_notebook.sessions.session_context import SessionContext
from pllm_notebook.sessions.session_export import export_calls
from pllm_notebook.sessions.session_file import SessionFile
from pllm_notebook.sessions.session_store import AnswerRecord, Failed, Retrieved, SessionStore
from pllm_notebook.settings import current
from pllm_notebook.signatures import lists

__all__ = ["Session"]

logger = logging.getLogger("pllm_notebook")

DEFAULT_AGENT = "default-agent"


@lists("agent", "agents", "barrier", "config", "cost_usd", "dashboard", "directory", "documents", "export_all",
       "get_session_counter", "is_open", "load_userdata", "metadata", "persist", "print", "resolve_all", "retrieve",
       "retry_failed", "save_userdata", "session_counter", "summary", "total_cost_usd", "userdata")  # fmt: skip
class Session(SessionContext):
    """A program's calls, answers and notes in one directory. Created by `resume_directory`.

    Attributes:
        config: The arguments of `resume_directory`.
        agents: Agents by name.
        documents: The documents of all calls, each kept once.
        metadata: Notes that persist between runs of the program.
    """

    def __init__(self, session_store: SessionStore, config: SessionConfig) -> None:
        super().__init__(session_store.directory, config.log_level)
        _ = session_store.store  # opened now, so that an unusable directory is an error before the first call
        self.config = config
        self.agents: dict[str, Agent] = {}
        self._session_store = session_store
        self._file = SessionFile(self.directory)
        # A refresh that has not finished (it paused, failed or was killed) continues: answers that it has already
        # received are not requested again. Written before the first call, so that a kill does not lose it.
        self._refresh_since = (self._file.refresh_since or time.time()) if config.ignore_cache else None
        self._file.begin(self._refresh_since)
        self.metadata = Metadata(self._file.metadata, self.persist)
        self.documents = Documents(self.directory)
        self._session_calls: dict[tuple[Hashable, str], SessionCall] = {}
        self._reported: set[SessionCall] = set()
        # Equal calls of several threads share one SessionCall.
        self._lock = threading.Lock()
        self._retried: frozenset[FailureKind] | None = None
        self._sender = SessionSender(
            session_store, {} if config.max_cost_usd is None else {"max_cost_usd": config.max_cost_usd}
        )
        if current().loop == "notebook":
            # Started here: the thread that sends collected calls cannot find the notebook's loop.
            _ = self._sender.engine
        self._strategy = config.make_strategy(session_store, self._sender)
        register_session(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {stage}" for stage, count in self.counts().items() if count)
        return f"<Session {self.directory!r} ({self.strategy}): {counts or 'no calls'}>"

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()

    @property
    def strategy(self) -> str:
        """One of "sync", "async", "batch" and "hybrid"."""
        return self.config.strategy

    @property
    def terms(self) -> SessionConfig:
        """Former name of `config`, to be removed in the next release."""
        return self.config

    # Calls.

    def agent(self, name: str | int = DEFAULT_AGENT, *, dashboard: bool = False) -> Agent:
        """Return the agent of this name, one per session, with its notes from earlier sessions.

        An agent is a context manager, also for `async with`; its notes are written when the block ends.

        Args:
            name: A string or an integer.
            dashboard: Whether to show the session's dashboard.
        """
        name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not isinstance(name, str) or not name:
            raise UsageError(f"An agent's name is a string, not {name!r}. Nothing was sent.")
        if name not in self.agents:
            self.agents[name] = Agent(self, name, self._file.agents.get(name))
        if dashboard:
            self.dashboard()
        return self.agents[name]

    def resolve_all(self, replies: Iterable[LLMResponse]) -> list[Any]:
        """Wait for all replies, and return their texts in order.

        Args:
            replies: A generator is consumed first, so that all calls are made before any reply is waited for.

        Raises:
            UsageError: For a value that is not a reply. Nothing was sent.
            ErrorResponse: At the first failure, with `errors="raise"`. With "coerce" the list has the error instead.
        """
        values: list[Any] = []
        given: list[Any] = list(replies) if isinstance(replies, Iterable) else [replies]
        for place, reply in enumerate(given):
            if not isinstance(reply, LLMResponse):
                raise UsageError(
                    f"resolve_all takes replies, as ask_llm returns them; value {place:,} is "
                    f"{with_article(type(reply).__name__)}. Nothing was sent."
                )
        for reply in given:
            try:
                values.append(reply.resolve())
            except ErrorResponse as error:
                if self.config.errors == "raise":
                    raise
                values.append(error)
        return values

    def barrier(self) -> None:
        """Block until every call made so far is answered or failed.

        The program then finds the same state after this point in every run, regardless of which job finished first.
        Batch and hybrid sessions do this whenever a value is needed.

        Raises:
            UsageError: If the block has ended. Nothing was sent.
        """
        self._check_open()
        self._strategy.barrier()

    def retry_failed(self, kinds: Iterable[str] | None = None) -> None:
        """Retry failed calls from here on; without this, a stored failure is never retried.

        A paid failure (refusal, truncated, schema) is paid for again, and its reply replaced.

        Args:
            kinds: Kinds of failures to retry (see docs/errors.md), None for all.

        Raises:
            UsageError: If the block has ended, or a kind does not exist. Nothing was sent.
        """
        self._check_open()
        wanted = frozenset(FailureKind) if kinds is None else kinds_named(kinds)
        self._retried = wanted | (self._retried or frozenset())
        for session_call in self.calls:
            with self._lock:
                if not session_call.failed_with(None if kinds is None else wanted):
                    continue
                session_call.reset()
                self._reported.discard(session_call)
                session_call.submitted = True
            self._strategy.submit(session_call)

    def retrieve(self, of: Call | LazyReply) -> Retrieved:
        """Look up a call: present, pending, failed or absent. Sends nothing."""
        return of.retrieve() if isinstance(of, LazyReply) else self._session_store.retrieve(of, self._refresh_since)

    # Used by agents and replies (see `AgentSession`, `Answering`).

    def hash_by_for(self, hash_by: Sequence[str] | None) -> Sequence[str] | None:
        """Return the `hash_by` of a call: its own, or otherwise the session's."""
        return self.config.hash_by if hash_by is None else hash_by

    @property
    def gathers(self) -> bool:
        """Whether nothing is sent before a value is needed."""
        return self._strategy.gathers

    # Notes, under the names of other packages.

    @property
    def userdata(self) -> Metadata:
        """An alias of `metadata`."""
        return self.metadata

    def save_userdata(self, name: str, value: Any) -> None:
        """Write a note (see `metadata`) immediately.

        Raises:
            UsageError: For a value that is not JSON. For a reply, store its text.
        """
        self.metadata[name] = value

    def load_userdata(self, name: str) -> Any:
        """Return a note of this run of the program or an earlier one.

        Raises:
            UsageError: If there is no note of that name.
        """
        try:
            return self.metadata[name]
        except KeyError:
            raise UsageError(f"There is no note {name!r}.{guess(str(name), self.metadata)} Nothing was sent.") from None

    @property
    def session_counter(self) -> int:
        """The number of this session among those of its directory, counted from 1."""
        return self._file.sessions

    def get_session_counter(self) -> int:
        """Return `session_counter`."""
        return self.session_counter

    def model_of(self, llm: str | LLMIdentity | None) -> str:
        """Return the model of a call whose own model is *llm*. For None, the session's or the configured model."""
        return model_of(llm, self.config.provider, self.config.model) or resolve_model(options_for({})).label

    def read(self, documents: Sequence[Any]) -> tuple[Prompt, tuple[str, ...]]:
        """Read documents into a prompt, and keep the new ones; return the prompt with the documents' hashes."""
        return self.documents.read(documents)

    def reply_to(self, call: Call) -> LazyReply:
        """Return the lazy reply to a call. Sends nothing.

        Raises:
            UsageError: If the call is invalid, or the block has ended.
        """
        self._check_open()
        try:
            key = self._session_store.key(call)
        except ErrorResponse as error:  # an invalid prompt fails alone, like a row of a dataframe
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
        return LazyReply(self._session_store, call, session_call, self)

    def submit(self, session_call: SessionCall) -> None:
        """Send or collect a call, as the strategy decides.

        Raises:
            ErrorResponse: If the call has failed, in "sync" with `errors="raise"`.
        """
        self._check_open()
        with self._lock:
            if session_call.may_pass:
                # Reopened and marked as submitted in one step, so that of several threads only one sends it.
                session_call.reopen()
                self._refresh(session_call)
                self._reported.discard(session_call)
            new, session_call.submitted = not session_call.submitted, True
        if new:
            self._strategy.submit(session_call)
        if self.strategy == "sync" and session_call.error is not None:
            self._report(session_call)
            if self.config.errors == "raise":
                raise session_call.error

    def wait_for_answer(self, session_call: SessionCall) -> AnswerRecord:
        """Wait for an answer, in the way of the strategy.

        Raises:
            ErrorResponse: If the call has failed.
            Paused: If the answer is pending, which ends the block.
        """
        if self.is_open:
            if not (session_call.submitted or session_call.done.is_set()):
                self.submit(session_call)  # an unpickled reply's, which this run of the program has not made
            self._strategy.wait_for(session_call)
        hold_at_exit()
        try:
            return session_call.answer()
        except BaseException:
            self._report(session_call)
            raise

    def _refresh(self, session_call: SessionCall) -> None:
        found = session_call.refresh()
        if isinstance(found, Failed) and found.error.kind in (self._retried or ()):
            session_call.reset()

    def _report(self, session_call: SessionCall) -> None:
        if session_call.error and self.config.errors == "coerce" and session_call not in self._reported:
            logger.warning("%s", session_call.error)
        self._reported.add(session_call)

    # Status.

    @property
    def calls(self) -> list[SessionCall]:
        """The calls of this run of the program, each once, in the order in which they were made."""
        return list(self._session_calls.values())

    @property
    def questions(self) -> list[SessionCall]:
        """Former name of `calls`, to be removed in the next release."""
        return self.calls

    @property
    def cost_usd(self) -> float | None:
        """US dollars paid so far by this run of the program. None if unknown.

        Results of batch jobs count only if they arrived while the program was running.
        """
        return self._sender.cost_usd

    @property
    def total_cost_usd(self) -> float | None:
        """Cost of all answers to this run's calls, in US dollars, whichever run paid for them.

        None if the cost of an answer or of a failure is unknown.
        """
        costs = [session_call.cost_usd for session_call in self.calls]
        return None if None in costs else sum((cost for cost in costs if cost is not None), 0.0)

    @property
    def simulated(self) -> bool:
        """Whether a model of this run's calls is a simulator."""
        models = {session_call.call.model: session_call.call for session_call in self.calls}
        return any(self._session_store.spec(call).target.simulated for call in models.values())

    def counts(self) -> dict[Stage, int]:
        """Count the calls by stage (see `SessionCall.stage`)."""
        found = Counter(session_call.stage for session_call in self.calls)
        return {stage: found[stage] for stage in get_args(Stage)}

    def status(self) -> SessionStatus:
        """Return the session's status, as its dashboard shows it."""
        # A copy: the program may add an agent while the dashboard's thread reads.
        calls = {name: agent.calls for name, agent in list(self.agents.items())}
        counts, agents, models = count(calls, self._session_store)
        return SessionStatus(
            label=self.directory,
            strategy="dry run" if self.config.dry_run else self.strategy,
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
        """Write every call of this run of the program to a file (see `session_export.export_calls`)."""
        return export_calls(self.agents.values(), path)

    # The block.

    def persist(self) -> None:
        """Write the notes, and the state that the next run of the program needs. Also done when the block ends.

        Raises:
            StoreError: If the file cannot be written.
        """
        agents = {
            name: {"asked": len(agent.history), "metadata": agent.metadata.as_json()}
            for name, agent in self.agents.items()
        }
        self._file.refresh_since = None if self._state == "done" else self._refresh_since
        self._file.write(self.metadata.as_json(), agents)

    def _finish(self) -> None:
        self._strategy.finish()
        unseen = [each.problem for each in self.calls if each.problem and each not in self._reported]
        if unseen:
            logger.warning("%d failed calls were never read by the program; the first: %s", len(unseen), unseen[0])

    def _drain(self) -> None:
        self._strategy.drain()

    def _stop(self) -> None:
        self._strategy.stop()
