"""Import a results file downloaded from a provider. The ids of its lines are cache keys.

For jobs that cannot be fetched from here: another key, another machine, or a lost journal. The file's format is
recognized by its first lines. Nothing is sent.
"""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, cast

import orjson

from pllm_notebook.batch import KEY_CHARACTERS, key_in
from pllm_notebook.batch_jobs import batch_rate
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import resolve_model
from pllm_notebook.file_errors import file_errors, file_path
from pllm_notebook.job_commands.batch_commands import BatchCommands
from pllm_notebook.prices import Rate
from pllm_notebook.providers import ResolvedModel, cheap_model_of, file_lines, loaded, providers
from pllm_notebook.settings import Options
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import BatchResult, Finish, RawReply, Reply

__all__ = ["Imported", "import_results"]

_GROUP = 500
_WHAT = "a file of batch results"
_NOTHING = "Nothing was taken in."
_GROUP_BYTES = 8 << 20

Reader = Callable[[dict[str, Any]], BatchResult]


@dataclass(frozen=True, slots=True)
class Imported:
    """The counts of an imported results file.

    Attributes:
        taken: Answers added to the cache.
        known: Answers to calls that were already in the cache, which is not changed.
        unknown: Lines with an id that is not from this package.
        failed: Number of lines without an answer, by reason.
    """

    taken: int
    known: int
    unknown: int
    failed: dict[str, int] = field(hash=False)

    def __repr__(self) -> str:
        failed = sum(self.failed.values())
        kinds = f" ({', '.join(f'{count:,} {kind}' for kind, count in self.failed.items())})" if failed else ""
        return (
            f"{self.taken:,} answers were taken in; {self.known:,} were known, {failed:,} lines have none{kinds}, "
            f"{self.unknown:,} have an unknown id."
        )


def import_results(commands: BatchCommands, path: str | os.PathLike[str], model: str | None = None) -> Imported:
    """Import a results file.

    Args:
        commands: The commands of the target cache.
        path: A file downloaded from OpenAI, Anthropic or Google, or its gzip-compressed copy.
        model: The requested model (`openai:gpt-6-luna`). None to take it from the journal's entry of a line's job, or
            otherwise from the results.

    Raises:
        UsageError: If the file has another format or *model* cannot be resolved, and nothing was taken in; or if a
            line's model cannot be resolved. Answers of earlier lines are then kept.
        FileError: If it cannot be read. Nothing was taken in.
        StoreError: If an answer cannot be stored. Those before it are kept.
    """
    path = file_path(path, _WHAT, _NOTHING)
    with file_errors(path, _WHAT, _NOTHING):
        provider, read = _format_of(path)
    named = None if model is None else resolve_model(Options(model=model))
    models = _Models(commands, provider, named)
    taken = known = unknown = 0
    failed: Counter[str] = Counter()
    for group in _groups(path):
        results = {}
        for line in group:
            result = read(line)
            key = key_in(result.custom_id)
            if len(key) == KEY_CHARACTERS:
                results[key] = result
            else:
                unknown += 1
        there = commands.store.get_many(list(results))
        models.find(list(results))
        entries: dict[str, tuple[StoredReply, Reply, RawReply]] = {}
        for key, result in results.items():
            if key in there:
                known += 1
            elif result.raw is None:
                failed[result.failure] += 1
            else:
                target, rate = models.of(key, result.raw)
                reply = target.read(result.raw)
                if isinstance(reply, Reply):
                    entries[key] = _entry(target, rate, reply, result.raw), reply, result.raw
                else:
                    failed[reply.kind] += 1
        taken += len(entries)
        commands.wait(partial(_keep, commands, entries))
    return Imported(taken, known, unknown, dict(failed))


class _Models:
    """Look up the model that a line was sent to."""

    def __init__(self, commands: BatchCommands, provider: str, named: ResolvedModel | None) -> None:
        self._journal = commands.batch_service.journal
        self._provider = provider
        self._named = named
        self._targets: dict[str, tuple[ResolvedModel, Rate | None]] = {}
        self._jobs = [job for job in self._journal.jobs() if not job.twin_of]
        self._found: dict[str, str] = {}

    def find(self, keys: Sequence[str]) -> None:
        """Look up the jobs of the next lines."""
        self._found = {key: job.target for job in self._jobs for key in self._journal.lines.find(job.id, keys)}

    def of(self, key: str, raw: RawReply) -> tuple[ResolvedModel, Rate | None]:
        """Return the model and its batch price."""
        if self._named is not None:
            label = self._named.label
        else:
            label = self._found.get(key) or f"{self._provider}:{_model_in(raw) or cheap_model_of(self._provider)}"
        if label not in self._targets:
            target = self._named or resolve_model(Options(model=label))
            self._targets[label] = target, batch_rate(target)
        return self._targets[label]


async def _keep(commands: BatchCommands, entries: dict[str, tuple[StoredReply, Reply, RawReply]]) -> None:
    await commands.batch_service.keep({key: entry for key, (entry, _, _) in entries.items()})
    await commands.batch_service.answered(entries)


def _entry(target: ResolvedModel, rate: Rate | None, reply: Reply, raw: RawReply) -> StoredReply:
    usage = reply.usage
    # The file does not contain the requested limit, but the length of a truncated answer shows it.
    limit = usage.output_tokens if usage is not None and reply.finish is Finish.TRUNCATED else None
    cost = None if rate is None or usage is None else rate.cost_usd(usage)
    return StoredReply.of(
        reply, raw.body, asked=target.label, output_limit=limit, cost_usd=cost, latency_s=0.0, attempts=1
    )  # fmt: skip


def _model_in(raw: RawReply) -> str:
    """Return the model named in a response, or ""."""
    try:
        body = orjson.loads(raw.body)
    except ValueError:
        return ""
    return str(body.get("model") or body.get("modelVersion") or "") if isinstance(body, dict) else ""


def _format_of(path: str | os.PathLike[str]) -> tuple[str, Reader]:
    """Return the provider of a results file, and the reader of its lines."""
    for line, _ in _lines(path):
        for provider in providers():
            if provider.batch is not None and provider.batch.owns(line):
                return provider.name, provider.batch.result
        break
    raise UsageError(
        f"{os.fspath(path)} is not a file of batch results of OpenAI, Anthropic or Google: its first line has neither "
        f"custom_id with response or result, nor key with response. Nothing was taken in."
    )


def _groups(path: str | os.PathLike[str]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    held = 0
    for line, size in _lines(path):
        group.append(line)
        held += size
        if len(group) == _GROUP or held >= _GROUP_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the objects of a file with their lengths in bytes, reading one line at a time. Skips other lines."""
    with open(path, "rb") as plain:
        compressed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        file = cast(IO[bytes], gzip.GzipFile(fileobj=plain)) if compressed else plain
        for line in file_lines(file):
            try:
                read = loaded(line)
            except ValueError:
                continue
            if isinstance(read, dict):
                yield read, len(line)
