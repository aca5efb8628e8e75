"""Format money, times and numbers for display, in one form everywhere."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from typing import Protocol

__all__ = [
    "budget_stop_note",
    "counted",
    "escape_html",
    "format_duration",
    "format_usd",
    "format_usd_or",
    "jobs_note",
    "maybe_paid_note",
    "short_number",
    "strip_control_chars",
]

# Maximum number of batch jobs that a sentence names.
_MOST_JOBS = 3
_IRREGULAR = {"goes": "go", "reply": "replies", "has": "have", "is": "are", "was": "were", "story": "stories"}


def format_usd(amount_usd: float | None) -> str:
    """Format US dollars: cents from one dollar up, four decimals below, two significant digits below a cent.

    Args:
        amount_usd: The amount. None and NaN give "cost unknown".

    Examples:
        >>> [format_usd(amount) for amount in (None, 0, 0.000021, 0.0483, 12.3)]
        ['cost unknown', '$0', '$0.000021', '$0.0483', '$12.30']
    """
    return format_usd_or(amount_usd, "cost unknown")


def format_usd_or(amount_usd: float | None, unknown: str) -> str:
    """Format US dollars like `format_usd`, with *unknown* for an unknown amount."""
    if amount_usd is None or math.isnan(amount_usd):
        return unknown
    if amount_usd <= -0.00000095:  # above that, a rounding error of a difference
        return f"-{format_usd_or(-amount_usd, unknown)}"
    if amount_usd == 0:
        return "$0"
    if amount_usd >= 0.99995:
        return f"${amount_usd:,.2f}"
    if amount_usd >= 0.00995:
        return f"${amount_usd:.4f}"
    if amount_usd < 0.00000095:
        return "<$0.000001" if amount_usd > 0 else "$0"
    written = f"{amount_usd:.1e}"
    return f"${amount_usd:.{1 - int(written.partition('e')[2])}f}"


def maybe_paid_note(requests: int, amount_usd: float) -> str:
    """Describe additional costs that may have been paid. "" for none.

    Args:
        requests: Requests that were lost, cancelled or have no usage.
        amount_usd: Their maximum cost. 0.0 if nothing was reserved for them.

    Examples:
        >>> maybe_paid_note(2, 0.0031), maybe_paid_note(1, 0.0)
        ('up to $0.0031 perhaps paid (2 requests)', '1 request perhaps paid')
    """
    if not requests:
        return ""
    count = counted(requests, "request")
    return f"up to {format_usd(amount_usd)} perhaps paid ({count})" if amount_usd else f"{count} perhaps paid"


class Counts(Protocol):
    """The counts of a run's rows by result (see `types.Progress`)."""

    @property
    def done(self) -> int:
        """Answered by calls."""

    @property
    def cached(self) -> int:
        """Answered by the store."""

    @property
    def not_sent(self) -> int:
        """Not sent because of `max_cost_usd`."""

    @property
    def failed(self) -> int:
        """Failed."""


def budget_stop_note(counts: Counts) -> str:
    """Describe the end of a run that `max_cost_usd` stopped: "stopped at max_cost_usd: 341 answered, 12 not sent"."""
    failed = f", {counts.failed:,} failed" if counts.failed else ""
    answered = f"{counts.done + counts.cached:,} answered"
    return f"stopped at max_cost_usd: {answered}, {counts.not_sent:,} not sent{failed}"


class OpenJob(Protocol):
    """A running batch job (see `types.JobProgress`)."""

    @property
    def id(self) -> str:
        """The shortened job id."""

    @property
    def price_usd(self) -> float | None:
        """Expected cost of its answers. None if unknown."""


def jobs_note(jobs: Sequence[OpenJob]) -> str:
    """State that batch jobs continue, and their cost. "" for none."""
    if not jobs:
        return ""
    names = ", ".join(job.id for job in jobs[:_MOST_JOBS]) + (" …" if len(jobs) > _MOST_JOBS else "")
    prices = [job.price_usd for job in jobs]
    price = "an unknown sum" if None in prices else f"about {format_usd(sum(price or 0.0 for price in prices))}"
    goes_on = counted(len(jobs), "batch job", "goes", "on")
    return f"{goes_on} at the provider ({names}) and will cost {price}."


def format_duration(seconds: float) -> str:
    """Format a duration in at most two units: 0.4 s, 17 s, 2 min 05 s, 1 h 05 min, 3 d 4 h.

    NaN and infinity give "an unknown time".

    Examples:
        >>> [format_duration(seconds) for seconds in (0.01, 0.42, 17, 125, 3900, 273_600)]
        ['<0.1 s', '0.4 s', '17 s', '2 min 05 s', '1 h 05 min', '3 d 4 h']
    """
    if not math.isfinite(seconds):
        return "an unknown time"
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
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def counted(count: int, word: str, *rest: str) -> str:
    """Format a count and its noun, in singular or plural.

    Args:
        count: Any number.
        word: The singular noun.
        rest: The words that follow, in the singular. Irregular ones such as "has" are put in the plural too.

    Examples:
        >>> counted(1, "open job"), counted(3, "row", "has", "a missing value")
        ('1 open job', '3 rows have a missing value')
    """
    one = count == 1
    words = [word if one else _plural(word), *(each if one else _IRREGULAR.get(each, each) for each in rest)]
    return f"{count:,} {' '.join(words)}"


def short_number(number: float) -> str:
    """Format a large number with three digits: 999, 12.3k, 4.5M.

    Examples:
        >>> short_number(999), short_number(12_345), short_number(4_500_000)
        ('999', '12.3k', '4.5M')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 0.99995:
            scaled = number / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{number:,.0f}"


def _plural(word: str) -> str:
    before, space, last = word.rpartition(" ")
    return f"{before}{space}{_IRREGULAR.get(last, last + 's')}"


_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, the cursor, the screen
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # the title, links, the clipboard
    r"|\x1b[ -/]*[0-~]?"
)
# All other control characters, and those that change the text direction. Line feeds and tabs are kept.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def strip_control_chars(text: str) -> str:
    """Return *text* without escape sequences, and without control characters other than tab and line feed."""
    if _CONTROL.search(text) is None:
        return text
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


def escape_html(text: str) -> str:
    """Escape text for HTML, and prevent text between dollar signs from being rendered as mathematics."""
    return html.escape(strip_control_chars(text)).replace("$", "<span>$</span>")
