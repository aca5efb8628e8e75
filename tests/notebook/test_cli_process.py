"""`pllm process`: a request file on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pllm_notebook.sim import Simulator
from tests.faults.children import until
from tests.forked import Forked, run_forked

ROOT = Path(__file__).parents[2]


# The command that `python -m pllm_notebook` is, as `tests/notebook/test_cli.py` runs it.
COMMAND = "import sys; from pllm_notebook.cli import main; sys.exit(main())"


def lines_of(count: int) -> list[str]:
    said = [[{"role": "user", "content": f"prompt {row}"}] for row in range(count)]
    return [
        json.dumps({"custom_id": str(row), "url": "/v1/chat/completions", "body": {"model": "any", "messages": words}})
        for row, words in enumerate(said)
    ]


@pytest.fixture
def process(sim: Simulator, tmp_path: Path) -> list[str]:
    """The command on a file of its own, up to further words."""
    (tmp_path / "in.jsonl").write_text("\n".join(lines_of(20)) + "\n")
    url = sim.base_url("compatible") + "/chat/completions"
    words = ["process", "in.jsonl", "out.jsonl", "--url", url, "--cache-dir", str(tmp_path / "cache")]
    return ["-c", COMMAND, *words]


def run(words: list[str], where: Path) -> subprocess.CompletedProcess[str]:
    return run_forked(*words, cwd=where)


def test_a_file_is_processed_and_its_counts_are_told(process: list[str], tmp_path: Path) -> None:
    done = run([*process, "--rpm", "60000", "--tpm", "9000000"], tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("out.jsonl: 20 started, 0 in progress, 20 succeeded (0 from the cache), 0 failed")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 20


def test_exit_codes_tell_failed_lines_and_wrong_words_apart(process: list[str], tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines_of(1)[0] + "\nno request\n")

    failed = run([*process, "--quiet"], tmp_path)
    again = run(process, tmp_path)
    wrong = run([*process, "--max-attempts", "0"], tmp_path)
    absent = run([*process[:3], "absent.jsonl"], tmp_path)

    assert failed.returncode == 3
    # A line that has an error since an earlier run has no response either.
    assert (again.returncode, "2 done before (1 with an error)" in again.stdout) == (3, True)
    assert "1 of 2 lines answered · 1 from cache · 1 failed (the results file says why)" in again.stderr
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert (absent.returncode, absent.stderr.count("\n")) == (1, 1)
    assert not list(tmp_path.glob("absent*"))


def test_an_interrupt_keeps_everything_and_the_command_goes_on(
    process: list[str], sim: Simulator, tmp_path: Path
) -> None:
    sim.set(latency_s=0.02)
    child = Forked([*process, "--rpm", "120"], os.environ, cwd=tmp_path)
    results = tmp_path / "out.jsonl"
    until(lambda: results.exists() and results.stat().st_size > 0, "the first result")

    child.send_signal(signal.SIGINT)
    told, code = child.stderr.read().decode(), child.wait(120)
    for stream in (child.stdin, child.stdout, child.stderr):
        stream.close()
    kept = len(results.read_text().splitlines())
    sim.reset()
    again = run(process, tmp_path)

    assert code == 130
    assert "Run it again to continue" in told
    assert 0 < kept < 20
    assert again.returncode == 0
    assert f"{kept} done before" in again.stdout
    assert [json.loads(line)["custom_id"] for line in results.read_text().splitlines()] == [str(n) for n in range(20)]
    # What was on the wire at the interrupt is asked again, and nothing that has a result.
    assert sim.stats().requests == 20 - kept
