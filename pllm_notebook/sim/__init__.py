"""A simulator of language-model providers: rehearse a run before paying for it.

The simulator is an HTTP server on loopback, in a separate process. It implements the wire formats of OpenAI (Chat
Completions and Responses), Anthropic, Google and OpenAI-compatible servers, including their files and batch jobs,
whose clock can be advanced. Answers match the schema, are marked SIMULATED and are determined by the seed and the
prompt. Latency, limits, headers and faults are configurable. Nothing here costs money or leaves this machine.

    with Simulator(latency_s=0.01, answers=lambda request: {"score": 3}) as sim:
        client = AsyncOpenAI(base_url=sim.base_url("openai"), api_key="any", max_retries=0)
"""

from __future__ import annotations

from pllm_notebook.sim.answers import SimAnswer, SimRequest
from pllm_notebook.sim.decision_author import Unanswerable
from pllm_notebook.sim.in_process import answers_in, read_request, respond
from pllm_notebook.sim.simulator import Simulator, shared
from pllm_notebook.sim.simulator_identity import identity
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.stats import SimStats

__all__ = [
    "SimAnswer",
    "SimOptions",
    "SimRequest",
    "SimStats",
    "Simulator",
    "Unanswerable",
    "answers_in",
    "identity",
    "read_request",
    "respond",
    "shared",
]
