"""Put the rooms together and start a run: the one way in for every front end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pllm_notebook.engine import Engine, engine
from pllm_notebook.exceptions import UsageError
from pllm_notebook.prompts import instruction
from pllm_notebook.protocols import Store
from pllm_notebook.providers import Target
from pllm_notebook.records import Turn
from pllm_notebook.run.ask import Ask, simulate, target_for
from pllm_notebook.run.conductor import Conductor
from pllm_notebook.run.course import Course
from pllm_notebook.run.estimate import Estimate, estimate
from pllm_notebook.run.limits import KeptLimits
from pllm_notebook.run.registry import remember
from pllm_notebook.run.run import Rows, Run
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options, current, resolve
from pllm_notebook.sinks import sink_for

__all__ = ["ask_for", "estimate_rows", "options_for", "start"]


def options_for(given: Mapping[str, Any]) -> Options:
    """Resolve options (see `settings.resolve`)."""
    return resolve(given)


def ask_for(
    options: Options,
    output: OutputType | None,
    *,
    instruct: bool,
    sample: int = 0,
    history: tuple[Turn, ...] = (),
    keys: Mapping[str, str] | None = None,
) -> Ask:
    """Make a question ready.

    Args:
        options: As resolved.
        output: The type to parse, None for plain text.
        instruct: Whether there is no prompt, so that the type itself must say what is wanted.
        sample: Index among the answers that each row gets from this model; 0 is the plain call.
        history: Turns of a conversation that come before the row's prompt.
        keys: API keys by provider, in place of the environment's.

    Raises:
        UsageError: When it cannot be asked as written. Nothing was sent.
    """
    system = options.system
    if instruct:
        fields = None if output is None or output.fields is None else [(f.name, f.description) for f in output.fields]
        told = instruction("" if output is None else output.doc, fields)
        system = f"{system}\n\n{told}" if system else told
    return Ask(target_for(options, keys), options, output, system, sample=sample, history=history)


Limits = Callable[[Target], KeptLimits | None]
"""Where what is learned of a target's limits is kept."""


def start(
    ask: Ask,
    rows: Rows,
    *,
    further: Sequence[Ask] = (),
    conduct: Callable[[Rows, Engine, Store | None, Callable[[], None], Limits], Course] | None = None,
) -> Run:
    """Start a run in the background and give its handle at once.

    Args:
        ask: The question.
        rows: Whom it is put to.
        further: Other questions that the run may put.
        conduct: Makes what conducts it, None for the calls of *ask* alone.

    Raises:
        UsageError: When `configure(loop=…)` came after the engine had started.
        StoreError: When the cache cannot be opened. Nothing was sent.
    """
    where = current().loop
    running = engine(where)
    if running.loop.where != where:
        raise UsageError(
            f"loop={where!r} was configured after the engine had started on loop={running.loop.where!r}. "
            f"Configure it before the first run: restart the kernel. Nothing was sent."
        )
    for each in (ask, *further):
        if each.target.simulated and ask.options.cache != "only":
            # A simulator that was started anew has another address: it is another account, with lanes of its own.
            each.target = replace(each.target, account=simulate().url)
    sink = sink_for(ask.options.progress and rows.total > 0)
    store = _store(ask.options)
    limits = partial(_limits, store)

    def course(kept: Store | None, ended: Callable[[], None]) -> Course:
        if conduct is not None:
            return conduct(rows, running, kept, ended, limits)
        return Conductor(ask, rows, rows.total, running, kept, ended, limits(ask.target))

    run = Run(ask, rows, running, store, sink, course)
    remember(run)
    run.start()
    return run


def estimate_rows(ask: Ask, rows: Rows) -> Estimate:
    """Estimate a run. Sends nothing."""
    store = None if ask.options.cache == "off" else _store(ask.options)
    known = next((lane.limiter for lane in engine(current().loop).lanes if lane.name == ask.target.label), None)
    return estimate(ask, rows, store, known)


def _store(options: Options) -> Store:
    # Imported on use: the database library is not needed to import this package.
    from pllm_notebook.store import MemoryStore, open_store

    return MemoryStore() if options.cache == "off" else open_store(current().cache_dir)


def _limits(store: Store, target: Target) -> KeptLimits | None:
    """Give the place of learned limits, None where there is none to keep."""
    from pllm_notebook.store import DiskStore

    # Nobody but the SDK knows the account of a caller's own client, and simulated limits are only options.
    if target.simulated or target.provider in current().clients or not isinstance(store, DiskStore):
        return None
    return KeptLimits(store.directory)
