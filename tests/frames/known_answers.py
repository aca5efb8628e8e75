"""Questions whose answers follow from the prompt, for tests that know the truth of each row."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

from pydantic import BaseModel

from pllm_notebook.sim import SimAnswer, SimRequest

# No list: what the function of the simulator refers to is a part of its calls' keys, where JSON can hold it.
Sent = deque[str]


class Label(BaseModel):
    """Label the text."""

    category: Literal["short", "long"]
    size: int


class Other(BaseModel):
    """Say it again."""

    echo: str


class Named(BaseModel):
    name: str


def answers_to(sent: Sent) -> Any:
    """Return what answers from the prompt alone, refuses what begins with "-", and adds each prompt to *sent*."""

    def answer(request: SimRequest) -> Any:
        said = request.messages[-1][1]
        sent.append(said)
        if said.startswith("-"):
            return SimAnswer.refusal()
        properties = (request.schema or {}).get("properties", {})
        if "category" in properties:
            return {"category": "long" if len(said) > 3 else "short", "size": len(said)}
        return {"echo": said} if "echo" in properties else f"said {said}"

    return answer
