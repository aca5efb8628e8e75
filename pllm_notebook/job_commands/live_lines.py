"""The lines of a job as rows of a run, each with the bytes of the stored request file and its original key.

It is an ordinary run (see `execution.execute`). Its store decides which answer was first: the live one goes into the
cache if the job has not answered yet, and otherwise beside the job's files.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import orjson

from pllm_notebook.batch import Job as BatchJob
from pllm_notebook.batch import JobLine
from pllm_notebook.batch_jobs import decode_reply
from pllm_notebook.exceptions import StoreError
from pllm_notebook.execution import CallSpec, EncodedPrompt, Outcome, ResultTable, TokenBounds, WholePrompts
from pllm_notebook.failures import FailedCall, Failure, FailureKind
from pllm_notebook.job_commands.batch_commands import BatchCommands
from pllm_notebook.messages_types import Prompt, RawRequest
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.settings import Options
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import RawReply

__all__ = ["FirstAnswerStore", "KeptRequest", "KeptRequestSpec", "LineObserver", "LineRows"]


@dataclass(frozen=True, slots=True)
class KeptRequest(RawRequest):
    """A stored request, with the bytes that went into the job.

    Attributes:
        key: Key of the call.
        body: The request's bytes.
    """

    key: str
    body: bytes


class LineRows(WholePrompts):
    """The lines of a job to send live (see `RowSource`). Their bodies are in a file, since a job may have 200 MB.

    Args:
        lines: The lines with their bodies, uncompressed.
        folder: Directory of the file, which is unnamed and deleted with this object.
        limit_of: Returns the output limit of a body, or None for no limit.

    Attributes:
        output_limits: The output limit stored with each line, by key. 0 for no limit.
        size: Total bytes of all bodies.
        most: The highest output limit of any body. None if one has no limit.

    Raises:
        StoreError: If the file cannot be written. Nothing was sent.
    """

    label = ""

    def __init__(
        self,
        lines: Iterable[tuple[JobLine, bytes]],
        folder: str | os.PathLike[str],
        limit_of: Callable[[Mapping[str, Any]], int | None],
    ) -> None:
        self.output_limits: dict[str, int] = {}
        self.size = 0
        self._starts = array("Q", [0])
        limits: set[int | None] = set()
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # open as long as this object
            for line, body in lines:
                self._file.write(body)
                self.size += len(body)
                self._starts.append(self.size)
                self.output_limits[line.key] = line.output_limit or 0
                limits.add(limit_of(orjson.loads(body)))
            self._file.flush()
        except OSError as error:
            raise StoreError(f"The requests of the job could not be unpacked: {error}. Nothing was sent.") from error
        self._keys = list(self.output_limits)
        self.most = None if None in limits else max((each for each in limits if each is not None), default=None)

    @property
    def total(self) -> int:
        """Number of lines."""
        return len(self._keys)

    def prompts(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the requests of some lines."""
        file, starts = self._file.fileno(), self._starts
        return [
            KeptRequest({}, self._keys[row], os.pread(file, starts[row + 1] - starts[row], starts[row])) for row in rows
        ]


class KeptRequestSpec(CallSpec):
    """The spec of the lines: their bodies contain the question, and replies are stored unchanged."""

    def __init__(self, target: ResolvedModel, options: Options, output_limit: int | None) -> None:
        # Tool calls in a reply are an answer like its text.
        super().__init__(target, options, None, None, marks=False, alone=True, calls=True)
        self.output_limit = output_limit
        self.token_bounds = _FixedLimit(output_limit)
        self._quirks_version = target.quirks.version

    def encoded(self, prompt: Prompt, *, again: bool = False) -> EncodedPrompt | Failure:
        """Return the request itself."""
        assert isinstance(prompt, KeptRequest)
        return prompt

    def key(self, encoded: EncodedPrompt) -> str:
        """Return the line's original key."""
        assert isinstance(encoded, KeptRequest)
        return encoded.key

    def content(self, encoded: EncodedPrompt, limit: int | None = None) -> bytes:
        """Return the stored bytes, adapted to the server's quirks learned since the run began."""
        assert isinstance(encoded, KeptRequest)
        quirks = self.target.quirks
        if quirks.version == self._quirks_version:
            return encoded.body
        return orjson.dumps(quirks.to_wire(orjson.loads(encoded.body), self.target.wire))

    def size(self, encoded: EncodedPrompt) -> int:
        """Return the number of stored bytes."""
        assert isinstance(encoded, KeptRequest)
        return len(encoded.body)

    def row_bytes(self, size: int) -> int | None:
        """Return None: lines need not share anything."""
        return None


class _FixedLimit(TokenBounds):
    """A fixed output limit: it is in the stored bytes, so no request can be given a lower one."""

    @property
    def usual_limit(self) -> int:
        """The whole limit."""
        return self.most or 0

    smallest_limit = usual_limit


