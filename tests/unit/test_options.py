"""One field describes an option: its check, text, default, environment variable and signature are made from it."""

from __future__ import annotations

import inspect
import re
import runpy
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook import settings
from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.frames.pandas.adapter import FrameLLM
from pllm_notebook.lab.improve_run import _FIXED as IMPROVE_FIXED
from pllm_notebook.lab.race_arms import _OWN
from pllm_notebook.lab.recheck_run import _FIXED as RECHECK_FIXED
from pllm_notebook.notebook.arguments import help_text
from pllm_notebook.options import Options, fields_of, option, taken_by
from pllm_notebook.settings import Settings, resolve
from pllm_notebook.signatures import shows

ROOT = Path(__file__).resolve().parents[2]
WRITER = runpy.run_path(str(ROOT / "tools" / "write_options.py"))


@dataclass(frozen=True, slots=True)
class WithWhim(Options):
    """Options, and one more that is nothing but a field."""

    whim: int = option(3, "Whims per row. See [whims](whims.md).", at_least=1, takes=frozenset({"parse"}), keyed=True)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    settings.reset()
    yield
    settings.reset()


def parameters(function: Any) -> dict[str, Any]:
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}


def test_an_option_is_one_field(monkeypatch: pytest.MonkeyPatch) -> None:
    @shows(taken_by(WithWhim, "parse"))
    def parse(**options: Any) -> None:
        """Ask.

        Args:
            **options: All.
        """

    known = fields_of(WithWhim)

    with pytest.raises(UsageError, match=r"^whim is a whole number of at least 1, not 0\. Nothing was sent\.$"):
        resolve({"whim": 0}, WithWhim)
    with pytest.raises(UnknownOptionError, match=r"'whimm'\. Did you mean 'whim'\? Nothing was sent\.$"):
        resolve({"whimm": 1}, WithWhim)
    assert getattr(resolve({}, WithWhim), "whim") == 3  # noqa: B009  # the toy's type is not the resolver's
    monkeypatch.setenv("PLLM_WHIM", "7")
    assert getattr(resolve({}, WithWhim), "whim") == 7  # noqa: B009
    assert "| `whim` | `3` | Whims per row. See [whims](whims.md). |" in WRITER["table"](known.values())
    assert WRITER["keyed"](known.values()).endswith(" and `whim`")
    assert "\n    whim: int\n" in WRITER["types"](WithWhim, Settings)
    assert "--whim N" in help_text(known)
    assert "Whims per row. See whims. (default: 3)" in " ".join(help_text(known).split())
    assert str(inspect.signature(parse)).endswith(", whim: int = 3) -> 'None'")
    assert (inspect.getdoc(parse) or "").endswith("\n    whim: Whims per row. See whims.")


@pytest.mark.parametrize("name", ["max_output_tokens", "temperature", "timeout_s", "concurrency", "max_cost_usd"])
@pytest.mark.parametrize("value", [2**63, 10**400])
def test_a_number_beyond_64_bits_is_no_value_of_an_option(name: str, value: int) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is [0-9]+, which is beyond 64 bits\. Nothing was sent\.$"):
        resolve({name: value})


ODD: dict[str, Any] = {
    "an array": np.array([1, 2]),
    "NA": pd.NA,
    "a series": pd.Series([1, 2]),
    "a frame": pd.DataFrame({"a": [1]}),
    "an object": object(),
    "a type": int,
    "a number": 3.5,
    "infinity": float("inf"),
    "bytes": b"x",
    "a generator": (each for each in "ab"),
    "a set": {"a"},
    "a mapping": {"a": 1},
    "half a surrogate pair": "\ud800",
    "a list of it": ["\ud800"],
}


@pytest.mark.parametrize("what", ODD)
def test_whatever_is_given_is_taken_or_refused_in_our_words(what: str) -> None:
    said = {}
    for name in fields_of(Options):
        try:
            resolve({name: ODD[what]})
        except UsageError as error:
            said[name] = str(error)

    assert [name for name, message in said.items() if "Nothing was sent." not in message] == []
    # One line, which any notebook can hold.
    assert [name for name, message in said.items() if not message.isprintable()] == []


@pytest.mark.parametrize("name", ["columns", "models"])
@pytest.mark.parametrize("held", [list, tuple, pd.Index, np.array, lambda names: dict.fromkeys(names).keys()])
def test_names_are_read_from_whatever_holds_them_in_order(name: str, held: Any) -> None:
    assert getattr(resolve({name: held(["b", "a"])}), name) == ("b", "a")


@pytest.mark.parametrize("held", [iter, set, frozenset, lambda names: dict.fromkeys(names, 1)])
def test_names_that_are_read_once_or_in_no_order_are_refused(held: Any) -> None:
    with pytest.raises(UsageError, match=r"^columns is a list of column names, not .* Nothing was sent\.$"):
        resolve({"columns": held(["b", "a"])})


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_ceiling_is_a_finite_number(value: float) -> None:
    with pytest.raises(UsageError, match=r"^max_cost_usd is a number of at least 0, not (inf|nan)\. Nothing was sent"):
        resolve({"max_cost_usd": value})


