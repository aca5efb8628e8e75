"""Replies with one thing wrong in them, field by field: a run always ends, and only its own row bears it.

`PLLM_FUZZ=5000` makes so many of each format (`make fuzz`); a few hundred are made otherwise. One seed decides all.
"""

from __future__ import annotations

import copy
import json
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, RESPONSES, Side, reach
from tests.contract.test_ends import form

pytestmark = [pytest.mark.filterwarnings("ignore:.*rows failed"), pytest.mark.timeout(1800)]

MUTATIONS = int(os.environ.get("PLLM_FUZZ", "500"))
ROWS = 250
SEED = 20260101

CHAT_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
REPLIES: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-6-luna",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "yes", "refusal": None},
                }
            ],
            "usage": CHAT_USAGE,
        },
        {
            "id": "chatcmpl-2",
            "model": "gpt-6-luna",
            "choices": [
                {
                    "finish_reason": "tool_calls",
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "c1",
                                "type": "function",
                                "function": {"name": "look", "arguments": '{"city": "x"}'},
                            }
                        ],
                    },
                }
            ],
            "usage": CHAT_USAGE,
        },
    ],
    "responses": [
        {
            "id": "resp_1",
            "status": "completed",
            "model": "gpt-5-pro",
            "incomplete_details": None,
            "output": [
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
            ],
            "usage": {"input_tokens": 20, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 3}},
        },
        {
            "id": "resp_2",
            "status": "completed",
            "output": [{"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"city": "x"}'}],
            "usage": {"input_tokens": 20, "output_tokens": 5},
        },
    ],
    "anthropic": [
        {
            "id": "msg_1",
            "type": "message",
            "model": "claude-haiku-5-5",
            "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "yes"}],
            "stop_reason": "end_turn",
            "stop_details": None,
            "usage": {"input_tokens": 20, "output_tokens": 5, "cache_read_input_tokens": 3},
        },
        {
            "id": "msg_2",
            "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"city": "x"}}],
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 20, "output_tokens": 5},
        },
    ],
    "google": [
        {
            "candidates": [
                {"content": {"role": "model", "parts": [{"text": "yes"}]}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 5, "cachedContentTokenCount": 3},
            "modelVersion": "gemini-3.5-flash-lite",
            "responseId": "r1",
        },
        {
            "candidates": [
                {"content": {"parts": [{"functionCall": {"name": "look", "args": {"city": "x"}}}]}}
            ],
            "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 5},
        },
    ],
}  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ODD: list[Callable[[], Any]] = [
    lambda: None,
    lambda: True,
    lambda: 0,
    lambda: -1,
    lambda: -(10**12),
    lambda: 1.5,
    lambda: 10**12,
    lambda: 10**30,
    lambda: 1e308,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: "",
    lambda: "x",
    lambda: "12",
    lambda: "x" * 50_000,
    lambda: "\ud83d",
    lambda: "\x00\x1b[31m",
    list,
    dict,
    lambda: [None],
    lambda: [1, "a", {}],
    lambda: {"a": {"b": 1}},
    lambda: nested(50),
    lambda: nested(400),
    lambda: {"error": "x"},
    lambda: ["x"] * 2_000,
    lambda: [{}] * 2_000,
]


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give where something stands in *value*, itself included."""
    found = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        found += paths(item, (*at, name))
    return found


def mutated(value: Any, draw: random.Random) -> str:
    """Give *value* as JSON, with one or two things wrong."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2))):
        *where, last = draw.choice(paths(value)[1:])
        place = value
        try:
            for name in where:
                place = place[name]
            how = draw.random()
            if how < 0.12:
                del place[last]
            elif how < 0.2 and isinstance(place, list):
                place.extend([place[last]] * draw.choice((1, 300)))
            elif how < 0.25 and isinstance(place, dict):
                place[draw.choice(("error", "code", "type", "content", "refusal", "function_call"))] = draw.choice(
                    ODD
                )()
            else:
                place[last] = draw.choice(ODD)()
        except (KeyError, IndexError, TypeError):
            continue  # the first mutation has taken it away
    text = json.dumps(value)
    how = draw.random()
    if how < 0.03:
        return text[: draw.randrange(1, len(text))]
    if how < 0.05:
        return "\ufeff" + text
    if how < 0.06:
        return text + "}" * 3
    return text


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Do *work*, which must end; what it raises is raised."""
    ended: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            ended.append(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    assert ended, "it hangs"
    return ended[0]


_WITHOUT_TEXT = ("refusal", "content_filter", "truncated")


def look(city: str) -> str:
    """Look."""
    return city


@pytest.mark.sample(3)
@pytest.mark.parametrize("calls", [False, True], ids=["text", "calls"])
@pytest.mark.parametrize("side", [OPENAI, RESPONSES, ANTHROPIC, GOOGLE], ids=lambda side: side.id, indirect=False)
def test_one_wrong_thing_in_a_reply_is_its_own_rows(
    side: Side, calls: bool, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(side, sim, monkeypatch)
    draw = random.Random(f"{SEED} {side.id} {calls}")
    fine = REPLIES[form(side)][calls]
    for run_ in range(max(1, MUTATIONS // 2 // (ROWS - ROWS // 5))):
        said = {f"{run_} row {row}": json.dumps(fine) if row % 5 == 0 else mutated(fine, draw) for row in range(ROWS)}
        sim.set(answers=lambda request, said=said: SimAnswer.status(200, body=said[request.prompt]))
        frame = pd.DataFrame({"text": list(said)})

        def ask(frame: pd.DataFrame = frame) -> pd.DataFrame:
            if calls:
                return frame.llm.call_tools(
                    [look], "{text}", model=side.model, max_retries=0, max_repairs=0, max_cost_usd=100
                )
            return frame.llm.complete("{text}", model=side.model, max_retries=0, max_repairs=0, max_cost_usd=100)

        out = within(120, ask)
        status = out.llm.status.tolist()
        errors = out.llm.errors
        again = within(120, ask).llm.status.tolist()

        assert set(status[::5]) == {"ok"}, [said[frame["text"][at]] for at in range(0, ROWS, 5) if status[at] != "ok"]
        assert set(status) <= {"ok", "failed"}
        assert set(again[::5]) == {"cached"}
        assert set(again) <= {"ok", "cached", "failed"}
        assert len(errors) == status.count("failed")
        assert errors["message"].str.len().min() > 0
        assert not set(errors["kind"]) & {"input", "connection", "cancelled", "budget"}
        # A refusal and a filter are named by their own words, in the message.
        named = (errors["raw"].fillna("").str.len() > 0) | errors["kind"].isin(_WITHOUT_TEXT)
        assert named.all(), errors[~named][["kind", "message"]].head().to_string()
        cost = errors["cost_usd"].dropna()
        assert (cost >= 0).all()
        assert (out.llm.usage["cost_usd"].dropna() >= 0).all()


LINES: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "openai": lambda key, body: {
        "id": "b1",
        "custom_id": f"p1-{key}",
        "response": {"status_code": 200, "request_id": "r1", "body": body},
        "error": None,
    },
    "anthropic": lambda key, body: {"custom_id": f"p1-{key}", "result": {"type": "succeeded", "message": body}},
    "google": lambda key, body: {"key": f"p1-{key}", "response": body},
}


@pytest.mark.parametrize("maker", LINES)
def test_one_wrong_thing_in_a_batch_line_is_its_own_lines(
    maker: str, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = {"openai": OPENAI, "anthropic": ANTHROPIC, "google": GOOGLE}[maker]
    monkeypatch.setenv(side.key, "any-key")
    draw = random.Random(f"{SEED} {maker}")
    bodies = REPLIES[form(side)]
    path = tmp_path / "results.jsonl"
    lines, fine = [], 0
    for row in range(MUTATIONS):
        key = f"{row:043d}"
        line = LINES[maker](key, bodies[row % 2])
        good = row % 5 == 0
        fine += good
        lines.append(json.dumps(line) if good else mutated(line, draw).replace("\n", " "))
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")

    done = within(300, lambda: pllm.import_results(path, model=side.model))
    again = within(300, lambda: pllm.import_results(path, model=side.model))

    assert done.taken >= fine
    assert again.taken == 0
    assert again.known == done.taken + done.known


class Pair(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]
    again: bool


P = {"good": 0.9, "bad": 0.1}
DECISIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("openai:gpt-6-luna", {
        "id": "d1",
        "model": "gpt-6-luna",
        "answers": [
            {"type": "choice", "name": "mood", "choice": "good",
             "probabilities": [{"value": value, "probability": p} for value, p in P.items()]},
            {"type": "predicate", "name": "again", "probability": 0.75},
        ],
        "usage": {"input_tokens": 20, "output_tokens": 0},
    }),
    "google": ("google:gemini-3.5-flash-lite", {
        "answers": {"mood": {"type": "choice", "choice": "good", "probabilities": P},
                    "again": {"type": "noul", "noul": 0.75}},
        "usage": {"total_input_tokens": 20, "total_output_tokens": 0, "total_cached_tokens": 3},
    }),
    "systemone": ("jev:small", {
        "answers": {"mood": {"type": "choice", "choice": "good", "probabilities": P},
                    "again": {"type": "noul", "noul": 0.75}},
        "usage": {"prompt_tokens": 20, "completion_tokens": 0},
    }),
    "sglang": ("sgl:small", {
        "answers": {"mood": {"probabilities": P}, "again": {"probabilities": {"yes": 0.75, "no": 0.25}}},
        "usage": {"prompt_tokens": 20, "completion_tokens": 0},
    }),
}  # fmt: skip


@pytest.mark.sample(1)
@pytest.mark.parametrize("form_", DECISIONS)
def test_one_wrong_thing_in_a_decision_is_its_own_rows(
    form_: str, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in (OPENAI, GOOGLE):
        reach(side, sim, monkeypatch)
    pllm.configure(
        servers={"jev": sim.base_url("systemone"), "sgl": sim.base_url("sglang")},
        decision_formats={"jev": "systemone", "sgl": "sglang"},
    )
    draw = random.Random(f"{SEED} decisions {form_}")
    model, fine = DECISIONS[form_]
    for run_ in range(max(1, MUTATIONS // (ROWS - ROWS // 5))):
        said = {f"{run_} row {row}": json.dumps(fine) if row % 5 == 0 else mutated(fine, draw) for row in range(ROWS)}
        sim.set(answers=lambda request, said=said: SimAnswer.status(200, body=said[request.prompt.rpartition("\n")[2]]))
        frame = pd.DataFrame({"text": list(said)})

        def ask(frame: pd.DataFrame = frame, model: str = model) -> pd.DataFrame:
            return frame.llm.parse(
                Pair, "Read:\n{text}", model=model, probabilities="decisions", max_retries=0, max_repairs=0
            )

        out = within(120, ask)
        status, errors = out.llm.status.tolist(), out.llm.errors
        again = within(120, ask).llm.status.tolist()

        assert set(status[::5]) == {"ok"}, [said[frame["text"][at]] for at in range(0, ROWS, 5) if status[at] != "ok"]
        assert out["mood"][::5].tolist() == ["good"] * len(status[::5])
        assert set(status) <= {"ok", "failed"}
        assert set(again[::5]) == {"cached"}
        assert errors["message"].str.len().min() > 0
        assert not set(errors["kind"]) & {"input", "connection", "cancelled", "budget"}
        confidence = out.llm.confidence["mood"].dropna()
        assert confidence.between(0, 1).all()
        assert (out.llm.usage["cost_usd"].dropna() >= 0).all()
