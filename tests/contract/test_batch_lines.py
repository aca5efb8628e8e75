"""What a batch would submit is shown before anything is sent, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.batch import Journal
from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import Simulator
from tests.contract.scripts import words
from tests.contract.sides import Side

SHORT = "Is {text} good?"
# Long enough to be marked for a provider's prompt cache, where there are marks and more than one row to share them.
RULES = "Be exact.\n" * 3000


def rows(count: int) -> pd.DataFrame:
    return words(*(f"text {n}" for n in range(count)))


def submitted(cache_dir: Path) -> list[str]:
    """What the request files hold, job after job."""
    journal = Journal.open(str(cache_dir))
    return [line.decode() for job in journal.jobs() for _, line in journal.requests(job.id)]


def submit(frame: pd.DataFrame, prompt: str, model: str, **options: Any) -> None:
    frame.llm.parse(bool, prompt, model=model, mode="batch", confirm=False, wait=False, **options)


@pytest.mark.sample(10)
@pytest.mark.parametrize(
    ("prompt", "options"),
    [(SHORT, {}), (RULES + SHORT, {}), (SHORT, {"system": RULES})],
    ids=["short", "long beginning", "long instruction"],
)
@pytest.mark.parametrize("count", [1, 4])
def test_the_lines_shown_are_the_lines_submitted(
    side: Side, sim: Simulator, cache_dir: Path, prompt: str, options: dict[str, Any], count: int
) -> None:
    sim.set(batch_s=3600)

    shown = rows(count).llm.request_lines(bool, prompt, model=side.model, rows=10, **options)

    assert sim.stats().requests == sim.stats().batch_requests == 0
    submit(rows(count), prompt, side.model, **options)
    assert sorted(shown) == sorted(submitted(cache_dir))
    assert (len(shown), shown.total) == (count, count)


def test_the_lines_of_packs_and_samples_are_shown_too(luna: str, sim: Simulator, cache_dir: Path) -> None:
    sim.set(batch_s=3600)
    options: dict[str, Any] = {"pack": 3, "samples": 2}

    shown = rows(5).llm.request_lines(bool, SHORT, model=luna, rows=10, **options)

    submit(rows(5), SHORT, luna, **options)
    assert sorted(shown) == sorted(submitted(cache_dir))
    assert shown.total == 4


def test_rows_that_would_not_be_sent_have_no_line(luna: str, sim: Simulator) -> None:
    rows(2).llm.parse(bool, SHORT, model=luna)
    sim.set(batch_s=3600)
    submit(rows(3), SHORT, luna)

    shown = rows(5).llm.request_lines(bool, SHORT, model=luna, rows=1)

    assert shown.total == 2
    assert orjson.loads(shown[0])["body"]["messages"][-1]["content"] == "Is text 3 good?"
    assert repr(shown).startswith(f'1 of 2 request lines for {luna}. Nothing was sent.\n\n{{\n  "custom_id": "p1-')


def test_no_key_is_needed_and_none_is_shown(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = rows(2).llm.request_lines(None, SHORT, model="anthropic:claude-haiku-5-5")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-very-secret")

    with_one = rows(2).llm.request_lines(None, SHORT, model="anthropic:claude-haiku-5-5")

    assert with_one == without
    assert "secret" not in repr(with_one) + "".join(with_one)


def test_a_page_shows_what_a_cell_holds_as_text(cache_dir: Path) -> None:
    shown = words("<script>$x$").llm.request_lines(None, SHORT.replace("good", "bad"), model="openai:gpt-6-luna")

    assert "&lt;script&gt;<span>$</span>x" in shown._repr_html_()


def test_what_has_no_batch_api_has_no_lines(cache_dir: Path) -> None:
    from anthropic import AsyncAnthropicVertex

    client = AsyncAnthropicVertex(access_token="t", project_id="p", region="europe-west1")
    pllm.configure(clients={"vertex": client})

    with pytest.raises(UsageError, match=r"cannot be used with vertex:m: .*no batch API\. Nothing was sent"):
        rows(2).llm.request_lines(bool, SHORT, model="vertex:m")
    with pytest.raises(UsageError, match=r"rows= is the number of lines to show, at least 1, not 0"):
        rows(2).llm.request_lines(bool, SHORT, model="openai:gpt-6-luna", rows=0)
