"""What rows, labels, prompts and their names say is shown as text by the views of the prompt lab, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import create_model

import pllm_notebook as pllm
from pllm_notebook.formatting import strip_control_chars
from tests.notebook.hostile import ANSI, HOSTILE, Page

ODD = ANSI + HOSTILE


@pytest.fixture
def views(cache_dir: Path) -> list[Any]:
    """A comparison, a race and labels, of rows, options, names and persons that are hostile."""
    odd: Any = create_model("Odd", mood=(Literal["good", HOSTILE], ...))  # type: ignore[valid-type]
    pllm.configure(
        sim={"answers": lambda request: {"mood": HOSTILE if "A" in request.prompt[:1] else "good"}}, model="sim:openai"
    )
    frame = pd.DataFrame({"text": [f"{ODD} {n}" for n in range(40)], "gold": ["good", HOSTILE] * 20})
    old = frame.llm.parse(odd, "A {text}")
    new = frame.llm.parse(odd, "B {text}")
    new.llm.label("gold", field="mood", by=ODD, drawn_by=ODD)
    race = frame.llm.race(odd, {ODD: "A {text}", HOSTILE: "B {text}"}, against="gold", field="mood")
    return [new.llm.compare(old), new.llm.compare(old, against="gold"), race, pllm.labels(), pllm.runs()]


def test_the_views_of_the_lab_run_nothing(views: list[Any]) -> None:
    for view in views:
        page = Page(view._repr_html_())

        assert not page.tags & {"script", "img", "iframe", "object", "embed", "form", "a"}, type(view)
        assert not [name for name in page.attributes if name.startswith("on")], type(view)
        assert not [link for link in page.links if "script" in link], type(view)


def test_the_views_of_the_lab_reach_no_terminal(views: list[Any]) -> None:
    for view in views:
        shown = repr(view)

        assert strip_control_chars(shown) == shown, type(view)
