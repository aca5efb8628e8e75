"""Draw the picture of docs/architecture.md: the rooms, and who may call whom.

    python docs/images/make_architecture.py      # writes architecture.svg beside this file

The picture has a background of its own, so that it can be read on a light and on a dark page; where the reader's
system is dark, so is the picture.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent

WIDTH = 640
MARGIN = 16
GAP = 12
BOX_HEIGHT = 58
HEADING = 30
ARROW = 30

STYLE = """
  .page { fill: #ffffff } .panel { fill: #eef1f8; stroke: #c3cbe0 } .box { fill: #ffffff; stroke: #8a97bd }
  text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1b2138 }
  .heading { font-size: 15px; font-weight: 600 } .name { font-size: 16px; font-weight: 600 }
  .name { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
  .caption { font-size: 14px; fill: #444c66 } .arrow { stroke: #6b78a3; fill: none } .head { fill: #6b78a3 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #1c2030 } .panel { fill: #262b3f; stroke: #414a69 } .box { fill: #303750; stroke: #6b78a3 }
    text { fill: #eef1f8 } .caption { fill: #c3cbe0 } .arrow { stroke: #8a97bd } .head { fill: #8a97bd }
  }
"""


class Room(NamedTuple):
    """A package, and what it is for."""

    name: str
    caption: str


class Group(NamedTuple):
    """Rooms that stand beside each other."""

    heading: str
    rooms: tuple[Room, ...]


GROUPS = (
    Group(
        "What people use",
        (
            Room("notebook", "magics, displays"),
            Room("testing", "scripted and recorded answers"),
            Room("lab", "compare, label, race, report"),
            Room("cli", "commands for the shell"),
        ),
    ),
    Group(
        "Sources of rows",
        (
            Room("streams", "table after table, datasets, clusters"),
            Room("frames", "df.llm: pandas, Polars, Arrow; lists"),
            Room("ensemble", "several answers, one decision"),
            Room("prompt_lists", "mixed prompts"),
            Room("request_files", "JSONL in, JSONL out"),
            Room("sessions", "resumable programs"),
            Room("job_commands", "a job's lines sent live, resubmitted, imported"),
        ),
    ),
    Group("The loop", (Room("execution", "execute.py: plan, answer, decide"),)),
    Group(
        "Services",
        (
            Room("engine", "dispatchers, limits, retries"),
            Room("store", "answers, failures, claims, runs"),
            Room("providers", "one folder each"),
            Room("schema", "types in, values out"),
            Room("batch_jobs", "runs by batch job"),
            Room("batch", "journal of jobs"),
        ),
    ),
    Group(
        "What they share",
        (
            Room("options", "each one a field, with its text and bounds"),
            Room("messages", "conversations, pictures, documents"),
            Room("tools", "functions that a model may call"),
            Room("statistics", "intervals, paired tests"),
            Room("sim", "providers on this machine"),
        ),
    ),
)


def picture() -> str:
    """Return the SVG."""
    drawn: list[str] = []
    top = MARGIN
    for at, group in enumerate(GROUPS):
        if at:
            drawn += _arrow(top)
            top += ARROW
        top = _group(drawn, group, top)
    height = top + MARGIN
    described = "; ".join(f"{group.heading}: {', '.join(room.name for room in group.rooms)}" for group in GROUPS)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(described)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" width="{WIDTH}" height="{height}" rx="10"/>',
            *drawn,
            "</svg>",
            "",
        ]
    )


def _group(drawn: list[str], group: Group, top: int) -> int:
    """Draw a group from *top* downwards; return where it ends."""
    width = WIDTH - 2 * MARGIN
    height = HEADING + (len(group.rooms) + 1) // 2 * (BOX_HEIGHT + GAP)
    drawn.append(f'<rect class="panel" x="{MARGIN}" y="{top}" width="{width}" height="{height}" rx="8"/>')
    drawn.append(f'<text class="heading" x="{MARGIN + GAP}" y="{top + 21}">{escape(group.heading)}</text>')
    half = (width - 3 * GAP) // 2
    for at, room in enumerate(group.rooms):
        whole = at % 2 == 0 and at == len(group.rooms) - 1
        x = MARGIN + GAP + at % 2 * (half + GAP)
        y = top + HEADING + at // 2 * (BOX_HEIGHT + GAP)
        wide = width - 2 * GAP if whole else half
        drawn.append(f'<rect class="box" x="{x}" y="{y}" width="{wide}" height="{BOX_HEIGHT}" rx="6"/>')
        drawn.append(f'<text class="name" x="{x + 12}" y="{y + 25}">{escape(room.name)}</text>')
        drawn.append(f'<text class="caption" x="{x + 12}" y="{y + 46}">{escape(room.caption)}</text>')
    return top + height


def _arrow(top: int) -> list[str]:
    middle, end = WIDTH // 2, top + ARROW - 4
    return [
        f'<path class="arrow" stroke-width="2" d="M{middle} {top + 4}V{end - 6}"/>',
        f'<path class="head" d="M{middle - 6} {end - 8}h12l-6 8z"/>',
    ]


if __name__ == "__main__":
    (HERE / "architecture.svg").write_text(picture(), encoding="utf-8")