class FirstAnswerStore:
    """The cache for a run over lines (see `protocols.Store`), which keeps the first answer to each line.

    Args:
        commands: The commands of the job's directory.
        job: The job.
        output_limits: The output limit stored with each line, by key. 0 for no limit.
    """

    claims = None

    def __init__(self, commands: BatchCommands, job: BatchJob, output_limits: Mapping[str, int]) -> None:
        self._store = commands.store
        self._service = commands.batch_service
        self._workers = commands.engine.workers
        self._job = job
        self._output_limits = output_limits

    @property
    def written_by_others(self) -> int:
        """Number of answers received from jobs. A line waiting to be sent may be among them."""
        return self._service.answered_by_jobs

    @property
    def backlog_bytes(self) -> int:
        """Bytes queued and not yet on disk."""
        return self._store.backlog_bytes

    @property
    def unwritable(self) -> str:
        """Why the store is read-only, or "" if it can be written."""
        return self._store.unwritable

    def is_behind(self, limit_bytes: int) -> bool:
        """Return whether writing currently fails, or more than *limit_bytes* is queued."""
        return self._store.is_behind(limit_bytes)

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        """Read the answers received from the job. Older ones are ignored: the job was meant to replace them."""
        unsent = self._service.being_sent_live
        brought = [key for key in keys if key not in unsent]
        found = self._store.get_many(brought) if brought else {}
        # Without a limit, so that it answers the line even if it was cut off.
        return {key: StoredReply(e.finish, e.text, e.output_tokens, 0, e.meta, e.raw) for key, e in found.items()}

    def queued(self, key: str) -> StoredReply | None:
        """Return None: an answer of the job counts only once it is on disk."""
        return None

    def put(self, key: str, entry: StoredReply, done: Callable[[BaseException | None], None]) -> None:
        """Store a live answer, or keep it beside the job's files if the job answered first."""
        entry.output_limit = self._output_limits[key]
        service = self._service
        if key in service.being_sent_live:
            service.being_sent_live.discard(key)
            service.answered_live_first.add(key)
            self._store.put(key, entry, done)
        else:
            keep = partial(service.journal.spool.keep_duplicates, self._job.id, "live", {key: entry.raw})
            self._workers.submit(keep).add_done_callback(lambda work: done(work.exception()))

    def note_failure(self, key: str, tell: Callable[[], FailedCall]) -> None:
        """Do nothing: the line stays with the job, which may still answer it."""

    def note_valid(self, keys: Sequence[str]) -> None:
        """Do nothing: no failures are recorded."""

    def rejected(self, keys: Sequence[str]) -> dict[str, FailedCall]:
        """Return nothing: the user asked for these lines to be sent."""
        return {}


class LineObserver:
    """Count the results of lines, and mark lines answered live as superseded (see `ResultObserver`).

    Attributes:
        answered: Lines answered live.
        failed: Failure kind of each line that failed live, by key.
        cost_usd: Cost of the live answers in US dollars. None if a price is unknown.
    """

    def __init__(self, commands: BatchCommands, results: ResultTable) -> None:
        self.answered = 0
        self.failed: dict[str, FailureKind] = {}
        self.cost_usd: float | None = 0.0
        self._results = results
        self._store = commands.store
        self._service = commands.batch_service
        self._engine = commands.engine
        self._unmarked: list[str] = []
        self._has_ended = False
        self._woken = asyncio.Event()

    def planned(self, rows: Sequence[int]) -> None:
        """Do nothing: lines are counted when they end."""

    def recorded(self, call: int, outcome: Outcome) -> None:
        """Count the outcome of a line."""
        key = self._results.keys[call]
        if outcome.cached or outcome.not_sent:
            return
        if not outcome.metas:
            assert outcome.failure is not None
            self.failed[key] = outcome.failure.kind
            return
        self.answered += 1
        cost = outcome.cost_usd
        self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost
        if key in self._service.answered_live_first:
            self._unmarked.append(key)
            self._woken.set()

    def end(self) -> None:
        """Mark the run as ended."""
        self._has_ended = True
        self._woken.set()

    async def mark_until_end(self) -> None:
        """Mark lines in groups, until the run has ended and all are marked.

        Raises:
            StoreError: If the journal cannot be written, or the cache cannot be read.
        """
        loop, workers = self._engine.loop.loop, self._engine.workers
        while self._unmarked or not self._has_ended:
            await self._woken.wait()
            self._woken.clear()
            keys, self._unmarked = self._unmarked, []
            if not keys:
                continue
            # A line whose answer could not be stored stays with the job.
            found = await loop.run_in_executor(workers, self._store.get_many, keys)
            await self._service.answered(
                {key: (entry, decode_reply(entry), RawReply(200, {}, entry.raw)) for key, entry in found.items()}
            )
