"""Tools and images through `%%pllm`, in a real kernel."""

from __future__ import annotations

import pytest

from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.kernel

TOOLS = """
from pydantic import BaseModel

ran = []

def add(a: int, b: int = 1) -> int:
    "Add two numbers."
    ran.append(a)
    return a + b

class Ticket(BaseModel):
    "A ticket."
    title: str

def answers(request):
    from pllm_notebook.sim import SimAnswer
    if request.results:
        return "sum " + request.results[-1][1]
    return SimAnswer.tool_calls([("add", {"a": 2}), ("Ticket", {"title": "t"})][: len(request.tools)])

server = sim(answers=answers)
"""


@pytest.fixture(autouse=True)
def _tools(kernel: Kernel) -> None:
    kernel.ok(TOOLS)


def test_tools_are_names_of_the_notebooks_own_and_their_calls_become_columns(kernel: Kernel) -> None:
    kernel.ok("%%pllm df.head(2) --tools add,Ticket --out called\nTools for {text}")

    assert kernel.value("list(called.columns)") == ["text", "tool", "arguments", "calls"]
    assert kernel.value("called.tool.tolist()") == ["add", "add"]
    assert kernel.value("called.calls.iloc[0][1].arguments.title") == "t"
    assert kernel.value("ran") == []


def test_functions_are_run_where_the_line_says_so(kernel: Kernel) -> None:
    kernel.ok("%%pllm df.head(2) --tools add --run-tools --out summed\nAdd for {text}")

    assert kernel.value("summed.answer.tolist()") == ["sum 3", "sum 3"]
    assert kernel.value("ran") == [2, 2]


def test_a_prompt_alone_may_use_tools_too(kernel: Kernel) -> None:
    cell = kernel.ok("%%pllm --tools add --run-tools --out alone\nAdd.")

    assert "error" not in cell.result
    assert kernel.value("alone") == "sum 3"


def test_a_tool_that_is_not_there_is_an_error_of_one_line(kernel: Kernel) -> None:
    cell = kernel.run("%%pllm df --tools ad --run-tools\n{text}")

    assert cell.error.startswith("UsageError: --tools: there is no variable 'ad' in this notebook. Did you mean 'add'?")


def test_images_come_from_a_column_of_the_frame(kernel: Kernel) -> None:
    kernel.ok(
        "picture = bytes.fromhex('89504e470d0a1a0a') + bytes(20)\n"
        "photos = df.head(2).assign(photo=[picture] * 2)\n"
        "server = sim(answers=lambda request: f'saw {request.media}')"
    )

    kernel.ok("%%pllm photos --images photo --out seen\nLook: {text}")

    assert kernel.value("seen.answer.tolist()") == ["saw 1", "saw 1"]


def test_functions_are_not_run_where_none_are_named(kernel: Kernel) -> None:
    cell = kernel.run("%%pllm df --run-tools\n{text}")

    assert cell.error.startswith("UsageError: --run-tools runs the functions that --tools names, and none are given.")
