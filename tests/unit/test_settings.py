"""Options: the same words everywhere, from the call, `configure`, or the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook  # noqa: F401  # adds the checks of places
from pllm_notebook import settings
from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.settings import configure, current, refuse_without_tools, resolve


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    settings.reset()
    yield
    settings.reset()


def test_a_calls_own_word_stands_above_configure_above_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLLM_MODEL", "openai:a")
    monkeypatch.setenv("PLLM_MAX_COST_USD", "1.5")
    monkeypatch.setenv("PLLM_CONCURRENCY", "9")
    configure(model="openai:b", max_cost_usd=2)

    options = resolve({"model": "openai:c"})

    assert (options.model, options.max_cost_usd, options.concurrency) == ("openai:c", 2, 9)


def test_none_forgets_what_was_configured() -> None:
    configure(model="openai:b")
    configure(model=None)

    assert resolve({}).model is None


def test_none_in_a_call_means_the_default() -> None:
    assert resolve({"max_retries": None}).max_retries == 5


@pytest.mark.parametrize("where", [lambda word: configure(**word), lambda word: resolve(word)])
def test_an_option_that_no_one_reads_is_an_error(where: Any) -> None:
    with pytest.raises(UnknownOptionError, match=r"There is no option 'concurency'. Did you mean 'concurrency'?"):
        where({"concurency": 3})


@pytest.mark.parametrize(
    ("word", "value"),
    [("tools", 3), ("images", 3), ("max_turns", 0), ("run_tools", "yes"), ("parallel_tool_calls", 1)],
)
def test_an_option_of_tools_or_images_outside_its_range_is_an_error(word: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{word} is .*Nothing was sent\.$"):
        resolve({word: value})


def test_one_column_of_images_is_as_good_as_a_list() -> None:
    assert resolve({"images": "photo"}).images == ("photo",)


def test_tools_are_not_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLLM_TOOLS", "weather")

    assert resolve({}).tools is None


@pytest.mark.parametrize("cache", ["off", "only"])
def test_a_batch_needs_the_cache(cache: str) -> None:
    with pytest.raises(UsageError, match=f"cache='{cache}'"):
        resolve({"mode": "batch", "cache": cache})


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("mode", "parallel"),
        ("cache", "no"),
        ("errors", "ignore"),
        ("na", "drop"),
        ("concurrency", 0),
        ("concurrency", 2.5),
        ("concurrency", True),
        ("hedge", 1),
        ("timeout_s", 0),
        ("timeout_s", float("nan")),
        ("max_cost_usd", -1),
        ("max_cost_usd", "5"),
        ("max_output_tokens", 0),
        ("columns", "text"),
        ("prefix", 3),
        ("extra_body", [1]),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_it(word: str, value: Any) -> None:
    with pytest.raises(UsageError, match=word):
        resolve({word: value})


def test_a_word_in_the_environment_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLLM_TIMEOUT_S", "soon")

    with pytest.raises(UsageError, match="PLLM_TIMEOUT_S is 'soon'"):
        resolve({})


def test_a_bad_word_changes_nothing() -> None:
    configure(model="openai:a")
    with pytest.raises(UsageError):
        configure(model="openai:b", concurrency=0)

    assert resolve({}).model == "openai:a"


def test_where_the_loop_lives_is_one_of_two() -> None:
    with pytest.raises(UsageError, match="'private' or 'notebook'"):
        configure(loop="mine")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sim": {"nonsense": 1}}, "There is no option 'nonsense'"),
        ({"sim": {"latencys": 1}}, "Did you mean 'latency_s'?"),
        ({"sim": {"latency_s": -1}}, "sim: latency_s is a number of at least 0"),
        ({"sim": {"rungs": 3}}, "sim: rungs is a list of texts"),
        ({"sim": {"answers": "yes"}}, "sim: answers is a function"),
        ({"sim": 3}, "sim is a mapping, such as {'latency_s': 0.5}, not int"),
        ({"servers": "http://localhost"}, "servers is a mapping"),
        ({"clients": ["client"]}, "clients is a mapping"),
    ],
)
def test_a_setting_that_could_not_be_used_is_refused_when_it_is_set(values: dict[str, Any], words: str) -> None:
    configure(sim={"latency_s": 0.5})
    before = current()

    with pytest.raises(UsageError) as error:
        configure(model="sim:openai", **values)

    assert words in str(error.value)
    assert current() == before


@pytest.mark.parametrize(
    ("option", "guessed"),
    [
        ("modle", "model"),
        ("mdoel", "model"),
        ("temprature", "temperature"),
        ("smaples", "samples"),
        ("n", "samples"),
        ("max_workers", "concurrency"),
    ],
)
def test_an_unknown_option_names_the_nearest_and_no_wall_of_others(option: str, guessed: str) -> None:
    with pytest.raises(UnknownOptionError) as error:
        resolve({option: 1})

    assert str(error.value) == f"There is no option {option!r}. Did you mean {guessed!r}? Nothing was sent."


@pytest.mark.parametrize(
    ("option", "place"),
    [("api_key", "OPENAI_API_KEY"), ("base_url", "servers="), ("messages", "system="), ("stream", "progress=")],
)
def test_a_word_of_other_packages_is_answered_with_where_that_is_said_here(option: str, place: str) -> None:
    with pytest.raises(UnknownOptionError) as error:
        configure(**{option: "sk-any"})

    assert place in str(error.value)
    assert "nearest" not in str(error.value)


def test_an_option_that_is_like_none_names_a_few() -> None:
    with pytest.raises(UnknownOptionError) as error:
        resolve({"zzz": 1})

    assert str(error.value).count(",") < 8
    assert "options, the nearest are" in str(error.value)


@pytest.mark.parametrize(
    "given",
    [{"run_tools": True}, {"tool_choice": "required"}, {"parallel_tool_calls": False, "run_tools": True}],
    ids=str,
)
def test_an_option_of_tools_without_tools_is_an_error(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"is for calls that offer tools.* Nothing was sent\.$"):
        refuse_without_tools(given)


def test_tools_options_may_be_configured_for_calls_that_offer_tools() -> None:
    configure(run_tools=True)

    refuse_without_tools({})
    refuse_without_tools({"tools": [print], "tool_choice": "required"})
    assert resolve({}).run_tools is True


def test_a_directory_for_images_that_is_not_there_is_an_error() -> None:
    with pytest.raises(
        UsageError, match=r"^images_from names '/nope', which is not a directory\..* Nothing was sent\.$"
    ):
        resolve({"images_from": "/nope"})
    assert resolve({"images_from": "anywhere"}).images_from == ("anywhere",)


def test_a_misspelt_environment_variable_is_reported_once_with_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLLM_SAMPELS", "3")
    monkeypatch.setenv("PLLM_OF_SOMETHING_ELSE", "3")

    with pytest.warns(UserWarning, match="PLLM_SAMPELS") as warned:
        resolve({})
    resolve({})

    assert [str(one.message) for one in warned] == [
        "The environment variable PLLM_SAMPELS is not read. Did you mean PLLM_SAMPLES?"
    ]


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_a_cache_directory_that_is_a_file_is_refused_when_it_is_configured(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(UsageError, match=r"file is a file\. Name a directory.* Nothing was changed\.$"):
        configure(cache_dir=file / below)

    assert current().cache_dir is None


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nope://team", r"'nope://team' cannot be opened: Protocol not known: nope"),
        ("{file}", r"file' is a file\. Name a directory"),
        ("file://{file}", r"file' is a file\. Name a directory"),
    ],
)
def test_a_share_that_nothing_can_be_written_to_is_refused_when_it_is_configured(
    tmp_path: Path, address: str, said: str
) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(UsageError, match=rf"{said}.* Nothing was sent\.$"):
        configure(cache_share=address.format(file=file))

    assert current().cache_share is None


@pytest.mark.parametrize("name", ["cache_dir", "cache_share"])
@pytest.mark.parametrize("value", ["", " ", "a\0b", b"x", 3])
def test_what_is_no_path_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is a path.* Nothing was sent\.$"):
        configure(**{name: value})
