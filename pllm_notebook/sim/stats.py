"""Counts of the simulator's requests and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["SimStats"]


@dataclass(frozen=True, slots=True)
class SimStats:
    """Counts since the start or the last `reset`.

    Attributes:
        requests: Requests received for an answer, with any outcome.
        answered: Requests with a complete, well-formed 200 response, including refusals and truncated answers.
        rejected: Requests rejected with a 4xx because of their content.
        refused_429: Requests refused by a request or token limit.
        refused_503: Requests refused because more than `refuse_slots` were in flight.
        faults: Number of injected faults by kind.
        in_flight: Requests currently being processed.
        peak_in_flight: Maximum of `in_flight`.
        distinct: Number of distinct (model, prompt, schema) answered, live or in a batch job.
        repeated: Number of these answered more than once, live, in a batch job or both. A real provider would
            charge for them more than once.
        batch_requests: Requests to the batch and file endpoints, which are not part of `requests`.
        batch_jobs: Batch jobs created, including those whose creation was not reported to the client.
        batch_lines: Answered lines of batch jobs, which are charged even if never fetched. Not part of `answered`.
        input_tokens: Input tokens of the answered requests and lines, as reported in their usage.
        output_tokens: Output tokens of the answers, including reasoning.
        charged: Tokens that a provider could charge for all admitted requests, including lost, cut and cancelled
            ones. Maps a model ("openai/gpt-6-luna", "openai/gpt-6-luna batch") to four numbers of tokens: input, the
            input read from a prompt cache, the input written to it, and output.
        answer_errors: Last exceptions of the `answers` function, as "Type: message".
        starts: Number of starts of this simulator's process.
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
        """Number of admitted requests, answered or not, which a provider counts against its limits."""
        return self.requests - self.rejected - self.refused_429 - self.refused_503
