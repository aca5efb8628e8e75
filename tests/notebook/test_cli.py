"""The `pllm` command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook
from pllm_notebook.cli import main

KEY = "sk-never-shown"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command on a cache of its own; give its exit code, stdout and stderr."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PLLM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "pllm_notebook", "jobs"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_version(pllm: Command) -> None:
    assert pllm("--version") == (0, f"pllm_notebook {pllm_notebook.__version__}\n", "")


def test_models_tell_which_key_is_set_and_never_the_key(pllm: Command) -> None:
    code, out, err = pllm("models")

    assert (code, err) == (0, "")
    assert out.splitlines()[0].split(maxsplit=1) == ["openai:gpt-6-luna", "OPENAI_API_KEY is set"]
    assert "no key: set ANTHROPIC_API_KEY" in out
    assert KEY not in out


def test_the_cache_goes_through_a_file_and_can_be_cleared(pllm: Command) -> None:
    frame = pd.DataFrame({"t": ["a", "b"]})
    frame.llm.parse(bool, "{t}?", model="sim:openai", progress=False)

    assert "answers      2" in pllm("cache", "info")[1]
    assert pllm("cache", "check") == (0, "CacheCheck: all 2 answers are whole.\n", "")
    assert pllm("cache", "export", "kept.zip") == (0, "2 answers were written to kept.zip.\n", "")
    assert pllm("cache", "clear", "--older-than", "1") == (0, "0 answers were deleted.\n", "")
    assert pllm("cache", "clear", "--model", "sim:google/gemini") == (0, "0 answers were deleted.\n", "")
    assert pllm("cache", "clear") == (0, "2 answers were deleted.\n", "")
    assert pllm("cache", "import", "kept.zip") == (0, "2 answers were added.\n", "")


def test_an_error_of_ours_is_one_line_and_exits_with_1(pllm: Command) -> None:
    assert pllm("jobs") == (1, "", "pllm: pllm jobs is not available yet in this version. Nothing was sent.\n")
    code, out, err = pllm("cache", "import", "absent.zip")
    assert (code, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("words", [(), ("nothing",), ("cache",), ("cache", "clear", "--older-than", "old")])
def test_a_wrong_word_exits_with_2(pllm: Command, words: tuple[str, ...]) -> None:
    code, out, err = pllm(*words)

    assert (code, out) == (2, "")
    assert err.startswith("usage: pllm")
