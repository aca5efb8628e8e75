"""Arguments of a session and of its calls, as they were given."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from pllm_notebook.exceptions import StoreError, UsageError
from pllm_notebook.sessions.call import Call, check_params
from pllm_notebook.sessions.minor_tweaks import MinorTweaks, apply_tweaks
from pllm_notebook.sessions.session_files import append_lines

MODEL = "openai:gpt-6-luna"


@pytest.mark.parametrize("given", [{"logit_bias": {50256: -100}}, {"extra_body": {"logit_bias": {50256: -100}}}])
def test_an_integer_key_of_a_request_is_its_text(given: dict[str, Any]) -> None:
    params = check_params(given, MODEL)

    assert params["extra_body"]["logit_bias"] == {"50256": -100}
    assert Call(MODEL, "Well?", params=params).how


@pytest.mark.parametrize(
    ("value", "seen"),
    [({(1, 2): 3}, "a key"), ({1: 2, "1": 3}, "the same key"), ([2**70], "the value"), ("\ud800", "the value")],
)
def test_what_json_cannot_hold_is_refused_before_anything_is_sent(value: Any, seen: str) -> None:
    with pytest.raises(UsageError, match=rf"^A field of the request has {seen} .* Nothing was sent\.$"):
        check_params({"extra_body": {"field": value}}, MODEL)


@pytest.mark.parametrize(
    ("tweaks", "given"),
    [
        ({"batch_user_confirmation": False}, {"confirm": True}),
        ({"batch_wait_until_complete": True}, {"wait": False}),
        ({"max_concurrent": 2}, {"max_concurrent": None}),
        ({"max_concurrent": None, "async_max_concurrent": 2}, {}),
    ],
)
def test_a_tweak_does_not_override_an_argument_that_is_the_default(tweaks: MinorTweaks, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"differ: pass one\. Nothing was sent\.$"):
        apply_tweaks(tweaks, given)


def test_a_tweak_may_repeat_an_argument() -> None:
    assert apply_tweaks({"batch_user_confirmation": True}, {"confirm": True}) == {"confirm": True}


def test_lines_of_which_a_part_was_written_are_an_error(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot be written .* Nothing was sent\.$"):
            append_lines(str(tmp_path / "lines"), [b"0123", b"456789"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
