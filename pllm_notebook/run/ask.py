"""What one run asks of every row: model, type, instruction and options, made ready once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import orjson

from pllm_notebook.prices import Rate, rate_of
from pllm_notebook.providers import Target, resolve
from pllm_notebook.records import Failure, FailureKind, Request, Turn
from pllm_notebook.run.keys import HOLE, KeyMaker, Parts, key_of
from pllm_notebook.schema import FittedSchema, OutputType
from pllm_notebook.settings import Options, current

if TYPE_CHECKING:
    from pllm_notebook.sim import Simulator

__all__ = ["Ask", "simulate", "target_for"]

# A reply's tokens before any has been seen; the limiter and the estimate correct it with the first replies.
GUESSED_OUTPUT_TOKENS = 150
# Under a ceiling every call needs a bound for its own cost, hence for its output.
OUTPUT_LIMIT_UNDER_BUDGET = 16_384
# English text runs to about four bytes a token; estimates only, never what is charged.
BYTES_PER_TOKEN = 4


class Ask:
    """One question, ready to be put to any number of rows.

    Args:
        target: The model.
        options: As resolved.
        output: The type to parse, None for plain text.
        system: The instruction, None for none.

    Raises:
        UnsupportedSchemaError: When the provider cannot be asked for the type. Nothing was sent.
    """

    def __init__(self, target: Target, options: Options, output: OutputType | None, system: str | None) -> None:
        self.target = target
        self.options = options
        self.output = output
        self.system = system
        self.fitted: FittedSchema | None = None if output is None else output.fit(target.dialect)
        self._intended = self.intended((Turn("user", HOLE),))
        self.output_limit = target.wire.output_limit(self._intended)
        self._keys = KeyMaker(target.provider, target.path, self._intended, options.salt)
        self._dressed: tuple[int, Parts] | None = None
        self._lock = threading.Lock()

    def intended(self, turns: tuple[Turn, ...]) -> dict[str, Any]:
        """Encode the intended body of a conversation."""
        options = self.options
        limit = options.max_output_tokens
        if limit is None and options.max_cost_usd is not None:
            limit = OUTPUT_LIMIT_UNDER_BUDGET
        return self.target.wire.encode(
            Request(
                model=self.target.model,
                turns=turns,
                system=self.system,
                schema=None if self.fitted is None else self.fitted.schema,
                schema_name="answer" if self.output is None else self.output.name,
                # 0 and 0.0 are one temperature, and must be one key.
                temperature=None if options.temperature is None else float(options.temperature),
                max_output_tokens=limit,
                extra_body=options.extra_body,
            )
        )

    def text_json(self, prompt: str) -> bytes | Failure:
        """Encode a row's prompt, or say why it cannot be sent."""
        try:
            return orjson.dumps(prompt)
        except TypeError:
            at = next((i for i, char in enumerate(prompt) if "\ud800" <= char <= "\udfff"), 0)
            return Failure(
                FailureKind.INPUT,
                f"The prompt has half a surrogate pair ({prompt[at]!a}) at character {at:,}, which is no text "
                f"that a provider takes. Clean the cell, for example with "
                f".str.encode('utf-8', 'replace').str.decode('utf-8'). Nothing was sent for this row.",
            )

    def key(self, text_json: bytes) -> str:
        """Give the key of the row with this prompt."""
        return self._keys.key(text_json)

    def key_of(self, turns: tuple[Turn, ...]) -> str:
        """Give the key of a whole conversation (a repair turn)."""
        target = self.target
        return key_of(target.provider, target.path, self.intended(turns), self.options.salt)

    def content(self, text_json: bytes) -> bytes:
        """Give the wire's bytes for a row, in today's dress."""
        return self._parts().fill(text_json)

    def size(self, text_json: bytes) -> int:
        """Give the number of bytes that `content` would have."""
        parts = self._parts()
        return len(parts.before) + len(text_json) + len(parts.after)

    def _parts(self) -> Parts:
        version = self.target.quirks.version
        with self._lock:
            if self._dressed is None or self._dressed[0] != version:
                self._dressed = (version, Parts(self.target.dress(self._intended)))
                # Dressing may itself have learned something (a parameter known to be refused).
                self._dressed = (self.target.quirks.version, self._dressed[1])
            return self._dressed[1]

    def content_of(self, turns: tuple[Turn, ...]) -> bytes:
        """Give the wire's bytes for a whole conversation."""
        return orjson.dumps(self.target.dress(self.intended(turns)))

    def rate(self, *, batch: bool = False) -> Rate | None:
        """Give the model's price, None for unknown."""
        target = self.target
        if target.price_provider is None:
            return None
        return rate_of(target.price_provider, target.price_model, batch=batch)


def target_for(options: Options) -> Target:
    """Resolve the model that *options* name, with the servers and clients that are configured."""
    settings = current()
    return resolve(
        options.model,
        servers=settings.servers,
        clients=settings.clients,
        simulator=lambda wire: simulate().base_url(wire),
    )


def simulate() -> Simulator:
    """Start the simulator of the `sim:` models, or give the running one the options now in force.

    Called before a run starts, on the caller's thread: starting a process takes a moment, and a lane that
    has its connection would not ask again.
    """
    from pllm_notebook import sim

    return sim.shared(current().sim)
