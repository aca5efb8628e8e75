"""What tells the refusals of a limit from noise."""

from __future__ import annotations

import random

from pllm_notebook.engine.limits.refusal_noise import RefusalNoise


def observe(noise: RefusalNoise, refused: list[int], *, counts: bool = True) -> list[int]:
    """Hear of refusals, each a moment after its call left; give those at which a limit is proven."""
    return [
        nth for nth in refused if noise.limited(nth / 100 + 0.02, nth / 100, nth, counts=counts, at_first=True)
    ]  # fmt: skip


def test_a_limit_is_proven_by_a_few_refusals_in_a_row() -> None:
    noise = RefusalNoise()

    proven = observe(noise, list(range(100, 106)))

    assert proven
    assert (noise.first, noise.dry) == (100, True)


def test_refusals_of_one_call_in_five_prove_no_limit_and_are_measured() -> None:
    rng, noise = random.Random(1), RefusalNoise()

    proven = observe(noise, [nth for nth in range(1, 500) if rng.random() < 0.2])

    assert proven == []
    assert 0.15 < noise.share < 0.25


def test_where_there_is_noise_it_takes_more_refusals_in_a_row() -> None:
    rng, quiet, noisy = random.Random(2), RefusalNoise(), RefusalNoise()
    observe(noisy, [nth for nth in range(1, 500) if rng.random() < 0.2])

    proven = [observe(noise, list(range(600, 640)))[0] for noise in (quiet, noisy)]

    assert proven[0] < proven[1] <= 615


def test_calls_that_left_together_are_heard_of_in_any_order() -> None:
    first = list(range(2, 33))
    random.Random(3).shuffle(first)
    noise = RefusalNoise()

    for nth in first:
        noise.limited(0.02, 0.0, nth, counts=True, at_first=True)

    assert (noise.first, noise.dry, noise.share) == (2, True, 0.0)


def test_a_refusal_now_and_then_is_noise_and_no_proof_however_many_there_are() -> None:
    noise = RefusalNoise()

    assert observe(noise, list(range(50, 20_000, 50))) == []


def test_one_refusal_in_five_calls_that_begins_after_a_thousand_proves_no_limit() -> None:
    noise = RefusalNoise()

    assert observe(noise, list(range(1_000, 3_000, 5))) == []
