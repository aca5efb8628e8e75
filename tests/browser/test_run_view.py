"""The run view in JupyterLab: rows by keyboard, Stop in a blocked cell, Retry, widths, hostile data, accessibility."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Page, chromium
from tests.browser.lab import lab
from tests.browser.test_lab import KERNEL, SETUP, WIDGET, ends

pytestmark = pytest.mark.timeout(300)

HOSTILE = "<img src=x onerror=window.bitten=1><script>window.bitten=1</script>"
SLOW = SETUP.replace("1.5", "0.8")
BLOCKED = "out = df.llm.parse(Review, 'Read this review: {text}', model='sim:openai')"
MANY = f"df = pd.concat([df] * 40, ignore_index=True)\ndf['text'] += df.index.astype(str)\n{BLOCKED}"
FAILING = "pllm.configure(sim={'error_500': 1.0})\n" + BLOCKED.replace(")", ", max_retries=0)")
ODD = f"""pllm.configure(sim={{'latency_s': 0.8, 'answers': lambda request: {HOSTILE!r}}})
odd = pd.DataFrame({{"text": [{HOSTILE!r} + str(n) for n in range(4)]}})
said = odd.llm.complete("Read: {{text}}", model="sim:openai")"""


HEAD = ".pllm-head *, .pllm-facts *"
RIGHT = "getBoundingClientRect().right"
BEYOND = f"e => e.checkVisibility() && e.{RIGHT} > document.querySelector('.pllm-view').{RIGHT} + 1"
VIOLATION = "v => v.id + ': ' + v.nodes[0].html + v.nodes[0].failureSummary"


@contextmanager
def notebook(folder: Path, *cells: str, app: str = "lab") -> Iterator[Page]:
    """Open a notebook with these cells in JupyterLab, or Notebook 7, and run them all."""
    with chromium() as page, lab(folder, cells, app) as address:
        page.open(address)
        page.until(f"document.querySelectorAll('.jp-Notebook .jp-CodeCell').length == {len(cells)}")
        page.until(f"{KERNEL}?.status == 'idle'")
        page.value("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.until("!!document.querySelector('.pllm-view')")
        yield page


def state(word: str) -> str:
    return f"document.querySelector('.pllm-view')?.dataset.state == '{word}'"


def saved(page: Page, folder: Path) -> list[dict[str, Any]]:
    """Save the notebook, and return the outputs of its second cell."""
    page.value(f"{WIDGET}.context.save()")
    return list(json.loads((folder / "shown.ipynb").read_text())["cells"][1]["outputs"])


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_stop_in_a_blocked_cell_ends_it_at_once_and_no_output_ever_holds_a_widget(tmp_path: Path, app: str) -> None:
    with notebook(tmp_path, SLOW, MANY, app=app) as page:
        page.until("!!document.querySelector('.pllm-row')")
        during = saved(page, tmp_path)
        page.value("document.querySelector('.pllm-stop').click()")
        page.until(state("stopped"))
        after = saved(page, tmp_path)
        page.open("about:blank")

    assert "running since" in str(during)
    assert "widget-view" not in str(during)
    assert "widget-view" not in str(after)
    assert "stopped" in str(after)


def test_a_pause_sends_nothing_new_and_going_on_finishes_the_run(tmp_path: Path) -> None:
    with notebook(tmp_path, SLOW, MANY) as page:
        page.until("!!document.querySelector('.pllm-row')")
        page.value("[...document.querySelectorAll('.pllm-button')].find(b => b.innerText == 'Pause').click()")
        page.until("document.querySelector('.pllm-state').innerText == 'paused'")
        rows = "document.querySelector('.pllm-fact-rows').innerText"
        seen = [page.value(rows)]
        while len(seen) < 20 and seen[-2:].count(seen[-1]) < 2:  # what was on the wire comes in
            time.sleep(2)  # longer than two answers take
            seen.append(page.value(rows))
        time.sleep(2)
        before, after = seen[-1], page.value(rows)
        page.value("[...document.querySelectorAll('.pllm-button')].find(b => b.innerText == 'Go on').click()")
        page.until(f"{rows} != {json.dumps(after)}")
        page.value("document.querySelector('.pllm-stop').click()")
        page.until(state("stopped"))

    assert before == after
    assert not after.startswith("480 ")


def test_a_row_opens_by_keyboard_and_escape_goes_back_to_it(tmp_path: Path) -> None:
    with notebook(tmp_path, SLOW, BLOCKED) as page:
        ends(page)
        page.value("document.querySelector('.pllm-row button').focus()")
        page.press("Enter", 13)
        page.until("!!document.querySelector('.pllm-detail:not([hidden])')")
        opened = page.text(".pllm-detail")
        page.press("Escape", 27)
        page.until("document.activeElement?.closest('.pllm-row') != null")

    assert "review number" in opened
    assert "tokens" in opened


def test_a_row_that_is_open_stays_open_when_the_run_ends(tmp_path: Path) -> None:
    with notebook(tmp_path, SLOW, BLOCKED) as page:
        page.until("!!document.querySelector('.pllm-row button')")
        page.value("document.querySelector('.pllm-row button').click()")
        page.until("!!document.querySelector('.pllm-detail:not([hidden])')")
        during = page.text(".pllm-detail")
        ends(page)
        page.until("!!document.querySelector('.pllm-mounted .pllm-detail:not([hidden])')")
        after = page.text(".pllm-detail")

    assert "review number" in during
    assert after == during


def test_a_row_keeps_the_focus_at_the_end_is_pinned_and_said_to_be_wrong_at_once(tmp_path: Path) -> None:
    labels = "print('label', [label.value for label in pllm.labels()])"
    with notebook(tmp_path, SLOW, BLOCKED, "1", labels) as page:
        page.until("!!document.querySelector('.pllm-row button')")
        page.value("document.querySelector('.pllm-row button').focus()")
        row = page.value("document.activeElement.closest('tr').dataset.row")
        ends(page)
        page.until("document.activeElement?.closest('.pllm-row') != null")
        focused = page.value("document.activeElement.closest('tr').dataset.row")
        pinned = "document.querySelector('.pllm-pinned')?.dataset.row == " + json.dumps(row)
        page.press("p", 80)
        page.until(pinned)
        page.press("Enter", 13)
        page.until("!!document.querySelector('.pllm-detail:not([hidden]) .pllm-check')")
        page.value("document.querySelector('[aria-label=\"sentiment is wrong\"]').click()")
        chosen = page.value("document.querySelector('.pllm-choice:not([hidden]) button').innerText")
        page.value("document.querySelector('.pllm-choice:not([hidden]) button').click()")
        page.until("document.querySelector('.pllm-pinned .pllm-judged')?.innerText.trim() == 'wrong'")
        page.value(f"{WIDGET}.content.activeCellIndex = 3; void 0")
        page.value("void window.jupyterapp.commands.execute('notebook:run-cell')")
        page.until(f"document.querySelector('.jp-Notebook').innerText.includes(\"label ['{chosen}']\")")

    assert focused == row


def test_failures_are_retried_by_kind_where_the_person_looks(tmp_path: Path) -> None:
    with notebook(tmp_path, SLOW, FAILING, "pllm.configure(sim={})") as page:
        page.until("!!document.querySelector('.pllm-group .pllm-button')")
        # The last cell too, which mends the simulator.
        page.until("[...document.querySelectorAll('.jp-InputPrompt')].some(prompt => prompt.innerText == '[3]:')")
        page.until("document.querySelector('.pllm-mounted > :not(.pllm-view)')?.textContent.includes('rows answered')")
        page.value("document.querySelector('.pllm-group .pllm-button').click()")
        page.until("document.querySelector('.pllm-hint')?.innerText.includes('12 more rows are answered')")


def test_nothing_that_rows_or_models_say_becomes_a_part_of_the_page(tmp_path: Path) -> None:
    with notebook(tmp_path, SLOW, ODD) as page:
        ends(page)
        bitten = page.value("window.bitten ?? 0")
        text = page.text(".pllm-view")

    assert bitten == 0
    assert HOSTILE[:20] in text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_view_fits_every_width_and_axe_finds_no_violation(tmp_path: Path, dark: bool) -> None:
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    axe = next(Path(spec.origin).parent.rglob("axe.min.js")).read_text(encoding="utf-8")
    with notebook(tmp_path, SLOW, BLOCKED) as page:
        if dark:
            page.value("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
            page.until("document.body.dataset.jpThemeLight == 'false'")
        ends(page)
        cut = {}
        for width in (320, 600, 900, 1600):
            page.value(f"document.querySelector('.pllm-view').style.width = '{width - 20}px'")
            cut[width] = page.value(f"[...document.querySelectorAll({HEAD!r})].filter({BEYOND}).map(e => e.className)")
        page.value(f"{axe}; void 0")
        found = page.value(f"axe.run('.pllm-view').then(done => done.violations.map({VIOLATION}))")

    assert cut == {320: [], 600: [], 900: [], 1600: []}
    assert found == []
