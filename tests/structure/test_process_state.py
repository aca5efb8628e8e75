"""What belongs to the process is in `runtime.RUNTIME`: modules have no state of their own but what is named here."""

from __future__ import annotations

import ast

from tests.structure.parsed import files

# Reason each: a new one belongs into a `Slot`, unless resetting it could not be noticed.
NAMED = {
    ("options/option_fields.py", "_known"): "a memo: a function of a class",
    ("runtime.py", "RUNTIME"): "the one place",
}
CHANGING = {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "move_to_end", "pop", "popitem",
            "popleft", "remove", "setdefault", "sort", "update"}  # fmt: skip
# What is made to change, whether or not this module is seen to do so.
STATEFUL = {"Barrier", "Condition", "Counter", "DaemonThreads", "Event", "Lock", "OrderedDict", "Queue", "RLock",
            "Random", "Runtime", "Semaphore", "Thread", "WeakKeyDictionary", "WeakSet", "WeakValueDictionary", "count",
            "cycle", "defaultdict", "deque", "local"}  # fmt: skip
HOOKS = {"register_at_fork", "atexit.register"}


def top_names(tree: ast.Module) -> dict[str, ast.expr | None]:
    """Return the names that a module assigns, and what to."""
    found: dict[str, ast.expr | None] = {}
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update((target.id, node.value) for target in targets if isinstance(target, ast.Name))
    return found


def changed_names(tree: ast.Module) -> set[str]:
    """Return the names whose values some function of the module changes."""
    found: set[str] = set()
    functions = (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    for node in (inner for function in functions for inner in ast.walk(function)):
        if isinstance(node, ast.Global):
            found.update(node.names)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
            found.update(_name(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING:
            found.update(_name(node.func.value))
    return found


def _name(node: ast.expr) -> set[str]:
    return {node.id} if isinstance(node, ast.Name) else set()


def own_classes(tree: ast.Module) -> set[str]:
    """Return classes of the module whose instances assign to their own attributes after they are made."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name != "__init__"]
            stores = (
                isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store) and _name(inner.value) == {"self"}
                for method in methods
                for inner in ast.walk(method)
            )
            if any(stores):
                found.add(node.name)
    return found


def _is_stateful(value: ast.expr | None, classes: set[str]) -> bool:
    if not isinstance(value, ast.Call):
        return False
    return _last_name(value.func) in STATEFUL | classes


def _last_name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_no_module_has_state_of_its_own_that_is_not_named_with_its_reason() -> None:
    found = set()
    for place, tree in files().items():
        changed, classes = changed_names(tree), own_classes(tree)
        for name, value in top_names(tree).items():
            if name in changed or _is_stateful(value, classes):
                found.add((place, name))

    assert found == set(NAMED)


def test_one_hook_for_forks_and_one_for_the_exit() -> None:
    hooks = [
        (place, ast.unparse(node.func))
        for place, tree in files().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _last_name(node.func).endswith(("register_at_fork", "register"))
        if any(ast.unparse(node.func).endswith(hook) for hook in HOOKS)
    ]

    assert sorted(hooks) == [("runtime.py", "atexit.register"), ("runtime.py", "os.register_at_fork")]
