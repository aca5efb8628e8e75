"""Provider-independent requests and responses, exchanged between the server and the wires."""

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
    """A function offered by the request, with the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(slots=True)
class WireConversation:
    """The conversation of a request, independent of the provider's format.

    `messages` are (role, text) in order, without the `system` text; a tool's result has the role "tool". `media`
    are the contents or URLs of the files, `called` the model's earlier tool calls as JSON, and `results` the tool
    results since the model's last message, as (tool name, text).
    """

    system: str = ""
    messages: list[tuple[str, str]] = field(default_factory=list)
    media: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)

    @property
    def prefill(self) -> str:
        """Beginning of the answer, "" if the conversation does not end with an assistant message."""
        return self.messages[-1][1] if self.messages and self.messages[-1][0] == "assistant" else ""


@dataclass(slots=True)
class ParsedRequest:
    """A parsed and validated request.

    `schema` is the schema of the answer; `json_mode` asks for any JSON object. `fenced` wraps the answer in prose,
    like a server that accepts a schema and ignores it. `forced` names the tools that must be called, () for none;
    `parallel` allows several calls at once. `output_limit` is in tokens, None for no limit. `questions` are those
    of a decision endpoint, () for other requests; `known_model` has the model's confidence and error rate.
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
        """System prompt, "" if there is none."""
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
    """An answer before its conversion to a provider's format."""

    finish: Literal["stop", "length", "tool_calls", "refusal", "filtered"]
    text: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    tokens: Sequence[SimToken] = ()
    decided: Decided = field(default_factory=dict)


@dataclass(slots=True)
class Tokens:
    """Billed tokens. `input` includes `cached` and `written` (to a cache); `output` includes `reasoning`.

    `batch` is whether they were billed as part of a batch job.
    """

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0
    written: int = 0
    batch: bool = False


@dataclass
class Rejected(Exception):
    """A request that the provider refuses, with the message of the refusal.

    `code` and `param` are OpenAI's fields of these names. Google uses `code` as the reason; others ignore both.
    `wait_s` is the waiting time in the body of a 429, None if not given.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    wait_s: float | None = None


class SimWire(Protocol):
    """The format of one endpoint: pure translation, without I/O or state."""

    provider: str

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Check the API key. Raises `Rejected`."""

    def read(self, body: dict[str, Any], model: str, options: SimOptions) -> ParsedRequest:
        """Check and parse a body as the provider does. *model* is from the path, "" if not in it. Raises `Rejected`."""

    def write(self, ask: ParsedRequest, made: GeneratedAnswer, tokens: Tokens, number: str) -> bytes:
        """Return the body of the response. *number* is the answer's unique id of 24 hex digits."""

    def error(self, rejected: Rejected, number: str) -> bytes:
        """Return the body of an error response."""

    def limit_headers(self, limit_state: LimitState, refused: bool) -> Headers:
        """Return the provider's headers for the remaining limits."""

    def request_id(self, number: str) -> tuple[str, str]:
        """Return the header with the request id."""
