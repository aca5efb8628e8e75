"""The documentation names what there is, and nothing else."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from pllm_notebook.providers import registry
from pllm_notebook.providers.local import CONTEXT_TOKENS, SLOTS
from pllm_notebook.records import FailureKind
from pllm_notebook.settings import Options, Settings
from pllm_notebook.sim import Simulator
from tests.contract.sides import ANTHROPIC, OPENAI, reach

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def table(page: str, heading: str) -> dict[str, list[str]]:
    """Read the first table under a heading: first cell, without its backquotes, to the other cells."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    rows = [line.strip("|").split(" | ") for line in section[1].splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.mark.parametrize(
    ("heading", "kind", "left_out"), [("Options", Options, set()), ("Settings", Settings, {"options"})]
)
def test_every_option_is_documented_with_its_default_and_no_other_is(
    heading: str, kind: type[Options] | type[Settings], left_out: set[str]
) -> None:
    documented = {name: cells[0] for name, cells in table("options.md", heading).items()}

    defaults = {field.name: getattr(kind(), field.name) for field in fields(kind) if field.name not in left_out}
    assert documented == {name: "`{}`".format(repr(value).replace("'", '"')) for name, value in defaults.items()}


def test_every_kind_of_failure_is_documented_and_no_other_is() -> None:
    assert list(table("errors.md", "Kinds of failure")) == [str(kind) for kind in FailureKind]


def test_the_kinds_that_are_sent_again_are_documented_as_such() -> None:
    documented = table("errors.md", "Kinds of failure")

    for kind in FailureKind:
        meaning, again, _ = documented[kind]
        # What has arrived is asked again by the next run alone.
        arrived = kind in (FailureKind.UNFINISHED, FailureKind.EMPTY)
        assert again.startswith("yes") == (kind.retried and not arrived), kind
        assert ("Ends the run" in meaning) == kind.fatal, kind
        if kind.maybe_paid:
            assert "May be paid for" in meaning, kind


def test_the_readme_names_every_provider_and_its_key() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    for provider in registry.PROVIDERS:
        assert f"`{provider}:" in readme
    for variables in registry.KEYS.values():
        assert variables[0] in readme
    assert f"{CONTEXT_TOKENS:,} tokens, prompt and answer together" in readme
    assert f"{SLOTS} rows at once" in readme


def test_the_readmes_example_runs(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {"__name__": "readme"}

    example = code[1].replace("openai:gpt-6-luna", "sim:openai")
    exec(compile(example, "README.md", "exec", dont_inherit=True), names)

    out = names["out"]
    assert out.llm.status.value_counts()[["ok", "cached"]].tolist() == [20, 10]  # type: ignore[attr-defined]
    assert [str(dtype) for dtype in out.dtypes][1:] == ["string", "category", "Int64"]  # type: ignore[attr-defined]


def test_the_examples_of_tools_run(cache_dir: Path) -> None:
    page = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)).replace("openai:gpt-6-luna", "sim:openai")
    names: dict[str, object] = {"__name__": "tools"}

    exec(compile(code, "tools.md", "exec", dont_inherit=True), names)

    assert names["out"]["tool"].isin(["Ticket", "refund"]).all()  # type: ignore[index]
    for name in ("out", "sizes", "seen"):
        assert names[name].llm.status.eq("ok").all()  # type: ignore[attr-defined]


@pytest.mark.parametrize("at", range(3), ids=["parallel_llm", "llmbooster", "parallem"])
def test_the_examples_for_who_comes_from_another_package_run(
    at: int, sim: Simulator, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in (OPENAI, ANTHROPIC):
        reach(side, sim, monkeypatch)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "coming_from.md").read_text("utf-8"), re.DOTALL)

    exec(compile(blocks[at], "docs/coming_from.md", "exec", dont_inherit=True), {"__name__": "__main__"})

    assert len(blocks) == 3
    assert sim.stats().answered > 0
    assert sim.stats().rejected == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_makefile_lists_its_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None

    listed = set(re.findall(r"^#   make ([a-z0-9-]+)", makefile, re.MULTILINE))

    assert listed == set(phony[1].split()) - {"help"}


def names_of_tests() -> set[str]:
    """Give the name of every test of this repository."""
    files = (ROOT / "tests").rglob("test_*.py")
    return {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))

    assert set(named) - names_of_tests() == set()


def test_every_fault_that_is_documented_names_the_test_that_shows_it() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    headers = [at - 1 for at, line in enumerate(lines) if line.startswith("| ---")]
    faults = [
        line
        for at, line in enumerate(lines)
        if line.startswith("| ") and not line.startswith("| ---") and at not in headers
    ]

    assert len(faults) > 40
    assert [row for row in faults if not re.search(r"`test_\w+` \|$", row)] == []
