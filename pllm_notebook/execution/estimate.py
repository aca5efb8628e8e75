"""The estimate of a run, before any call is sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pllm_notebook.batch import KEY_CHARACTERS, custom_id
from pllm_notebook.engine import Limiter
from pllm_notebook.execution.call_spec import BYTES_PER_TOKEN, CallSpec
from pllm_notebook.execution.estimate_plan import EstimatePlan
from pllm_notebook.execution.row_source import RowSource
from pllm_notebook.formatting import counted, format_duration, format_usd, format_usd_or, strip_control_chars
from pllm_notebook.protocols import Store
from pllm_notebook.providers import BatchFormat
from pllm_notebook.report_tables import HTMLFacts
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Usage

__all__ = ["Estimate", "estimate"]

# Calls in flight that an unlimited run reaches; used only to estimate the time.
_USUAL_CONCURRENCY = 64
# Tokens of the second question, about evidence that was not found.
_SECOND_QUESTION_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Estimate(HTMLFacts):
    """The calls that a run would send, and their cost. Nothing was sent.

    Attributes:
        rows: Number of rows of the frame.
        skipped: Number of rows with a missing value in the prompt.
        cached: Number of distinct calls answered by the cache.
        duplicates: Number of rows that share another row's call.
        calls: Number of distinct calls that would be sent, or of packs if rows share calls.
        input_tokens: Input tokens of those calls, at four bytes per token. The shared text of a pack counts once.
        output_tokens: Output tokens of those calls; from stored replies to the same question if there are any.
        measured: Whether output tokens are based on such replies, not on a guess.
        bounded: Whether output tokens are based on the type, which allows no longer answers. Reasoning tokens are then
            not included.
        cost_usd: Cost through the live API; None for an unknown price.
        batch_cost_usd: Cost through the batch API; None for an unknown price, if there is no batch API, or for the
            caller's own server, whose stated price applies to live calls.
        time_s: Time at the rate limits and latency seen so far; None if there are none.
        model: The model as the user writes it.
        simulated: Whether the answers would be simulated.
        decider: The model that decides rows with differing answers, "" for none. Its cost is not included, since the
            number of such rows is unknown.
        pending: Number of distinct calls that already wait in batch jobs and would not be sent again.
        rejected: Number of distinct calls that a provider has rejected and that are not automatically sent again.
        fills: Fill level of batch jobs by model: 1.0 is one full job, by number of lines or bytes. Empty if there is
            no batch API.
        effort: Reasoning effort of the model: as requested, or its default.
        service_tier: The requested service tier, "" for none. `cost_usd` uses its price.
        strong: With `guarantee=`, the estimate of only the stronger model for all rows; else None.
        least_strong: Minimum number of these rows that are sent to the stronger model: the first draw.
        again: With `evidence="retry"`, the maximum number of calls that are repeated. Their cost is not included.
        again_usd: Cost of these through the live API; None for an unknown price.
        unsendable: Number of rows that would fail before sending (kind `input`), such as those with half a surrogate
            pair.
    """

    rows: int
    skipped: int
    cached: int
    duplicates: int
    calls: int
    input_tokens: int
    output_tokens: int
    measured: bool
    cost_usd: float | None
    batch_cost_usd: float | None
    time_s: float | None
    model: str
    simulated: bool
    decider: str = ""
    pending: int = 0
    rejected: int = 0
    bounded: bool = False
    fills: Mapping[str, float] = field(default_factory=dict, hash=False)
    effort: str = ""
    service_tier: str = ""
    strong: Estimate | None = None
    least_strong: int = 0
    again: int = 0
    again_usd: float | None = None
    unsendable: int = 0

    @property
    def jobs(self) -> int:
        """Minimum number of batch jobs for the calls; 0 if nothing would be sent or there is no batch API."""
        return sum(math.ceil(fill) for fill in self.fills.values())

    @classmethod
    def together(cls, parts: Sequence[Estimate]) -> Estimate:
        """Add up parallel questions about the same rows. Each model is named once."""
        whole = sum(parts[1:], start=parts[0])
        efforts = dict.fromkeys(part.effort for part in parts if part.effort)
        return replace(whole, model=", ".join(dict.fromkeys(part.model for part in parts)), effort=", ".join(efforts))

    def __add__(self, other: Estimate) -> Estimate:
        """Add up two parallel questions about the same rows."""
        return Estimate(
            rows=self.rows,
            skipped=self.skipped,
            unsendable=self.unsendable,
            cached=self.cached + other.cached,
            duplicates=self.duplicates,
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            measured=self.measured and other.measured,
            bounded=(self.bounded or self.measured) and (other.bounded or other.measured),
            cost_usd=_sum(self.cost_usd, other.cost_usd),
            batch_cost_usd=_sum(self.batch_cost_usd, other.batch_cost_usd),
            time_s=_time_together(self, other),
            model=self.model if other.model == self.model else f"{self.model}, {other.model}",
            simulated=self.simulated or other.simulated,
            pending=self.pending + other.pending,
            rejected=self.rejected + other.rejected,
            effort=", ".join(dict.fromkeys(one for one in (self.effort, other.effort) if one)),
            service_tier=self.service_tier or other.service_tier,
            fills={
                name: self.fills.get(name, 0.0) + other.fills.get(name, 0.0) for name in {**self.fills, **other.fills}
            },
        )

    def __repr__(self) -> str:
        return "\n".join(f"{name:<15} {strip_control_chars(text)}" for name, text in self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        source = "as many as the type allows, without any for reasoning" if self.bounded else "guessed"
        guessed = "" if self.measured else f" ({source}; run a few rows to know better)"
        lines = [
            ("model", self.model + (" SIMULATED" if self.simulated else "")),
            ("effort", self.effort),
            ("service tier", self.service_tier),
            ("rows", f"{self.rows:,}"),
            ("skipped", f"{self.skipped:,} with a missing value"),
            ("cannot be sent", f"{self.unsendable:,}, which would fail; a run says why" if self.unsendable else ""),
            ("duplicates", f"{self.duplicates:,}"),
            ("cached calls", f"{self.cached:,}"),
            ("pending calls", f"{self.pending:,} in batch jobs" if self.pending else ""),
            ("rejected before", f"{self.rejected:,}, not sent again unasked" if self.rejected else ""),
            ("calls to send", f"{self.calls:,}"),
            ("input tokens", f"about {self.input_tokens:,}"),
            ("output tokens", f"about {self.output_tokens:,}{guessed}"),
            ("cost", f"{_money(self.cost_usd)} live, {self._as_batch()}"),
            *self._strong_facts(),
            ("asked again", self._asked_again()),
            ("decided by", f"{self.decider}, where answers differ; not in the cost" if self.decider else ""),
            (
                "time",
                "unknown until something has been sent"
                if self.time_s is None
                else f"about {format_duration(self.time_s)}",
            ),
        ]
        return [(name, text) for name, text in lines if text]

    def _strong_facts(self) -> list[tuple[str, str]]:
        """Return the minimum and maximum cost with a stronger model, and the cost of that model alone."""
        strong = self.strong
        if strong is None:
            return []
        share = self.least_strong / strong.rows if strong.rows else 0.0
        facts = [("then", f"{strong.model} on {self.least_strong:,} to {strong.rows:,} rows, not in the cost above")]
        for name, cheap, whole in (("with it", self.cost_usd, strong.cost_usd),
                                   ("as a batch", self.batch_cost_usd, strong.batch_cost_usd)):  # fmt: skip
            if cheap is not None and whole is not None:
                ends = f"{format_usd(cheap + share * whole)} to {format_usd(cheap + whole)}"
                facts.append((name, f"{ends}; {strong.model} alone {format_usd(whole)}"))
        return facts

    def _asked_again(self) -> str:
        if not self.again:
            return ""
        calls = counted(self.again, "call")
        return f"at most {calls}, for quotes that are not found: up to {_money(self.again_usd)} live, not in the cost"

    def _as_batch(self) -> str:
        if not self.fills and self.batch_cost_usd is None and self.cost_usd is not None:
            return "and no batch"
        unsure = ", if the server takes batch jobs" if self.batch_cost_usd is None and self.cost_usd is not None else ""
        return f"{_money(self.batch_cost_usd)} as a batch{self._in_jobs()}{unsure}"

    def _in_jobs(self) -> str:
        return f" of {counted(self.jobs, 'job')}" if self.jobs else ""


def estimate(
    spec: CallSpec,
    rows: RowSource,
    store: Store | None,
    limiter: Limiter | None,
    pending: Callable[[list[str]], Collection[str]] = lambda keys: (),
) -> Estimate:
    """Estimate a run. Sends nothing; reads the store.

    Args:
        spec: The spec of the calls.
        rows: The rows.
        store: The store, None to assume that nothing is cached.
        limiter: The account's limits as learned so far, None for none.
        pending: Returns which keys already wait in batch jobs.
    """
    unsent = EstimatePlan(spec, rows, store, pending)
    calls = size = 0
    for asked, words in unsent.requests():
        calls += 1
        size += asked.size(words)
    samples = unsent.replies
    seen = [entry.output_tokens for entry in samples if entry.output_tokens]
    each = sum(seen) / len(seen) if seen else spec.token_bounds.expected
    if spec.options.max_output_tokens is not None:
        each = min(each, spec.options.max_output_tokens)
    decides = spec.target.decisions is not None
    each = 0.0 if decides else each  # a decision endpoint writes no text
    tokens_in, tokens_out = size // BYTES_PER_TOKEN, round(each * unsent.calls)
    # A second turn also has the first answer and the question about missing evidence in its input.
    again = calls + unsent.lacking if spec.evidence is not None else 0
    size_of_one = tokens_in / calls if calls else spec.size(b'""') / BYTES_PER_TOKEN
    again_in = round((size_of_one + each + _SECOND_QUESTION_TOKENS) * again)
    return Estimate(
        rows=rows.total,
        skipped=unsent.skipped,
        unsendable=unsent.unsendable,
        cached=unsent.cached,
        duplicates=unsent.sendable - unsent.distinct,
        calls=calls,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        measured=bool(seen) or decides,
        bounded=not seen and not decides and spec.longest_answer is not None,
        cost_usd=_cost(spec, calls, tokens_in, each * unsent.calls, batch=False),
        batch_cost_usd=_cost(spec, calls, tokens_in, each * unsent.calls, batch=True),
        time_s=_time(calls, tokens_in + tokens_out, samples, limiter),
        model=f"{spec.target.label} (decisions)" if decides else spec.target.label,
        simulated=spec.target.simulated,
        pending=unsent.pending,
        rejected=unsent.rejected,
        effort=spec.effort,
        service_tier=spec.options.service_tier or "",
        again=again,
        again_usd=_cost(spec, again, again_in, each * again, batch=False) if again else None,
        fills={}
        if spec.target.batch_format is None
        else {spec.target.label: _fill(spec.target.batch_format, calls, size)},
    )


def _fill(form: BatchFormat, calls: int, size: int) -> float:
    """Return the fill level of a job with *calls* whose bodies have *size* bytes in total."""
    around = len(form.line(custom_id("k" * KEY_CHARACTERS), b"")) + 1  # the end of the line
    return max(calls / form.limits.lines, (size + calls * around) / form.limits.bytes)


def _cost(spec: CallSpec, calls: int, tokens_in: int, tokens_out: float, *, batch: bool) -> float | None:
    if batch and (spec.target.batch_format is None or _is_own_server(spec)):
        return None
    if calls == 0:
        return 0.0
    rate = spec.rate(batch=batch)
    # Computed as that many average calls, because long-context prices depend on the single request.
    return None if rate is None else calls * rate.cost_usd(Usage(round(tokens_in / calls), round(tokens_out / calls)))


def _is_own_server(spec: CallSpec) -> bool:
    """Return whether the model is on the caller's own server, which may have no batch API."""
    return bool(spec.target.address) and spec.target.price_provider is None


def _time(calls: int, tokens: int, samples: list[StoredReply], limiter: Limiter | None) -> float | None:
    latencies = [entry.metadata["latency_s"] for entry in samples[:50]]
    if calls == 0:
        return 0.0
    if not latencies:
        return None
    bounds: list[float] = [sum(latencies) / len(latencies) * max(1.0, calls / _USUAL_CONCURRENCY)]
    rates: list[tuple[Callable[[Limiter], float | None], float]] = [
        (lambda known: known.requests.rate, calls),
        (lambda known: known.tokens.rate, tokens),
    ]
    for read, amount in rates:
        rate = None if limiter is None else read(limiter)
        if rate:
            bounds.append(amount / rate)
    return max(bounds)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _time_together(one: Estimate, other: Estimate) -> float | None:
    """Return the time of both. Calls of one model wait for each other; calls of two models do not."""
    if one.time_s is None or other.time_s is None:
        return None
    return one.time_s + other.time_s if one.model == other.model else max(one.time_s, other.time_s)


def _money(amount: float | None) -> str:
    return format_usd_or(amount, "unknown")
