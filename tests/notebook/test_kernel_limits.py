"""What a person sees of a provider's limits in a real kernel."""

from __future__ import annotations

import pytest

from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.kernel

TOLD = "at the provider's limit: 600 requests a minute"


def test_the_widget_says_which_limit_holds_the_run_back_and_the_line_that_stays_does_not(kernel: Kernel) -> None:
    kernel.ok("server = sim(requests_per_min=600, burst_s=0.1)  # a busy machine is held by it too")

    cell = kernel.start("held = reviews(40, 'held').llm.parse(Review, 'Held: {text}')")
    kernel.until(
        lambda: any(
            TOLD in state.get("snapshot", {}).get("head", {}).get("says", "") for state in kernel.comms.values()
        )
    )
    kernel.finish(cell)

    assert cell.status == "ok"
    assert cell.texts[0].startswith("✓ Review: 40 rows answered · ")
    assert "limit" not in cell.texts[0]
    kernel.ok("server = sim()")


def test_the_limits_word_is_a_table_of_one_row_a_model(kernel: Kernel) -> None:
    kernel.ok("server = sim(requests_per_min=60000, tokens_per_min=9000000)")
    kernel.ok("told = reviews(3, 'told').llm.parse(Review, 'Told: {text}', model='sim:anthropic')")

    shown = kernel.ok("%pllm limits").result

    words = "requests_per_min tokens_per_min inferred_per_min window in_flight refused waiting_until found_per_min"
    assert set(words.split()) <= set(shown.split())
    assert any(line.startswith("sim:anthropic") and "60000" in line and "9000000" in line for line in shown.split("\n"))
    kernel.ok("server = sim()")
