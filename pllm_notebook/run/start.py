"""Put the rooms together and start a run: the one way in for every front end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pllm_notebook.engine import engine
from pllm_notebook.exceptions import UsageError
from pllm_notebook.prompts import instruction
from pllm_notebook.protocols import Store
from pllm_notebook.run.ask import Ask, simulate, target_for
from pllm_notebook.run.estimate import Estimate, estimate
from pllm_notebook.run.registry import remember
from pllm_notebook.run.run import Rows, Run
from pllm_notebook.run.sinks import sink_for
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options, current, resolve

__all__ = ["ask_for", "estimate_rows", "options_for", "start"]


def options_for(given: Mapping[str, Any]) -> Options:
    """Resolve options (see `settings.resolve`)."""
    return resolve(given)


def ask_for(options: Options, output: OutputType | None, *, instruct: bool) -> Ask:
    """Make a question ready.

    Args:
        options: As resolved.
        output: The type to parse, None for plain text.
        instruct: Whether there is no prompt, so that the type itself must say what is wanted.

    Raises:
        UsageError: When it cannot be asked as written. Nothing was sent.
    """
    system = options.system
    if instruct:
        fields = None if output is None or output.fields is None else [(f.name, f.description) for f in output.fields]
        told = instruction("" if output is None else output.doc, fields)
        system = f"{system}\n\n{told}" if system else told
    return Ask(target_for(options), options, output, system)


def start(ask: Ask, rows: Rows) -> Run:
    """Start a run in the background and give its handle at once.

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
    if ask.target.simulated and ask.options.cache != "only":
        # A simulator that was started anew has another address: it is another account, with lanes of its own.
        ask.target = replace(ask.target, account=simulate().url)
    sink = sink_for(ask.options.progress and rows.total > 0)
    run = Run(ask, rows, running, _store(ask.options), sink)
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
