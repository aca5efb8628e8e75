"""How the code hangs together, in numbers that may only go down."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pllm_notebook"

# Of one warm prompt through `df.llm.parse`. A person who follows it by hand is at home below 150.
MOST_CHANGES_OF_FILE = 530

# Classes that stand in more than one room, under one name for two things. Each that gets a name of its own leaves.
SHARED_NAMES: set[str] = set()


def rooms_of_classes() -> dict[str, set[str]]:
    """Return the rooms that define a public class of each name; a file beside them is a room of its own."""
    rooms: defaultdict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                rooms[node.name].add(room)
    return rooms


def test_one_warm_prompt_changes_file_no_more_often_than_it_did() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.structure.walk"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    walked = json.loads(done.stdout)

    assert 100 < walked["changes"] <= MOST_CHANGES_OF_FILE, walked


def test_no_further_class_name_stands_in_two_rooms() -> None:
    shared = {name for name, rooms in rooms_of_classes().items() if len(rooms) > 1}

    assert shared - SHARED_NAMES == set()
    assert SHARED_NAMES - shared == set(), "these have names of their own by now: take them out of the list"


# Public arguments that are named after providers, and the values that they take.
NAMED_AFTER_PROVIDERS = {"prompt_lists/utilities.py", "request_files/prepare_requests.py"}


def test_no_room_compares_providers_by_name() -> None:
    """What sets a provider apart is in its folder: the other rooms ask its `Provider`."""
    naming = set()
    for path in PACKAGE.rglob("*.py"):
        place = str(path.relative_to(PACKAGE))
        if place.startswith(("sim/", "providers/anthropic/", "providers/google/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in ("anthropic", "google"):
                naming.add(place)

    assert naming == NAMED_AFTER_PROVIDERS
