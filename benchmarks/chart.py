"""Draw scenario A of a comparison as bars: efficiency, and rows without an answer.

    python benchmarks/chart.py FILE [--scenario A] [--out docs/makespan.svg]

FILE is written by `makespan.py --json`. The picture has no background and colours of medium lightness, so that it is
readable on light and dark pages, regardless of the reader's system setting.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from xml.sax.saxutils import escape

import orjson

INK, OURS, OTHERS, LOST = "#7d8590", "#2f81f7", "#8b949e", "#d1603d"
LEFT, BAR, GAP, TEXT, STEP = 300, 190, 84, 13, 26


def draw(bars: list[tuple[str, float | None, int, int]], title: str) -> str:
    """Return the SVG of *bars*: client, efficiency (None if unknown), unanswered rows, rows; ours first."""
    second = LEFT + BAR + GAP
    width, height = second + BAR + GAP, 58 + STEP * len(bars)
    look = f'role="img" font-family="system-ui, sans-serif" font-size="{TEXT}" fill="{INK}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {look}>',
        f"<title>{escape(title)}</title>",
        f'<text x="{LEFT}" y="22" font-weight="600">efficiency (1 is ideal)</text>',
        f'<text x="{second}" y="22" font-weight="600">rows without an answer</text>',
    ]
    for nth, (name, efficiency, left, rows) in enumerate(bars):
        y = 44 + STEP * nth
        weight = ' font-weight="600"' if nth == 0 else ""
        parts.append(f'<text x="{LEFT - 12}" y="{y + TEXT}" text-anchor="end"{weight}>{escape(name)}</text>')
        words = "none" if efficiency is None else f"{efficiency:.3f}"
        parts += _bar(LEFT, y, min(1.0, efficiency or 0), OURS if nth == 0 else OTHERS, words)
        parts += _bar(second, y, left / rows, LOST, f"{left:,} of {rows:,}" if left else "0")
    # The line of the ideal.
    parts.append(f'<path d="M{LEFT + BAR} 34V{height - 10}" stroke="{INK}" stroke-dasharray="2 4"/>')
    return "\n".join([*parts, "</svg>\n"])


def _bar(x: int, y: int, share: float, colour: str, words: str) -> list[str]:
    length = share * BAR
    return [
        f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{STEP - 8}" rx="3" fill="{colour}"/>',
        f'<text x="{x + length + 6:.1f}" y="{y + TEXT}">{words}</text>',
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--scenario", default="A")
    parser.add_argument("--out", type=Path, default=Path("docs/makespan.svg"))
    given = parser.parse_args()
    records = [r for r in orjson.loads(given.file.read_bytes())["runs"] if r["scenario"] == given.scenario]
    if not records:
        parser.error(f"{given.file} has no scenario {given.scenario}")
    bars = []
    for client in dict.fromkeys(record["client"] for record in records):
        of = [record for record in records if record["client"] == client]
        shares = [record["efficiency"] for record in of if record["efficiency"] is not None]
        rows = of[0]["rows"]
        left = rows - round(statistics.median(record["answered"] for record in of))
        bars.append((client.strip("*").replace("`", ""), statistics.median(shares) if shares else None, left, rows))
    given.out.write_text(draw(bars, f"Scenario {given.scenario}: efficiency and unanswered rows of each client"))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
