"""Evaluation of answers against known labels: accuracy, classes, and the benefit of several samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pllm_notebook.ensemble import EnsembleResults
from pllm_notebook.exceptions import PllmError, UsageError, guess
from pllm_notebook.execution import LiveRun
from pllm_notebook.formatting import counted, escape_html, strip_control_chars
from pllm_notebook.frames.dtypes import Column, plain
from pllm_notebook.frames.labels import check_known, check_single, classes_of, plain_values
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.sample_sizes import by_samples
from pllm_notebook.frames.samples import sampled_by
from pllm_notebook.frames.stored_labels import label_column
from pllm_notebook.frames.table import FrameLibrary, Table
from pllm_notebook.statistics import new_axes, scikit_learn

__all__ = ["Evaluation", "EvaluationInput", "evaluate"]


class Evaluation:
    """One field's answers compared with the labels of the same rows. Only rows with both are compared.

    Args:
        field: Name of the result column.
        against: Name of the labels.
        total: Rows of the run.
        unlabelled: Rows without a label.
        truths: The labels of the compared rows, at least one.
        answers: Their answers. None is also an answer.
        classes: Every value among these, in the order of the tables.
        samples: The label and the answers in order, of each labelled row with an answer from every sample. None if the
            run had one answer per row.
        library: Builds the frames.
        examples: Number of labelled rows that were examples.

    Attributes:
        field: As given.
        against: As given.
        total: Rows of the run.
        answered: Rows with a label and an answer.
        unlabelled: Rows without a label, left out.
        unanswered: Rows with a label but no answer (failed, not sent, skipped or pending), left out.
        examples: Labelled rows that were shown as examples, including near-duplicates, left out.
        accuracy: Share of the answered rows whose answer equals the label, from 0 to 1. Rows without an answer are
            left out, so it is too high if hard rows fail; `compare` and `race` count them as wrong. It has no interval
            and is only for these rows; `report` has the accuracy of the whole table with an interval.
        kappa: Agreement beyond chance: at most 1, and 0 for random guesses with the right shares (Cohen, "A
            Coefficient of Agreement for Nominal Scales", 1960). NaN if all labels and answers are of one class.
        report: A line for each class: precision (share of the answers with this class that are right; NaN without such
            answers), recall (share of the labels with this class whose answer has it too; NaN without such labels), f1
            (their harmonic mean) and support (number of labels).
        confusion: Number of rows for each label (line) and answer (column).

    Raises:
        MissingPackageError: If scikit-learn, which computes the figures, is not installed.
    """

    def __init__(
        self,
        field: str,
        against: str,
        total: int,
        unlabelled: int,
        truths: Sequence[Any],
        answers: Sequence[Any],
        classes: Sequence[Any],
        samples: Sequence[tuple[Any, Sequence[Any]]] | None,
        library: FrameLibrary,
        examples: int = 0,
    ) -> None:
        metrics = scikit_learn("sklearn.metrics", "evaluate")
        self.field = field
        self.against = against
        self.total = total
        self.answered = len(truths)
        self.unlabelled = unlabelled
        self.examples = examples
        self.unanswered = total - unlabelled - examples - len(truths)
        self._samples = samples
        self._library = library
        self._classes = list(classes)
        # Values are encoded as numbers: scikit-learn accepts no mixed types and treats None as a missing label.
        code = {value: at for at, value in enumerate(classes)}
        true, said, all_codes = [code[v] for v in truths], [code[v] for v in answers], list(range(len(classes)))
        self.accuracy = float(metrics.accuracy_score(true, said))
        several = len(classes) > 1  # scikit-learn warns about a single class, which is fine here
        self.kappa = float(metrics.cohen_kappa_score(true, said)) if several else float("nan")
        index = (against, self._classes)
        precision, recall, f1, support = metrics.precision_recall_fscore_support(
            true, said, labels=all_codes, zero_division=np.nan
        )
        figures = {"precision": precision, "recall": recall, "f1": f1, "support": np.asarray(support, dtype=np.int64)}
        self.report = library.indexed_frame(figures, index)
        self._counts = np.array(metrics.confusion_matrix(true, said, labels=all_codes) if several else [[len(true)]])
        counts = dict(zip(self._classes, self._counts.T, strict=True))
        self.confusion = library.indexed_frame(counts, index, columns_name=field)

    def __repr__(self) -> str:
        text = self._library.to_text
        return strip_control_chars(f"{self._headline()}\n\n{text(self.report)}\n\n{text(self.confusion)}")

    def _repr_html_(self) -> str:
        tables = f"{self._library.to_html(self.report)}{self._library.to_html(self.confusion)}"
        return f"<p>{escape_html(self._headline())}</p>{strip_control_chars(tables)}"

    @cached_property
    def by_samples(self) -> Any:
        """The figures with fewer samples: a line for each k from 1 to their number.

        Columns: accuracy (of the majority of k samples), pass_at_k (the share of rows for which at least one of k
        samples is right) and subsets (the number of subsets of size k tried). Computed over the labelled rows that have
        an answer from every sample (references in `sample_sizes.by_samples`). Sends nothing.

        Raises:
            PllmError: If the run had one answer per row, is not in memory, or no labelled row has all its answers.
        """
        if self._samples is None:
            raise PllmError(
                "by_samples needs several answers for each row (samples= or models=), of a run that is in memory. If "
                "this run had them, run its cell again first: answers in the cache cost nothing."
            )
        if not self._samples:
            raise PllmError("No labelled row has an answer from every sample, so there is nothing to compare.")
        code: dict[Any, int] = {}
        table = np.array(
            [[code.setdefault(value, len(code)) for value in (truth, *given)] for truth, given in self._samples]
        )
        lines = by_samples(table[:, 0], table[:, 1:])
        columns = {name: [line[name] for line in lines] for name in lines[0]}
        return self._library.indexed_frame(columns, ("k", range(1, len(lines) + 1)))

    def plot(self, *, ax: Any = None) -> Any:
        """Plot the confusion matrix.

        Args:
            ax: Axes to plot on (matplotlib), None for a new figure.

        Returns:
            The axes.

        Raises:
            MissingPackageError: If matplotlib is not installed.
        """
        # Axes are created here: if scikit-learn created them, its error would not name our extra.
        ax = new_axes("evaluate's plot") if ax is None else ax
        metrics = scikit_learn("sklearn.metrics", "evaluate")
        shown = metrics.ConfusionMatrixDisplay(self._counts, display_labels=list(map(str, self._classes)))
        shown.plot(ax=ax, colorbar=False, values_format="d", xticks_rotation=30)
        shown.ax_.set(xlabel=self.field, ylabel=self.against)
        return shown.ax_

    def _headline(self) -> str:
        left_out = [
            f"{count:,} without {what}"
            for count, what in ((self.unlabelled, "a label"), (self.unanswered, "an answer"))
            if count
        ]
        if self.examples:
            left_out.append(f"{self.examples:,} shown as examples")
        beside = f" ({', '.join(left_out)})" if left_out else ""
        return (
            f"{self.field} against {self.against}: accuracy {self.accuracy:.3f} "
            f"on {self.answered:,} of {self.total:,} rows{beside}, Cohen's kappa {self.kappa:.3f}"
        )


@dataclass(frozen=True)
class EvaluationInput:
    """The facts about a run that the evaluation of its rows needs.

    Attributes:
        columns: The result columns of the fields.
        prefix: Prefix of the fields' names.
        explode: Whether an answer has a line for each of its items.
        answered: Whether each row has an answer. Its cell may still be NA, if the answer was None.
        values_of: Splits one answer into the result's columns.
        examples: Whether each row or a near-duplicate was an example of the run; () if there were no examples.
        samples: The run's ensemble and the call in it, for each row; None for a row without a call. None if the run had
            one answer per row, or is not in memory.
    """

    columns: Sequence[Column]
    prefix: str
    explode: bool
    answered: Sequence[bool]
    samples: Sequence[tuple[EnsembleResults, int] | None] | None
    values_of: Callable[[Any], Sequence[Any]]
    examples: Sequence[bool] = ()

    @classmethod
    def of(cls, run: LiveRun, shape: ResultColumns) -> EvaluationInput:
        """Return the input for a live run and its own rows."""
        ensemble, rows = sampled_by(run), range(run.rows.total)
        samples: list[tuple[EnsembleResults, int] | None] | None = None
        if ensemble is not None:
            samples = [(ensemble, run.table.call_of_row[row]) for row in rows]
        return cls(
            columns=shape.columns,
            prefix=run.spec.options.prefix,
            explode=shape.explode,
            answered=[run.table.status(row) in ("ok", "cached") for row in rows],
            samples=samples,
            values_of=shape.values_of,
            examples=[] if (taken := getattr(run.rows, "taken", None)) is None else taken.tolist(),
        )


def evaluate(
    table: Table, result: Table, asked: EvaluationInput, against: Any, field: str | None, without: Collection[str] = ()
) -> Evaluation:
    """Compare one field of the answers with labels (see `df.llm.evaluate`).

    Args:
        table: The rows, in which labels are looked up.
        result: The answers, one row for each row of *table*. Rows without an answer are left out.
        asked: The facts about the run of these rows.
        against: Name of a column of *table*, a Series, aligned by its index, or "labels" for those of the cache
            directory.
        field: Name of the field. None for the only one, or the one named like the labels.
        without: Columns of *table* that are not labels.

    Raises:
        UsageError: If nothing can be compared, or no label is a value that the field can have.
        MissingPackageError: If scikit-learn is not installed.
    """
    if asked.explode:
        raise UsageError(
            f"explode={asked.explode!r} made a line for each item, and evaluate compares one answer per row."
        )
    fields = {column.name.removeprefix(asked.prefix): column for column in asked.columns}
    labels, own = label_column(table, against, fields, field, tuple(without))
    field = field or own
    named = "labels" if labels.name is None else str(labels.name)
    at = _position(asked, field, named)
    column = asked.columns[at]
    if list(result.names).count(column.name) != 1:
        raise UsageError(f"The frame no longer has exactly one column {column.name!r}, which holds the answers.")
    cells = result.column_data([column.name])
    answers, truths = plain_values(cells.values[0]), plain_values(labels.values)
    for name, values in ((column.name, answers), (named, truths)):
        check_single(name, values)
    shown = asked.examples or [False] * len(truths)
    labelled = [not gap for gap in labels.missing]
    given = [not gap for gap in cells.missing[0]]
    # NA in the result is not an answer, unless the answer itself was None.
    answered = [here or none for none, here in zip(asked.answered, given, strict=True)]
    answers = [answer if here else None for answer, here in zip(answers, given, strict=True)]
    compared = [row for row in range(len(truths)) if labelled[row] and answered[row] and not shown[row]]
    examples = sum(is_shown and has_label for is_shown, has_label in zip(shown, labelled, strict=True))
    if not compared and examples:
        raise UsageError(
            f"{counted(examples, 'labelled row', 'was')} shown to the model as an example, or nearly so, and there is "
            f"no other label to evaluate on. Keep labelled rows out of examples=: pllm.example_roles splits them."
        )
    if not compared:
        raise UsageError(f"No row has both a label in {named!r} and an answer, so there is nothing to compare.")
    true, said = [truths[row] for row in compared], [answers[row] for row in compared]
    check_known(column, named, true, said)
    samples = None
    if asked.samples is not None:
        of_rows = {row: truths[row] for row in compared}
        samples = list(_samples(asked.samples, asked.values_of, at, column, of_rows))
    classes = classes_of(column, [*true, *said])
    return Evaluation(column.name, named, len(truths), labelled.count(False), true, said, classes, samples,
                      table.frame_library, examples)  # fmt: skip


def _position(asked: EvaluationInput, field: str | None, named: str) -> int:
    names, prefix = [column.name for column in asked.columns], asked.prefix
    if field is None and len(names) == 1:
        return 0
    wanted = named if field is None else field
    for name in (wanted, prefix + wanted):
        if name in names:
            return names.index(name)
    if field is None:
        raise UsageError(f"There are several fields, and none is named {named!r}. Pass field= with one of {names}.")
    raise UsageError(
        f"There is no field {field!r} among {names} of the newest run of this frame; those of an earlier run are "
        f"evaluated on its own result.{guess(field, names)}"
    )


def _samples(
    calls: Sequence[tuple[EnsembleResults, int] | None],
    values_of: Callable[[Any], Sequence[Any]],
    at: int,
    column: Column,
    truths: dict[int, Any],
) -> Iterable[tuple[Any, Sequence[Any]]]:
    for row, truth in truths.items():
        asked = calls[row]
        if asked is None or asked[1] < 0:
            continue
        ensemble, call = asked
        outcomes = ensemble.outcomes(call)
        if all(outcome is not None and outcome.failure is None for outcome in outcomes):
            values = [outcome.value for outcome in outcomes if outcome is not None]
            values = [values_of(value)[at] for value in values]
            yield truth, plain_values(plain(column, values))
