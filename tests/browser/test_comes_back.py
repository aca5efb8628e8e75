"""The run view comes back: displayed again in another cell, after the page was loaded again, and after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser.chromium import Page, chromium
from tests.browser.lab import lab
from tests.browser.test_lab import KERNEL, SETUP, WIDGET

pytestmark = pytest.mark.timeout(600)

# Longer than any of these tests takes: each ends its run itself.
LONG = "df = pd.concat([df] * 500, ignore_index=True)\ndf['text'] += df.index.astype(str)\n"
ASKED = "df.llm.{}(Review, 'Read this review: {{text}}', model='sim:openai')"
VIEWS = "[...document.querySelectorAll('.jp-Notebook .jp-CodeCell')].map(c => c.querySelectorAll('.pllm-view').length)"
ROWS = "[...document.querySelectorAll('.pllm-view .pllm-fact-rows')].map(e => e.innerText)"


@contextmanager
def opened(folder: Path, *cells: str) -> Iterator[tuple[Page, str]]:
    """Open a notebook with these cells, of which none has run; yield its page and address."""
    with chromium() as page, lab(folder, cells) as address:
        page.open(address)
        ready(page, len(cells))
        yield page, address


def ready(page: Page, cells: int) -> None:
    page.until(f"document.querySelectorAll('.jp-Notebook .jp-CodeCell').length == {cells}")
    page.until(f"{KERNEL}?.connectionStatus == 'connected'")


def run_cell(page: Page, cell: int) -> None:
    page.value(f"{WIDGET}.content.activeCellIndex = {cell}; void 0")
    page.value("void window.jupyterapp.commands.execute('notebook:run-cell')")


def has_views(page: Page, *counts: int) -> None:
    page.until(f"JSON.stringify({VIEWS}) == '{list(counts)}'.replaceAll(' ', '')")


def goes_on(page: Page) -> None:
    """Wait until all views have counted further."""
    before = page.value(ROWS)
    page.until(f"{ROWS}.every((rows, at) => rows != {before}[at])")


def load_again(page: Page, address: str, cells: int) -> None:
    page.value(f"{WIDGET}.context.save()")
    page.open("about:blank")
    page.open(address)
    ready(page, cells)


def test_a_run_has_a_live_view_in_another_cell_and_after_the_page_was_loaded_again(tmp_path: Path) -> None:
    cells = [SETUP + LONG, f"run = {ASKED.format('submit')}", "run", "pllm.runs()[-1]", "pllm.runs()"]
    with opened(tmp_path, *cells) as (page, address):
        run_cell(page, 0)
        run_cell(page, 1)
        page.until("!!document.querySelector('.pllm-view .pllm-row')")
        run_cell(page, 2)
        has_views(page, 0, 1, 1, 0, 0)
        goes_on(page)

        load_again(page, address, len(cells))
        run_cell(page, 3)
        has_views(page, 0, 1, 1, 1, 0)
        run_cell(page, 4)
        page.until("!!document.querySelector('[data-pllm-runs] .pllm-open-run')")
        page.value("document.querySelector('.pllm-open-run').click()")
        has_views(page, 0, 1, 1, 1, 1)
        goes_on(page)
        page.value("document.querySelectorAll('.pllm-view .pllm-stop')[2].click()")
        page.until("[...document.querySelectorAll('.pllm-view')].every(v => v.dataset.state == 'stopped')")
        page.value(f"{WIDGET}.context.save()")
        page.open("about:blank")

    saved = (tmp_path / "shown.ipynb").read_text()
    assert "widget-view" not in saved
    assert "stopped: " in saved


def test_a_page_that_is_loaded_again_while_a_cell_blocks_has_its_view_again_and_stops_the_run(tmp_path: Path) -> None:
    cells = [SETUP + LONG, f"out = {ASKED.format('parse')}"]
    with opened(tmp_path, *cells) as (page, address):
        run_cell(page, 0)
        run_cell(page, 1)
        page.until("!!document.querySelector('.pllm-view .pllm-row')")

        load_again(page, address, len(cells))
        has_views(page, 0, 1)
        goes_on(page)
        # A row too: what is clicked goes by the kernel's control channel, since the other one is busy with the cell.
        page.value("document.querySelector('.pllm-row button').click()")
        page.until("!!document.querySelector('.pllm-detail:not([hidden])')")
        page.value("document.querySelector('.pllm-stop').click()")
        page.until("document.querySelector('.pllm-view').dataset.state == 'stopped'")
        opened_row = page.text(".pllm-detail")
        page.value(f"{WIDGET}.context.save()")
        page.open("about:blank")

    assert "review number" in opened_row


def test_the_view_of_a_kernel_that_was_restarted_is_grey_and_does_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, SETUP + LONG, f"run = {ASKED.format('submit')}") as (page, _):
        run_cell(page, 0)
        run_cell(page, 1)
        page.until("!!document.querySelector('.pllm-view .pllm-row')")
        # To its end: a server that is ended while it restarts a kernel hangs.
        page.value(f"{WIDGET}.sessionContext.restartKernel().then(() => true)")
        page.until("document.querySelector('.pllm-view.pllm-gone')?.innerText.includes('kernel gone')")
        live = page.value("[...document.querySelectorAll('.pllm-view button')].filter(b => !b.disabled).length")
        page.value(f"{WIDGET}.context.save()")
        page.open("about:blank")

    assert live == 0


def test_batch_jobs_have_buttons_while_the_kernel_lives_and_a_plain_table_in_the_file(tmp_path: Path) -> None:
    batch = f"{ASKED.format('parse')[:-1]}, mode='batch', confirm=False, wait=False); pllm.jobs()"
    with opened(tmp_path, SETUP + "pllm.configure(sim={'batch_s': 600.0})", batch) as (page, address):
        run_cell(page, 0)
        run_cell(page, 1)
        page.until("document.querySelectorAll('[data-pllm-jobs] .pllm-job-buttons button').length == 5")
        click = "[...document.querySelectorAll('.pllm-job-buttons button')].find(b => b.innerText == '{}').click()"
        said = "document.querySelector('[data-pllm-jobs] [role=status]').innerText"
        page.value(click.format("Send live"))
        page.until(f"{said}.includes('Click Send live again')")
        page.value(click.format("Send live"))
        page.until(f"{said}.includes('answered live')")
        page.value(f"{WIDGET}.context.save()")
        page.open("about:blank")
        page.open(address)
        ready(page, 2)
        page.until("!!document.querySelector('[data-pllm-jobs] table')")
        shown = page.text(".jp-Notebook")

    assert "Error displaying widget" not in shown
    assert "widget-view" not in (tmp_path / "shown.ipynb").read_text()
