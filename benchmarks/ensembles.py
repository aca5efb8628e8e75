"""Benefit of several answers per row: accuracy of votes, judges and cascades of models with known error rates.

    python -m benchmarks.ensembles [--rows 500] [--out docs/ensembles.svg]

The simulator on loopback has models that are wrong on each row independently with a given probability; all wrong
classes are equally likely. Each measured accuracy is shown with its exact expectation and the range of 95 of 100
measurements on as many rows. The order of arrival decides which sample has which answer and, with more than two
classes, how ties are resolved, so the last digit can vary. Real models tend to err on the same hard rows, so votes gain
less with them than here.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, Literal

import pandas as pd

import pllm_notebook as pllm
from benchmarks.chart import INK, LOST, OURS
from pllm_notebook.execution.asked_model import start_simulator
from tests.contract.noisy import PROMPT, Noisy, by_chance, cascade, interval, labelled, plurality

# The second costs twenty times as much as the first, in input and in output (genai-prices, November 2026).
CHEAP, STRONG = "gpt-6-luna", "gpt-6-sol"
JUDGE, BIASED = "gpt-6.1-terra", "gpt-6.1-sol"
CLASSES: dict[int, Any] = {2: Literal["a", "b"], 5: Literal["a", "b", "c", "d", "e"]}
SAMPLES = (1, 3, 5, 9)
NOISE = 0.2


def ask(answers: Noisy, model: str = CHEAP, **options: Any) -> tuple[pd.DataFrame, int]:
    """Ask about every row. Return the frame and the number of calls."""
    pllm.configure(sim={"answers": answers, "latency_s": 0.01})
    simulator = start_simulator()
    simulator.reset()
    out = answers.frame.llm.parse(CLASSES[len(answers.classes)], PROMPT, model=f"sim:openai/{model}", **options)
    return out, simulator.stats().answered


def accuracy(out: pd.DataFrame) -> float:
    return float(out.llm.evaluate(against="label").accuracy)


def votes(rows: int) -> dict[int, list[tuple[int, float]]]:
    """Print and return the accuracy of votes, by classes and samples."""
    measured: dict[int, list[tuple[int, float]]] = {}
    print(f"A model that errs on {NOISE:.0%}, {rows} rows, decide='vote'; each line pays for its new samples alone:\n")
    print("| classes | `samples` | accuracy | expected | 95 % of measurements | calls |")
    print("| --- | --- | --- | --- | --- | --- |")
    for count in CLASSES:
        classes = "abcde"[:count]
        answers = Noisy(labelled(rows, classes), classes, {CHEAP: NOISE})
        for n in SAMPLES:
            out, calls = ask(answers, samples=n)
            found, expected = accuracy(out), plurality(n, NOISE, count)
            low, high = interval(expected, rows)
            measured.setdefault(count, []).append((n, found))
            print(f"| {count} | {n} | {found:.1%} | {expected:.1%} | {low:.1%} to {high:.1%} | {calls:,} |")
    table = out.llm.evaluate(against="label").by_samples
    print("\nWhat `by_samples` tells from the last of these runs alone:\n")
    print("| k | majority of k | pass@k |")
    print("| --- | --- | --- |")
    for k, line in table.iterrows():
        print(f"| {k} | {line['accuracy']:.1%} | {line['pass_at_k']:.1%} |")
    return measured


def judges(rows: int) -> None:
    """Print the accuracy of a judge that decides the rows whose samples differ."""
    print(f"\nThe same model, five classes, three samples, {rows} rows:\n")
    print("| decided by | rows that differ | calls of the judge | right among these | right in all |")
    print("| --- | --- | --- | --- | --- |")
    classes = "abcde"
    answers = Noisy(labelled(rows, classes), classes, {CHEAP: NOISE, JUDGE: 0.05}, biased=BIASED)
    lines: list[tuple[str, dict[str, Any]]] = [
        ("vote", {}),
        ("a judge that errs on 5 %", {"decide": "judge", "judge": f"sim:openai/{JUDGE}"}),
        ("a judge that favours the first place", {"decide": "judge", "judge": f"sim:openai/{BIASED}"}),
    ]
    for name, options in lines:
        out, calls = ask(answers, samples=3, **options)  # the samples are those of the votes: only judges are called
        differ = out.llm.agreement["answer"] < 1
        right = out["answer"].astype(str) == out["label"]
        print(f"| {name} | {differ.sum()} | {calls} | {right[differ].mean():.1%} | {right.mean():.1%} |")
    chances = by_chance(out)
    spread = 1.96 * sum(chance * (1 - chance) for chance in chances) ** 0.5
    blind, spread = sum(chances) / len(chances), spread / len(chances)
    print(f"\nA candidate drawn blindly is right in {blind:.1%} of the rows that differ, {spread:.1%} more or less.")


def cascades(rows: int) -> None:
    """Print the cost and accuracy of a cascade and of each of its two models alone."""
    cheap, strong, n = 0.1, 0.02, 3
    print(
        f"\nA model that errs on {cheap:.0%}, one that errs on {strong:.0%} and costs 20 times as much, {rows} rows:\n"
    )
    print("| | accuracy | expected | 95 % of measurements | calls of the strong model | cost, of the strong one's |")
    print("| --- | --- | --- | --- | --- | --- |")
    classes = "abcde"
    answers = Noisy(labelled(rows, classes), classes, {CHEAP: cheap, STRONG: strong})
    differ, expected = cascade(n, cheap, strong, len(classes))
    judge = f"sim:openai/{STRONG}"
    # Not the same model as in the votes, whose answers are already in the cache: hence the salt.
    alone, _ = ask(answers, salt="cascade")
    escalated, _ = ask(answers, samples=n, decide="escalate", judge=judge, salt="cascade")
    asked = int((escalated.llm.agreement["answer"] < 1).sum())
    best, _ = ask(answers, STRONG, salt="cascade")
    # The sum over rows, because rows from the cache cost this run nothing.
    whole = best.llm.usage["cost_usd"].sum()
    for name, out, chance, strong_calls in (
        ("the cheap model alone", alone, 1 - cheap, 0),
        (f'`samples={n}, decide="escalate"`', escalated, expected, asked),
        ("the strong model alone", best, 1 - strong, rows),
    ):
        share = out.llm.usage["cost_usd"].sum() / whole
        found, (low, high) = accuracy(out), interval(chance, rows)
        told = f"{found:.1%} | {chance:.1%} | {low:.1%} to {high:.1%}"
        print(f"| {name} | {told} | {strong_calls} | {share:.0%} |")
    print(f"\nExpected calls of the strong model: {differ:.1%} of the rows.")


def draw(measured: dict[int, list[tuple[int, float]]], rows: int) -> str:
    """Return the SVG: expected accuracy by samples as a line in its interval, measured accuracy as dots."""
    left, right, top, bottom, least = 56, 470, 40, 250, 0.75
    most = max(SAMPLES)

    def x(n: int) -> float:
        return left + 20 + (right - left - 40) * (n - 1) / (most - 1)

    def y(share: float) -> float:
        return bottom - (bottom - top) * (share - least) / (1 - least)

    title = f"Accuracy of a vote by number of samples, simulated, {NOISE:.0%} of answers wrong, {rows} rows"
    look = f'role="img" font-family="system-ui, sans-serif" font-size="13" fill="{INK}"'
    head = f"accuracy of a vote (simulated, {NOISE:.0%} of answers wrong)"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 300" {look}>',
        f"<title>{title}</title>",
        f'<text x="{left}" y="22" font-weight="600">{head}</text>',
        f'<text x="{(left + right) / 2}" y="{bottom + 38}" text-anchor="middle">samples a row</text>',
    ]
    for share in (0.8, 0.85, 0.9, 0.95, 1.0):
        parts.append(f'<path d="M{left} {y(share):.1f}H{right}" stroke="{INK}" stroke-opacity="0.3"/>')
        parts.append(f'<text x="{left - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    parts += [f'<text x="{x(n):.1f}" y="{bottom + 18}" text-anchor="middle">{n}</text>' for n in SAMPLES]
    for (classes, dots), colour in zip(measured.items(), (LOST, OURS), strict=True):
        steps = range(1, most + 1, 2)  # an even number of two classes has ties, and gains nothing
        chances = [plurality(n, NOISE, classes) for n in steps]
        bounds = [interval(chance, rows) for chance in chances]
        edge = [(n, low) for n, (low, _) in zip(steps, bounds, strict=True)]
        edge += [(n, high) for n, (_, high) in reversed(list(zip(steps, bounds, strict=True)))]
        band = " ".join(f"{x(n):.1f},{y(share):.1f}" for n, share in edge)
        line = " ".join(f"{x(n):.1f},{y(share):.1f}" for n, share in zip(steps, chances, strict=True))
        parts.append(f'<polygon points="{band}" fill="{colour}" fill-opacity="0.15"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x(n):.1f}" cy="{y(found):.1f}" r="4" fill="{colour}"/>' for n, found in dots]
    for nth, ((classes, _), colour) in enumerate(zip(measured.items(), (LOST, OURS), strict=True)):
        parts.append(f'<circle cx="{right + 24}" cy="{top + 26 + 24 * nth}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{right + 36}" y="{top + 30 + 24 * nth}">{classes} classes</text>')
    parts.append(f'<text x="{right + 18}" y="{top + 82}">line: expected</text>')
    parts.append(f'<text x="{right + 18}" y="{top + 100}">band: 95 % of runs</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--out", type=Path, help="where to write the figure; none is written without it")
    given = parser.parse_args()
    pllm.configure(cache_dir=tempfile.mkdtemp(), progress=False)
    measured = votes(given.rows)
    judges(given.rows)
    cascades(given.rows)
    if given.out is not None:
        given.out.write_text(draw(measured, given.rows), encoding="utf-8")


if __name__ == "__main__":
    main()
