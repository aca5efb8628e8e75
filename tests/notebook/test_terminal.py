"""Progress on stderr, and `%%pllm` in IPython's terminal."""

from __future__ import annotations

import io
import os
import sys
import termios
from pathlib import Path

import pexpect
import pytest

from pllm_notebook.notebook.display_choice import choose_display
from pllm_notebook.notebook.terminal import TerminalSink
from tests.notebook.progress import at

STOP = lambda: None  # noqa: E731 - nothing to stop


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_program_gets_the_terminal_display() -> None:
    assert isinstance(choose_display(), TerminalSink)


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end() -> None:
    log = io.StringIO()
    seldom, often = TerminalSink(log, every_s=1e9), TerminalSink(log, every_s=0)

    for sink in (seldom, often):
        sink.open(at(), STOP)
        sink.update(at(done=1))
        sink.close(at(done=200, state="done", elapsed_s=2.0), None)

    assert log.getvalue().splitlines() == [
        "✓ Review: 200 rows answered · 2.0 s · $0 · openai:gpt-6-luna",
        "Review: 1 / 200 rows · $0 · openai:gpt-6-luna",
        "✓ Review: 200 rows answered · 2.0 s · $0 · openai:gpt-6-luna",
    ]


def test_a_terminal_gets_a_bar_that_gives_way_to_the_final_line() -> None:
    screen = Screen()
    sink = TerminalSink(screen)

    sink.open(at(simulated=True), STOP)
    sink.update(at(done=100, failed=2, simulated=True, cost_usd=0.5, note="waiting 3 s"))
    sink.update(at(done=101, input_tokens=100, cached_tokens=62))
    sink.close(at(done=198, failed=2, simulated=True, state="done", elapsed_s=2.0), None)

    shown = screen.getvalue()
    assert "Review openai:gpt-6-luna SIMULATED:  51%" in shown
    assert "2 failed · $0.5000 · waiting 3 s" in shown
    assert "100 tokens · 62 % of input tokens from the provider's cache · $0" in shown
    assert shown.endswith(
        "\r⚠ Review: 198 of 200 rows answered · 2 failed (pllm.errors() says why) · 2.0 s · $0 · "
        "openai:gpt-6-luna SIMULATED\n"
    )


def test_the_rows_of_a_further_step_are_added_to_the_same_bar() -> None:
    screen = Screen()
    sink = TerminalSink(screen)

    sink.open(at(total=8), STOP)
    sink.update(at(total=8, done=8))
    sink.open(at(total=16, done=8), STOP)
    sink.update(at(total=16, done=12))
    sink.close(at(total=16, done=16, state="done", elapsed_s=2.0), None)

    shown = screen.getvalue()
    assert "12/16" in shown
    assert shown.count("  0%") == 1


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_cost_is_never_cut_off(columns: int) -> None:
    reading, writing = os.openpty()
    termios.tcsetwinsize(writing, (24, columns))
    going = at(
        total=100_000, done=1_234, failed=2, simulated=True, cost_usd=0.0123, budget_usd=5.0, input_tokens=84_000,
        note="at the provider's limit", eta_s=65.0,
    )  # fmt: skip

    with os.fdopen(writing, "w", encoding="utf-8") as screen:
        sink = TerminalSink(screen)
        sink.open(at(total=100_000), STOP)
        sink.update(going)
        screen.flush()
        shown = b""
        while b"$0.0123" not in shown:  # a terminal hands on what was written piece by piece
            shown += os.read(reading, 10_000)
        sink.close(going, None)
    os.close(reading)

    line = shown.decode(errors="replace").split("\r")[-1]
    assert "1,236/100,000" in line or "1236/100000" in line
    assert line.index("$0.0123") + len("$0.0123") <= columns


def test_a_console_that_cannot_show_a_sign_gets_another() -> None:
    raw = io.BytesIO()
    console = io.TextIOWrapper(raw, encoding="ascii")

    TerminalSink(console).close(at(done=200, state="done"), None)

    assert raw.getvalue().startswith(b"? Review: 200 rows answered")


@pytest.mark.kernel
def test_the_magic_works_in_a_terminal_and_stops_at_ctrl_c(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    env |= {"IPYTHONDIR": str(tmp_path), "PLLM_CACHE_DIR": str(tmp_path / "cache"), "TERM": "dumb"}
    words = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=nocolor"]
    shell = pexpect.spawn(sys.executable, words, env=env, encoding="utf-8", timeout=20, dimensions=(40, 200))
    prompt = r"In \[\d+\]: "

    def cell(*lines: str) -> None:
        shell.expect(prompt)
        shell.sendline(lines[0])
        # Two empty lines end a cell magic's body.
        for line in (*lines[1:], *(["", ""] if len(lines) > 1 else [])):
            shell.expect(r"\.\.\.: ")
            shell.sendline(line)

    cell("%load_ext pllm_notebook")
    cell("import pandas as pd, pllm_notebook as pllm; df = pd.DataFrame({'t': ['a']})")
    cell("pllm.configure(model='sim:openai'); None")
    cell("%%pllm df --schema bool --out flags", "Is {t} nice?")
    shell.expect("✓ bool: 1 row answered")
    cell("pllm.configure(sim={'latency_s': 60}); None")
    cell("%%pllm df --schema bool --cache refresh", "Is {t} nice?")
    shell.expect(r"0/1 \[00:01")  # a second into it, and waiting
    shell.sendintr()
    shell.expect("■ stopped: bool: 0 of 1 row answered · 1 left")
    shell.expect("KeyboardInterrupt")
    cell("print(len(flags), pllm.runs()[-1].state)")
    shell.expect("1 cancelled")
    shell.expect(prompt)
    shell.close(force=True)
