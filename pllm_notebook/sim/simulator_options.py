"""Options of the simulated providers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from pllm_notebook.exceptions import UnknownOptionError, UsageError

__all__ = ["FAULTS", "SimOptions", "check_options", "options_from"]

FAULTS = (
    "error_500",
    "error_503",
    "error_529",
    "reset",
    "hang",
    "drip",
    "truncated_body",
    "malformed",
    "html",
    "refusal",
    "filtered",
    "truncation",
    "wrong_schema",
    "invalid_json",
)


@dataclass(frozen=True, slots=True)
class SimOptions:
    """Behaviour of the simulated providers. Every fault option is a share, from 0 to 1, of the admitted requests.

    Options that begin with `batch_` apply to batch jobs. A job keeps the values from the time of its creation.
    The faults of the model (`refusal` to `invalid_json`) also apply to the lines of batch jobs.
    `batch_create_lost`, `batch_create_500` and `batch_fail` are a share of all jobs if below 1. Otherwise they are
    the number of next jobs affected.

    Attributes:
        latency_s: Median latency of an answer, in seconds.
        latency_sigma: Spread of the (lognormal) latency; 0 is constant, 0.5 resembles a busy provider.
        seed: Seed of the answers, latencies and faults.
        requests_per_min: Limit per model, None for no limit.
        tokens_per_min: Limit per model for input and output together, None for no limit.
        burst_s: Capacity of the limits' buckets, in seconds of their rate (at least one request).
        limits: Limits of single models: maps a model to (requests_per_min, tokens_per_min).
        charge_refused: Whether a request refused by a limit also counts against it.
        squeeze: (start_s, end_s, factor): between these times, counted from the first request, all limits are
            multiplied by the factor, and the excess in a bucket is lost. None for never.
        headers: "full" for all limit headers of each provider, "retry_after" for only the waiting time on a 429,
            "none" for none.
        slots: Requests processed concurrently, as on a local server; the others are queued. None for no limit.
        refuse_slots: A request beyond this many in flight is answered with 503. None for never.
        error_500: Internal error.
        error_503: Unavailable.
        error_529: Overloaded (Anthropic's status; the others answer 503).
        reset: The connection is reset before the response.
        hang: No response until the client leaves, or `hang_s` later.
        drip: The body arrives in small pieces over `drip_s`.
        truncated_body: The connection closes in the middle of the body.
        malformed: Status 200 with a body that is not JSON.
        html: Status 200 with an HTML page, as from a proxy.
        refusal: The model refuses.
        filtered: The provider's content filter withholds the answer.
        truncation: The answer is cut short and marked as truncated.
        wrong_schema: Valid JSON that violates the schema (no effect without a schema).
        invalid_json: Text that is not JSON (no effect without a schema).
        hang_s: Seconds after which a hanging request is disconnected.
        drip_s: Duration of a dripped body, in seconds.
        faults_by: "request" draws a fault for each attempt of a prompt, so a retry may succeed; "prompt" draws
            once for a prompt, so all its attempts have the same outcome.
        rungs: Structured output that `/compatible` supports: "json_schema", "json_object", both, or "none" for
            neither; any other request gets a 400. "ignored" accepts all and enforces nothing.
        unsupported_parameters: Parameters that every provider rejects with a 400 naming them.
        cached_prefix_tokens: Input tokens reported as read from the provider's prompt cache.
        prompt_cache: Whether to model that cache instead: a prefix of at least 1,024 tokens can be read by requests
            that arrive after its request was answered (Anthropic: up to a marked block).
        reasoning_tokens: Reasoning tokens of every answer; they count as output and towards its limit.
        refused_questions: Share of questions that a decision endpoint refuses.
        known_errors: Mean share of wrong values among those with known options. Each is wrong with its own
            probability, from 0 to twice that share, and its stated probability is the probability of being right.
        miscalibration: Distortion of the stated probability: {"temperature": 2.5}, {"slope": 0.5, "shift": 1} on its
            logit, {"plateau": 0.9}; {} for none.
        keep_requests: Requests kept for `Simulator.requests`.
        batch_s: Duration of a job in seconds. Its lines are answered evenly over this time; 0 ends it at the next
            poll. A job longer than its provider's window (24 h, Google 48 h) expires at the end of the window.
        batch_cancel_s: Seconds from a cancellation until the job ends.
        batch_lag_s: Seconds before a new job is listed. It can be retrieved by id at once.
        batch_line_error: Share of a job's lines that fail with a provider error.
        batch_missing: Share of a job's lines that are never answered and are missing from the results, but are
            counted as answered.
        batch_expire: Share of a job's lines that expire. On OpenAI the job expires and keeps the other
            answers; on Google it expires as a whole, without answers.
        batch_unknown: Result lines of each job with an id that was not submitted.
        batch_shuffle: Whether the results are in a different order than the lines.
        batch_create_lost: Jobs that are created, but the connection is reset instead of a response.
        batch_create_500: Jobs that are not created: the response is an internal error.
        batch_fail: Jobs that fail validation (on Anthropic, which has no such state, each line fails instead).
        batch_most_lines: Maximum lines of a job, None for the provider's own limit.
        batch_most_bytes: Maximum total bytes of a job's lines, None for the provider's own limit.
    """

    latency_s: float = 0.0
    latency_sigma: float = 0.0
    seed: int = 0
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    burst_s: float = 5.0
    limits: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    charge_refused: bool = False
    squeeze: tuple[float, float, float] | None = None
    headers: Literal["full", "retry_after", "none"] = "full"
    slots: int | None = None
    refuse_slots: int | None = None
    error_500: float = 0.0
    error_503: float = 0.0
    error_529: float = 0.0
    reset: float = 0.0
    hang: float = 0.0
    drip: float = 0.0
    truncated_body: float = 0.0
    malformed: float = 0.0
    html: float = 0.0
    refusal: float = 0.0
    filtered: float = 0.0
    truncation: float = 0.0
    wrong_schema: float = 0.0
    invalid_json: float = 0.0
    hang_s: float = 3600.0
    drip_s: float = 2.0
    faults_by: Literal["request", "prompt"] = "request"
    rungs: tuple[str, ...] = ("json_schema", "json_object")
    unsupported_parameters: tuple[str, ...] = ()
    cached_prefix_tokens: int = 0
    prompt_cache: bool = False
    reasoning_tokens: int = 0
    refused_questions: float = 0.0
    known_errors: float = 0.0
    miscalibration: Mapping[str, float] = field(default_factory=dict)
    keep_requests: int = 1000
    batch_s: float = 1.0
    batch_cancel_s: float = 0.0
    batch_lag_s: float = 0.0
    batch_line_error: float = 0.0
    batch_missing: float = 0.0
    batch_expire: float = 0.0
    batch_unknown: int = 0
    batch_shuffle: bool = True
    batch_create_lost: float = 0.0
    batch_create_500: float = 0.0
    batch_fail: float = 0.0
    batch_most_lines: int | None = None
    batch_most_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("rungs", "unsupported_parameters"):
            value = getattr(self, name)
            if not isinstance(value, (str, tuple, list, set, frozenset)):
                raise UsageError(f"sim: {name} is a list of texts, not {value!r}.")
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if self.squeeze is not None:
            object.__setattr__(self, "squeeze", _checked_squeeze(self.squeeze))
        for name in _NUMBERS:
            _check_number(name, getattr(self, name))
        for name in ("prompt_cache", "batch_shuffle"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"sim: {name} is True or False, not {getattr(self, name)!r}.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"sim: {name} is one of {', '.join(map(repr, choices))}, not {getattr(self, name)!r}.")
        unknown = [kind for kind in self.rungs if kind not in _RUNGS]
        if unknown:
            raise UsageError(f"sim: rungs are of {', '.join(map(repr, _RUNGS))}, not {unknown[0]!r}.")
        if (total := sum(getattr(self, fault) for fault in FAULTS)) > 1 + 1e-9:
            raise UsageError(f"sim: the rates of all faults together are {total:g}, more than 1.")
        if (total := sum(getattr(self, name) for name in _LINE_SHARES)) > 1 + 1e-9:
            raise UsageError(f"sim: {', '.join(_LINE_SHARES)} together are {total:g}, more than 1.")
        for name in _JOB_FAULTS:
            if (value := getattr(self, name)) > 1 and value != int(value):
                raise UsageError(f"sim: {name} is a share below 1 or a whole number of jobs, not {value!r}.")
        if not isinstance(self.miscalibration, Mapping) or not all(
            name in _BENDS and _is_number(value) for name, value in self.miscalibration.items()
        ):
            raise UsageError(
                f"sim: miscalibration has numbers for any of {', '.join(map(repr, _BENDS))}, not "
                f"{self.miscalibration!r}."
            )
        if not isinstance(self.limits, Mapping):
            raise UsageError("sim: limits is a mapping of model to (requests_per_min, tokens_per_min).")
        for model, pair in self.limits.items():
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise UsageError(f"sim: the limits of {model!r} are (requests_per_min, tokens_per_min), not {pair!r}.")
            for name, value in zip(("requests_per_min", "tokens_per_min"), pair, strict=True):
                _check_number(name, value)

    def changed(self, values: Mapping[str, Any]) -> SimOptions:
        """Return a copy with *values* replaced.

        Raises:
            UnknownOptionError: If a name is not an option.
            UsageError: If a value is outside its range.
        """
        for name in values:
            if name not in _NAMES:
                raise UnknownOptionError(name, [*_NAMES, "answers"])
        return replace(self, **values)

    def as_json(self) -> dict[str, Any]:
        """Return the options as JSON-serializable data, for `options_from`."""
        return asdict(self)


def options_from(values: Mapping[str, Any]) -> SimOptions:
    """Build options from the result of `SimOptions.as_json`."""
    return SimOptions(**values)


def check_options(values: Mapping[str, Any]) -> None:
    """Check options of the simulated providers, including `answers`. Nothing is started.

    Raises:
        UnknownOptionError: If a name is not an option.
        UsageError: If a value is outside its range.
    """
    SimOptions().changed({name: value for name, value in values.items() if name != "answers"})
    answers = values.get("answers")
    if answers is not None and not callable(answers):
        raise UsageError(f"sim: answers is a function from a request to its answer, not {answers!r:.60}.")


_NAMES = tuple(f.name for f in fields(SimOptions))
_CHOICES = {"headers": ("full", "retry_after", "none"), "faults_by": ("request", "prompt")}
_RUNGS = ("json_schema", "json_object", "none", "ignored")
_LINE_SHARES = ("batch_line_error", "batch_missing", "batch_expire")
_JOB_FAULTS = ("batch_create_lost", "batch_create_500", "batch_fail")
_BENDS = ("temperature", "slope", "shift", "plateau")
_KNOWN = ("refused_questions", "known_errors")
_RATES = {*FAULTS, *_LINE_SHARES, *_KNOWN}
_MOST = {"batch_most_lines", "batch_most_bytes"}
_OR_NONE = {"requests_per_min", "tokens_per_min", "slots", "refuse_slots", *_MOST}
_COUNTS = {"cached_prefix_tokens", "reasoning_tokens", "keep_requests", "batch_unknown"}
_WHOLE = {"seed", "slots", "refuse_slots", *_COUNTS, *_MOST}
_ABOVE_ZERO = {"requests_per_min", "tokens_per_min", "burst_s", "slots", *_MOST}
_NUMBERS = (
    *FAULTS,
    *_KNOWN,
    *_LINE_SHARES,
    *_JOB_FAULTS,
    *("latency_s", "latency_sigma", "burst_s", "hang_s", "drip_s", "batch_s", "batch_cancel_s", "batch_lag_s"),
    *_OR_NONE,
    *(_WHOLE - _OR_NONE),
)


def _checked_squeeze(given: Any) -> tuple[float, float, float]:
    if isinstance(given, (tuple, list)) and len(given) == 3 and all(_is_number(part) for part in given):
        start_s, end_s, factor = given
        if 0 <= start_s < end_s and factor > 0:
            return start_s, end_s, factor
    raise UsageError(
        "sim: squeeze is (start_s, end_s, factor) with 0 <= start_s < end_s and factor above 0, or None, "
        f"not {given!r}."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(name: str, value: Any) -> None:
    if value is None and name in _OR_NONE:
        return
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError(f"sim: {name} is {value!r:.60}, which is beyond 64 bits.")
    number = isinstance(value, int if name in _WHOLE else (int, float)) and not isinstance(value, bool)
    most = 1 if name in _RATES else math.inf
    inside = number and math.isfinite(value) and (value > 0 if name in _ABOVE_ZERO else 0 <= value <= most)
    if inside or (number and name == "seed"):
        return
    kind = "a whole number" if name in _WHOLE else "a number"
    where = "" if name == "seed" else " from 0 to 1" if name in _RATES else " of at least 0"
    where = " above 0" if name in _ABOVE_ZERO else where
    raise UsageError(f"sim: {name} is {kind}{where}{' or None' if name in _OR_NONE else ''}, not {value!r}.")
