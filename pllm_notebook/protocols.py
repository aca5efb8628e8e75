"""The seams of the house: what one room may know of another.

A room below `run` never imports its neighbours; it meets them through these. Everything
that a test or a simulation replaces (transport, store, display) is one of these too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pllm_notebook.messages_types import Request
from pllm_notebook.pending_call import CallResult, PendingCall
from pllm_notebook.records import (
    BatchLimits,
    BatchResult,
    FailedCall,
    Failure,
    FailureKind,
    LimitReport,
    Progress,
    RawReply,
    RemoteJob,
    Reply,
)
from pllm_notebook.stored_reply import StoredReply

__all__ = [
    "BatchAPI",
    "BatchRefused",
    "CallSource",
    "Display",
    "MalformedReply",
    "Store",
    "Transport",
    "TransportFault",
    "Wire",
]


class TransportFault(Exception):
    """A request that brought no whole response.

    Raised by transports only, and turned into a `Failure` by the engine; it never reaches a person.
    """

    def __init__(self, kind: FailureKind, message: str) -> None:
        self.kind = kind
        self.message = message
        super().__init__(message)


class MalformedReply(Exception):
    """A 200 whose body is not what the provider documents. Raised by `Wire.decode` only."""


class Transport(Protocol):
    """One account's connection to one provider. Used on the engine's loop alone."""

    async def post(self, path: str, content: bytes) -> RawReply:
        """Send one request, once.

        Returns the response whatever its status; `TransportFault` when there was none.
        No retries and no time limit: both are the engine's.
        """

    async def aclose(self) -> None:
        """Close every connection."""


class BatchAPI(Protocol):
    """One account's batch API at one provider. Used on the engine's loop alone.

    Every method sends its request once: whoever calls knows what may be sent again. A definite no (4xx, and a 429
    for want of credit) raises `BatchRefused`; no response, or one that tells nothing (5xx, 408, 409, 425, 429),
    raises `TransportFault`, after which nobody knows whether it was carried out. No request waits for ever.

    Attributes:
        limits: What one job may hold.
        keeps_labels: Whether a job can be found by the label that it was created under.
    """

    limits: BatchLimits
    keeps_labels: bool

    def line(self, custom_id: str, body: bytes) -> bytes:
        """Return one line of the request file, without its end: *body* is the bytes that a live call would send."""

    async def upload(self, lines: Path, label: str) -> str:
        """Upload the request file, streamed, and give its id; "" where requests go along with `create`.

        Nothing is paid for it, and no job can begin of it.
        """

    async def create(self, lines: Path, uploaded: str, label: str) -> RemoteJob:
        """Create the job, from the upload or from the lines. From here on it costs money.

        Args:
            lines: The request file: one `line` after another, each with its end.
            uploaded: What `upload` gave.
            label: At most 64 characters; kept where `keeps_labels` says so.
        """

    async def look(self, job_id: str) -> RemoteJob:
        """Return a job's state."""

    def recent(self, since: float) -> AsyncIterator[RemoteJob]:
        """List the account's jobs that were created after *since* (seconds since the epoch), whoever made them."""

    def results(self, job: RemoteJob) -> AsyncIterator[BatchResult]:
        """Stream a job's results, in any order, from the beginning each time.

        One line is held at a time. A stream that breaks off raises `TransportFault`, and what was read until then
        holds. Whoever stops early closes it (`aclose`).
        """

    async def cancel(self, job_id: str) -> None:
        """Ask that a job be cancelled; what is done by then is kept. One that has ended may be refused."""

    async def discard(self, uploaded: str) -> None:
        """Delete an uploaded file. One that is gone already is no error, and "" is none."""

    async def aclose(self) -> None:
        """Close every connection, streams of results too; a client of the caller's own stays open."""


