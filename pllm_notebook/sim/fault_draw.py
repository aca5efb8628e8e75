"""Random choice of the fault of a request, if any."""

from __future__ import annotations

from pllm_notebook.sim.draws import share
from pllm_notebook.sim.simulator_options import FAULTS, SimOptions

__all__ = ["HTTP_FAULTS", "JSON_FAULTS", "MODEL_FAULTS", "Faults"]

HTTP_FAULTS = {
    "error_500": (500, "The server had an error while processing your request. Sorry about that!"),
    "error_503": (503, "The service is temporarily unavailable. Please try again later."),
    "error_529": (529, "Overloaded"),
}
JSON_FAULTS = frozenset({"wrong_schema", "invalid_json"})
# Faults of the model itself, live and in batch jobs. The others are faults of the transport.
MODEL_FAULTS = JSON_FAULTS | {"refusal", "filtered", "truncation"}


class Faults:
    """The fault rates of the options, accumulated in the order of `FAULTS`."""

    def __init__(self, options: SimOptions) -> None:
        self._steps: list[tuple[float, str]] = []
        total = 0.0
        for fault in FAULTS:
            rate = getattr(options, fault)
            if rate:
                total += rate
                self._steps.append((total, fault))
        self._by_prompt = options.faults_by == "prompt"

    def draw(self, key: bytes, tried: int) -> str:
        """Return the fault of one attempt at a prompt, "" if there is none.

        Depends only on the seed (in *key*), the prompt and the attempt. The order of requests and the number
        in flight do not matter.
        """
        if not self._steps:
            return ""
        u = share(key, b"fault" if self._by_prompt else b"fault%d" % tried)
        for step, fault in self._steps:
            # If the rates add up to 1, the last step may be slightly below it because of rounding.
            if u < step or step > 1 - 1e-9:
                return fault
        return ""
