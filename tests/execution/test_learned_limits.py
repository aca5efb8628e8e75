"""The file of learned limits: what it keeps, for how long, and what it makes of a bad one."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pllm_notebook.engine import LearnedLimits, Limiter
from pllm_notebook.execution.learned_limits import FILE, LimitCache
from pllm_notebook.types import LimitReport

KEY = ("openai", "1a2b3c", "gpt-6-luna")
OTHER = ("mine", "4d5e6f", "small/er: one")
TOLD = LearnedLimits(requests_per_min=600.0, requests_at_once=10.0, tokens_per_min=60_000.0, tokens_at_once=1_000.0)
KNOWN = replace(TOLD, inferred_per_min=550.0, window=64.0)
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def kept(directory: Path, at: float = 1e9) -> LimitCache:
    return LimitCache(str(directory), clock=lambda: at)


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    kept(tmp_path).keep(KEY, KNOWN)

    assert kept(tmp_path).known(KEY) == KNOWN
    assert kept(tmp_path).known(OTHER) is None


def test_lanes_are_kept_beside_one_another_and_the_last_word_on_one_counts(tmp_path: Path) -> None:
    ours, theirs = kept(tmp_path), kept(tmp_path)
    ours.keep(KEY, KNOWN)

    theirs.keep(OTHER, LearnedLimits(window=8.0))
    theirs.keep(KEY, replace(KNOWN, window=99.0))

    assert ours.known(KEY) == replace(KNOWN, window=99.0)
    assert ours.known(OTHER) == LearnedLimits(window=8.0)


def test_what_was_told_counts_for_a_month_and_what_was_found_out_for_a_day(tmp_path: Path) -> None:
    kept(tmp_path).keep(KEY, KNOWN)

    assert kept(tmp_path, at=1e9 + 23 * HOUR_S).known(KEY) == KNOWN
    assert kept(tmp_path, at=1e9 + 25 * HOUR_S).known(KEY) == TOLD
    assert kept(tmp_path, at=1e9 + 29 * DAY_S).known(KEY) == TOLD
    assert kept(tmp_path, at=1e9 + 31 * DAY_S).known(KEY) is None
    assert kept(tmp_path, at=1e9 - 1).known(KEY) is None  # a clock that was set back: of unknown age


def test_what_a_run_did_not_learn_anew_stays_and_stays_as_old_as_it_is(tmp_path: Path) -> None:
    kept(tmp_path).keep(KEY, LearnedLimits(inferred_per_min=550.0, window=64.0))

    kept(tmp_path, at=1e9 + 23 * HOUR_S).keep(KEY, LearnedLimits(window=65.0))

    assert kept(tmp_path, at=1e9 + 23 * HOUR_S).known(KEY) == LearnedLimits(inferred_per_min=550.0, window=65.0)
    assert kept(tmp_path, at=1e9 + 25 * HOUR_S).known(KEY) == LearnedLimits(window=65.0)


def test_old_lanes_leave_the_file_and_so_do_the_oldest_of_very_many(tmp_path: Path) -> None:
    kept(tmp_path).keep(KEY, KNOWN)
    for n in range(201):
        kept(tmp_path, at=1e9 + n).keep(("mine", "", f"model {n}"), LearnedLimits(window=8.0))
    names = json.loads((tmp_path / FILE).read_bytes())["lanes"]
    assert len(names) == 200
    assert kept(tmp_path, at=1e9 + 201).known(KEY) is None

    kept(tmp_path, at=1e9 + 40 * DAY_S).keep(OTHER, LearnedLimits(window=8.0))

    assert list(json.loads((tmp_path / FILE).read_bytes())["lanes"]) == ["mine:small/er: one @4d5e6f"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\x00", b"null", b"[]", b'{"version": 1', b'{"version": 2, "lanes": {}}',
        b'{"version": 1, "lanes": []}', b'{"version": 1, "lanes": {"openai:gpt-6-luna @1a2b3c": 7}}',
    ],
)  # fmt: skip
def test_a_broken_or_foreign_file_says_nothing_and_is_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    assert kept(tmp_path).known(KEY) is None
    kept(tmp_path).keep(KEY, KNOWN)

    assert kept(tmp_path).known(KEY) == KNOWN


@pytest.mark.parametrize("number", ["0", "-5", "0.5", "true", '"600"', "null", "[]", "1e400"])
def test_a_number_that_no_limit_has_is_passed_over(tmp_path: Path, number: str) -> None:
    facts = f'{{"window": [{number}, 1e9], "found_per_min": [550.0, 1e9], "colour": [1, 1e9]}}'
    (tmp_path / FILE).write_text(f'{{"version": 1, "lanes": {{"openai:gpt-6-luna @1a2b3c": {facts}}}}}')

    assert kept(tmp_path).known(KEY) in (
        LearnedLimits(inferred_per_min=550.0),
        None,
    )  # 1e400 is no JSON number: no file at all


def test_the_file_is_for_its_owner_alone_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    kept(tmp_path).keep(KEY, KNOWN)

    assert os.listdir(tmp_path) == [FILE]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_directory_that_cannot_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    kept(tmp_path / "gone").keep(KEY, KNOWN)
    (tmp_path / FILE).mkdir()

    kept(tmp_path).keep(KEY, KNOWN)

    assert kept(tmp_path).known(KEY) is None
    assert os.listdir(tmp_path) == [FILE]


def test_a_told_limit_of_another_run_holds_calls_back_until_the_first_reply_and_no_longer() -> None:
    limiter = Limiter()
    limiter.restore(0.0, TOLD)
    stamps = [limiter.charge(0.0, 10.0) for _ in range(10)]
    assert limiter.wait_s(0.0, 10.0) > 0.0

    limiter.replied(0.3, stamps[0], None, 10.0)

    assert limiter.wait_s(0.3, 10.0) == 0.0
    assert limiter.export().requests_per_min is None
    assert limiter.export().tokens_per_min is None


def test_a_told_limit_that_the_first_reply_tells_anew_goes_on() -> None:
    limiter = Limiter()
    limiter.restore(0.0, TOLD)

    limiter.replied(0.3, limiter.charge(0.0, 10.0), LimitReport(1_200.0, 19.0, 0.05), 10.0)
    limiter.replied(0.4, limiter.charge(0.1, 10.0), None, 10.0)  # one reply that says nothing changes nothing now

    assert limiter.export().requests_per_min == 1_200.0
    assert limiter.export().tokens_per_min is None
