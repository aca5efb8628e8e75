"""What the simulator has seen so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["SimStats"]


@dataclass(frozen=True, slots=True)
class SimStats:
    """Counts since the start or the last `reset`.

    Attributes:
        requests: Requests for an answer that arrived, whatever became of them.
        answered: Those that got a whole, well-formed 200 (a refusal or a truncated answer is one).
        rejected: 4xx for what the request said.
        refused_429: Refused by a request or token limit.
        refused_503: Refused because more than `refuse_slots` were in flight.
        faults: Faults of the options that were played, kind to count.
        in_flight: Requests being worked on now.
        peak_in_flight: The most there were at one moment.
        distinct: Distinct (model, prompt, schema) among the answered, live or in a batch job.
        repeated: Of those, the ones answered more than once, whether live, in a batch job or in both: on a
            real provider, paid for twice.
        batch_requests: Requests to the batch and file endpoints; `requests` counts none of them.
        batch_jobs: Batch jobs created, also those whose creation was never reported to the client.
        batch_lines: Lines of batch jobs that were answered, hence paid, whether or not anyone fetched them;
            `answered` counts none of them.
        input_tokens: Tokens of the answered requests and lines, as their usage said.
        output_tokens: The same for the answers, reasoning included.
        charged: What a provider could charge for everything that was let through, the answers of lost, cut and
            cancelled requests too: model ("openai/gpt-6-luna", "openai/gpt-6-luna batch") to tokens of input, of
            these read from and written to a prompt cache, and of output.
        answer_errors: The last exceptions of the `answers` function, "Type: message".
        starts: Times this simulator's process was started.
    """

    requests: int = 0
    answered: int = 0
    rejected: int = 0
    refused_429: int = 0
    refused_503: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    in_flight: int = 0
    peak_in_flight: int = 0
    distinct: int = 0
    repeated: int = 0
    batch_requests: int = 0
    batch_jobs: int = 0
    batch_lines: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    charged: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)
    answer_errors: tuple[str, ...] = ()
    starts: int = 0

    @property
    def admitted(self) -> int:
        """Requests that were let through, answered or not: what a provider counts against its limits."""
        return self.requests - self.rejected - self.refused_429 - self.refused_503
