"""What a directory knows of a call: its answer, the job that it waits in, its failure, or nothing.

`SessionStore.retrieve` is the one thing that decides whether a value is missing, for every strategy. It sends nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from pllm_notebook.batch import Job, Journal
from pllm_notebook.batch_jobs.commands import has_journal
from pllm_notebook.engine import engine
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import CallSpec, Outcome
from pllm_notebook.execution.launch import batch_service
from pllm_notebook.execution.replies import UnreadReply, read_replies
from pllm_notebook.messages_types import ProviderMessage, ToolCall
from pllm_notebook.records import Failure, RawReply, Reply, Usage
from pllm_notebook.sessions.call import Call, ask_of
from pllm_notebook.sessions.error_response import STORED_KINDS, ErrorResponse
from pllm_notebook.settings import current
from pllm_notebook.store import DiskStore, open_store
from pllm_notebook.stored_reply import StoredReply

__all__ = ["Absent", "AnswerRecord", "Failed", "Pending", "Present", "Retrieved", "SessionStore"]

_KINDS = sorted(STORED_KINDS)


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """An answer, and what it took.

    Attributes:
        value: Of the call's own type: text, the parsed value, or `Called` where there were tools.
        text: As the model wrote it, of the last reply.
        calls: The tools that the last reply called, as the model wrote them.
        echo: The last reply as its provider wants it given back, None where that is no more than its text.
        model: As the provider named it.
        usage: Tokens of all replies that led to it, None where a provider did not say.
        cost_usd: What they cost when they were paid, None for unknown.
        at: When the last came, in seconds since the epoch.
    """

    value: Any
    text: str
    calls: tuple[ToolCall, ...]
    echo: ProviderMessage | None
    model: str
    usage: Usage | None
    cost_usd: float | None
    at: float

    @classmethod
    def of(cls, ask: CallSpec, outcome: Outcome, last: StoredReply) -> AnswerRecord:
        """Put together what is known of an outcome with a value."""
        metadata = last.metadata
        reply = ask.target.read(RawReply(200, {}, last.raw)) if last.calls else None
        return cls(
            outcome.value,
            last.text.decode("utf-8", "surrogatepass"),
            last.calls,
            reply.echo if isinstance(reply, Reply) else None,
            metadata["model"],
            outcome.usage,
            outcome.cost_usd,
            metadata["created_at"],
        )


@dataclass(frozen=True, slots=True)
class Present:
    """The answer is there."""

    answer: AnswerRecord


@dataclass(frozen=True, slots=True)
class Pending:
    """It waits in a batch job, which may have ended at its provider since somebody looked.

    Attributes:
        job: As the journal has it.
        stale: Whether the store has a reply to it that does not count.
    """

    job: Job
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """It has failed for good, until somebody says that it is to be asked again.

    Attributes:
        error: Why.
        paid: Whether it failed by a reply, which is stored: asking again replaces that.
    """

    error: ErrorResponse
    paid: bool


@dataclass(frozen=True, slots=True)
class Absent:
    """It was never asked, or what it needs next was not.

    Attributes:
        stale: Whether the store has a reply to it that does not count.
    """

    stale: bool = False


Retrieved = Present | Pending | Failed | Absent


class SessionStore:
    """One directory of answers, jobs and failures, as programs ask about it. Thread-safe.

    Args:
        directory: In the form of the notebook's cache; made where it is not there.

    Raises:
        UsageError: For what is no path. Nothing was sent.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        if not isinstance(directory, (str, os.PathLike)) or not os.fspath(directory):
            raise UsageError(f"A session's directory is a path, not {directory!r}. Nothing was sent.")
        self.directory = os.path.abspath(os.path.expanduser(os.fspath(directory)))
        self._asks: dict[Hashable, CallSpec] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"SessionStore({self.directory!r})"

    @property
    def store(self) -> DiskStore:
        """The answers.

        Raises:
            StoreError: If they cannot be opened. Nothing was sent.
        """
        return open_store(self.directory)

    @property
    def is_writable(self) -> bool:
        """Whether new answers stay here. A directory that can only be read is read, and they would go elsewhere."""
        return os.path.realpath(self.store.directory) == os.path.realpath(self.directory)

    @property
    def journal(self) -> Journal | None:
        """The batch jobs, None where there never was one."""
        store = self.store
        return batch_service(engine(current().loop), store).journal if has_journal(store.directory) else None

    def ask(self, call: Call) -> CallSpec:
        """Return the question of a call, for its key; a run is given one of its own.

        Raises:
            UsageError: When it cannot be asked as written. Nothing was sent.
        """
        how = call.how
        with self._lock:
            ask = self._asks.get(how)
        if ask is None:
            ask = ask_of(call)
            with self._lock:
                ask = self._asks.setdefault(how, ask)
        return ask

    def key(self, call: Call) -> str:
        """Return the key of a call: that of a dataframe's row with the same text.

        Raises:
            ErrorResponse: Where its prompt is none that can be sent. Nothing was sent.
            UsageError: When it cannot be asked as written. Nothing was sent.
        """
        ask = self.ask(call)
        encoded = ask.encoded(call.prompt)
        if isinstance(encoded, Failure):
            raise ErrorResponse(call, encoded)
        return ask.key(encoded)

    def retrieve(self, call: Call, since: float | None = None) -> Retrieved:
        """Return what there is of a call. Reads the store, the journal of jobs and the failures; sends nothing.

        Validators of the call's type run again, as they are today.

        Args:
            call: The call.
            since: An older answer, or failure, does not count; seconds since the epoch, None for any age.

        Raises:
            ErrorResponse: Where its prompt is none that can be sent.
            UsageError: When it cannot be asked as written.
            StoreError: If store or journal cannot be read.
        """
        ask, key = self.ask(call), self.key(call)
        store = self.store
        entry = store.queued(key) or store.get_many([key]).get(key)
        failed: Failed | None = None
        stale = entry is not None and not _is_recent(entry.metadata["created_at"], since)
        if entry is not None and entry.satisfies(ask.output_limit, ask.takes_empty) and not stale:
            seen = _LastReplyStore(store, entry)
            (settled,) = read_replies(ask, seen, lambda row: call.prompt, [UnreadReply(0, key, entry, 0)])
            if not isinstance(settled, Outcome):
                # A repair turn, or a tool's turn, is a call of its own.
                key = settled.key
            elif settled.failure is None:
                return Present(AnswerRecord.of(ask, settled, seen.last))
            else:
                failed = Failed(ErrorResponse(call, settled.failure), paid=True)
        job = self.jobs([key]).get(key)
        if job is not None:
            return Pending(job, stale or failed is not None)
        if failed is None:
            known = store.failed([key], _KINDS).get(key)
            if known is not None and _is_recent(known.at, since):
                failed = Failed(ErrorResponse(call, known.failure), paid=False)
        return failed or Absent(stale)

    def jobs(self, keys: Sequence[str]) -> dict[str, Job]:
        """Return the jobs in which calls wait for an answer, by key; a key that does not wait is left out."""
        journal = self.journal
        return {} if journal is None else journal.pending(keys)


class _LastReplyStore:
    """A store that remembers the last reply which was read of it: of a chain of turns, the one that counts."""

    def __init__(self, store: DiskStore, first: StoredReply) -> None:
        self._store = store
        self.last = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        found = self._store.get_many(keys)
        for entry in found.values():
            self.last = entry
        return found


def _is_recent(at: float, since: float | None) -> bool:
    return since is None or at >= since
