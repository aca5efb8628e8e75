"""Fixtures for the tests of your own pipeline. pytest loads this module through its entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pllm_notebook.testing.scripted import Answers, Fake

__all__ = ["pllm_fake", "pllm_recording", "pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--pllm-record`."""
    group = parser.getgroup("pllm_notebook")
    group.addoption(
        "--pllm-record",
        action="store_true",
        help="Send requests that the recordings of pllm_recording lack to the real models, and record the replies. "
        "Sends and pays.",
    )


@pytest.fixture
def pllm_fake() -> Iterator[Callable[[Answers], Fake]]:
    """Script the answers of every model until the end of the test. Call the fixture like `pllm.testing.fake`."""
    from pllm_notebook.testing.scripted import fake

    with ExitStack() as stack:
        yield lambda answers: stack.enter_context(fake(answers))


@pytest.fixture
def pllm_recording(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Answer from `recordings/TEST.jsonl` beside the test file. With `--pllm-record`, record missing replies."""
    from pllm_notebook.testing.recording import record
    from pllm_notebook.testing.scripted import fake

    name = "".join(letter if letter.isalnum() or letter in "-_[]" else "_" for letter in request.node.name)
    path = request.path.parent / "recordings" / f"{name}.jsonl"
    if request.config.getoption("--pllm-record"):
        path.parent.mkdir(exist_ok=True)
        with record(path):
            yield None
    else:
        with fake(path) as asked:
            yield asked
