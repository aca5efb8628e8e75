"""How the code hangs together, in numbers that may only go down."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
import sys
from collections import defaultdict

import pytest

from tests.structure.parsed import ROOT, files

# Of one warm prompt through `df.llm.parse`: 305, and the timers of a busy machine add some. A person who follows
# it by hand is at home below 150.
MOST_CHANGES_OF_FILE = 316


def rooms_of_classes() -> dict[str, set[str]]:
    """Return the rooms that define a public class of each name; a file beside them is a room of its own."""
    rooms: defaultdict[str, set[str]] = defaultdict(set)
    for path, tree in files().items():
        room = path.partition("/")[0]
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                rooms[node.name].add(room)
    return rooms


@pytest.fixture(scope="module")
def walk() -> tuple[dict[str, int], list[str]]:
    """Return the counts of one warm prompt, and every function that it called, in order."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.structure.walk"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    counts, functions = map(json.loads, done.stdout.splitlines())
    return counts, functions


def test_one_warm_prompt_changes_file_no_more_often_than_it_did(walk: tuple[dict[str, int], list[str]]) -> None:
    assert 100 < walk[0]["changes"] <= MOST_CHANGES_OF_FILE, walk[0]


def test_the_architecture_page_follows_a_call_as_it_goes(walk: tuple[dict[str, int], list[str]]) -> None:
    """There and back by hand: at most ten files to the wire and six back, each function called after the one above."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    there, back = page.split("| to the wire |")[1].split("| back |")
    steps = [re.findall(r"^\| `(\S+\.py)` \| `(\S+)` \|", part, re.MULTILINE) for part in (there, back)]

    called = iter(walk[1])
    missed = [step for step in itertools.chain(*steps) if " ".join(step) not in called]

    assert missed == []
    assert (3 < len(steps[0]) <= 10, 3 < len(steps[1]) <= 6) == (True, True)


def test_no_class_name_means_two_things() -> None:
    shared = {name: rooms for name, rooms in rooms_of_classes().items() if len(rooms) > 1}

    assert shared == {}


# Public arguments that are named after providers, and the values that they take.
NAMED_AFTER_PROVIDERS = {"prompt_lists/utilities.py", "request_files/prepare_requests.py"}


def test_no_room_compares_providers_by_name() -> None:
    """What sets a provider apart is in its folder: the other rooms ask its `Provider`."""
    naming = set()
    for place, tree in files().items():
        if place.startswith(("sim/", "providers/anthropic/", "providers/google/")):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in ("anthropic", "google"):
                naming.add(place)

    assert naming == NAMED_AFTER_PROVIDERS
