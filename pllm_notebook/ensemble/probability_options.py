"""Check, before anything is sent, whether a question can have the probabilities that the options request."""

from __future__ import annotations

from pllm_notebook.exceptions import UsageError
from pllm_notebook.options import Options
from pllm_notebook.schema import OutputType

__all__ = ["check_probabilities"]


def check_probabilities(options: Options, output: OutputType | None) -> None:
    """Check `probabilities` and `confidence_column` against the type and the other options.

    Raises:
        UsageError: If they are not available for this question. Nothing was sent.
    """
    how = options.probabilities
    if not how:
        if options.decision_model is not None:
            raise UsageError("decision_model= is for probabilities='decisions'. Nothing was sent.")
        if options.confidence_column is not None:
            way = "'samples'" if options.samples > 1 else "True, or 'samples' with samples=5, for example"
            raise UsageError(f"confidence_column= needs probabilities=: {way}. Nothing was sent.")
        if options.calibration is not None and options.samples < 2:
            raise UsageError(
                "calibration= adjusts a confidence, and without probabilities= there is none. Pass "
                "probabilities=True, or 'samples' with for example samples=5. Nothing was sent."
            )
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
                "probabilities='samples' is the share of several answers: pass for example samples=5, which is five "
                "calls a row. Nothing was sent."
            )
        return
    if how == "decisions":
        _check_alone(options)
        return
    if options.decision_model is not None:
        raise UsageError("decision_model= is for probabilities='decisions'. Nothing was sent.")
    for name, value in (("samples", options.samples > 1), ("models", len(options.models or ()) > 1),
                        ("pack", (options.pack or 1) > 1)):  # fmt: skip
        if value:
            raise UsageError(
                f"Token probabilities (probabilities={how!r}) need one answer a row, from one model, in a separate "
                f"call. Leave {name}= out, or pass probabilities='samples' with samples=. Nothing was sent."
            )


def _check_alone(options: Options) -> None:
    """Refuse options that do not work with decisions, which are one answer a row."""
    reasons = {
        "samples": (options.samples > 1, "asks a decision endpoint, which answers the same each time"),
        "models": (len(options.models or ()) > 1, "asks one endpoint"),
        "pack": ((options.pack or 1) > 1, "judges one row a call: other rows beside it would change its answers"),
        "decide": (options.decide is not None, "has one answer a row"),
        "judge": (options.judge is not None, "has one answer a row"),
        "agreement_column": (options.agreement_column is not None, "has one answer a row"),
        "examples": (options.examples is not None, "judges one input, and takes no turns before it"),
        "tools": (bool(options.tools), "offers no tools"),
    }
    for name, (given, reason) in reasons.items():
        if given:
            raise UsageError(f"probabilities='decisions' {reason}. Leave {name}= out. Nothing was sent.")
