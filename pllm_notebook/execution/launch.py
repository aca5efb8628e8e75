"""Assemble specs and services, and start a run: the one entry point for every front end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from pllm_notebook.credentials import Key
from pllm_notebook.display_registry import new_display
from pllm_notebook.engine import Engine, engine, shutdown
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution.asked_model import resolve_model, start_simulator
from pllm_notebook.execution.budget import RunBudget
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.estimate import Estimate, estimate
from pllm_notebook.execution.execute import Execution
from pllm_notebook.execution.live_run import LiveRun, Rows
from pllm_notebook.execution.row_source import RowSource
from pllm_notebook.execution.run_claims import JobLookup
from pllm_notebook.execution.run_events import RunEvents
from pllm_notebook.execution.run_recorder import RecordableRows, RunRecorder
from pllm_notebook.execution.run_registry import remember, runs
from pllm_notebook.execution.run_view.view_model import view_model
from pllm_notebook.execution.services import RunServices
from pllm_notebook.messages_types import Example, Turn
from pllm_notebook.prompts import instruction
from pllm_notebook.protocols import Display, Store, ViewDisplay
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options, Settings, current
from pllm_notebook.settings import resolve as options_for
from pllm_notebook.shell import in_kernel, origin

if TYPE_CHECKING:
    from pllm_notebook.batch_jobs import BatchService

__all__ = [
    "batch_service",
    "build_spec",
    "estimate_rows",
    "instruction_for",
    "look_after_jobs",
    "options_for",
    "services_for",
    "start",
    "store_for",
]


def build_spec(
    options: Options,
    output: OutputType | None,
    *,
    instruct: bool,
    sample: int = 0,
    history: tuple[Turn, ...] = (),
    examples: tuple[Example, ...] = (),
    json_object: bool = False,
    marks: bool = True,
    alone: bool = False,
    calls: bool = False,
    keys: Mapping[str, Key] | None = None,
) -> CallSpec:
    """Build the spec of a call.

    Args:
        options: As resolved.
        output: The type to parse, None for plain text.
        instruct: Whether there is no prompt, so that the instruction must come from the type.
        sample: Index among the answers that each row gets from this model; 0 is the plain call.
        history: Turns of a conversation that come before the row's prompt.
        examples: Shown to the model before the row's prompt.
        json_object: Whether to request JSON of any shape; only without a type.
        marks: Whether requests mark what the provider's prompt cache should keep, if it takes marks.
        alone: Whether no two of its prompts begin alike (see `CallSpec`).
        calls: Whether the answer to a row is the model's tool calls (`tools.Called`), which are not run.
        keys: API keys by provider, instead of those in the environment.

    Raises:
        UsageError: If the call cannot be sent with these options. Nothing was sent.
    """
    system = options.system
    if instruct:
        wanted = instruction_for(options, output)
        system = f"{system}\n\n{wanted}" if system else wanted
    target = resolve_model(options, keys)
    return CallSpec(
        target,
        options,
        output,
        system,
        sample=sample,
        history=history,
        examples=examples,
        json_object=json_object,
        marks=marks,
        alone=alone,
        calls=calls,
    )


def instruction_for(options: Options, output: OutputType | None) -> str:
    """Return the instruction that a type contains, for calls without a prompt.

    Args:
        options: As resolved.
        output: The type, None for plain text.
    """
    fields = None if output is None or output.fields is None else [(f.name, f.description) for f in output.fields]
    return instruction("" if output is None else output.doc, fields, shown=bool(options.images))


def services_for(
    running: Engine,
    store: Store,
    options: Options,
    settings: Settings,
    *,
    kept: Store | None,
    budget: RunBudget | None = None,
) -> RunServices:
    """Return the services of a run.

    Args:
        running: The engine that it runs on.
        store: The cache.
        options: As resolved.
        settings: The settings in force when the run starts.
        kept: The store that the run writes to, None to keep nothing.
        budget: The budget that it shares with other runs; None for its own, from the options.

    Raises:
        UsageError: For a batch run, if the cache is not a directory on disk. Nothing was sent.
        StoreError: For a batch run, if the journal cannot be read or written. Nothing was sent.
    """
    from pllm_notebook.store import DiskStore

    is_batch, jobs = options.mode == "batch", _job_lookup(running, store, options)
    return RunServices(
        running,
        kept,
        store.directory if isinstance(store, DiskStore) and not is_batch else None,
        settings.clients,
        partial(batch_service(running, store).dispatcher, origin=origin()) if is_batch else None,
        jobs,
        budget,
    )


def _job_lookup(running: Engine, store: Store, options: Options) -> JobLookup | None:
    """Return the lookup of calls that wait in batch jobs; None if the cache is not a directory on disk."""
    from pllm_notebook.batch_jobs import JournalLookup
    from pllm_notebook.store import DiskStore

    if not isinstance(store, DiskStore):
        return None
    waits = options.wait is True and options.mode != "batch"
    return JournalLookup(store.directory, partial(batch_service, running, store), waits=waits)


def batch_service(running: Engine, store: Store) -> BatchService:
    """Return this process's batch service.

    Raises:
        UsageError: If the cache is not a directory on disk. Nothing was sent.
        StoreError: If the journal cannot be read or written. Nothing was sent.
    """
    from pllm_notebook.batch_jobs import batch_service_for
    from pllm_notebook.store import DiskStore

    if not isinstance(store, DiskStore):
        raise UsageError("mode='batch' needs a cache on disk, where its jobs are remembered. Nothing was sent.")
    return batch_service_for(running, store, store.directory, resolve_model)


def start(
    spec: CallSpec,
    rows: Rows,
    *,
    further: Sequence[CallSpec] = (),
    make: Callable[[RunServices], Execution] | None = None,
    cache_dir: str | None = None,
    run_budget: RunBudget | None = None,
    on_engine: Engine | None = None,
    display: Display | None = None,
) -> LiveRun:
    """Start a run in the background and return its handle at once.

    Args:
        spec: The spec of the calls.
        rows: The rows to answer.
        further: Specs of other calls that the run may make.
        make: Builds the execution from the services; None for an execution of *spec* alone.
        cache_dir: Where answers are kept, None for the configured directory.
        run_budget: The budget that it shares with other runs; None for its own, from the options.
        on_engine: The engine it runs on, None for this process's own.
        display: Shows the run; None for a display of its own, if the options ask for one.

    Raises:
        UsageError: If `configure(loop=…)` was called after the engine had started. Nothing was sent.
        StoreError: If the cache cannot be opened. Nothing was sent.
    """
    from pllm_notebook.store import DiskStore, current_directory

    settings = current()
    running = on_engine or engine(settings.loop)
    if on_engine is None and running.loop.where != settings.loop:
        running = _moved_to(settings.loop)
    for each in (spec, *further):
        if each.target.simulated and spec.options.cache != "only":
            # A restarted simulator has another address, so it is another account with its own dispatchers.
            each.target = replace(each.target, account=start_simulator().url)
    sink = display or (new_display() if spec.options.progress and rows.total else None)
    store = store_for(spec.options, cache_dir)
    kept = None if spec.options.cache == "off" else store
    services = services_for(running, store, spec.options, settings, kept=kept, budget=run_budget)
    execution = Execution([spec], rows, services) if make is None else make(services)
    run = LiveRun(spec, rows, execution, sink)
    run.origin, is_kernel = origin(), in_kernel()
    if isinstance(sink, ViewDisplay):
        sink.watch(view_model(run))
    remember(run)
    if isinstance(rows, RecordableRows):
        directory = store.directory if isinstance(store, DiskStore) else cache_dir or current_directory()
        run.record(RunRecorder(directory, keyless=not isinstance(store, DiskStore)))
    if settings.on_event is not None:
        events = RunEvents(run.id, spec.options.mode, settings.on_event)
        run.displays.add(events)
        for queue in run.execution.queues:
            queue.recorder.events = events
    run.start()
    if is_kernel:
        look_after_jobs()
    return run


def _moved_to(where: Literal["private", "notebook"]) -> Engine:
    """Restart this process's engine on the configured loop.

    Raises:
        UsageError: If it has had runs: `configure(loop=…)` was called too late. Nothing was sent.
    """
    if runs():
        raise UsageError(
            f"loop={where!r} was configured after the engine had started on loop={engine(where).loop.where!r}. "
            f"Configure it before the first run: restart the kernel. Nothing was sent."
        )
    # The old engine has only polled the jobs of earlier kernels; the new one continues that.
    shutdown()
    return engine(where)


def look_after_jobs() -> None:
    """Poll the open jobs of the current cache directory in the background, unless `poll` is off."""
    from pllm_notebook.batch_jobs import start_polling

    start_polling(resolve_model)


def estimate_rows(spec: CallSpec, rows: RowSource, *, cache_dir: str | None = None) -> Estimate:
    """Estimate a run. Sends nothing."""
    store = None if spec.options.cache == "off" else store_for(spec.options, cache_dir)
    running = engine(current().loop)
    known = next((one.limiter for one in running.dispatchers if one.name == spec.target.label), None)
    if store is None:
        return estimate(spec, rows, store, known)
    if spec.options.mode == "batch":
        return estimate(spec, rows, store, known, batch_service(running, store).journal.pending)
    jobs = _job_lookup(running, store, spec.options)
    if jobs is None or spec.options.cache == "refresh" or not jobs.any_open():
        return estimate(spec, rows, store, known)
    return estimate(spec, rows, store, known, jobs.waiting)


def store_for(options: Options, cache_dir: str | None = None) -> Store:
    """Open the store that a run with *options* uses. The same directory gives the same store."""
    # Imported on use: the database library is not needed to import this package.
    from pllm_notebook.store import MemoryStore, open_store

    if options.cache == "off":
        return MemoryStore()
    store = open_store(cache_dir)
    store.take_in_shared()
    return store
