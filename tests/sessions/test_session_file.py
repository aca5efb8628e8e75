"""What a session remembers is written whole, and lost without harm."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from pllm_notebook.sessions.session_file import FILE, SessionFile


def test_notes_are_read_as_they_were_written(tmp_path: Path) -> None:
    minutes = SessionFile(str(tmp_path))
    minutes.refresh_since = 5.0
    minutes.write({"a": 1}, {"judge": {"asked": 2, "metadata": {"b": [None]}}})

    read = SessionFile(str(tmp_path))

    assert (read.metadata, read.agents, read.refresh_since) == ({"a": 1}, {"judge": {"b": [None]}}, 5.0)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_an_agent_that_a_program_no_longer_has_keeps_its_notes(tmp_path: Path) -> None:
    SessionFile(str(tmp_path)).write({}, {"old": {"asked": 1, "metadata": {"b": 2}}})
    SessionFile(str(tmp_path)).write({}, {"new": {"asked": 1, "metadata": {}}})

    assert SessionFile(str(tmp_path)).agents == {"old": {"b": 2}, "new": {}}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 99}'])
def test_damaged_notes_are_set_aside_and_begun_anew(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(content)

    minutes = SessionFile(str(tmp_path))

    assert (minutes.metadata, minutes.agents) == ({}, {})
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == content
    assert "start empty" in caplog.text


def test_notes_that_are_as_they_were_are_not_written_again(tmp_path: Path) -> None:
    minutes = SessionFile(str(tmp_path))
    minutes.write({"a": 1}, {})
    before = (tmp_path / FILE).stat().st_ino

    minutes.write({"a": 1}, {})

    assert (tmp_path / FILE).stat().st_ino == before
    assert orjson.loads((tmp_path / FILE).read_bytes())["version"] == 1
