"""Options that limit a run: retries, cost, rates, times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pllm_notebook.options.option_fields import ABOVE_ZERO, is_finite, option
from pllm_notebook.options.option_values import CALLS, FRAMES, LAB, LISTS, PARSE, ROWS, is_prices, is_shard

__all__ = ["LimitOptions"]


@dataclass(frozen=True)
class LimitOptions:
    """The limits of a run: attempts, money, requests, time."""

    max_retries: int = option(
        5,
        "Retries of a failed request. Waiting for a rate limit does not count.",
        at_least=0,
        takes=CALLS,
    )
    max_repairs: int = option(
        1,
        "Turns in which the model is shown the validation errors of its answer. Each is a paid call.",
        at_least=0,
        takes=CALLS,
    )
    max_cost_usd: float | None = option(
        None,
        "Ceiling for one run, in US dollars. No call is sent that could exceed it; the remaining rows are "
        "[`not_sent`](cost.md). None: no ceiling.",
        expects=("a number of at least 0", lambda value: is_finite(value) and value >= 0),
        takes=LISTS | {"request"},
    )
    prices: Mapping[str, Any] = option(
        {},
        "Prices by model, in US dollars per million tokens, of input or of (input, output): "
        '`{"google:gemini-decision-1": 0.10, "mine:large": (0.50, 2.00)}`.',
        more="They take precedence over the price table, for `estimate`, the cost of a run and its ceiling.",
        expects=("a mapping from models to one price, or to a pair of them", is_prices),
        takes=LISTS,
    )
    concurrency: int | None = option(
        None,
        "Maximum number of requests in flight, [for the whole run](limits.md#limits-of-your-own). None: as many as "
        "the provider allows, which is [inferred](limits.md).",
        at_least=1,
        takes=LISTS,
    )
    requests_per_min: float | None = option(
        None,
        "Your own limit on requests per minute, for the whole run. None: only the provider's limit.",
        at_least=ABOVE_ZERO,
        takes=FRAMES,
    )
    tokens_per_min: float | None = option(
        None,
        "Your own limit on tokens per minute, input and output together, for the whole run. None: only the provider's "
        "limit.",
        at_least=ABOVE_ZERO,
        takes=FRAMES,
    )
    shard: tuple[int, int] | None = option(
        None,
        "`(i, k)`: send only the calls of the `i`-th of `k` senders, counted from 0; rows of the others stay pending. "
        "None: all calls.",
        more="The content of a call determines its sender, so [senders](scale.md#several-senders) need no contact.",
        accepts="tuple[int, int] | None",
        expects=("a pair (i, k) of whole numbers with 0 <= i < k", is_shard),
        takes=PARSE - LAB,
    )
    allow_empty: bool = option(
        False,
        'Accept a reply without text as the answer `""`.',
        more="Otherwise such a row fails with kind `empty`, and the next run sends it again.",
        takes=CALLS,
    )
    hedge: bool = option(
        False,
        "Near the end of a run, when nothing else waits to be sent, send a call a second time if it takes longer than "
        "99 % of the run's replies. The first answer counts; both may be paid for, never beyond `max_cost_usd`.",
        takes=LISTS,
    )
    timeout_s: float = option(120.0, "Time limit of one request, in seconds.", at_least=ABOVE_ZERO, takes=CALLS)
    validator_timeout_s: float = option(
        60.0,
        "Time limit, in seconds, of the type's validators (or a `decide` function) for a group of replies, and then "
        "for each reply alone.",
        more="Only a row whose validator takes longer fails, as [`schema`](errors.md); its answer is kept.",
        at_least=ABOVE_ZERO,
        takes=FRAMES,
    )
    tool_timeout_s: float = option(
        300.0,
        "With `run_tools`, time limit of one tool call, in seconds.",
        more="After that, the model sees that the tool did not return, and the tool's thread is abandoned.",
        at_least=ABOVE_ZERO,
        takes=ROWS | {"decide"},
    )
