"""The seams of the house: what one room may know of another.

A room below `run` never imports its neighbours; it meets them through these. Everything
that a test or a simulation replaces (transport, store, display) is one of these too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pllm_notebook.claim_types import ClaimStore
from pllm_notebook.failures import FailedCall, Failure, FailureKind
from pllm_notebook.messages_types import Request
from pllm_notebook.pending_call import CallResult, PendingCall
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import BatchLimits, BatchResult, LimitReport, Progress, RawReply, RemoteJob, Reply

__all__ = [
    "BatchAPI",
    "BatchRefused",
    "CallSource",
    "Display",
    "MalformedReply",
    "Store",
    "Transport",
    "TransportFault",
    "ViewDisplay",
    "Wire",
]


class TransportFault(Exception):
    """A request that brought no whole response.

    Raised only by transports, and turned into a `Failure` by the engine; users never see it.
    """

    def __init__(self, kind: FailureKind, message: str) -> None:
        self.kind = kind
        self.message = message
        super().__init__(message)


class MalformedReply(Exception):
    """A 200 whose body is not what the provider documents. Raised only by `Wire.decode`."""


class Transport(Protocol):
    """One account's connection to one provider. Used only on the engine's loop."""

    async def post(self, path: str, content: bytes) -> RawReply:
        """Send one request, once.

        Return the response whatever its status; raise `TransportFault` if there was none.
        Do not retry or set a time limit: the engine does both.
        """

    async def aclose(self) -> None:
        """Close every connection."""


class BatchAPI(Protocol):
    """One account's batch API at one provider. Used only on the engine's loop.

    Every method sends its request once; the caller knows what may be sent again. A definite rejection (4xx, and a
    429 for lack of credit) raises `BatchRefused`; no response, or an inconclusive one (5xx, 408, 409, 425, 429),
    raises `TransportFault`, and the request may have been carried out. Every request has a time limit.

    Attributes:
        limits: What one job may hold.
        keeps_labels: Whether a job can be found by the label it was created with.
    """

    limits: BatchLimits
    keeps_labels: bool

    def line(self, custom_id: str, body: bytes) -> bytes:
        """Return one line of the request file, without its newline; *body* is what a live call would send."""

    async def upload(self, lines: Path, label: str) -> str:
        """Upload the request file, streamed, and return its id; "" if `create` sends the requests.

        It costs nothing, and starts no job.
        """

    async def create(self, lines: Path, uploaded: str, label: str) -> RemoteJob:
        """Create the job, from the upload or from the lines. From here on, it costs money.

        Args:
            lines: The request file: each `line` with a newline.
            uploaded: What `upload` returned.
            label: At most 64 characters; stored if `keeps_labels`.
        """

    async def look(self, job_id: str) -> RemoteJob:
        """Return a job's state."""

    def recent(self, since: float) -> AsyncIterator[RemoteJob]:
        """List all of the account's jobs that were created after *since* (seconds since the epoch)."""

    def results(self, job: RemoteJob) -> AsyncIterator[BatchResult]:
        """Stream a job's results, in any order, from the beginning each time.

        One line is in memory at a time. A stream that breaks off raises `TransportFault`; what was read before is
        valid. Close it (`aclose`) to stop early.
        """

    async def cancel(self, job_id: str) -> None:
        """Request a job's cancellation; finished lines are kept. For an ended job it may be rejected."""

    async def discard(self, uploaded: str) -> None:
        """Delete an uploaded file. A missing file and "" are not errors."""

    async def aclose(self) -> None:
        """Close every connection, also streams of results; a caller's own client stays open."""


class BatchRefused(Exception):
    """A definite rejection. Raised only by batch APIs.

    Attributes:
        status: The HTTP status.
        message: The provider's message.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


class Wire(Protocol):
    """One wire format: pure translation, no I/O, no state.

    Attributes:
        format_name: Names the format, for what only it can read (`conversation.Echo`).
        input_field: Holds the conversation in a body.
        model_in_path: Whether the path names the model; else the body does.
        reply_fields: Fields that identify a response of this format.
        keywords: Writers for the keywords of OpenAI's client: each returns its part of the body, and raises
            `ValueError` for a value without an equivalent. None if the format has fields of the same names.
    """

    # Read-only, so that a class attribute of a narrower type fits.
    @property
    def format_name(self) -> str: ...
    @property
    def input_field(self) -> str: ...
    @property
    def model_in_path(self) -> bool: ...
    @property
    def reply_fields(self) -> tuple[str, ...]: ...
    @property
    def keywords(self) -> Mapping[str, Callable[[Any], dict[str, Any]]] | None: ...

    def path(self, model: str) -> str:
        """Return the URL's path below the base address: the logical endpoint in every key."""

    def encode(self, request: Request) -> dict[str, Any]:
        """Build the intended body: the one that live calls, batch lines and keys share.

        What every row shares comes first and the last turn's text last, so that providers
        can cache the prefix. A lone user's turn of text alone stays what it always was, a string.

        Raises:
            UsageError: For what the format cannot express or the model does not accept (a prefill, a document).
        """

    def relax_schema(self, body: Mapping[str, Any], schema_level: int) -> dict[str, Any]:
        """Request structured output with less enforcement by the server.

        Level 0 is *body* itself; 1 requests any JSON object, with the schema in the instruction;
        2 has only the schema in the instruction. A format without level 1 returns level 2.
        """

    def prefix(self, body: Mapping[str, Any], shown: int = 0) -> list[Any]:
        """Return what every row of *body*'s run shares and the provider's prompt cache counts, in its order.

        That is all that the model reads before the first turn; parts may be falsy.

        Args:
            body: Adapted, at its schema level.
            shown: Turns at the beginning that all rows share too: examples.
        """

    def mark_prompt_cache(
        self, body: Mapping[str, Any], name: str | None, lead: str, *, turns: bool = False, shown: int = 0
    ) -> dict[str, Any]:
        """Put the provider's cache mark at the end of the shared prefix; the caller's own marks are kept.

        Called only for wire bodies, so that no mark is in a cache key, and only if the prefix is long
        enough to be cached. The model reads the same text in the same order.

        Args:
            body: Adapted, at its schema level.
            name: A short hash of the prefix, the same for all rows; None if it is not shared, or too short.
            lead: The text that the rows' prompts begin with, "" for none.
            turns: Whether the whole conversation will be sent again, with more turns.
            shown: As for `prefix`; the prompt of the row is the turn behind these.
        """

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        """Read the output limit that *body* carries, None for none."""

    def decode(self, body: Mapping[str, Any]) -> Reply:
        """Decode a 200's body. Raise `MalformedReply` if it is not what the provider documents."""

    def error_from(self, raw: RawReply) -> Failure:
        """Return the failure for a response other than 200."""

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        """Read the account's limits from response headers (lower-case names); return None if there are none."""


