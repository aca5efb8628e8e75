"""The commands of `%pllm`: show and set things without leaving the notebook."""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pllm_notebook.display_registry import show_in_cell
from pllm_notebook.engine import engine
from pllm_notebook.exceptions import PllmError, UnknownModelError, UsageError, guess
from pllm_notebook.execution import LiveRun, Run, handle_of, options_for, resolve_model, runs, unlisted
from pllm_notebook.formatting import counted
from pllm_notebook.frames.error_table import errors_of
from pllm_notebook.frames.job_table import Jobs
from pllm_notebook.notebook import progress_format
from pllm_notebook.report_tables import HTMLFacts, text_facts
from pllm_notebook.settings import configure, current
from pllm_notebook.store import cache as answer_cache

if TYPE_CHECKING:  # a runtime import would load pandas for users of other libraries too
    import pandas as pd

__all__ = ["COMMANDS", "Overview", "run_command"]


@dataclass(frozen=True, slots=True)
class Overview(HTMLFacts):
    """A few facts, one per line.

    Attributes:
        lines: Name and text of each fact.
    """

    lines: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return text_facts(self.lines)

    def _facts(self) -> tuple[tuple[str, str], ...]:
        return self.lines


def run_command(line: str) -> Any:
    """Show or change settings and results.

    %pllm              the current model and where it is set
    %pllm use MODEL    set the model for all later calls
    %pllm status       the newest run
    %pllm errors       its failed rows; in a new kernel, the failed calls in the cache
    %pllm retry        send its failed rows again if they may succeed, and wait
    %pllm cost         the cost of this session's runs
    %pllm limits       the providers' limits, reported and inferred, and the number of refusals
    %pllm cache        the contents of the cache
    %pllm jobs         the providers' batch jobs
    %pllm --help       this help
    """
    command, _, rest = line.strip().partition(" ")
    if not command:
        return overview()
    if command in _HELP:
        print(inspect.cleandoc(run_command.__doc__ or ""))
        return None
    if command not in COMMANDS:
        raise UsageError(
            f"There is no %pllm {command}.{guess(command, COMMANDS)} There are {', '.join(COMMANDS)}. A cell that asks "
            f"a model begins with %%pllm. Nothing was sent."
        )
    rest = rest.strip()
    if command == "use":
        return use(rest)
    if rest:
        raise UsageError(f"%pllm {command} takes no argument, not {rest!r}. Nothing was sent.")
    return _COMMANDS[command]()


def overview() -> Overview:
    """Show the current model, and where it and other settings come from."""
    options = current().options
    if "model" in options:
        model, source = options["model"], "pllm.configure"
    elif os.environ.get("PLLM_MODEL"):
        model, source = os.environ["PLLM_MODEL"], "environment variable PLLM_MODEL"
    else:
        try:
            model, source = resolve_model(options_for({})).label, "the first provider whose key is in the environment"
        except UnknownModelError as error:
            model, source = "none", str(error)
    others = ", ".join(f"{name}={value!r}" for name, value in options.items() if name != "model")
    lines = [
        ("model", f"{model} ({source})"),
        *([("configured", others)] if others else []),
        ("cache", str(answer_cache.directory)),
        ("runs", f"{len(runs()) + unlisted().runs:,} in this session, {_total(_all_costs())}"),
        ("commands", f"%pllm {' | '.join(COMMANDS)}; %%pllm --help"),
    ]
    return Overview(tuple(lines))


def use(name: str) -> Overview:
    """Set the model for all later calls. Nothing is sent, and no key is needed yet."""
    if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"":
        name = name[1:-1].strip()
    if not name:
        raise UsageError("%pllm use needs a model, for example %pllm use openai:gpt-6-luna. Nothing was sent.")
    if len(name.split()) > 1 and not name.startswith("local:"):  # a file path may have spaces
        raise UsageError(f"%pllm use takes the name of one model, without blanks, not {name!r}. Nothing was sent.")
    resolve_model(options_for({"model": name}))  # refuses an unknown model before it is set
    configure(model=name)
    return overview()


def status() -> Overview:
    """Return the newest run's progress and its model's limits, and show its live view if one is available."""
    run = _newest()
    show_in_cell("run", handle_of(run))
    p = run.progress()
    lines = [("run", run.id), ("rows", progress_format.step(p) if p.state == "running" else progress_format.ended(p))]
    if p.state == "running":
        lines.append(("in flight", f"{p.in_flight:,}"))
    lines += [(one.name, _limits(one.limiter)) for one in engine(current().loop).dispatchers if one.name == p.model]
    return Overview(tuple(lines))


def errors() -> Any:
    """Return the failed rows of the newest run or, in a new kernel, the failed calls in the cache."""
    return errors_of(None, model=None, kind=None, since=None)


def retry() -> Run:
    """Send the newest run's failed rows again if a retry may succeed, and wait. Answers are paid for."""
    run = handle_of(_newest()).retry()
    run.wait()
    return run


