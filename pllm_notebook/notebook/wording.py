"""A run's progress in words: the same for the widget, the saved line and the terminal."""

from __future__ import annotations

from pllm_notebook.records import Progress

__all__ = ["ended", "model", "money", "pace", "span", "spent", "step"]

_SIGNS = {"running": "…", "done": "✓", "cancelled": "■ stopped:", "failed": "✗ ended early:"}


def step(progress: Progress) -> str:
    """Say how far a run is, in one line: "Review: 12 / 200 rows · 3 failed · …"."""
    p = progress
    finished = p.total - p.pending
    parts = [f"{p.label}: {finished:,} / {p.total:,} rows", *_kinds(p)]
    if p.rows_per_s:
        parts.append(pace(p))
    if p.eta_s is not None:
        parts.append(f"{span(p.eta_s)} left")
    parts += [*spent(p), model(p)]
    if p.note:
        parts.append(p.note)
    return " · ".join(parts)


def ended(progress: Progress) -> str:
    """Say how a run ended, in the one line that stays in a saved notebook."""
    p = progress
    sign = "⚠" if p.state == "done" and p.failed else _SIGNS[p.state]
    parts = [f"{sign} {p.label}: {_answered(p)}", *_kinds(p, over=True), span(p.elapsed_s)]
    parts += [*spent(p), model(p)]
    if p.note:
        parts.append(p.note)
    return " · ".join(parts)


def _answered(p: Progress) -> str:
    count = p.done + p.cached
    rows = "row" if p.total == 1 else "rows"
    return f"{p.total:,} {rows} answered" if count == p.total else f"{count:,} of {p.total:,} {rows} answered"


def model(progress: Progress) -> str:
    """Name the model, and say plainly when its answers are invented."""
    return f"{progress.model} SIMULATED" if progress.simulated else progress.model


def spent(progress: Progress) -> list[str]:
    """Say what was used: tokens (where there were any) and US dollars, with the ceiling if there is one."""
    p = progress
    tokens = p.input_tokens + p.output_tokens
    return [*([f"{_short(tokens)} tokens"] if tokens else []), *_cached(p), _dollars(p)]


def pace(progress: Progress) -> str:
    """Say how fast rows are answered: "214 rows/s", "0.8 rows/s"."""
    rate = progress.rows_per_s
    return f"{rate:,.0f} rows/s" if rate >= 9.95 else f"{rate:.1f} rows/s"


def _cached(p: Progress) -> list[str]:
    if not (p.cached_tokens and p.input_tokens):
        return []
    share = 100 * p.cached_tokens / p.input_tokens
    return [f"{'<1' if share < 1 else f'{share:.0f}'} % of input tokens from the provider's cache"]


def _kinds(p: Progress, *, over: bool = False) -> list[str]:
    failed = "failed (pllm.errors() says why)" if over else "failed"
    counts = [(p.cached, "from cache"), (p.failed, failed), (p.skipped, "skipped")]
    if over:
        counts.append((p.pending, "left"))
    return [f"{count:,} {word}" for count, word in counts if count]


def _dollars(p: Progress) -> str:
    ceiling = "" if p.budget_usd is None else f" of {money(p.budget_usd)}"
    return f"{money(p.cost_usd)}{ceiling}"


def money(amount_usd: float | None) -> str:
    """Write US dollars: cents from one dollar up, four places below, words for None."""
    if amount_usd is None:
        return "cost unknown"
    if amount_usd == 0:
        return "$0"
    if amount_usd < 0.00005:
        return "<$0.0001"
    return f"${amount_usd:,.2f}" if amount_usd >= 1 else f"${amount_usd:.4f}"


def _short(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 0.99995:
            scaled = number / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{number:,.0f}"


def span(seconds: float) -> str:
    """Write a time in at most two units: 0.4 s, 17 s, 2 min 05 s, 1 h 05 min."""
    if seconds < 0.05:
        return "<0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
