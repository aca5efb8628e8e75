"""The `pllm` command."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook
from pllm_notebook import engine
from pllm_notebook.cli import _parser, main
from pllm_notebook.sim import Simulator
from pllm_notebook.store import close_stores

KEY = "sk-never-shown"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
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

    yield run
    engine.shutdown()
    close_stores()


def test_it_runs_as_a_module() -> None:
    words = [sys.executable, "-m", "pllm_notebook", "cache", "import", "absent.zip"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

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
    assert pllm("cache", "check") == (0, "CacheCheck: 2 answers are whole, no damage found.\n", "")
    assert pllm("cache", "export", "kept.zip") == (0, "2 answers were written to kept.zip.\n", "")
    assert pllm("cache", "clear", "--older-than", "1") == (0, "0 answers were deleted.\n", "")
    code, out, err = pllm("cache", "clear", "--model", "sim:google/gemini")
    assert (code, out) == (0, "0 answers were deleted.\n")
    assert err.startswith("pllm: No answer in ")
    assert err.endswith(
        " is from the model 'sim:google/gemini', so nothing was deleted. There are sim:openai/gpt-6-luna.\n"
    )
    assert pllm("cache", "export", "kept.zip") == (
        1, "", "pllm: kept.zip exists. Give another name, or --overwrite. Nothing was written.\n",
    )  # fmt: skip
    assert pllm("cache", "export", "kept.zip", "--overwrite")[:1] == (0,)
    code, out, err = pllm("cache", "clear")
    assert (code, out) == (1, "")
    assert err.startswith("pllm: Delete all 2 answers of ")
    assert err.endswith("no interactive input to confirm it: --yes deletes them unasked. Nothing was deleted.\n")
    assert pllm("cache", "clear", "--yes") == (0, "2 answers were deleted.\n", "")
    assert pllm("cache", "import", "kept.zip") == (0, "2 answers were added.\n", "")


@pytest.mark.parametrize("command", ["recreate", "abandon", "cancel", "resubmit", "send-live"])
def test_every_command_on_a_job_is_there_and_needs_its_id(pllm: Command, command: str) -> None:
    code, _, err = pllm("jobs", command, "0123456789")

    assert (code, err) == (1, "pllm: There is no batch job '0123456789'. Nothing was sent.\n")


def test_an_error_of_ours_is_one_line_and_exits_with_1(pllm: Command) -> None:
    code, out, err = pllm("cache", "import", "absent.zip")
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_jobs_are_listed_fetched_and_resubmitted(
    pllm: Command, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url("openai"))
    assert pllm("jobs") == pllm("jobs", "fetch") == (0, "No batch jobs.\n", "")
    sim.set(batch_s=100, batch_line_error=0.5)
    frame = pd.DataFrame({"t": ["a", "b"]})
    frame.llm.parse(bool, "{t}?", model="openai:gpt-6-luna", mode="batch", confirm=False, wait=False, progress=False)
    job = pllm("jobs", "list")[1].splitlines()[1].split()[0]

    assert pllm("jobs", "refresh")[:1] == (0,)
    sim.advance(100)
    code, out, err = pllm("jobs", "fetch")

    assert (code, err) == (0, "")
    assert out.splitlines()[1].split()[:6] == [job, "done", "openai:gpt-6-luna", "2", "1", "1"]
    code, out, err = pllm("jobs", "resubmit", job)
    assert (code, out) == (1, "")
    assert "there is no interactive input to confirm it" in err
    sim.set(batch_line_error=0)
    assert pllm("jobs", "resubmit", job, "--yes")[:1] == (0,)
    assert pllm("jobs", "send-live", pllm("jobs")[1].splitlines()[1].split()[0], "--yes")[:2] == (
        0, "1 line was answered live ($0.0000048).\n",
    )  # fmt: skip
    assert sim.stats().requests == 1


def test_a_fetch_that_lacks_a_key_exits_with_1(pllm: Command, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url("openai"))
    sim.set(batch_s=100)
    frame = pd.DataFrame({"t": ["a"]})
    frame.llm.parse(bool, "{t}?", model="openai:gpt-6-luna", mode="batch", confirm=False, wait=False, progress=False)
    engine.shutdown()
    monkeypatch.delenv("OPENAI_API_KEY")

    code, out, err = pllm("jobs", "fetch")

    assert (code, err) == (1, "pllm: 1 open job cannot be reached from here: the table's messages say why.\n")
    assert "It needs OPENAI_API_KEY, which is not set here." in out


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), ["models", "jobs", "process", "dataset", "cache", "\nexamples:\n  pllm process ", "  pllm cache info"]),
        (("cache",), ["info", "check", "export", "import", "clear", "Whatever was paid for is in it"]),
    ],
)
def test_a_command_without_its_word_shows_what_there_is(
    pllm: Command, words: tuple[str, ...], shown: list[str]
) -> None:
    code, out, err = pllm(*words)

    assert (code, out) == (2, "")
    assert err.startswith("usage: pllm")
    assert all(word in err for word in shown)


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from commands(command)


@pytest.mark.parametrize("command", list(commands(_parser())), ids=lambda command: command.prog)
def test_the_help_of_every_command_says_what_it_does_and_what_each_word_is(command: argparse.ArgumentParser) -> None:
    assert command.description
    assert command.description.endswith(".")
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert all(listed.help for listed in action._choices_actions)
        else:
            assert action.help
    assert command.format_help().startswith("usage: pllm")


@pytest.mark.parametrize("age", ["old", "-1", "nan", "1e300"])
def test_what_is_no_number_of_days_deletes_nothing(pllm: Command, age: str) -> None:
    code, out, err = pllm("cache", "clear", "--older-than", age, "--yes")

    assert (code, out) == (2, "")
    assert err.endswith(f"argument --older-than: {age!r} is not a number of days, such as 90 or 0.5\n")


@pytest.mark.parametrize("words", [("nothing",), ("jobs", "cancel"), ("jobs", "nothing")])
def test_a_wrong_word_exits_with_2(pllm: Command, words: tuple[str, ...]) -> None:
    code, out, err = pllm(*words)

    assert (code, out) == (2, "")
    assert err.startswith("usage: pllm")