def cost() -> pd.DataFrame:
    """Return the cost of each run of this session in US dollars, newest last, and the total. NA if unknown.

    Runs that are no longer in memory, such as the rounds of a race, are combined in one row, "others".
    """
    import pandas as pd

    table = pd.DataFrame(
        [
            {
                "run": run.id, "asked": p.label, "model": progress_format.model(p), "state": p.state, "rows": p.total,
                "answered": p.done + p.cached, "from_cache": p.cached, "failed": p.failed, "not_sent": p.not_sent,
                "input_tokens": p.input_tokens, "output_tokens": p.output_tokens, "cost_usd": p.cost_usd,
            }
            for run in runs() for p in (run.progress(),)
        ],
        columns=["run", "asked", "model", "state", "rows", "answered", "from_cache", "failed", "not_sent",
                 "input_tokens", "output_tokens", "cost_usd"],
    ).astype({"cost_usd": "Float64"})  # fmt: skip
    numbers = ["rows", "answered", "from_cache", "failed", "not_sent", "input_tokens", "output_tokens"]
    others = unlisted()
    if others.runs:
        table.loc[len(table)] = {
            **{name: value for name, value in others._asdict().items() if name in table},
            **dict.fromkeys(("model", "state"), ""),
            "run": "others",
            "asked": f"{counted(others.runs, 'further run')}, which pllm.runs() lists",
        }
    # An unknown price makes the sum unknown: a partial sum would be mistaken for the total.
    table.loc[len(table)] = {
        **dict.fromkeys(("asked", "model", "state"), ""),
        "run": "total",
        **{name: table[name].sum() for name in numbers},
        "cost_usd": table["cost_usd"].sum(skipna=False),
    }
    return table.set_index("run")


def limits() -> pd.DataFrame:
    """Return the limits and current state of each model used in this session. Nothing is sent.

    Returns:
        One row for each account and model, NA for unknown or not limited:

        requests_per_min, tokens_per_min: Limits reported by the provider (Int64).
        inferred_per_min: Admitted requests per minute, inferred from 429 responses if the provider sends no limit
            headers (Int64).
        window: Maximum number of calls in flight.
        in_flight: Calls in flight.
        refused: Requests refused by a limit. They cost nothing and were sent again.
        waiting_until: End of a pause requested by the provider (local time, NaT for none).
        found_per_min: Former name of `inferred_per_min`, to be removed in the next release.
    """
    import pandas as pd

    # Without a run no limits are known, and this function must not start the engine's thread.
    dispatchers = engine(current().loop).dispatchers if runs() else []
    rows = [
        {
            "requests_per_min": _per_min(one.limiter.requests.rate),
            "tokens_per_min": _per_min(one.limiter.tokens.rate),
            "inferred_per_min": _per_min(one.limiter.inferred.rate),
            "window": int(one.limiter.window),
            "in_flight": one.in_flight,
            "refused": one.limiter.refused,
            "waiting_until": _clock_time(one.limiter.paused_until),
        }
        for one in dispatchers
    ]
    columns = [
        "requests_per_min", "tokens_per_min", "inferred_per_min", "window", "in_flight", "refused", "waiting_until",
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns, index=pd.Index([one.name for one in dispatchers], name="model"))
    table = table.astype(dict.fromkeys(columns[:-1], "Int64") | {"waiting_until": "datetime64[s]"})
    return table.assign(found_per_min=table["inferred_per_min"])


def jobs() -> Any:
    """Return the providers' batch jobs."""
    return Jobs(show=partial(show_in_cell, "jobs"))


def cache() -> Any:
    """Show the contents of the cache."""
    return answer_cache.info()


_COMMANDS: dict[str, Callable[[], Any]] = {
    "status": status, "errors": errors, "retry": retry, "cost": cost, "limits": limits, "jobs": jobs, "cache": cache,
}  # fmt: skip

COMMANDS = ("use", *_COMMANDS)
_HELP = ("--help", "-h", "help")
"""The commands of `%pllm`."""


def _limits(limiter: Any) -> str:
    """Return a model's limits as text."""
    rates = {
        "requests/min": limiter.requests.rate,
        "tokens/min": limiter.tokens.rate,
        "requests/min inferred": limiter.inferred.rate,
    }
    known = [f"{rate * 60:,.0f} {what}" for what, rate in rates.items() if rate is not None]
    refused = f", {limiter.refused:,} refused" if limiter.refused else ""
    return f"{', '.join(known) or 'no limit known'}; up to {limiter.window:,.0f} calls at once{refused}"


def _newest() -> LiveRun:
    known = runs()
    if not known:
        raise PllmError("Nothing has been run in this session yet: run a cell that asks, or pllm.runs() shows those of "
                        "earlier ones. Nothing was sent.")  # fmt: skip
    return known[-1]


def _all_costs() -> list[float | None]:
    return [*(run.cost for run in runs()), unlisted().cost_usd]


def _total(costs: list[float | None]) -> str:
    known = [each for each in costs if each is not None]
    unknown = "" if len(known) == len(costs) else f" and {len(costs) - len(known):,} of unknown cost"
    return f"{progress_format.format_usd(sum(known))}{unknown}"


def _per_min(rate: float | None) -> int | None:
    return None if rate is None else round(rate * 60)


def _clock_time(moment: float) -> datetime | None:
    """Return the local time of a moment of the monotonic clock, None if it has passed."""
    left_s = moment - time.monotonic()
    return datetime.now().replace(microsecond=0) + timedelta(seconds=math.ceil(left_s)) if left_s > 0 else None
