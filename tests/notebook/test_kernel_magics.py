"""`%%pllm` and `%pllm` in a real kernel."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.kernel

NO_COLUMN = (
    "UnknownColumnError: The prompt names column 'txt', but the frame has ['text']. Did you mean 'text'? "
    "For the text {txt} itself, write {{txt}}. Nothing was sent."
)


def test_a_frame_with_out_is_bound_and_shows_nothing_but_one_line(kernel: Kernel) -> None:
    cell = kernel.ok("%%pllm df --schema Review --out answers\nRead this:\n{text}")

    (line,) = filter(None, cell.texts)
    assert line.startswith("✓ Review: 5 rows answered · ")
    assert line.endswith(" · sim:openai/gpt-6-luna SIMULATED")
    assert kernel.value("list(answers.columns)") == ["text", "product", "sentiment", "score"]


def test_a_frame_without_out_is_displayed(kernel: Kernel) -> None:
    cell = kernel.ok("%%pllm df.head(2) --column summary\nSummarise {text}")

    assert "summary" in cell.result
    assert cell.result.count("review number") == 2


def test_the_magic_and_the_accessor_share_their_answers(kernel: Kernel) -> None:
    kernel.ok("%%pllm df --schema Review --out answers\nShared: {text}")

    kernel.ok("again = df.llm.parse(Review, 'Shared: {text}')")

    assert kernel.value("int((again.llm.status == 'cached').sum())") == 5


def test_failed_rows_are_told_in_the_line_alone(kernel: Kernel) -> None:
    kernel.ok("server = sim(refusal=1.0)")

    cell = kernel.ok("%%pllm df --schema bool --out flags\nRefused: {text}")

    assert cell.streams == {"stdout": "", "stderr": ""}
    assert cell.texts[0].startswith("⚠ bool: 0 of 5 rows answered · 5 failed (pllm.errors() says why)")
    kernel.ok("server = sim()")


def test_a_prompt_alone_that_fails_is_an_error(kernel: Kernel) -> None:
    kernel.ok("server = sim(refusal=1.0)")

    cell = kernel.run("%%pllm --out told\nRefused, alone")

    assert cell.error.startswith("RowError: Row 0 failed (refusal): ")
    kernel.ok("server = sim()")


def test_an_empty_body_with_a_schema_asks_by_the_docstring(kernel: Kernel) -> None:
    kernel.ok("%%pllm df --schema Review --out answers")

    assert "Facts stated in a product review." in str(kernel.value("pllm.runs()[-1].explain(0).body"))


def test_a_list_gives_a_list(kernel: Kernel) -> None:
    kernel.ok("%%pllm ['a b', 'c'] --schema bool --out flags\nIs {value} nice?")

    assert kernel.value("[type(flag).__name__ for flag in flags]") == ["bool", "bool"]


def test_a_series_and_a_type_without_fields_give_a_series(kernel: Kernel) -> None:
    kernel.ok("%%pllm df['text'].iloc[2:] --schema bool --out flags\nIs {value} nice?")

    assert kernel.value("[list(flags.index), flags.name, str(flags.dtype)]") == [[2, 3, 4], "answer", "boolean"]


def test_a_prompt_alone_takes_the_notebooks_variables_and_shows_markdown(kernel: Kernel) -> None:
    kernel.ok("topic = 'tides and $HOME'")

    cell = kernel.ok("%%pllm --out told\nTell me of {topic}, {{nothing}} and $topic.")

    shown = cell.outputs[-1]["data"]["text/markdown"]
    assert shown.startswith("**SIMULATED** by sim:openai/gpt-6-luna\n\n")
    assert kernel.value("pllm.runs()[-1].explain(0).prompt") == "Tell me of tides and $HOME, {nothing} and $topic."
    assert shown.endswith(kernel.value("told"))


def test_a_name_that_is_no_variable_is_an_error_with_a_guess(kernel: Kernel) -> None:
    kernel.ok("topic = 'tides'")

    assert kernel.run("%%pllm\nTell me of {topci}.").error == (
        "UnknownColumnError: The prompt names 'topci', and there is no variable of that name. Did you mean 'topic'? "
        "For the text {topci} itself, write {{topci}}. Nothing was sent."
    )


def test_a_prompt_alone_with_a_schema_gives_the_value(kernel: Kernel) -> None:
    cell = kernel.ok("%%pllm --schema Literal['wet', 'dry']\nIs water wet?")

    assert cell.result in ("'wet'", "'dry'")


def test_run_cell_magic_gives_something_to_await(kernel: Kernel) -> None:
    cell = kernel.ok("flags = await get_ipython().run_cell_magic('pllm', \"['x'] --schema bool\", 'Is {value} nice?')")

    assert cell.texts[0].startswith("✓ bool: 1 row answered")
    assert kernel.value("len(flags)") == 1


def test_another_magic_whose_name_begins_alike_is_left_alone(kernel: Kernel) -> None:
    kernel.ok("get_ipython().register_magic_function(lambda line, cell: 'mine', 'cell', 'pllmx')")

    assert kernel.ok("%%pllmx\nbody").result == "'mine'"


def test_help_lists_every_option(kernel: Kernel) -> None:
    by_option = kernel.ok("%%pllm --help").stdout
    page = kernel.ok("%%pllm?").reply["payload"][0]["data"]["text/plain"]

    for word in kernel.value("list(__import__('pllm_notebook.notebook.arguments', fromlist=['x']).OPTION_FLAGS)"):
        assert word in by_option
        assert word in page


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "%%pllm df --schema Review\n{txt}",
            NO_COLUMN,
        ),
        (
            "df.llm.parse(Review, '{txt}')",
            NO_COLUMN,
        ),
        (
            "%%pllm unknown_xyz --schema Review\n{text}",
            "UsageError: %%pllm: there is no variable 'unknown_xyz' in this notebook. Nothing was sent.",
        ),
        (
            "%%pllm df --schema Reviews\n{text}",
            "UsageError: --schema: there is no variable 'Reviews' in this notebook. Did you mean 'Review'?",
        ),
        ("%%pllm df --cache sometimes\n{text}", "UsageError: %%pllm: argument --cache: invalid choice: 'sometimes'"),
        ("%%pllm df other --schema bool\n{text}", "UsageError: 'other' is unexpected on the line of %%pllm"),
        ("%%pllm df", "UsageError: The cell has neither a prompt nor --schema"),
        ("%%pllm", "UsageError: The cell has no prompt and names no data."),
        ("%%pllm 3\nhello", "UsageError: 3 is an int; %%pllm takes a dataframe, a series or a list."),
        ("%%pllm df --decide judge\n{text}", "UsageError: decide= is for several answers to a row: pass samples=3"),
        (
            "%%pllm df --mode batch\n{text}",
            "NotConfirmedError: 5 calls would have been submitted as a batch, and there is no interactive input",
        ),
        ("%%pllm df --modell x\n{text}", "UnknownOptionError: There is no option '--modell'. Did you mean '--model'?"),
        ("%%pllm df --model openai:gpt-6-luna --schema bool\nNew: {text}", "MissingKeyError: openai needs an API key"),
        (
            "%%pllm df --out pd --schema bool\n{text}",
            "UsageError: --out pd would replace the module 'pd' in this notebook.",
        ),
        (
            "%%pllm df.assign(x=1 / 0)\n{text}",
            "UsageError: %%pllm: 'df.assign(x=1 / 0)' cannot be evaluated: ZeroDivisi",
        ),
        ("# Which?\n%%pllm df --schema bool\n{text}", "UsageError: %%pllm is the first line of its cell, with nothing"),
        ("one = 1\n%%pllm_session program\none", "UsageError: %%pllm_session is the first line of its cell"),
        ("%%pllm df --schema bool\n{text}\n%%pllm df\n{text}", "UsageError: A line of the prompt begins with %%pllm"),
        ("runs = pllm.runs(); runs[-1].explain(99)", "UsageError: There is no row 99: the run has "),
        ("%pllm statsu", "UsageError: There is no %pllm statsu. Did you mean 'status'?"),
        ("%pllm jobs all", "UsageError: %pllm jobs takes no argument, not 'all'."),
    ],
)
def test_an_error_of_ours_is_one_line(kernel: Kernel, code: str, message: str) -> None:
    cell = kernel.run(code)

    assert cell.status == "error"
    assert cell.error.startswith(message)
    assert len(cell.reply["traceback"]) == 1


@pytest.mark.parametrize("word", ["--help", "help", "-h"])
def test_the_line_magic_shows_its_commands_when_it_is_asked(kernel: Kernel, word: str) -> None:
    cell = kernel.ok(f"%pllm {word}")

    assert "%pllm status       the newest run" in cell.stdout


def test_status_says_limits_in_words(kernel: Kernel) -> None:
    kernel.ok("%%pllm df --schema bool --out flags\nOf status: {text}")

    shown = kernel.ok("%pllm status").result

    assert "Limiter(" not in shown
    assert "calls at once" in shown


def test_line_words_show_and_set_things(kernel: Kernel) -> None:
    kernel.ok("%%pllm df --schema bool --out flags\nCounted: {text}")

    assert kernel.ok("%pllm use sim:anthropic").result.startswith("model     sim:anthropic (pllm.configure)")
    assert kernel.ok("%pllm use sim:openai").result.startswith("model     sim:openai (pllm.configure)")
    assert "5 rows answered" in kernel.ok("%pllm status").result
    assert kernel.value("get_ipython().run_line_magic('pllm', 'cost').loc['total', 'rows'].item()") >= 5
    assert kernel.value("list(get_ipython().run_line_magic('pllm', 'limits').index)")[0] == "sim:openai/gpt-6-luna"
    assert kernel.value("len(get_ipython().run_line_magic('pllm', 'errors'))") == 0
    assert kernel.value("get_ipython().run_line_magic('pllm', 'cache').entries") >= 5


def test_a_model_that_cannot_be_resolved_is_not_kept(kernel: Kernel) -> None:
    kernel.run("%pllm use opnai:gpt")

    assert kernel.ok("%pllm").result.startswith("model     sim:openai (pllm.configure)")


def test_retry_sends_what_can_succeed_again(kernel: Kernel) -> None:
    kernel.ok("server = sim(error_500=1.0); flags = df.llm.parse(bool, 'Again: {text}', max_retries=0); sim()")

    kernel.ok("%pllm retry")

    assert kernel.value("[pllm.runs()[-1].progress().done, pllm.runs()[-1].progress().failed]") == [5, 0]


@pytest.mark.parametrize(
    ("code", "expected", "unexpected"),
    [
        ("%%pllm df --mo", ["--mode", "--model"], ["--schema"]),
        ("%%pllm df --model sim:o", ["sim:openai"], ["sim:google"]),
        ("%%pllm df --model open", ["openai:gpt-6-luna"], []),
        ("%%pllm df --cache re", ["refresh"], ["use"]),
        ("%%pllm df --schema Rev", ["Review"], ["reviews"]),
        ("%%pllm d", ["df"], ["dict"]),
        ("%pllm us", ["use"], ["cost"]),
        ("%pllm use sim:go", ["sim:google"], []),
        ("%%pllm df --probabilities=d", ["--probabilities=decisions"], ["--probabilities=samples"]),
        ("%%pllm df --evidence ", [], ["retry"]),
    ],
)
def test_tab_completes(kernel: Kernel, code: str, expected: list[str], unexpected: list[str]) -> None:
    reply = complete(kernel, code)

    assert set(expected) <= set(reply["matches"])
    assert not set(unexpected) & set(reply["matches"])
    assert all(
        code[reply["cursor_start"] :] == match[: len(code) - reply["cursor_start"]] for match in reply["matches"]
    )


def test_tab_in_the_body_and_elsewhere_is_left_to_ipython(kernel: Kernel) -> None:
    in_body = complete(kernel, "%%pllm df\nRead --mo")
    elsewhere = complete(kernel, "revi")

    assert "--model" not in in_body["matches"]
    assert "reviews" in elsewhere["matches"]


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("code", "names"),
    [
        (
            'out = df.llm.parse(Review, "Read: {text}", max_',
            [
                "max_cost_usd=",
                "max_example_tokens=",
                "max_examples=",
                "max_output_tokens=",
                "max_repairs=",
                "max_retries=",
                "max_turns=",
            ],
        ),
        ("await df.llm.aparse(Review, images", ["images=", "images_from="]),
        ('df.llm.submit(Review, "{text}", conc', ["concurrency="]),
        ('df.llm.complete("Say: {text}", temp', ["temperature="]),
        ('df.llm.call_tools([Review], "{text}", par', ["parallel_tool_calls="]),
        ('df.llm.decide(["a", "b"], "{text}", jud', ["judge="]),
        ("df.llm.estimate(Review, mod", ["mode=", "model=", "models="]),
        ("df.llm.request_lines(Review, sal", ["salt="]),
        ("pllm.configure(cache_", ["cache_dir=", "cache_share="]),
        ('pllm.resume_directory("program", max_', ["max_concurrent=", "max_cost_usd="]),
        ('agent.ask_llm("Read.", max_r', ["max_repairs=", "max_retries="]),
        ('agent.ask_llm("Read.", reasoning', ["reasoning=", "reasoning_effort="]),
        ("pllm.ParallelAIUtilities(max_c", ["max_cost_usd="]),
        ("pllm.create_framework(decision_maker_m", ["decision_maker_model="]),
        ("framework.parse(max_", ["max_completion_tokens=", "max_cost_usd=", "max_tokens="]),
        ("pllm.OAIApiFromFileConfig(requests_", ["requests_filepath="]),
    ],
)
def test_tab_in_a_call_completes_the_names_of_options(kernel: Kernel, code: str, names: list[str]) -> None:
    kernel.ok("framework, agent = pllm.create_framework(), pllm.resume_directory('program').agent('reader')")

    assert sorted(complete(kernel, code)["matches"]) == names


@pytest.mark.parametrize(
    ("code", "default", "meaning"),
    [
        ("df.llm.parse(", "max_retries: int = 5,", "max_retries: Retries of a failed request."),
        ("pllm.configure(", "max_retries: int | None = None,", "max_retries: Retries of a failed request."),
        (
            "pllm.resume_directory(",
            "errors: Literal['raise', 'coerce'] = 'raise',",
            "ends the program at the first call",
        ),
        ("pllm.ParallelAIUtilities(", "hedge: bool = False,", "hedge: Near the end of a run,"),
        ("pllm.create_framework(", "timeout: float = 30.0,", "timeout: Time limit of one call, in seconds."),
    ],
)
def test_shift_tab_shows_each_options_default_and_meaning(
    kernel: Kernel, code: str, default: str, meaning: str
) -> None:
    reply = kernel.ask("shell", "inspect_request", {"code": code, "cursor_pos": len(code), "detail_level": 0})

    shown = re.sub(r"\x1b\[[0-9;]*m", "", reply["data"]["text/plain"])
    assert default in shown
    assert meaning in shown


def test_unloading_takes_everything_away_and_loading_twice_is_once(kernel: Kernel) -> None:
    kernel.ok("%load_ext pllm_notebook\n%reload_ext pllm_notebook")
    ours = "[t for t in ip.input_transformers_cleanup if t.__module__.startswith('pllm')]"
    matchers = "[m for m in ip.Completer.custom_matchers if m.__module__.startswith('pllm')]"
    kernel.ok("ip = get_ipython()")
    assert kernel.value(f"[len({ours}), len({matchers})]") == [2, 1]

    kernel.ok("%unload_ext pllm_notebook")

    assert kernel.value(f"[len({ours}), len({matchers})]") == [0, 0]
    gone = kernel.run("%%pllm df --schema bool\n{text}")
    assert "UsageError: Cell magic `%%pllm` not found." in gone.streams["stderr"]
    kernel.ok("%load_ext pllm_notebook")
    kernel.ok("%%pllm df --schema bool --out flags\n{text}")


def complete(kernel: Kernel, code: str) -> dict[str, Any]:
    return kernel.ask("shell", "complete_request", {"code": code, "cursor_pos": len(code)})
