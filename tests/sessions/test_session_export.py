"""What JSON and Arrow cannot hold in a line loses no other line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pllm_notebook.sessions import session_export
from pllm_notebook.sessions.call import Call
from pllm_notebook.sessions.session_store import AnswerRecord, Present

NUMBERS = [2**70, -(2**70), 2**64 - 1, 1.5, True]


class Answered:
    """A reply that has arrived, as far as an export reads it."""

    def __init__(self, text: str, value: Any = None) -> None:
        self.key, self.call = text[:1], Call("openai:gpt-6-luna", "Well?", agent="one")
        self._answer = AnswerRecord(text if value is None else value, text, (), None, "gpt-6-luna", None, 0.0, 0.0)

    def retrieve(self) -> Present:
        return Present(self._answer)


@pytest.fixture
def agents() -> Any:
    return [SimpleNamespace(history=[Answered("fine"), Answered("big", {"n": NUMBERS}), Answered("a\ud800")])]


def test_an_integer_of_any_size_and_a_lone_surrogate_are_exported_as_lines(agents: Any, tmp_path: Path) -> None:
    count = session_export.export_calls(agents, tmp_path / "calls.jsonl")

    found = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text("utf-8").splitlines()]
    assert count == 3
    assert found[0]["text"] == "fine"
    assert found[1]["parsed"]["n"] == NUMBERS
    assert (found[2]["text"], found[2]["when"]) == ("a?", "1970-01-01T00:00:00+00:00")


def test_an_integer_of_any_size_and_a_lone_surrogate_are_exported_as_a_table(agents: Any, tmp_path: Path) -> None:
    pd, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")

    session_export.export_calls(agents, tmp_path / "calls.parquet")

    table = pd.read_parquet(tmp_path / "calls.parquet")
    assert json.loads(table.loc[1, "parsed"])["n"][0] == 2**70
    assert table.loc[2, "text"] == "a?"
