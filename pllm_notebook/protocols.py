"""The protocols between the packages.

A package below `execution` never imports its neighbours; it uses them through these protocols. Everything
that a test or a simulation replaces (transport, store, display) is also one of these protocols.
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
    """A request that returned no complete response.

    Raised only by transports, and converted to a `Failure` by the engine. Users never see it.
    """

    def __init__(self, kind: FailureKind, message: str) -> None:
        self.kind = kind
        self.message = message
        super().__init__(message)


class MalformedReply(Exception):
    """A status 200 whose body does not match the provider's documentation. Raised only by `Wire.decode`."""


class Transport(Protocol):
    """One account's connection to one provider. Used only on the engine's loop."""

    async def post(self, path: str, content: bytes) -> RawReply:
        """Send one request, once.

        Return the response with any status. Raise `TransportFault` if there was none.
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
        limits: Maximum size and time window of one job.
        keeps_labels: Whether a job can be found by the label it was created with.
    """

    limits: BatchLimits
    keeps_labels: bool

    def line(self, custom_id: str, body: bytes) -> bytes:
        """Build one line of the request file, without its newline. *body* is the body of a live call."""

    async def upload(self, lines: Path, label: str) -> str:
        """Upload the request file as a stream and return its id; "" if `create` sends the requests.

        It is free and starts no job.
        """

    async def create(self, lines: Path, uploaded: str, label: str) -> RemoteJob:
        """Create the job from the upload or from the lines. A created job costs money.

        Args:
            lines: The request file: each `line` with a newline.
            uploaded: The return value of `upload`.
            label: At most 64 characters; stored if `keeps_labels`.
        """

    async def look(self, job_id: str) -> RemoteJob:
        """Return a job's state."""

    def recent(self, since: float) -> AsyncIterator[RemoteJob]:
        """List all of the account's jobs that were created after *since* (seconds since the epoch)."""

    def results(self, job: RemoteJob) -> AsyncIterator[BatchResult]:
        """Stream a job's results in any order, from the beginning each time.

        One line is in memory at a time. An interrupted stream raises `TransportFault`; the results read before are
        valid. Close it (`aclose`) to stop early.
        """

    async def cancel(self, job_id: str) -> None:
        """Request a job's cancellation; finished lines are kept. For an ended job it may be rejected."""

    async def discard(self, uploaded: str) -> None:
        """Delete an uploaded file. A missing file and "" are not errors."""

    async def aclose(self) -> None:
        """Close every connection, including result streams. A caller's own client stays open."""


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
        format_name: Name of the format, stored with messages that only it can read (`ProviderMessage`).
        input_field: Field of a body that contains the conversation.
        model_in_path: Whether the path contains the model's name; else the body does.
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
        """Return the URL path below the base URL. It is the endpoint in every cache key."""

    def encode(self, request: Request) -> dict[str, Any]:
        """Build the intended body, which live calls, batch lines and keys share.

        The parts shared by all rows come first and the last turn's text comes last, so that providers can cache the
        prefix. A single user turn with only text stays a string, so that existing keys stay valid.

        Raises:
            UsageError: If the format cannot express the request or the model does not accept it (a prefill, a
                document).
        """

    def relax_schema(self, body: Mapping[str, Any], schema_level: int) -> dict[str, Any]:
        """Request structured output with less enforcement by the server.

        Level 0 is *body* itself; 1 requests any JSON object, with the schema in the instruction;
        2 has only the schema in the instruction. A format without level 1 returns level 2.
        """

    def prefix(self, body: Mapping[str, Any], shown: int = 0) -> list[Any]:
        """Return the parts that all rows of *body*'s run share, as the provider's prompt cache counts them, in order.

        These are all parts that the model reads before the first turn. Parts may be falsy.

        Args:
            body: The adapted body, at its schema level.
            shown: Number of initial turns that all rows also share: examples.
        """

    def mark_prompt_cache(
        self, body: Mapping[str, Any], name: str | None, lead: str, *, turns: bool = False, shown: int = 0
    ) -> dict[str, Any]:
        """Add the provider's cache marker at the end of the shared prefix. The caller's own markers are kept.

        Called only for wire bodies, so that no marker is in a cache key, and only if the prefix is long
        enough to be cached. The model reads the same text in the same order.

        Args:
            body: The adapted body, at its schema level.
            name: A short hash of the prefix, the same for all rows; None if it is not shared or too short.
            lead: The text at the beginning of every row's prompt, "" for none.
            turns: Whether the whole conversation will be sent again with more turns.
            shown: As for `prefix`; the row's prompt is the turn after these.
        """

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        """Return the output limit in *body*, or None."""

    def decode(self, body: Mapping[str, Any]) -> Reply:
        """Decode the body of a status 200. Raise `MalformedReply` if it does not match the provider's documentation."""

    def error_from(self, raw: RawReply) -> Failure:
        """Return the failure for a response with an unsuccessful status, or with an `error` in its body."""

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        """Read the account's limits from response headers (lower-case names); return None if there are none."""