class BatchRefused(Exception):
    """A batch API's definite no. Raised by batch APIs only.

    Attributes:
        status: The HTTP status.
        message: The provider's words.
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
        reply_fields: Each of them tells a response of this format from others.
        keywords: What becomes of the keywords of OpenAI's client: each writes its part of the body, and raises
            `ValueError` for a value without an equal. None where the format has them under their own names.
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
        """The URL's path below the base address: the logical endpoint in every key."""

    def encode(self, request: Request) -> dict[str, Any]:
        """Build the intended body: the one that live calls, batch lines and keys share.

        What every row shares comes first and the last turn's text last, so that providers
        can cache the prefix. A lone user's turn of text alone stays what it always was, a string.

        Raises:
            UsageError: For what the format has no words for, or the model does not take (a prefill, a document).
        """

    def relax_schema(self, body: Mapping[str, Any], schema_level: int) -> dict[str, Any]:
        """Ask for structured output with less help from the server.

        Level 0 is *body* itself; 1 asks for any JSON object, with the schema in the instruction;
        2 has the schema in the instruction alone. A format without level 1 gives level 2.
        """

    def prefix(self, body: Mapping[str, Any]) -> list[Any]:
        """Return what every row of *body*'s run shares and the provider's prompt cache counts, in its order.

        That is all that the model reads before the first turn; falsy where there is none.
        """

    def mark_prompt_cache(
        self, body: Mapping[str, Any], name: str | None, lead: str, *, turns: bool = False
    ) -> dict[str, Any]:
        """Put the provider's cache mark at the end of the shared prefix; what the caller set stays as it is.

        Called while dressing only, so that no mark is ever in a key, and only where the prefix is long
        enough to be kept. The model reads the same text in the same order.

        Args:
            body: Adapted, at its schema level.
            name: A short hash of the prefix, the same for all rows; None where it is not shared, or too short.
            lead: The text that the rows' prompts begin with, "" for none.
            turns: Whether the whole conversation is to be sent again, with more turns.
        """

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        """Read the output limit that *body* carries, None for none."""

    def decode(self, body: Mapping[str, Any]) -> Reply:
        """Read a 200's body. Raises `MalformedReply` when it is not one."""

    def error_from(self, raw: RawReply) -> Failure:
        """Say what a response other than 200 means."""

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        """Read the account's limits from a response's headers (lower-case names); None when they say nothing."""


class CallSource(Protocol):
    """One run's calls, as a dispatcher pulls them. Used on the engine's loop alone.

    The methods with a body are defaults, for a class that inherits from this one: money is no object, no other run
    brings answers, nothing is sent a second time, and a batch need not wait for more calls.
    """

    def next(self) -> PendingCall | None:
        """Return the next new call, None where there is none now; the run wakes its dispatcher when there is."""

    def is_answered(self, call: PendingCall) -> bool:
        """Return whether another run has brought the answer to a call that is about to be sent again.

        The call has then ended with that answer, and `done` is not called.
        """
        return False

    def may_retry(self, call: PendingCall) -> bool:
        """Reserve money for one more request of a call, all of whose requests so far may have been charged.

        Return False where the budget does not allow it now.
        """
        return True

    def may_hedge(self, call: PendingCall) -> bool:
        """Reserve money to send a call that hangs a second time; False while the run has anything else to send."""
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
        """Bytes queued and not yet on disk; admission stops while it is large."""

    def note_failure(self, key: str, tell: Callable[[], FailedCall]) -> None:
        """Queue a call that failed for good, in place of an older failure of its key, and return at once.

        *tell* is called later, from another thread. A failure that cannot be kept is lost, with a line in the log:
        nothing was paid for it.
        """

    def note_valid(self, keys: Sequence[str]) -> None:
        """Forget the failures of stored replies that were no valid answers (`SCHEMA`, `INVALID_JSON`, `EMPTY`) and are.

        Costs next to nothing where there is none. Any other failure is forgotten when its call is `put`.
        """

    def rejected(self, keys: Sequence[str]) -> dict[str, FailedCall]:
        """Read, of the calls asked for, those that a provider rejected (`REJECTED_KINDS`), unanswered since.

        Costs next to nothing where there is none.
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
