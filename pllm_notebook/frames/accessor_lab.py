"""The methods of `.llm` that compare the answers of a frame with others and with labels, and that correct them."""

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
    """Comparison, labels, review, recheck and report of answers. All but `recheck` send nothing."""

    def evaluate(self, against: Any, field: str | None = None) -> Evaluation:
        """Compare a field of the answers, as they are in this frame, with known labels. Sends nothing.

            out.llm.evaluate("stars", field="score").accuracy

        Only rows that have a label and an answer count; the others are left out and counted. Values are compared as
        they are, an Enum by its value. An answer that was corrected by hand counts as corrected.

        Args:
            against: Name of a column of this frame, or a Series, aligned by its index. NA is not a label. "labels"
                means those of the cache directory (see `label`), where the frame has no such column.
            field: Name of the field. None for the only one, or the one with the name of the labels.

        Returns:
            accuracy, kappa, report (precision and recall of each class), confusion, plot(), and for several samples
            by_samples: what fewer of them would have given.

        Raises:
            UsageError: When no label is a value that the field can have, or nothing can be compared.
            PllmError: When no known run made a row of this frame.
            MissingPackageError: Without scikit-learn.
        """
        return result_views.evaluation(self._table(), against, field)

    def compare(self, old: Any, *, against: Any = None, field: str | None = None) -> Any:
        """Compare the answers of this frame with other answers to the same rows. Sends nothing.

            out.llm.compare("previous").changed

        Rows are matched by the content of the columns that the other side was asked about, so that order, index,
        filters and kernels do not matter. Answers of an earlier run are read from the cache.

        Args:
            old: The other side: a frame, a run, a run's id, or a moment, which means the newest earlier run with rows
                and columns of this frame: "previous", a date (as text too, "2026-11-28"), or a timedelta (so long
                ago). Of those runs, one that asked another question is preferred.
            against: Known labels, as for `evaluate`: a paired test then says which side is right more often. None for
                the changes alone.
            field: The field that the labels are of, without a prefix. None for the only one, or the one with their
                name.

        Returns:
            A `Comparison`: shown, it has the changes by field and direction, both distributions, costs, and what
            differs in prompt, schema and options. `.changed` and `.select(field, old, new)` are frames of rows side
            by side, `.by_field`, `.moves` and `.shift` of figures; `.labelled` is the test; `.plot()`.

        Raises:
            UsageError: When *old* or the labels are nothing that can be compared.
            PllmError: When no known run made a row of this frame, or both sides have no row in common.
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
        """Store what is right about rows as labels in the cache directory. Sends nothing.

        A label is about the content of a row: any frame that has the row finds it, after any prompt and in any kernel,
        as `against="labels"`. `pllm.labels()` lists them.

        Args:
            against: Name of a column of this frame with what is right, or a Series; NA is not a label. None for the
                cells of this frame that were corrected: those whose value is not their run's answer.
            field: The field that the labels are of, without a prefix. None for the one with their name, or for the
                only one.
            columns: Columns that identify a row, as a prompt uses them; None for those that the run of this frame was
                asked about.
            by: Who says so; None for your login name.
            drawn_by: How these rows were chosen, such as "random". Corrected cells are "corrected".
            pi: The chance with which each was drawn, over 0 and at most 1. Without it a label improves the table, and
                is in no interval: rows that were chosen because of their answers are no sample.

        Returns:
            How many labels were stored; equal rows share one.

        Raises:
            UsageError: When it is unclear which field or columns are meant, *pi* is no chance, or no label is a
                value that the field's type has.
            PllmError: Without labels, when no known run made a row of this frame.
            StoreError: When they cannot be written.
        """
        if pi is not None and not (is_number(pi) and 0 < pi <= 1):
            raise UsageError(f"pi is a chance over 0 and at most 1, not {pi!r}. Nothing was stored.")
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
        """Look at answers one by one, and accept or correct each: every decision is a label at once. Sends nothing.

        In a notebook a view with keys is shown; elsewhere `review(…).ask()` asks line by line. The same call again goes
        on where it stopped. Equal rows are shown once.

        Args:
            fields: Which are looked at, without a prefix; None for those whose values are known, else all.
            order: "doubt": least `confidence` first. "disagreement": least `agreement` first. "changed": rows whose
                answer differs from *old*. "random": a uniform sample.
            n: At most so many rows.
            random_share: The share of them that is drawn at random among the others and mixed in, so that figures for
                the whole table stay possible; each label has the chance with which its row was drawn (`pi`).
            old: The other side for "changed", as for `compare`; None for "previous".
            by: Who decides; None for your login name. `pllm.labels().kappa("field", "one", "other")` is how far two
                agree.

        Returns:
            A `Review`: `accept`, `choose`, `skip`, `undo`, `ask`.

        Raises:
            UsageError: For an unknown field or order.
            PllmError: When no known run made a row of this frame, or what the order goes by is not known.
        """
        return lab().review_table(self._table(), fields, order, n, random_share, old, by)

    @shows(taken_by(Options, "recheck"))
    def recheck(self, response_format: Any = None, *, n: int = 200, **options: Unpack[RecheckOptions]) -> Any:
        """Ask some rows of this frame again, each twice, and test whether the model still answers as it did.

            out.llm.recheck(n=100).has_drifted

        Sends 2 * *n* calls at most, which is said before; equal rows are asked once. What a model changes when it is
        asked twice is set apart: without drift, of two equal answers and an odd one the old one is the odd one in a
        third. The same call of the same day goes on where it stopped; the next day's asks again. `max_cost_usd` is
        for each of both times.

        Args:
            response_format: The type that was asked; needed for a run that is no longer in memory.
            n: Number of rows, drawn uniformly.
            **options: See `options.Options`; instead of the run's own.

        Returns:
            A `Drift`: `fields` with their p values, `has_drifted`, the names in which the provider answered then and
            now, and both new `frames`.

        Raises:
            UsageError: When the rows cannot be asked as they were. Nothing was sent.
            PllmError: When no known run made a row of this frame, or it decided among several answers.
        """
        return blocking(self._recheck(response_format, n, options))

    @shows(taken_by(Options, "recheck"), as_for=recheck)
    async def arecheck(self, response_format: Any = None, *, n: int = 200, **options: Unpack[RecheckOptions]) -> Any:
        """Run `recheck` and await its result. Cancelling stops it; what finished is kept."""
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
        """Report the question, who answered, how right that is, and what was tried. Sends nothing.

            out.llm.report("report.html", by="language")

        Means and shares are corrected by the labels of the cache directory (see `label` and `review`) whose chance to
        be drawn is known, with 95 % intervals: labels without one, such as corrections, are in no interval. Groups with
        fewer than 10 such labels have none. Equal rows are one observation.

        Args:
            path: Of the page, ending in .html; a JSON file of the same name is written beside it. Existing files are
                replaced. None to write nothing.
            by: Columns of this frame to group by, none of them an answer; None for all rows alone.
            against: Labels for the evaluation in place of the stored ones, as for `evaluate`. They are in no interval.
            field: The field that is evaluated, without a prefix; None for all that have labels.
            rows: How many rows are shown as text. With 0, no text of a row is in the report; the names of groups are.
            title: Of the page; None for the type and the number of rows.
            bundle: A directory, or a file ending in .zip, with which another person rebuilds this frame without a key
                or a call (`pllm.open_bundle`): replies, the run's registry entry, labels, versions, the report. Replies
                may quote rows; the rows themselves are not in it.
            bundle_rows: Whether the rows that were asked are in the bundle, and the cells of labelled rows.

        Returns:
            A `Report`: `methods` is a paragraph for a paper, `means` a frame, `data` all of it, `html` the page.

        Raises:
            UsageError: For a column or field that does not exist, or a group that is an answer. Nothing was written.
            PllmError: When no known run made a row of this frame.
            FileError: When a file cannot be written.
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