class CallSource(Protocol):
    """The source from which a dispatcher pulls one run's calls. Used only on the engine's loop.

    The methods with a body are defaults for subclasses: the budget is unlimited, no other run supplies answers,
    nothing is hedged, and a batch does not wait for more calls.
    """

    def next(self) -> PendingCall | None:
        """Return the next new call, or None if there is none now. The run wakes its dispatcher when there is one."""

    def end_if_answered(self, call: PendingCall) -> bool:
        """End a delayed or retried call if another run or process now answers it; return whether it ended.

        `done` is not called for a call that ended this way.
        """
        return False

    def release_claims(self, call: PendingCall) -> None:
        """Release the claims on a call while the run is paused, so that others may send it.

        `end_if_answered` claims it again.
        """

    def may_retry(self, call: PendingCall) -> bool:
        """Reserve money for one more request of a call whose requests so far may all have been charged.

        Return False if the budget does not allow it now.
        """
        return True

    def may_hedge(self, call: PendingCall) -> bool:
        """Reserve money to send a hanging call a second time. Return False while the run has other calls to send."""
        return False

    def is_rejected(self) -> bool:
        """Return whether all calls seem to be rejected for the same reason. If so, adapted calls are not sent again."""
        return False

    def is_exhausted(self) -> bool:
        """Return whether no more calls will come until some are answered. Used only by a batch dispatcher."""
        return True

    def done(self, call: PendingCall, result: CallResult) -> None:
        """Accept the result of a call. Called once for each call that `next` returned."""

    def fail(self, error: Exception) -> None:
        """End the run because of an error in the dispatcher itself, which no call caused."""


class Store(Protocol):
    """A store of replies by key. Thread-safe; reading never waits for writing."""

    @property
    def claims(self) -> ClaimStore | None:
        """The claims of processes on calls; None if processes cannot share them."""

    @property
    def written_by_others(self) -> int:
        """Number of rows known to be written by other processes. A rise means that new answers may be available."""

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        """Read the existing entries for *keys*, in one query per few thousand keys."""

    def put(self, key: str, entry: StoredReply, done: Callable[[BaseException | None], None]) -> None:
        """Queue one entry for writing and return at once.

        *done* is called from the writer's thread: with None after the entry is on disk, or with the
        error that prevented the write. It must not block.
        """

    def queued(self, key: str) -> StoredReply | None:
        """Return an entry that was put but is not yet on disk, or None."""

    @property
    def backlog_bytes(self) -> int:
        """Number of bytes queued and not yet on disk."""

    @property
    def unwritable(self) -> str:
        """The reason why entries cannot be written, so that new replies would be paid for but lost; "" if they can."""

    def is_behind(self, limit_bytes: int) -> bool:
        """Return whether no new call should be sent: writing currently fails, or more than *limit_bytes* is queued."""

    def note_failure(self, key: str, tell: Callable[[], FailedCall]) -> None:
        """Queue a finally failed call, replacing an older failure of its key, and return at once.

        *tell* is called later, from another thread. A failure that cannot be stored is lost, with a line in the log:
        nothing was paid for it.
        """

    def note_valid(self, keys: Sequence[str]) -> None:
        """Forget the failures of stored replies that were invalid answers (`SCHEMA`, `INVALID_JSON`, `EMPTY`).

        Called when the replies are valid now. Nearly free if there are no failures. Any other failure is forgotten
        when its call is `put`.
        """

    def rejected(self, keys: Sequence[str]) -> dict[str, FailedCall]:
        """Read the calls among *keys* that a provider rejected (`facts.rejected`) and that have no answer since.

        Nearly free if there are no failures.
        """


class Display(Protocol):
    """A display. Called from the engine's thread a few times a second; it must not block."""

    @property
    def stays(self) -> bool:
        """Whether its last line stays next to the result, so that no warning has to repeat it."""

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        """Show the start of the run, or its continuation after `retry`. *cancel* stops the run, from any thread.

        Called first on the thread that started the run, so that a notebook can identify the cell.
        """

    def update(self, progress: Progress) -> None:
        """Show the current state of the run."""

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        """Show the end of the run. *retry* sends the failed rows again; None if nothing can be retried."""


@runtime_checkable
class ViewDisplay(Display, Protocol):
    """A display that shows more than the run's counts."""

    def watch(self, model: Any) -> None:
        """Accept the run's `execution.RunViewModel`. Called before `open`."""
