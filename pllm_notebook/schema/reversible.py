"""Checks that replies to a union can be converted back after its branches were converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pllm_notebook.schema.fit_plans import EachPlan, FitPlan, MapPlan, PropertiesPlan, RefPlan, TuplePlan
from pllm_notebook.schema.schema_match import exclude_each_other, resolve

__all__ = ["Branch", "is_reversible"]

# Without a limit, recursive types would be compared forever.
_DEPTH = 8


class Branch(NamedTuple):
    """One alternative of a union: its fitted schema and the plan to convert replies back."""

    schema: Mapping[str, Any]
    plan: FitPlan | None


def is_reversible(branches: Sequence[Branch], defs: Mapping[str, Any], plans: Mapping[str, FitPlan | None]) -> bool:
    """Return whether all branches that match a reply convert it back to the same value.

    Args:
        branches: All fitted branches of one union.
        defs: Fitted definitions.
        plans: Conversion plans of the definitions.
    """
    return all(
        _agree(left, right, defs, plans, _DEPTH) for at, left in enumerate(branches) for right in branches[at + 1 :]
    )


def _agree(
    left: Branch, right: Branch, defs: Mapping[str, Any], plans: Mapping[str, FitPlan | None], depth: int
) -> bool:
    if depth == 0:
        return False
    if left.plan == right.plan or exclude_each_other(left.schema, right.schema, defs):
        return True
    one, its = _resolved(left, defs, plans)
    other, theirs = _resolved(right, defs, plans)
    if one.get("type") == other.get("type") == "array" and isinstance(its, MapPlan) == isinstance(theirs, MapPlan):
        # The empty array matches both and converts to the same value, so only the items matter.
        return _agree(_item(one, its), _item(other, theirs), defs, plans, depth - 1)
    if one.get("type") == other.get("type") == "object":
        if isinstance(its, TuplePlan) or isinstance(theirs, TuplePlan):
            return False
        mine = dict(its.properties) if isinstance(its, PropertiesPlan) else {}
        yours = dict(theirs.properties) if isinstance(theirs, PropertiesPlan) else {}
        return all(
            _agree(
                Branch(inner, mine.get(name)),
                Branch(other["properties"][name], yours.get(name)),
                defs,
                plans,
                depth - 1,
            )
            for name, inner in one["properties"].items()
            if name in other["properties"]
        )
    return False


def _resolved(branch: Branch, defs: Mapping[str, Any], plans: Mapping[str, FitPlan | None]) -> Branch:
    plan = branch.plan
    while isinstance(plan, RefPlan):
        plan = plans[plan.name]
    return Branch(resolve(branch.schema, defs), plan)


def _item(schema: Mapping[str, Any], plan: FitPlan | None) -> Branch:
    if isinstance(plan, MapPlan):
        return Branch(schema["items"]["properties"]["value"], plan.item)
    return Branch(schema["items"], plan.item if isinstance(plan, EachPlan) else None)
