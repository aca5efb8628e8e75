"""How the block of a session ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from pllm_notebook.exceptions import PllmError, StoreError, UsageError
from pllm_notebook.sessions.dashboard import SessionStatus
from pllm_notebook.sessions.session_context import SessionContext


class Unwritable(SessionContext):
    """A session whose state cannot be written."""

    def __init__(self, directory: Path, error: PllmError) -> None:
        super().__init__(str(directory), None)
        self.error = error

    def status(self) -> SessionStatus:
        raise AssertionError

    def persist(self) -> None:
        raise self.error

    def _finish(self) -> None: ...

    def _drain(self) -> None: ...

    def _stop(self) -> None: ...


@pytest.mark.parametrize("error", [UsageError("a note"), StoreError("a disk")], ids=["note", "disk"])
def test_the_programs_own_exception_is_raised_where_its_state_cannot_be_written(
    tmp_path: Path, error: PllmError, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LookupError, match="its own"), Unwritable(tmp_path, error):
        raise LookupError("its own")

    assert caplog.messages == [str(error)]


@pytest.mark.parametrize("error", [UsageError("a note"), StoreError("a disk")], ids=["note", "disk"])
def test_a_state_that_cannot_be_written_is_an_error_of_a_block_without_one(tmp_path: Path, error: PllmError) -> None:
    with pytest.raises(type(error), match=str(error)), Unwritable(tmp_path, error):
        pass
