"""How a program's session is shown: in words, as HTML, and at the bottom of a terminal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from pllm_notebook.notebook import session_format
from pllm_notebook.notebook.session_html import bundle, session_html
from pllm_notebook.notebook.session_terminal import TerminalSessionDisplay
from pllm_notebook.sessions.dashboard import AgentStatus, Dashboard, SessionStatus

STANDING = SessionStatus(
    label="enzymes",
    strategy="async",
    models=("sim:openai",),
    simulated=True,
    counts={"cached": 3, "stored": 4, "sent": 4, "failed": 1},
    agents=(AgentStatus("judge", 8, 5, 1), AgentStatus("writer", 4, 2, 0)),
    cost_usd=0.0123,
    elapsed_s=2.0,
)


class Terminal(io.StringIO):
    """A screen that does what the two control sequences of a board say."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        """The lines as a person sees them."""
        lines: list[str] = []
        for written in self.getvalue().split("\n"):
            text = written
            while text.startswith("\x1b["):
                count, text = text[2:].split("A\x1b[J", 1)
                del lines[-int(count) :]
            lines.append(text)
        return lines[:-1]


class Noting:
    """A board that notes what it is told."""

    def __init__(self, faulty: str = "") -> None:
        self.told: list[str] = []
        self._faulty = faulty

    def _note(self, what: str) -> None:
        self.told.append(what)
        if what == self._faulty:
            raise RuntimeError("A display that fails")

    def open(self, standing: SessionStatus) -> None:
        self._note("open")

    def update(self, standing: SessionStatus) -> None:
        self._note("update")

    def write(self, text: str) -> None:
        self._note("write")

    def close(self, standing: SessionStatus) -> None:
        self._note("close")


def test_a_session_is_told_in_two_lines_and_one_for_each_agent() -> None:
    assert session_format.lines(STANDING) == [
        "… enzymes (async, SIMULATED): 7 / 12 calls answered · $0.0123 · 2.0 s",
        "  3 cached · 4 stored · 4 sent · 1 failed · sim:openai",
        "  judge: 5 / 8 · 1 failed",
        "  writer: 2 / 4",
    ]


def test_a_session_is_named_by_the_end_of_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert session_format.label(SessionStatus(str(tmp_path / ".pllm" / "enzymes"), "async")) == ".pllm/enzymes"
    assert session_format.label(SessionStatus("/a/b", "async")) == "/a/b"
    assert session_format.label(SessionStatus("/a/b/c/d", "async")) == "…/b/c/d"


def test_a_program_with_many_agents_has_few_lines() -> None:
    many = SessionStatus("x", "async", agents=tuple(AgentStatus(str(at), 1, 1, 0) for at in range(1_000)))

    lines = session_format.lines(many)

    assert len(lines) == session_format.MAX_AGENTS + 2
    assert lines[-1] == "  and 988 more agents"


def test_a_page_is_shown_no_markup_of_a_programs_own() -> None:
    hostile = SessionStatus(
        "<img src=x>",
        "async",
        ("<b>m</b>",),
        agents=(AgentStatus("<script>", 1, 0, 0),),
        counts={"sent": 1},
    )

    for page in (session_html(hostile), bundle(hostile)["text/html"]):
        assert not any(tag in page for tag in ("<img", "<b>m", "<script"))


def test_invented_answers_are_marked_wherever_a_session_is_shown() -> None:
    assert session_html(STANDING).count("SIMULATED") == 1
    assert bundle(STANDING)["text/plain"].count("SIMULATED") == 1


def test_a_session_without_calls_is_drawn() -> None:
    assert "enzymes" in session_html(SessionStatus("enzymes", "batch"))


def test_what_a_program_prints_stands_above_the_lines() -> None:
    screen = Terminal()
    board = TerminalSessionDisplay(stream=screen, said=screen)

    board.open(SessionStatus("x", "async"))
    board.write("first")
    board.update(SessionStatus("x", "async", ("m",), counts={"sent": 2}))
    board.write("second")
    lines = screen.screen
    board.close(SessionStatus("x", "async", ("m",), counts={"stored": 2}, state="done"))

    assert lines == ["first", "second", "… x (async): 0 / 2 calls answered · $0 · <0.1 s", "  2 sent · m"]
    assert screen.screen == ["first", "second", "✓ x (async): 2 / 2 calls answered · $0 · <0.1 s", "  2 stored · m"]


def test_a_line_is_never_wider_than_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "24")
    screen = Terminal()
    board = TerminalSessionDisplay(stream=screen, said=screen)

    board.open(STANDING)
    board.update(SessionStatus("another", "async"))

    assert all(len(line) < 40 for line in screen.screen)
    assert "SIMULATED" in screen.getvalue()
    assert screen.screen[0].startswith("… another")


def test_names_cannot_move_the_cursor() -> None:
    screen = Terminal()

    TerminalSessionDisplay(stream=screen, said=screen).open(SessionStatus("a\x1b[2Jb", "async"))

    assert screen.screen[0].startswith("… ab (async)")


def test_a_file_gets_the_programs_words_and_the_end() -> None:
    log, said = io.StringIO(), io.StringIO()
    board = TerminalSessionDisplay(stream=log, said=said)

    board.open(STANDING)
    board.update(STANDING)
    board.write("Lysozyme")
    board.close(SessionStatus("x", "async", state="done"))

    assert said.getvalue() == "Lysozyme\n"
    assert log.getvalue() == "✓ x (async): 0 / 0 calls answered · $0 · <0.1 s\n"


def test_a_dashboard_tells_its_board_the_beginning_and_the_end_once() -> None:
    board = Noting()
    dashboard = Dashboard(lambda: STANDING, board)

    dashboard.open()
    dashboard.open()
    dashboard.close()
    dashboard.close()

    assert [told for told in board.told if told != "update"] == ["open", "close"]


@pytest.mark.parametrize("faulty", ["open", "write", "close"])
def test_a_display_that_fails_costs_no_word_of_the_program(faulty: str, capsys: Any) -> None:
    board = Noting(faulty)
    dashboard = Dashboard(lambda: STANDING, board)

    dashboard.open()
    dashboard.write("Lysozyme")
    dashboard.close()

    assert faulty in board.told
    assert board.told[-1] == faulty
    assert capsys.readouterr().out == ("" if faulty == "close" else "Lysozyme\n")
