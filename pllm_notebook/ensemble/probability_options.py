"""Whether a question can be given probabilities as the options ask for them, before anything is sent."""

from __future__ import annotations

from pllm_notebook.exceptions import UsageError
from pllm_notebook.options import Options
from pllm_notebook.schema import OutputType

__all__ = ["check_probabilities"]


def check_probabilities(options: Options, output: OutputType | None) -> None:
    """Check `probabilities` and `confidence_column` against the type and the other options.

    Raises:
        UsageError: When they cannot be had as written. Nothing was sent.
    """
    how = options.probabilities
    if not how:
        if options.confidence_column is not None:
            way = "'samples'" if options.samples > 1 else "True, or 'samples' with samples=5, for example"
            raise UsageError(f"confidence_column= needs probabilities=: {way}. Nothing was sent.")
        return
    if output is None or not output.choices:
        asked = "plain text" if output is None else output.name
        raise UsageError(
            f"probabilities= needs a field whose values are known (Literal, Enum, bool, an int with ge and le, or a "
            f"list of these), and {asked} has none. Nothing was sent."
        )
    if how == "samples":
        if options.samples < 2:
            raise UsageError(
                "probabilities='samples' is the share of several answers: give samples=5, for example, which is five "
                "calls a row. Nothing was sent."
            )
        return
    for name, value in (("samples", options.samples > 1), ("models", len(options.models or ()) > 1),
                        ("pack", (options.pack or 1) > 1)):  # fmt: skip
        if value:
            raise UsageError(
                f"Token probabilities (probabilities={how!r}) are of one answer a row, from one model, in a call of "
                f"its own. Leave {name}= out, or give probabilities='samples' with samples=. Nothing was sent."
            )
