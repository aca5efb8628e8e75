"""The shape of the house: sizes, names, doors and circles. Each list of exceptions may only get shorter."""

from __future__ import annotations

import ast
import itertools
import re
from collections import defaultdict
from pathlib import Path

from tests.conftest import LONGEST
from tests.structure.parsed import PACKAGE, ROOT, files

MOST_LINES = 400
FEW_LINES, MOST_SHORT_FILES = 40, 29
MOST_ARGUMENTS = 6
# Values with a constructor of their own: what is asked, a row's outcome, what a comparison found.
VALUES = {"execution/call_spec.py:CallSpec", "execution/outcome.py:Outcome", "frames/evaluation.py:Evaluation"}


def room_of(path: str) -> str:
    return path.partition("/")[0]


def module_of(path: str) -> str:
    return f"pllm_notebook/{path}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports_of(path: str) -> set[str]:
    """Return the modules of the package that a file imports, also late and for types only."""
    modules = {module_of(other) for other in files()}
    found = set()
    for node in ast.walk(files()[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "pllm_notebook":
            full = {f"{node.module}.{name.name}" for name in node.names}
            found |= (full & modules) | ({node.module} if full - modules else set())
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names} & modules
    return {name for name in found if name}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for further in graph.get(waiting.pop(), set()) - seen:
                seen.add(further)
                waiting.append(further)
        return seen

    below = {module: reached(module) for module in graph}
    found: list[set[str]] = []
    for module in graph:
        circle = {other for other in below[module] if module in below.get(other, set())}
        if len(circle) > 1 and circle not in found:
            found.append(circle)
    return found


def test_no_file_is_long() -> None:
    long = {path: lines for path in files() if (lines := len((PACKAGE / path).read_text().splitlines())) > MOST_LINES}

    assert long == {}


def test_few_files_are_short() -> None:
    lines = {path: len((PACKAGE / path).read_text().splitlines()) for path in files() if "__main__" not in path}
    short = [path for path, count in lines.items() if count < FEW_LINES]

    assert len(short) <= MOST_SHORT_FILES, short


def test_constructors_take_few_arguments() -> None:
    """A value class lists its fields; what has a constructor of its own takes six things at most."""
    many = {}
    for path, tree in files().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for function in node.body:
                    if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                        count = len(function.args.args) - 1 + len(function.args.kwonlyargs)
                        name = f"{path}:{node.name}"
                        if count > MOST_ARGUMENTS and name not in VALUES:
                            many[name] = count

    assert many == {}


def test_no_module_name_stands_in_two_rooms() -> None:
    rooms: defaultdict[str, set[str]] = defaultdict(set)
    for path in files():
        name = Path(path).stem
        if not name.startswith("__"):
            rooms[name].add(room_of(path))

    assert {name: sorted(there) for name, there in rooms.items() if len(there) > 1} == {}


def test_rooms_are_entered_through_their_doors() -> None:
    """What another room needs is in a room's `__init__`; modules behind it may move.

    The door of frames registers `df.llm` when the package is imported, so that it loads nothing else.
    """
    rooms = {room_of(path) for path in files() if path.count("/")}
    past = [
        f"{path}:{node.lineno} {node.module}"
        for path, tree in files().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (parts := (node.module or "").split("."))[0] == "pllm_notebook"
        if len(parts) > 2 and parts[1] in rooms
        if parts[1] not in (room_of(path), "frames") and path != "__init__.py"
    ]

    assert past == []


def test_no_exported_name_equals_a_module_of_its_room() -> None:
    same = []
    for path, tree in files().items():
        if not path.endswith("/__init__.py"):
            continue
        folder = (PACKAGE / path).parent
        modules = {entry.stem for entry in folder.glob("*.py")}
        modules |= {entry.parent.name for entry in folder.glob("*/__init__.py")}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module != module_of(path):
                same += [f"{path}: {name.name}" for name in node.names if (name.asname or name.name) in modules]

    assert same == []


def test_no_module_reaches_itself() -> None:
    """Neither by a late import nor by one for types only; the front door may load what uses it."""
    graph = {module_of(path): imports_of(path) for path in files() if path not in ("__init__.py", "__main__.py")}

    assert circles(graph) == []


def test_what_is_run_first_is_there() -> None:
    assert [name for name in LONGEST if not (ROOT / name).exists()] == []


def test_documented_arguments_are_those_that_are_taken() -> None:
    wrong = [
        f"{path}:{node.lineno} {name}"
        for path, tree in files().items()
        for node in ast.walk(tree)
        if (taken := parameters_of(node)) is not None
        for name in documented_arguments(node)
        if name not in taken
    ]

    assert wrong == []


def parameters_of(node: ast.AST) -> set[str] | None:
    """Return the names that a function, or a class by its constructor, takes; None if it takes any keyword."""
    if isinstance(node, ast.ClassDef):
        node = next((one for one in node.body if getattr(one, "name", "") in ("__init__", "__new__")), node)
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.args.kwarg:
        return None
    args = node.args
    return {arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg) if arg}


def documented_arguments(node: ast.AST) -> list[str]:
    """Return the names in the section "Args:" of a docstring."""
    assert isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    section = (ast.get_docstring(node) or "").partition("\nArgs:\n")[2]
    lines = itertools.takewhile(lambda line: not line or line.startswith(" "), section.splitlines())
    found = [named[1] for line in lines if (named := re.match(r" {4}(\*?\w+(?:, \w+)*):", line))]
    return [name.strip(" *") for names in found for name in names.split(",")]