@pytest.mark.parametrize("what", ["an array", "NA", "a frame"])
def test_options_of_tools_are_refused_in_our_words_where_no_tool_is_offered(what: str) -> None:
    for name in ("tools", "tool_choice", "run_tools", "parallel_tool_calls", "tool_timeout_s"):
        with pytest.raises(UsageError, match=rf"^{name} is .* Nothing was sent\.$"):
            settings.refuse_without_tools({name: ODD[what]})


def test_what_is_made_from_the_fields_is_up_to_date() -> None:
    differing = [path.name for path, text in WRITER["files"]().items() if path.read_text(encoding="utf-8") != text]

    assert differing == [], "run `make options`"


@pytest.mark.parametrize("kind", [Options, Settings])
def test_what_none_means_is_said_where_it_is_the_default(kind: type[Any]) -> None:
    silent = [each.name for each in fields_of(kind).values() if each.default is None and "None" not in each.text]

    assert silent == []


def test_every_field_is_described() -> None:
    assert list(fields_of(Options)) == [each.name for each in fields(Options)]


@pytest.mark.parametrize("method", ["parse", "aparse", "submit", "estimate", "request_lines", "preview"])
def test_the_signature_has_every_option_with_its_default(method: str) -> None:
    df = pd.DataFrame({"text": ["a"]})

    shown = parameters(getattr(df.llm, method))

    defaults = {each.name: getattr(Options(), each.name) for each in fields(Options)}
    assert {name: value for name, value in shown.items() if name in defaults} == defaults
    kinds = [each.kind for name, each in inspect.signature(FrameLLM.parse).parameters.items() if name in defaults]
    assert set(kinds) == {inspect.Parameter.KEYWORD_ONLY}


def test_a_signature_leaves_out_what_the_method_refuses() -> None:
    assert {"explode", "nested", "columns"}.isdisjoint(parameters(FrameLLM.complete))
    assert {"samples", "run_tools", "pack"}.isdisjoint(parameters(FrameLLM.call_tools))
    assert {"samples", "tools", "images"}.isdisjoint(parameters(FrameLLM.decide))


@pytest.mark.parametrize(("method", "column"), [("complete", "answer"), ("decide", "decision")])
def test_a_signature_shows_the_default_that_is_in_force(method: str, column: str) -> None:
    assert parameters(getattr(FrameLLM, method))["column"] == column


def test_the_lab_shows_the_options_that_it_leaves_to_the_caller() -> None:
    refused = {"race": _OWN, "improve": IMPROVE_FIXED, "recheck": RECHECK_FIXED}
    for method, fixed in refused.items():
        shown = parameters(getattr(pd.DataFrame({"text": ["a"]}).llm, method))

        assert {"model", "max_cost_usd", "system", "temperature"} <= set(shown), method
        assert {"guarantee", *fixed}.isdisjoint(set(shown) - {"response_format", "prompt"}), method


WAYS_TO_ASK = [
    *((FrameLLM, name) for name in (
        "parse", "aparse", "submit", "complete", "acomplete", "submit_text", "call_tools", "acall_tools",
        "submit_calls", "decide", "adecide", "submit_decision", "reduce", "areduce", "chunks", "preview", "estimate",
        "request_lines", "race", "arace", "improve", "aimprove", "recheck", "arecheck",
        "compare", "evaluate", "label", "review", "report",
    )),
    *((pllm, name) for name in (
        "configure", "parse", "aparse", "submit", "preview", "estimate", "parse_batches", "aparse_batches",
        "parse_dataset", "compare", "resume_directory", "create_framework", "frame", "run", "errors", "jobs",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("home", "name"), WAYS_TO_ASK, ids=lambda each: getattr(each, "__name__", each))
def test_shift_tab_says_what_each_argument_means(home: Any, name: str) -> None:
    function = getattr(home, name)
    entries = set(re.findall(r"^ +\**(\w+): ", inspect.getdoc(function) or "", flags=re.MULTILINE))

    shown = [name for name, each in inspect.signature(function).parameters.items() if name != "self"]

    assert [name for name in shown if name not in entries] == []
    assert all(each.kind is not each.VAR_KEYWORD for each in inspect.signature(function).parameters.values())


def test_configure_shows_options_and_settings_as_not_set() -> None:
    shown = parameters(pllm.configure)

    assert list(shown) == [*fields_of(Options), *fields_of(Settings)]
    assert set(shown.values()) == {None}


def test_a_docstring_says_what_each_option_does() -> None:
    for function in (FrameLLM.parse, FrameLLM.complete, FrameLLM.call_tools, FrameLLM.decide, pllm.configure):
        doc = inspect.getdoc(function) or ""
        assert "max_cost_usd: Ceiling for one run, in US dollars." in doc
        assert "**options" not in doc
        assert "](" not in doc


@pytest.mark.parametrize("word", ["never", "2", "maybe"])
def test_a_text_that_is_neither_yes_nor_no_is_an_error(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("PLLM_CONFIRM", word)

    told = f"The environment variable PLLM_CONFIRM: confirm is True or False, not '{word}'. Nothing was sent."
    with pytest.raises(UsageError, match=f"^{re.escape(told)}$"):
        resolve({})


def test_texts_are_short_and_end_with_a_full_stop() -> None:
    for each in (*fields_of(Options).values(), *fields_of(Settings).values()):
        assert each.text.endswith("."), each.name
        assert len(each.text) < 320, each.name
