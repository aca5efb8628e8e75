"""What a run's prompts begin with, found from the prompts."""

from __future__ import annotations

import random

import pytest

from pllm_notebook.execution.common_prefix import CommonPrefix

EXAMPLES = "".join(f"Review {n}: it was fine.\nAnswer: neutral\n" for n in range(40))


def lead_of(*prompts: str) -> str:
    lead = CommonPrefix()
    for prompt in prompts:
        lead.observe(prompt)
    return lead.text


def test_a_long_text_that_all_prompts_begin_with_is_their_lead() -> None:
    assert lead_of(f"{EXAMPLES}good", f"{EXAMPLES}bad", f"{EXAMPLES}so so") == EXAMPLES


def test_a_lead_ends_at_the_end_of_a_line_whatever_rows_begin_with() -> None:
    rows = [f"{EXAMPLES}Review: The {word}" for word in ("best", "worst")]

    assert lead_of(*rows) == EXAMPLES


@pytest.mark.parametrize(
    "prompts",
    [[], [EXAMPLES], [EXAMPLES, EXAMPLES], ["Rate this:\na", "Rate this:\nb"], [EXAMPLES, f"x{EXAMPLES}"]],
    ids=["none", "one", "equal", "short", "unlike"],
)
def test_one_prompt_or_a_short_beginning_is_no_lead(prompts: list[str]) -> None:
    assert lead_of(*prompts) == ""


def test_a_prompt_that_is_the_beginning_of_another_gives_the_lines_before() -> None:
    assert lead_of(f"{EXAMPLES}good", f"{EXAMPLES}good\nor not") == EXAMPLES
    assert lead_of(f"{EXAMPLES}good\nor not", f"{EXAMPLES}good") == EXAMPLES


def test_learning_ends_with_the_first_prompts() -> None:
    lead = CommonPrefix()

    for n in range(33):
        assert lead.open
        lead.observe(f"{EXAMPLES}{n}")

    assert not lead.open
    assert lead.text == EXAMPLES


def test_learning_ends_at_once_where_nothing_is_shared() -> None:
    lead = CommonPrefix()

    lead.observe("a")
    lead.observe("b")

    assert not lead.open


def test_a_lead_is_what_comparing_character_by_character_finds() -> None:
    rng = random.Random(5)
    for _ in range(50):
        prompts = [EXAMPLES + "".join(rng.choices("ab\n", k=6)) for _ in range(3)]
        shared = next(
            (n for n in range(min(map(len, prompts))) if len({prompt[n] for prompt in prompts}) > 1),
            min(map(len, prompts)),
        )
        wanted = prompts[0][: prompts[0].rfind("\n", 0, shared) + 1]

        if len(set(prompts)) == 3:
            assert lead_of(*prompts) == wanted
