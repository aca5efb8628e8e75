"""The `pllm` command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pllm_notebook

KEY = "sk-never-shown"


@pytest.fixture
def pllm(tmp_path: Path):
    """Run the command on a cache of its own; give its exit code, stdout and stderr."""
    env = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    env |= {"PLLM_CACHE_DIR": str(tmp_path / "cache"), "OPENAI_API_KEY": KEY}

    def run(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "pllm_notebook", *words]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def test_version(pllm) -> None:
    assert pllm("--version") == (0, f"pllm_notebook {pllm_notebook.__version__}\n", "")


def test_models_tell_which_key_is_set_and_never_the_key(pllm) -> None:
    code, out, err = pllm("models")

    assert (code, err) == (0, "")
    assert out.splitlines()[0].split(maxsplit=1) == ["openai:gpt-6-luna", "OPENAI_API_KEY is set"]
    assert "no key: set ANTHROPIC_API_KEY" in out
    assert KEY not in out


def test_the_cache_goes_through_a_file_and_can_be_cleared(pllm, tmp_path: Path) -> None:
    ask = (
        "import pandas as pd, pllm_notebook; "
        "pd.DataFrame({'t': ['a', 'b']}).llm.parse(bool, '{t}?', model='sim:openai', progress=False)"
    )
    subprocess.run(
        [sys.executable, "-c", ask], env=os.environ | {"PLLM_CACHE_DIR": str(tmp_path / "cache")}, check=True
    )

    assert "answers      2" in pllm("cache", "info")[1]
    assert pllm("cache", "check") == (0, "CacheCheck: all 2 answers are whole.\n", "")
    assert pllm("cache", "export", "kept.zip") == (0, "2 answers were written to kept.zip.\n", "")
    assert pllm("cache", "clear", "--older-than", "1") == (0, "0 answers were deleted.\n", "")
    assert pllm("cache", "clear", "--model", "sim:google/gemini") == (0, "0 answers were deleted.\n", "")
    assert pllm("cache", "clear") == (0, "2 answers were deleted.\n", "")
    assert pllm("cache", "import", "kept.zip") == (0, "2 answers were added.\n", "")


def test_an_error_of_ours_is_one_line_and_exits_with_1(pllm) -> None:
    assert pllm("jobs") == (1, "", "pllm: pllm jobs is not available yet in this version. Nothing was sent.\n")
    code, out, err = pllm("cache", "import", "absent.zip")
    assert (code, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("words", [(), ("nothing",), ("cache",), ("cache", "clear", "--older-than", "old")])
def test_a_wrong_word_exits_with_2(pllm, words: tuple[str, ...]) -> None:
    code, out, err = pllm(*words)

    assert (code, out) == (2, "")
    assert err.startswith("usage: pllm")
