"""The documentation names what there is, and nothing else."""

from __future__ import annotations

import inspect
import os
import pydoc
import re
import subprocess
import tomllib
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook as pllm
from docs.images import make_architecture
from pllm_notebook.failures import FailureKind
from pllm_notebook.providers import registry
from pllm_notebook.providers.local.llama import CONTEXT_TOKENS, SLOTS
from pllm_notebook.settings import Options, Settings
from tests.pages import PAGES, ROOT


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


def test_the_page_of_models_names_every_provider_and_its_key() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")

    for provider in registry.names():
        assert f"`{provider}:" in page
    for variables in (provider.key_variables for provider in registry.hosted()):
        assert variables[0] in page
    assert f"{CONTEXT_TOKENS:,} tokens, prompt and answer together" in page
    assert f"{SLOTS} rows at once" in page


def test_every_page_is_listed_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")

    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


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


def test_the_notebook_opens_in_jupyterlab_for_root_too() -> None:
    shown = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "/jupyter lab" in shown
    assert ("--allow-root" in shown) == (os.getuid() == 0)


def test_the_picture_of_the_architecture_has_every_room_and_is_what_its_script_draws() -> None:
    drawn = {room.name for group in make_architecture.GROUPS for room in group.rooms}
    packages = {path.parent.name for path in (ROOT / "pllm_notebook").glob("*/__init__.py")}

    assert packages - drawn == set()
    assert all((ROOT / "pllm_notebook" / f"{name}.py").exists() for name in drawn - packages)
    assert (ROOT / "docs/images/architecture.svg").read_text(encoding="utf-8") == make_architecture.picture()


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


def referenced() -> dict[str, object]:
    """Return every object that the reference describes, by its path."""
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    paths = [path for page in pages for path in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)]
    assert len(paths) == len(set(paths))
    return {path: pydoc.locate(path) for path in paths}


def test_the_reference_describes_every_public_name() -> None:
    found = {id(thing) for thing in referenced().values()}
    # Objects of which the reference describes the class, and a text.
    left_out = {"cache", "labels", "runs", "DECISION_MAKER_PROMPT"}

    assert [name for name in pllm.__all__ if id(getattr(pllm, name)) not in found and name not in left_out] == []


@pytest.mark.parametrize(("path", "thing"), referenced().items())
def test_what_the_reference_describes_has_docstrings(path: str, thing: object) -> None:
    assert thing is not None, path
    assert inspect.getdoc(thing), path
    if isinstance(thing, type):
        for name, member in inspect.getmembers(thing):
            if name.startswith("_") or not (isinstance(member, property) or inspect.isfunction(member)):
                continue
            module = getattr(member.fget if isinstance(member, property) else inspect.unwrap(member), "__module__", "")
            assert not module.startswith("pllm_notebook") or inspect.getdoc(member), f"{path}.{name}"


def test_the_page_of_dependencies_has_those_of_the_package_with_their_bounds_and_licences() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    always = table("dependencies.md", "Always installed")
    extras = table("dependencies.md", "Extras")

    assert list(always) == project["dependencies"]
    needed: dict[str, list[str]] = {}
    for extra, requirements in project["optional-dependencies"].items():
        for requirement in requirements if extra != "all" else ():
            needed.setdefault(requirement, []).append(f"`{extra}`")
    assert {requirement: cells[0] for requirement, cells in extras.items()} == {
        requirement: ", ".join(names) for requirement, names in needed.items()
    }
    licences = {name: cells[0] for name, cells in always.items()} | {name: cells[1] for name, cells in extras.items()}
    for requirement, licence in licences.items():
        stated = stated_licence(re.split(r"[\[<>=]", requirement)[0])
        assert stated is None or licence.split("-")[0].split()[0].lower() in stated.lower(), (requirement, stated)


def stated_licence(package: str) -> str | None:
    """Return what an installed package says of its licence, None where it is not installed."""
    try:
        facts = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return None
    classifiers = (line for line in facts.get_all("Classifier", ()) if line.startswith("License"))
    return " ".join([facts.get("License-Expression", ""), facts.get("License", ""), *classifiers])


def test_every_environment_for_the_notebooks_has_the_extras_that_the_index_names() -> None:
    files = ("docs/index.md", "binder/requirements.txt", ".devcontainer/devcontainer.json")
    named = {file: re.findall(r"\.\[([a-z,]+)\]", (ROOT / file).read_text(encoding="utf-8")) for file in files}
    made = re.findall(r"^NOTEBOOK_EXTRAS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    assert len(made) == 1
    assert named == dict.fromkeys(files, made)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "AGENTS.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_simulated_model_that_a_page_quotes_is_one_that_can_be_asked(page: Path) -> None:
    quoted = set(re.findall(r'"(sim:[^"]*)"', page.read_text(encoding="utf-8")))

    for name in quoted:
        pd.DataFrame({"text": ["tea"]}).llm.estimate(bool, "{text}", model=name)
