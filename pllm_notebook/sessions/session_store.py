"""The state of a call in a session's directory: answered, pending in a job, failed, or absent.

Only `SessionStore.retrieve` decides whether an answer is missing, for every strategy. It sends nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from pllm_notebook.batch import Job, Journal
from pllm_notebook.engine import engine
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import CallSpec, Outcome, ReplyParser, UnreadReply, batch_service
from pllm_notebook.failures import Failure
from pllm_notebook.job_commands import has_journal
from pllm_notebook.messages_types import ProviderMessage, ToolCall
from pllm_notebook.sessions.call import Call, spec_of
from pllm_notebook.sessions.error_response import STORED_KINDS, ErrorResponse
from pllm_notebook.settings import current
from pllm_notebook.store import DiskStore, open_store
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import RawReply, Reply, Usage

__all__ = ["Absent", "AnswerRecord", "Failed", "Pending", "Present", "Retrieved", "SessionStore"]

_KINDS = sorted(STORED_KINDS)


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """An answer with its usage and cost.

    Attributes:
        value: A string, the parsed value, or `Called` for a call with tools.
        text: Text of the last reply, as the model wrote it.
        calls: Tool calls of the last reply, as the model wrote them.
        echo: The last reply in the form that its provider needs in later turns. None if the text is enough.
        model: The model as the provider named it.
        usage: Tokens of all replies that led to the answer, None if a provider did not report them.
        cost_usd: Cost of these replies when they were paid, None if unknown.
        at: Time of the last reply, in seconds since the epoch.
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
    def of(cls, spec: CallSpec, outcome: Outcome, last: StoredReply) -> AnswerRecord:
        """Build the record of an outcome with a value."""
        metadata = last.metadata
        reply = spec.target.read(RawReply(200, {}, last.raw)) if last.calls else None
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
    """The call is answered."""

    answer: AnswerRecord


@dataclass(frozen=True, slots=True)
class Pending:
    """The call is in a batch job, which may have ended at its provider since it was last polled.

    Attributes:
        job: The job, as recorded in the journal.
        stale: Whether the store has an outdated reply.
    """

    job: Job
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The call has failed, and is not sent again until `retry_failed`.

    Attributes:
        error: The failure.
        paid: Whether the call failed with a reply, which is stored and which a retry replaces.
    """

    error: ErrorResponse
    paid: bool


@dataclass(frozen=True, slots=True)
class Absent:
    """The call, or the follow-up call that it needs, was never sent.

    Attributes:
        stale: Whether the store has an outdated reply.
    """

    stale: bool = False


Retrieved = Present | Pending | Failed | Absent


class SessionStore:
    """One directory of answers, jobs and failures. Thread-safe.

    Args:
        directory: In the format of the notebook's cache; created if it does not exist.

    Raises:
        UsageError: For a value that is not a path. Nothing was sent.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        path = os.fspath(directory) if isinstance(directory, (str, os.PathLike)) else None
        if not isinstance(path, str) or not path or "\0" in path:
            raise UsageError(f"A session's directory is a path, not {directory!r}. Nothing was sent.")
        self.directory = os.path.abspath(os.path.expanduser(os.fspath(directory)))
        self._specs: dict[Hashable, CallSpec] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"SessionStore({self.directory!r})"

    @property
    def store(self) -> DiskStore:
        """The store of the answers.

        Raises:
            StoreError: If it cannot be opened. Nothing was sent.
        """
        return open_store(self.directory)

    @property
    def is_writable(self) -> bool:
        """Whether new answers are stored here. With a read-only directory they would go elsewhere."""
        return os.path.realpath(self.store.directory) == os.path.realpath(self.directory)

    @property
    def journal(self) -> Journal | None:
        """The journal of batch jobs. None if there has never been one."""
        store = self.store
        return batch_service(engine(current().loop), store).journal if has_journal(store.directory) else None

    def spec(self, call: Call) -> CallSpec:
        """Return the spec of a call for lookups. Each run gets its own spec.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
        """
        how = call.how
        with self._lock:
            spec = self._specs.get(how)
        if spec is None:
            spec = spec_of(call)
            with self._lock:
                spec = self._specs.setdefault(how, spec)
        return spec

    def key(self, call: Call) -> str:
        """Return the key of a call, the same as for a dataframe's row with the same text.

        Raises:
            ErrorResponse: If its prompt is invalid. Nothing was sent.
            UsageError: If the call is invalid. Nothing was sent.
        """
        spec = self.spec(call)
        encoded = spec.encoded(call.prompt)
        if isinstance(encoded, Failure):
            raise ErrorResponse(call, encoded)
        return spec.key(encoded)

    def retrieve(self, call: Call, since: float | None = None) -> Retrieved:
        """Look up a call in the store, the journal of jobs and the failures. Sends nothing.

        The current validators of the call's type run on a stored answer.

        Args:
            call: The call.
            since: Older answers and failures are outdated; seconds since the epoch, None for no limit.

        Raises:
            ErrorResponse: If its prompt is invalid.
            UsageError: If the call is invalid.
            StoreError: If the store or journal cannot be read.
        """
        spec, key = self.spec(call), self.key(call)
        store = self.store
        entry = store.queued(key) or store.get_many([key]).get(key)
        failed: Failed | None = None
        stale = entry is not None and not _is_recent(entry.metadata["created_at"], since)
        if entry is not None and entry.satisfies(spec.output_limit, spec.takes_empty) and not stale:
            seen = _LastReplyStore(store, entry)
            (settled,) = ReplyParser(spec, seen, lambda row: call.prompt).read([UnreadReply(0, key, entry, 0)])
            if not isinstance(settled, Outcome):
                # The answer needs a follow-up call with its own key: a repair turn, or the turn after a tool.
                key = settled.key
            elif settled.failure is None:
                return Present(AnswerRecord.of(spec, settled, seen.last))
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
        """Return the jobs of pending calls by key; other keys are left out."""
        journal = self.journal
        return {} if journal is None else journal.pending(keys)


class _LastReplyStore:
    """A store that remembers the last reply read from it: the final one of a chain of turns."""

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
