"""What a provider's request and response have in common here: the values between server and wires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pllm_notebook.sim.decision_author import Decided, SimQuestion
from pllm_notebook.sim.known_model import EXACT, KnownModel
from pllm_notebook.sim.rate_limits import LimitState
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.token_author import SimToken

__all__ = [
    "GeneratedAnswer",
    "Headers",
    "OfferedTool",
    "ParsedRequest",
    "Rejected",
    "SimWire",
    "Tokens",
    "WireConversation",
]

Headers = list[tuple[str, str]]


@dataclass(slots=True)
class OfferedTool:
    """A function that the request offers: its name and the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(slots=True)
class WireConversation:
    """What a request says, whatever its provider's form.

    `messages` are (role, text) in order, without the `system` text; each tool's result is one of role "tool".
    `media` are the files shown, as their contents or addresses; `called` the calls that the model made before,
    as JSON; `results` what tools gave since the model's last word, as (name of the tool, text).
    """

    system: str = ""
    messages: list[tuple[str, str]] = field(default_factory=list)
    media: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)

    @property
    def prefill(self) -> str:
        """The beginning of the answer, "" where the conversation does not end with the model's own words."""
        return self.messages[-1][1] if self.messages and self.messages[-1][0] == "assistant" else ""


@dataclass(slots=True)
class ParsedRequest:
    """A request, read and found acceptable.

    `schema` is what the answer must follow; `json_mode` asks for any JSON object. `fenced` puts the answer
    in prose, as a server does that accepts a schema and ignores it. `forced` names the tools to be called,
    () for none; `parallel` says whether several may be called at once. `output_limit` is in tokens, None for no
    limit. `questions` are those of a decision endpoint, () for all others; `known_model` is how sure the model is.
    """

    provider: str
    model: str
    body: Mapping[str, Any]
    said: WireConversation
    schema: Mapping[str, Any] | None = None
    json_mode: bool = False
    fenced: bool = False
    tools: Sequence[OfferedTool] = ()
    forced: Sequence[str] = ()
    parallel: bool = True
    output_limit: int | None = None
    questions: Sequence[SimQuestion] = ()
    known_model: KnownModel = EXACT

    @property
    def system(self) -> str:
        """The instructions, "" for none."""
        return self.said.system

    @property
    def messages(self) -> list[tuple[str, str]]:
        """All turns in order, as (role, text)."""
        return self.said.messages

    @property
    def prompt(self) -> str:
        """The last user text."""
        return next((text for role, text in reversed(self.messages) if role == "user"), "")


@dataclass(slots=True)
class GeneratedAnswer:
    """An answer before a wire has put it in its provider's form."""

    finish: Literal["stop", "length", "tool_calls", "refusal", "filtered"]
    text: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    tokens: Sequence[SimToken] = ()
    decided: Decided = field(default_factory=dict)


@dataclass(slots=True)
class Tokens:
    """Tokens as billed: those `cached` and `written` to a cache are inside `input`, `reasoning` inside `output`.

    `batch` says that they were billed as a batch job's.
    """

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0
    written: int = 0
    batch: bool = False


@dataclass
class Rejected(Exception):
    """A request that the provider refuses, with the words of its refusal.

    `code` and `param` are what OpenAI calls so; Google reads `code` as the reason. Others ignore them.
    `wait_s` is how long a 429 says to wait, where the body carries it; None for no word.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    wait_s: float | None = None


class SimWire(Protocol):
    """One endpoint's format: pure translation, no I/O, no state."""

    provider: str

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Look at the key. Raises `Rejected`."""

    def read(self, body: dict[str, Any], model: str, options: SimOptions) -> ParsedRequest:
        """Check a body as the provider does; *model* is from the path, "" for none. Raises `Rejected`."""

    def write(self, ask: ParsedRequest, made: GeneratedAnswer, tokens: Tokens, number: str) -> bytes:
        """Return the response's body; *number* is 24 hex digits that are this answer's own."""

    def error(self, rejected: Rejected, number: str) -> bytes:
        """Return an error's body."""

    def limit_headers(self, limit_state: LimitState, refused: bool) -> Headers:
        """Describe how much of the account's limits is left, as the provider's headers do."""

    def request_id(self, number: str) -> tuple[str, str]:
        """Return the header that names the request."""