class CallSource(Protocol):
    """One run's calls, as a dispatcher pulls them. Used on the engine's loop alone.

    The methods with a body are defaults, for a class that inherits from this one: money is no object, no other run
    brings answers, nothing is sent a second time, and a batch need not wait for more calls.
    """

    def next(self) -> PendingCall | None:
        """Return the next new call, None without one now; the run wakes its dispatcher when there is."""

    def end_if_answered(self, call: PendingCall) -> bool:
        """End a call that was held back, or is to be sent again, if others answer it by now; return whether it ended.

        `done` is not called for one that ended so.
        """
        return False

    def release_claims(self, call: PendingCall) -> None:
        """Let others have a call that is not sent while the run is paused; `end_if_answered` claims it again."""

    def may_retry(self, call: PendingCall) -> bool:
        """Reserve money for one more request of a call, all of whose requests so far may have been charged.

        Return False where the budget does not allow it now.
        """
        return True

    def may_hedge(self, call: PendingCall) -> bool:
        """Reserve money to send a call that hangs a second time; False while the run has anything else to send."""
        return False

    def is_rejected(self) -> bool:
        """Return whether every call seems to be rejected alike; a call that was adapted is not sent again then."""
        return False

    def is_exhausted(self) -> bool:
        """Return whether no more calls will come until some have been answered. Only a batch dispatcher asks."""
        return True

    def done(self, call: PendingCall, result: CallResult) -> None:
        """Take the result of a call, once for each call that `next` returned."""

    def fail(self, error: Exception) -> None:
        """End the run: an error in the dispatcher itself, which no call is to blame for."""


class Store(Protocol):
    """Where replies are kept, by key. Thread-safe; reading never waits for writing."""

    @property
    def claims(self) -> ClaimStore | None:
        """Which process asks which call, None where no other process can know."""

    @property
    def written_by_others(self) -> int:
        """Rows that other processes are known to have written: an answer may be there that was not when we planned."""

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        """Read the entries that are there, of those asked for, in one query for each few thousand."""

    def put(self, key: str, entry: StoredReply, done: Callable[[BaseException | None], None]) -> None:
        """Queue one entry for writing and return at once.

        *done* is called from the writer's thread after the entry is on disk, with None, or with the
        error that kept it from being written. It must not block.
        """

    def queued(self, key: str) -> StoredReply | None:
        """Return an entry that was put and is not yet on disk, None for none."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes queued and not yet on disk."""

    @property
    def unwritable(self) -> str:
        """Why entries can only be read, so that what is sent now would be paid for and not kept; "" where they can."""

    def is_behind(self, limit_bytes: int) -> bool:
        """Return whether nothing new should be sent: writing fails at the moment, or more than that is queued."""

    def note_failure(self, key: str, tell: Callable[[], FailedCall]) -> None:
        """Queue a call that failed for good, in place of an older failure of its key, and return at once.

        *tell* is called later, from another thread. A failure that cannot be kept is lost, with a line in the log:
        nothing was paid for it.
        """

    def note_valid(self, keys: Sequence[str]) -> None:
        """Forget the failures of stored replies that were no valid answers (`SCHEMA`, `INVALID_JSON`, `EMPTY`) and are.

        Costs next to nothing if there are no failures. Any other failure is forgotten when its call is `put`.
        """

    def rejected(self, keys: Sequence[str]) -> dict[str, FailedCall]:
        """Read, of the calls asked for, those that a provider rejected (`REJECTED_KINDS`), unanswered since.

        Costs next to nothing if there are no failures.
        """


class Display(Protocol):
    """A display. Called from the engine's thread a few times a second; it must not block."""

    @property
    def stays(self) -> bool:
        """Whether its last line stays beside the result, so that no warning needs to repeat it."""

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the run's start, or its going on after `retry`. *cancel* stops it, from any thread.

        The first time on the thread that started the run, so that a notebook knows the cell.
        """

    def update(self, progress: Progress) -> None:
        """Show the run as it is now."""

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Show the end. *retry* sends what failed once more, None when nothing can be retried."""


@runtime_checkable
class ViewDisplay(Display, Protocol):
    """A display that shows more of a run than its counts."""

    def watch(self, model: Any) -> None:
        """Take the run's `execution.RunViewModel`, before `open`."""
