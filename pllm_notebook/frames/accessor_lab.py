"""The methods of `.llm` that compare a frame's answers with other answers and labels, and correct them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Steps, awaiting, blocking
from pllm_notebook.frames import result_views
from pllm_notebook.frames.accessor_confidence import ConfidenceAccessor
from pllm_notebook.frames.accessor_results import AgreementT, ColumnT, FrameT
from pllm_notebook.frames.evaluation import Evaluation
from pllm_notebook.frames.stored_labels import LabelNote, label_table, labeller
from pllm_notebook.lab_registry import lab
from pllm_notebook.options import Options, RecheckOptions, is_number, taken_by
from pllm_notebook.signatures import shows

__all__ = ["LabAccessor"]


class LabAccessor(ConfidenceAccessor[FrameT, ColumnT, AgreementT]):
    """Comparison, labels, review, recheck and report of answers. Only `recheck` sends anything."""

    def evaluate(self, against: Any, field: str | None = None) -> Evaluation:
        """Compare a field of this frame's answers with known labels. Sends nothing.

            out.llm.evaluate("stars", field="score").accuracy

        Only rows with a label and an answer are compared. The others are left out, and their number is reported.
        Values are compared unchanged, an Enum by its value. If an answer was corrected by hand, the corrected value
        counts.

        Args:
            against: Name of a column of this frame, or a Series, aligned by its index. NA is not a label. "labels"
                means those of the cache directory (see `label`), unless the frame has a column of that name.
            field: Name of the field. None for the only one, or the one named like the labels.

        Returns:
            An `Evaluation`: accuracy, kappa, report (precision and recall of each class), confusion, plot(), and for
            several samples by_samples, the figures with fewer samples.

        Raises:
            UsageError: If no label is a possible value of the field, or nothing can be compared.
            PllmError: If no known run made a row of this frame.
            MissingPackageError: If scikit-learn is not installed.
        """
        return result_views.evaluation(self._table(), against, field)

    def compare(self, old: Any, *, against: Any = None, field: str | None = None) -> Any:
        """Compare the answers of this frame with other answers to the same rows. Sends nothing.

            out.llm.compare("previous").changed

        Rows are matched by the content of the columns that the other side's question used, so order, index, filters and
        kernels do not matter. Answers of an earlier run are read from the cache.

        Args:
            old: The other side: a frame, a run, a run's id, or a point in time, for the newest earlier run with rows
                and columns of this frame: "previous", a date (also as text, "2026-11-28"), or a timedelta before now.
                Of those runs, one with a different question is preferred.
            against: Known labels, as for `evaluate`, for a paired test of which side is right more often. None for
                only the changes.
            field: The field that the labels are for, without a prefix. None for the only one, or the one named like the
                labels.

        Returns:
            A `Comparison`. Its display has the changes by field and direction, both distributions, costs, and the
            differences in prompt, schema and options. `.changed` and `.select(field, old, new)` are frames of rows side
            by side; `.by_field`, `.moves` and `.shift` are frames of figures; `.labelled` is the test; and `.plot()`
            plots it.

        Raises:
            UsageError: If *old* or the labels cannot be compared.
            PllmError: If no known run made a row of this frame, or both sides have no row in common.
        """
        return lab().compare_table(self._table(), old, against, field)

    def label(
        self,
        against: Any = None,
        *,
        field: str | None = None,
        columns: str | Sequence[str] | None = None,
        by: str | None = None,
        drawn_by: str | None = None,
        pi: float | None = None,
    ) -> int:
        """Store the right values of rows as labels in the cache directory. Sends nothing.

        A label belongs to the content of a row: any frame with that row finds it as `against="labels"`, with any prompt
        and in any kernel. `pllm.labels()` lists all labels.

        Args:
            against: Name of a column of this frame with the right values, or a Series. NA is not a label. None for the
                corrected cells of this frame, whose value is not their run's answer.
            field: The field that the labels are for, without a prefix. None for the one named like the labels, or the
                only one.
            columns: Columns that identify a row, as a prompt uses them. None for those that the question of this
                frame's run used.
            by: Name of the person who labelled. None for your login name.
            drawn_by: How these rows were chosen, such as "random". Corrected cells are "corrected".
            pi: The probability with which each row was drawn, above 0 and at most 1. Labels without it improve the
                table but are not used for intervals: rows that were chosen because of their answers are not a sample.

        Returns:
            The number of labels stored. Equal rows share one.

        Raises:
            UsageError: If the field or columns are ambiguous, *pi* is not a probability, or no label is a possible
                value of the field.
            PllmError: Without *against*, if no known run made a row of this frame.
            StoreError: If the labels cannot be written.
        """
        if pi is not None and not (is_number(pi) and 0 < pi <= 1):
            raise UsageError(f"pi is a probability above 0 and at most 1, not {pi!r}. Nothing was stored.")
        if drawn_by is not None and (not isinstance(drawn_by, str) or not drawn_by.strip()):
            raise UsageError(
                f"drawn_by is text, not {drawn_by!r}. Nothing was stored."
                if not isinstance(drawn_by, str)
                else f"drawn_by says how the rows were chosen, such as 'random', or is None, and not {drawn_by!r}. "
                f"Nothing was stored."
            )
        who = labeller(by)
        if isinstance(columns, str):
            columns = [columns]
        note = LabelNote(who, drawn_by, pi)
        return label_table(self._table(), against, field, columns, note)

    def review(
        self,
        fields: Sequence[str] | None = None,
        *,
        order: Literal["doubt", "random", "changed", "disagreement"] = "random",
        n: int = 20,
        random_share: float = 0.2,
        old: Any = None,
        by: str | None = None,
    ) -> Any:
        """Review answers one by one, accepting or correcting each. Every decision becomes a label. Sends nothing.

        In a notebook, a view with keyboard shortcuts is shown; elsewhere, `review(…).ask()` asks line by line.
        Repeating the call resumes the review. Equal rows are shown once.

        Args:
            fields: The fields to review, without a prefix. None for those with known values, or otherwise all.
            order: "doubt": lowest `confidence` first. "disagreement": lowest `agreement` first. "changed": rows whose
                answer differs from *old*. "random": a uniform sample.
            n: Maximum number of rows.
            random_share: The share of the *n* rows that is drawn at random from the other rows and mixed in, so that
                figures for the whole table remain possible. Each label stores its row's draw probability (`pi`).
            old: The other side for "changed", as for `compare`. None for "previous".
            by: Name of the reviewer. None for your login name. `pllm.labels().kappa("field", "one", "other")` is the
                agreement of two reviewers.

        Returns:
            A `Review`: `accept`, `choose`, `skip`, `undo`, `ask`.

        Raises:
            UsageError: For an unknown field or order.
            PllmError: If no known run made a row of this frame, or the values that the order needs are unknown.
        """
        return lab().review_table(self._table(), fields, order, n, random_share, old, by)

    @shows(taken_by(Options, "recheck"))
    def recheck(self, response_format: Any = None, *, n: int = 200, **options: Unpack[RecheckOptions]) -> Any:
        """Ask some rows of this frame again, each twice, and test whether the model's answers have changed.

            out.llm.recheck(n=100).has_drifted

        Sends at most 2 * *n* calls and announces this first; equal rows are asked once. Asking twice measures the noise
        of the answers: without drift, if two of a row's three answers agree and one differs, the old one is the odd one
        in a third of cases. Repeating the call on the same day resumes it; on another day it asks again. `max_cost_usd`
        applies to each of the two runs.

        Args:
            response_format: The type of the run. Needed for a run that is no longer in memory.
            n: Number of rows, drawn uniformly.
            **options: Options that replace the run's (see `options.Options`).

        Returns:
            A `Drift`: `fields` with their p values, `has_drifted`, the model names that the provider reported then and
            now, and both new `frames`.

        Raises:
            UsageError: If the question cannot be repeated. Nothing was sent.
            PllmError: If no known run made a row of this frame, or it decided among several answers.
        """
        return blocking(self._recheck(response_format, n, options))

    @shows(taken_by(Options, "recheck"), as_for=recheck)
    async def arecheck(self, response_format: Any = None, *, n: int = 200, **options: Unpack[RecheckOptions]) -> Any:
        """Run `recheck` and await its result. Cancelling stops it; finished answers are kept."""
        return await awaiting(self._recheck(response_format, n, options))

    def _recheck(self, response_format: Any, n: int, options: Mapping[str, Any]) -> Steps[Any]:
        steps: Steps[Any] = lab().recheck_table(self._table(), response_format, n, options)
        return steps

    def report(
        self,
        path: Any = None,
        *,
        by: str | Sequence[str] | None = None,
        against: Any = None,
        field: str | None = None,
        rows: int = 0,
        title: str | None = None,
        bundle: Any = None,
        bundle_rows: bool = False,
    ) -> Any:
        """Report the question, the models, the accuracy and the comparisons made. Sends nothing.

            out.llm.report("report.html", by="language")

        Means and shares are corrected with the labels of the cache directory (see `label` and `review`) that have a
        known draw probability, and get 95 % intervals. Labels without one, such as corrections, are not used for
        intervals, and groups with fewer than 10 labels get no interval. Equal rows are one observation.

        Args:
            path: Path of the page, ending in .html. A JSON file of the same name is written beside it. Existing files
                are replaced. None to write nothing.
            by: Columns of this frame to group by, none of them an answer. None for only the figures of all rows.
            against: Labels for the evaluation that replace the stored ones, as for `evaluate`. They are not used for
                intervals.
            field: The field to evaluate, without a prefix. None for all fields with labels.
            rows: Number of rows to show as text. With 0, the report contains no text of rows except group names.
            title: Title of the page. None for the type and the number of rows.
            bundle: A directory, or a file ending in .zip, from which another person can rebuild this frame without a
                key or a call (`pllm.open_bundle`): replies, the run's registry entry, labels, versions and the report.
                Replies may quote rows, but the rows themselves are not included.
            bundle_rows: Whether the bundle also contains the input rows and the cells of labelled rows.

        Returns:
            A `Report`: `methods` is a paragraph for a paper, `means` a frame, `data` all contents, `html` the page.

        Raises:
            UsageError: For a column or field that does not exist, or a group that is an answer. Nothing was written.
            PllmError: If no known run made a row of this frame.
            FileError: If a file cannot be written.
        """
        return lab().report_table(
            self._table(),
            path,
            by=by,
            against=against,
            field=field,
            rows=rows,
            title=title,
            bundle=bundle,
            bundle_rows=bundle_rows,
        )
