"""Length that `evidence=True` adds to a reply, by type of field: writes the table of docs/evidence.md.

    python benchmarks/evidence.py

Counts characters of the reply's JSON, because tokens depend on the model.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "evidence.md"
QUOTE = "a passage of the row, forty characters.."
FIELDS: dict[str, tuple[str, Any]] = {
    '`Literal["positive", "negative", "neutral"]`': ("sentiment", "positive"),
    "`bool`": ("recommends", True),
    "`int`, 1 to 5": ("stars", 5),
    "`str`, 60 characters": ("summary", "x" * 60),
    "`list[Literal]`, two labels": ("topics", ["price", "size"]),
}


def length(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":")))


def main() -> None:
    """Write the table."""
    wrapper = length({"evidence": {}, "answer": {}}) - length({})
    lines = [
        "| field | answer alone | with its quote | added by a quote of 40 characters |",
        "| --- | --: | --: | --: |",
    ]
    for name, (field, value) in FIELDS.items():
        alone = length({field: value})
        quoted = length({"evidence": {field: QUOTE}, "answer": {field: value}}) - wrapper - length({})
        lines.append(f"| {name} | {alone} | {quoted} | {quoted - alone} |")
    lines.append(f"| the wrapper, once a reply | 0 | {wrapper} | {wrapper} |")
    table = "\n".join(lines)
    text = PAGE.read_text(encoding="utf-8")
    mark = "<!-- evidence costs: benchmarks/evidence.py -->\n"
    text = re.sub(rf"(?s){re.escape(mark)}.*?<!-- end -->", lambda _: f"{mark}{table}\n<!-- end -->", text)
    PAGE.write_text(text, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
