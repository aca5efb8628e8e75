"""Toy's wire format: a riddle goes out, a solution comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Request
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers import errors, typed
from pllm_notebook.providers.bodies import extra, schema_instruction
from pllm_notebook.types import Finish, LimitReport, RawReply, Reply

_OURS = frozenset({"solver", "shape", "breath", "hint", "riddle"})
_FINISH = {"solved": Finish.COMPLETE, "tired": Finish.TRUNCATED}


class Riddles:
    """`/riddles`."""

    format_name = "riddles"
    input_field = "riddle"
    model_in_path = False
    reply_fields = ("solution",)
    keywords: Mapping[str, Any] = {}

    def path(self, model: str) -> str:
        return "/riddles"

    def encode(self, request: Request) -> dict[str, Any]:
        if request.tools or any(turn.media for turn in request.turns):
            raise UsageError("Toy reads text alone and calls no tools. Nothing was sent.")
        body: dict[str, Any] = {"solver": request.model}
        if request.temperature is not None:
            body["fancy"] = request.temperature
        body |= extra(request, _OURS)
        if request.schema is not None:
            body["shape"] = dict(request.schema)
        if request.max_output_tokens is not None:
            body["breath"] = request.max_output_tokens
        if request.system:
            body["hint"] = request.system
        body["riddle"] = [{"who": turn.role, "words": turn.text} for turn in request.turns]
        return body

    def relax_schema(self, body: Mapping[str, Any], schema_level: int) -> dict[str, Any]:
        if schema_level == 0 or "shape" not in body:
            return dict(body)
        relaxed = {name: value for name, value in body.items() if name != "shape"}
        return {"hint": f"{body.get('hint', '')}\n{schema_instruction(body['shape'])}"} | relaxed

    def prefix(self, body: Mapping[str, Any], shown: int = 0) -> list[Any]:
        return [body.get("shape"), body.get("hint"), body["riddle"][:shown]]

    def mark_prompt_cache(
        self, body: Mapping[str, Any], name: str | None, lead: str, *, turns: bool = False, shown: int = 0
    ) -> dict[str, Any]:
        return dict(body)

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        return body.get("breath")

    def decode(self, body: Mapping[str, Any]) -> Reply:
        if "solution" not in body:
            raise MalformedReply("no solution")
        counts = typed.mapping(body.get("counts"), "counts")
        return Reply(
            text=typed.text(body["solution"], "solution"),
            finish=_FINISH.get(typed.text(body.get("end"), "end"), Finish.UNFINISHED),
            usage=typed.usage(counts.get("heard"), counts.get("spoken")),
            model=typed.label(body.get("solver")),
        )

    def error_from(self, raw: RawReply) -> Failure:
        return errors.failure(raw, str(errors.body_of(raw).get("excuse") or ""))

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        return None
