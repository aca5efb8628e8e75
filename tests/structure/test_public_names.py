"""What Tab offers after a dot is the public surface, and all of it works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.sessions import resume_directory

# On a column, without what needs several columns or a whole frame.
COLUMN = {
    "acall_tools", "acomplete", "agreement", "aparse", "arecheck", "calibrate", "call_tools", "compare", "complete",
    "confidence", "doubtful", "errors", "estimate", "evaluate", "evidence", "explain", "guarantee", "label", "parse",
    "preview", "probabilities", "recheck", "report", "request_lines", "review", "run", "samples", "status",
    "submit", "submit_calls", "submit_text", "usage",
}  # fmt: skip
FRAME = COLUMN | {
    "adecide", "aimprove", "arace", "areduce", "chunks", "decide", "improve", "race", "reduce", "submit_decision",
}  # fmt: skip
RUN = {
    "cancel", "cost", "done", "errors", "evaluate", "explain", "id", "origin", "pause", "progress", "result", "resume",
    "retry", "started_at", "state", "to_frame", "wait",
}  # fmt: skip
SESSION = {
    "agent", "agents", "barrier", "config", "cost_usd", "dashboard", "directory", "documents", "export_all",
    "get_session_counter", "is_open", "load_userdata", "metadata", "persist", "print", "resolve_all", "retrieve",
    "retry_failed", "save_userdata", "session_counter", "summary", "total_cost_usd", "userdata",
}  # fmt: skip
JOBS = {"abandon", "cancel", "fetch", "frame", "recreate", "refresh", "resubmit", "send_live", "unreached"}
CACHE = {"check", "clear", "directory", "export", "flush", "import_", "info"}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    directory = tmp_path_factory.mktemp("names")
    pllm.configure(cache_dir=directory / "cache", progress=False, model="sim:openai")
    frame = pd.DataFrame({"text": ["a"]})
    run = frame.llm.submit(str, "{text}")
    out = run.result()
    with resume_directory(directory / "session") as session:
        yield {
            "df.llm": frame.llm,
            "out.llm": out.llm,
            "series.llm": frame["text"].llm,
            "run": run,
            "session": session,
            "jobs": pllm.jobs(),
            "cache": pllm.cache,
        }


def public(one: object) -> set[str]:
    return {name for name in dir(one) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("df.llm", FRAME),
        ("out.llm", FRAME),
        ("series.llm", COLUMN),
        ("run", RUN),
        ("session", SESSION),
        ("jobs", JOBS),
        ("cache", CACHE),
    ],
)
def test_tab_offers_the_public_names_alone(objects: dict[str, Any], name: str, expected: set[str]) -> None:
    one = objects[name]

    assert public(one) == expected
    assert [each for each in expected if not hasattr(type(one), each) and not hasattr(one, each)] == []
    assert {"__class__", "__repr__"} <= set(dir(one))


def test_the_package_offers_what_it_exports_and_no_module(tmp_path: Path) -> None:
    import pllm_notebook.sim  # noqa: F401  # a module that is loaded becomes an attribute of the package

    assert public(pllm) == {name for name in (*pllm.__all__, "testing") if not name.startswith("_")}
    assert "__version__" in dir(pllm) or "__doc__" in dir(pllm)
