"""Progress in words."""

from __future__ import annotations

import html
import re

import pytest

from pllm_notebook.notebook import progress_format
from pllm_notebook.notebook.text import line_bundle
from pllm_notebook.notebook.view_page import ended_page, running_words
from pllm_notebook.types import JobProgress
from tests.notebook.progress import START, at


def test_a_running_line_says_how_far_how_fast_and_for_how_much() -> None:
    progress = at(
        done=12, cached=30, failed=3, skipped=1, elapsed_s=4.0, rows_per_s=3.0, eta_s=65.2, input_tokens=84_000,
        output_tokens=300, cost_usd=0.0123, budget_usd=5.0, note="at the provider's limit", simulated=True,
    )  # fmt: skip

    assert progress_format.step(progress) == (
        "Review: 46 / 200 rows · 30 from cache · 3 failed · 1 skipped · 3.0 rows/s · 1 min 05 s left · 84.3k tokens · "
        "$0.0123 of $5.00 · openai:gpt-6-luna SIMULATED · at the provider's limit"
    )


def test_a_line_that_begins_says_only_what_is_known() -> None:
    assert progress_format.step(START) == "Review: 0 / 200 rows · $0 · openai:gpt-6-luna"


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (0, ""),
        (400, " · <1 % of input tokens from the provider's cache"),
        (62_000, " · 62 % of input tokens from the provider's cache"),
        (100_000, " · 100 % of input tokens from the provider's cache"),
    ],
)
def test_what_the_provider_read_from_its_cache_is_told_as_a_share(read: int, told: str) -> None:
    progress = at(done=12, input_tokens=100_000, cached_tokens=read, cost_usd=0.5)

    assert progress_format.step(progress) == f"Review: 12 / 200 rows · 100k tokens{told} · $0.5000 · openai:gpt-6-luna"
    assert f"100k tokens{told} · $0.5000" in progress_format.ended(progress)


def test_what_a_model_in_this_process_read_from_its_cache_is_no_providers() -> None:
    progress = at(done=12, input_tokens=100, cached_tokens=62, model="local:smollm2")

    assert "62 % of input tokens from this process's cache" in progress_format.step(progress)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"state": "done", "done": 200, "cost_usd": 1.5}, "✓ Review: 200 rows answered · 17 s · $1.50"),
        ({"state": "done", "done": 1, "total": 1, "cost_usd": None}, "✓ Review: 1 row answered · 17 s · cost unknown"),
        (
            {"state": "done", "done": 190, "failed": 8, "skipped": 2, "cost_usd": 0.00001},
            "⚠ Review: 190 of 200 rows answered · 8 failed (pllm.errors() says why) · 2 skipped · 17 s · $0.000010",
        ),
        (
            {"state": "cancelled", "done": 2, "cached": 3},
            "■ stopped: Review: 5 of 200 rows answered · 3 from cache · 195 left · 17 s · $0",
        ),
        ({"state": "failed"}, "✗ ended early: Review: 0 of 200 rows answered · 200 left · 17 s · $0"),
    ],
)
def test_the_final_line_says_how_it_ended(values: dict[str, object], line: str) -> None:
    assert progress_format.ended(at(elapsed_s=17.0, **values)) == f"{line} · openai:gpt-6-luna"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "<0.1 s"), (0.4, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
        (125, "2 min 05 s"), (3599.6, "1 h 00 min"), (3900, "1 h 05 min"),
    ],
)  # fmt: skip
def test_a_time_has_at_most_two_units(seconds: float, text: str) -> None:
    assert progress_format.format_duration(seconds) == text


def test_what_comes_from_data_is_escaped_and_never_set_as_mathematics() -> None:
    odd = at(label="<b>", model="x:<i>", note="<script>", cost_usd=1, budget_usd=2)

    for drawn in (running_words(odd, 0.0)["text/html"], line_bundle(progress_format.ended(odd))["text/html"]):
        assert "<b>" not in drawn
        assert "<i>" not in drawn
        assert "<script>" not in drawn
        assert "$" not in drawn.replace("<span>$</span>", "")


