"""A report's paragraph for the methods section of a paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pllm_notebook.formatting import counted

__all__ = ["methods_text"]

Facts = Mapping[str, Any]


def methods_text(facts: Facts) -> str:
    """Return the description of the work in sentences, from the facts of a report."""
    parts = [*_asking(facts), *_answers(facts), *_labels(facts), *_figures(facts), *_choices(facts)]
    return " ".join(parts)


def _asking(facts: Facts) -> Iterator[str]:
    question, runs, rows = facts["question"], facts["runs"], facts["rows"]
    models = _listed(dict.fromkeys(run["model"] for run in runs))
    served = _listed(dict.fromkeys(name for run in runs for name in run["served"]))
    days = sorted({run["began"][:10] for run in runs})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    named = "" if not served or served == models else f", which answered as {served}"
    distinct = "" if rows["distinct"] == rows["of_a_run"] else (
        f" ({rows['distinct']:,} distinct; equal rows share one answer)"
    )  # fmt: skip
    yield (
        f"We asked {models}{named} ({when}) one question of each of {counted(rows['of_a_run'], 'row')}{distinct}, with "
        f"pllm_notebook {facts['package']}."
    )
    if rows["items"] is not None:
        yield f"The answers are lists, of which each item is a line: {counted(rows['items'], 'line')} in all."
    for one in facts["promises"]:
        yield (
            f"{one['strong']} answered {one['escalated']:,} of {counted(one['rows'], 'row')} in place of "
            f"{one['low_cost']}. {one['promise']}"
        )
    if any(run["simulated"] for run in runs):
        yield "The answers are SIMULATED: no language model was asked."
    fields = _listed(question["fields"])
    if question["schema"] is not None:
        yield f"Answers were constrained to a JSON schema with the {_plural('field', question['fields'])} {fields}."
    options = question["options"]
    if question["examples"]:
        how = options.get("example_selection", "first")
        yield f"Rows with right answers were shown as examples before each row (selection: {how})."
    if samples := options.get("samples"):
        decided = "vote" if facts["promises"] else options.get("decide")
        yield f"Each row was asked {samples} times, and the answers were decided {_decided(decided)}."
    if settings := [f"{name} {options[name]}" for name in ("temperature", "top_p", "effort") if name in options]:
        yield f"Settings: {_listed(settings)}."


def _answers(facts: Facts) -> Iterator[str]:
    rows = facts["rows"]
    failed = sum(rows["failures"].values())
    if failed:
        kinds = _listed(f"{kind} {count:,}" for kind, count in rows["failures"].items())
        yield (
            f"{counted(failed, 'row')} ({100 * failed / max(rows['of_a_run'], 1):.1f} %) "
            f"{'has' if failed == 1 else 'have'} no answer ({kinds}); they count as wrong, and are not left out."
        )
    if rows["corrected"]:
        yield f"{counted(rows['corrected'], 'row')} {_were(rows['corrected'])} corrected by hand."


def _labels(facts: Facts) -> Iterator[str]:
    for one in facts["labels"]:
        persons = counted(len(one["persons"]), "person")
        drawn = ", ".join(f"{count:,} {word}" for word, count in one["drawn_by"].items())
        kappa = "".join(
            f"; Cohen's kappa of two persons is {pair['kappa']:.2f} on {pair['rows']:,} rows"
            for pair in one["kappa"]
            if pair["kappa"] is not None
        )
        yield (
            f"For {one['field']}, {counted(one['questions'], 'distinct row')} {_were(one['questions'])} labelled by "
            f"{persons} (drawn: {drawn}{kappa})."
        )
    for one in facts["evaluation"]:
        text = f"Accuracy of {one['field']} on {counted(one['rows'], 'labelled row')} is {one['accuracy']:.3f}"
        whole = one["whole_table"]
        if whole and whole["method"] != "none":
            text += (
                f"; in the whole table it is {whole['estimate']:.3f} (95 % interval {whole['low']:.3f} to "
                f"{whole['high']:.3f}), from {counted(whole['labels'], 'label')} with a known chance"
            )
        yield f"{text}."


def _figures(facts: Facts) -> Iterator[str]:
    methods = {one["method"] for one in facts["means"]} - {"none"}
    if not methods:
        if facts["means"]:
            yield "No mean or share is given an interval: there are too few labels that were drawn with a known chance."
        return
    names = []
    if methods & {"ppi", "ppi-small", "strata", "strata-small"}:
        names.append("prediction-powered inference (PPI++; Angelopoulos, Duchi and Zrnic, 2023)")
    if "design" in methods:
        names.append("design-based correction with the known chances of the labels (Egami et al., 2023)")
    if "labels" in methods:
        names.append("the labels alone where every row has one")
    yield (
        f"Means and shares are corrected for the model's errors with these labels, by {_listed(names)}. Intervals are "
        f"of 95 % each, and equal rows count as one observation."
    )
    if left := max((one["failed_left_out"] for one in facts["labels"]), default=0):
        yield f"The {counted(left, 'row')} without an answer {_were(left)} not labelled, and are not in them."
    kept, left = (
        max((one[name] for one in facts["labels"]), default=0) for name in ("examples_for_certain", "examples_left_out")
    )
    if kept:
        yield (
            f"{counted(kept, 'row')} that the model was shown as an example, or nearly, {_were(kept)} counted by the "
            f"label, which corrects no other row."
        )
    if left:
        yield (
            f"{counted(left, 'row')} that the model was shown as an example, or nearly, {_were(left)} not drawn with a "
            f"known chance, and {'is' if left == 1 else 'are'} not in them."
        )
    if methods & {"strata", "strata-small"}:
        yield "Rows that were labelled for certain are a stratum of their own."
    if methods & {"ppi-small", "strata-small"}:
        yield (
            "With fewer than 50 labels, four imagined labels at the bounds and Student's t make the interval wider; "
            "with fewer than 10 there is none."
        )


def _choices(facts: Facts) -> Iterator[str]:
    made = facts["comparisons"]
    if made["comparisons"]:
        labelled = "" if not made["with_labels"] else f", {made['with_labels']:,} of them against labels"
        yield (
            f"Before this question was chosen, {counted(made['questions'], 'question')} {_were(made['questions'])} "
            f"tried in {counted(made['comparisons'], 'comparison')}{labelled}."
        )
        if made["with_labels"]:
            yield (
                "Labels that chose a question make its own accuracy look better than it is; means and shares are "
                "corrected all the same."
            )
    else:
        yield "No comparison with another question was made in this cache directory."


def _decided(how: Any) -> str:
    known = {
        None: "by vote",
        "vote": "by vote",
        "judge": "by a judge model",
        "escalate": "by a stronger model where they disagreed",
    }
    return known.get(how, "by a function of our own")


def _listed(texts: Any) -> str:
    every: Sequence[str] = [str(text) for text in texts]
    return every[0] if len(every) == 1 else f"{', '.join(every[:-1])} and {every[-1]}" if every else ""


def _plural(word: str, things: Sequence[Any]) -> str:
    return word if len(things) == 1 else f"{word}s"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