def test_simulated_answers_are_marked_in_every_form() -> None:
    simulated = at(simulated=True)

    assert "SIMULATED" in progress_format.step(simulated)
    assert "SIMULATED" in progress_format.ended(simulated)
    assert "SIMULATED" in running_words(simulated, 0.0)["text/html"]


def test_the_words_of_a_batch_name_its_jobs_and_no_interrupt() -> None:
    batch = at(is_batch=True)

    assert "pllm.jobs() shows its jobs" in running_words(batch, 0.0)["text/plain"]
    assert "interrupt" not in running_words(batch, 0.0)["text/html"]
    assert "interrupt the kernel to stop" in running_words(START, 0.0)["text/plain"]


@pytest.mark.parametrize(
    ("kind", "bars", "words"), [("histogram", 2, "50 % missing"), ("categories", 3, "missing missing: 50 50 %")]
)
def test_missing_values_are_in_words_and_a_bar_beside_categories_alone(kind: str, bars: int, words: str) -> None:
    field = {"name": "price", "kind": kind, "of": "", "counted": 100, "missing": 50, "low": 1, "high": 2, "mean": 1.5}
    field |= {"bars": [{"label": "1", "count": 20}, {"label": "2", "count": 30}], "more": 0}

    page = ended_page({"run": "", "jobs": [], "failures": [], "fields": [field]}, "done", "")["text/html"]

    assert words in " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert page.count("<rect") == bars


def job(**values: object) -> JobProgress:
    made = {"id": "dbc3f0a1", "state": "running", "total": 200, "answered": None, "failed": None, "created_at": 0.0}
    return JobProgress(**{**made, "ends_at": None, "price_usd": 0.12, "is_open": True, **values})  # type: ignore[arg-type]


def test_a_batch_that_is_not_waited_for_is_submitted_and_not_stopped() -> None:
    left = at(state="cancelled", is_batch=True, jobs=(job(),), elapsed_s=17.0)

    assert progress_format.ended(left) == (
        "… Review: submitted, 0 of 200 rows answered so far · 200 left · 17 s · $0 · openai:gpt-6-luna · "
        "1 batch job goes on at the provider (dbc3f0a1) and will cost about $0.1200. "
        "Running the cell again waits for it; pllm.jobs() can cancel it."
    )


def test_a_batch_whose_jobs_have_ended_is_done() -> None:
    done = at(state="done", done=200, is_batch=True, jobs=(job(is_open=False, state="done"),))

    assert progress_format.ended(done).startswith("✓ Review: 200 rows answered")
    assert "goes on" not in progress_format.ended(done)


def test_a_batch_whose_rows_are_all_answered_is_done_before_its_job_is_recorded_as_such() -> None:
    done = at(state="done", done=200, is_batch=True, jobs=(job(),))

    assert progress_format.ended(done).startswith("✓ Review: 200 rows answered")
    assert "goes on" not in progress_format.ended(done)


def test_prompts_are_called_prompts() -> None:
    listed = at(label="3 prompts", unit="prompt", total=3, done=1, rows_per_s=2.0)

    assert progress_format.step(listed).startswith("1 / 3 prompts · 2.0 prompts/s")
    assert progress_format.ended(at(label="3 prompts", unit="prompt", total=3, done=3, state="done")).startswith(
        "✓ 3 prompts answered"
    )
    assert running_words(listed, 0.0)["text/plain"].startswith("3 prompts for openai:gpt-6-luna, running since")


@pytest.mark.parametrize(("run", "advice"), [("3f2a91c4", "pllm.run('3f2a91c4').retry(kinds=['refusal'])"), ("", "")])
def test_a_page_names_its_own_run_for_a_retry_and_none_that_no_kernel_holds(run: str, advice: str) -> None:
    group = {"kind": "refusal", "count": 2, "message": "No.", "price_usd": None}

    page = ended_page({"run": run, "jobs": [], "failures": [group], "fields": []}, "done", "")["text/html"]

    assert html.unescape(page).count("retry") == bool(run)
    assert advice in html.unescape(page)
