"""Calibrations in the cache directory: stored by name, for one question and model, applied only if they are named."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.execution import LiveRun
from pllm_notebook.files import make_private_directory, replacing
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.options import Options
from pllm_notebook.schema import OutputType
from pllm_notebook.statistics import Calibrator
from pllm_notebook.store import current_directory

__all__ = [
    "KeptCalibration",
    "calibrated",
    "calibrations_of",
    "default_name",
    "identity_of",
    "identity_of_run",
    "keep",
    "named_calibrations",
]

Numbers = np.ndarray[Any, np.dtype[np.float64]]

_FOLDER = "calibrations"
_NAME = re.compile(r"[\w.-]{1,80}")
# The options that change how reliable a stated confidence is.
_OPTIONS = ("samples", "effort", "temperature", "top_p")


@dataclass(frozen=True, slots=True)
class KeptCalibration:
    """A calibrator as stored in the cache directory.

    Attributes:
        name: Its name for `calibration=`.
        field: The result column, without the prefix.
        source: Source of the probabilities: "samples", "logprobs" or "decisions".
        identity: Hash of the question, its model and the options that change how reliable a confidence is.
        calibrator: Maps stated to calibrated confidence.
        labels: Number of labels that it was fitted to.
    """

    name: str
    field: str
    source: str
    identity: str
    calibrator: Calibrator
    labels: int


def identity_of(prompt: str | None, system: str | None, output: OutputType | None, model: str, options: Any) -> str:
    """Return a hash that identifies the question, model and options that a calibration is for.

    Args:
        prompt: Source of the prompt's template, None if rows are sent as labelled data.
        system: The system prompt.
        output: The type.
        model: The model as requested.
        options: An `Options`, or a mapping of the options that differ from their defaults.
    """
    schema = None if output is None else output.json_schema
    return _hash(prompt, system, schema, model, options)


def identity_of_run(run: LiveRun | RegisteredRun) -> str:
    """Return the identity of a run's calibrations (see `identity_of`)."""
    if isinstance(run, LiveRun):
        template = getattr(run.rows, "template", None)
        prompt = None if template is None else template.source
        return identity_of(prompt, run.spec.system, run.spec.output, run.spec.target.label, run.spec.options)
    header = run.header
    members = (header["ensemble"] or {}).get("members")
    model = members[0][0] if members else header["model"]
    return _hash(header["prompt"], header["system"], header["schema"], model, header["options"])


def keep(calibration: KeptCalibration) -> None:
    """Store a calibration in the cache directory. It replaces one of the same name.

    Raises:
        UsageError: If the name is not valid for a file. Nothing was written.
    """
    if not _NAME.fullmatch(calibration.name):
        raise UsageError(
            f"name={calibration.name!r} is not a name for a file: letters, digits, '_', '-' and '.', at most 80."
        )
    make_private_directory(_folder())
    content = {
        "name": calibration.name,
        "field": calibration.field,
        "source": calibration.source,
        "identity": calibration.identity,
        "labels": calibration.labels,
        "calibrator": calibration.calibrator.as_json(),
    }
    with replacing(_path(calibration.name)) as file:
        file.write(orjson.dumps(content))


def _open(name: str) -> KeptCalibration:
    """Return the calibration with this name.

    Raises:
        UsageError: If the cache directory has none. Nothing was sent.
    """
    try:
        with open(_path(name) if _NAME.fullmatch(name) else "", "rb") as file:
            content = orjson.loads(file.read())
        return KeptCalibration(**{**content, "calibrator": Calibrator.of_json(content["calibrator"])})
    except (OSError, ValueError, TypeError, KeyError):
        known = _kept()
        raise UsageError(
            f"calibration={name!r} is not kept in {_folder()}, which has {known}.{guess(name, known)} "
            f".llm.calibrate(against=…) makes one. Nothing was sent."
        ) from None


def _kept() -> list[str]:
    """Return the names of the calibrations in the cache directory, sorted."""
    try:
        names = os.listdir(_folder())
    except OSError:
        return []
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def calibrations_of(identity: str) -> list[KeptCalibration]:
    """Return the calibrations in the cache directory for a question and model, sorted by name."""
    found = []
    for name in _kept():
        with suppress(UsageError):  # deleted meanwhile, or damaged
            found.append(_open(name))
    return [one for one in found if one.identity == identity]


def named_calibrations(names: str | Sequence[str], identity: str) -> dict[str, KeptCalibration]:
    """Return the calibrations with these names (or this one), by field.

    Raises:
        UsageError: If one does not exist, or is for another question or model. Nothing was sent.
    """
    found: dict[str, KeptCalibration] = {}
    for name in [names] if isinstance(names, str) else names:
        one = _open(name)
        if one.identity != identity:
            raise UsageError(
                f"calibration={name!r} was fitted to another question: prompt, system prompt, type, model, samples, "
                f"effort, temperature and top_p must be the same. Fit one for this question, or leave it out. "
                f"Nothing was sent."
            )
        found[one.field] = one
    return found


def default_name(column: str, identity: str) -> str:
    """Return the default name of a calibration."""
    shown = re.sub(r"[^\w-]", "_", column)[:60]
    return f"{shown}-{identity[:8]}"


def calibrated(
    confidence: Mapping[str, Numbers], run: LiveRun | RegisteredRun, sources: Mapping[str, str]
) -> dict[str, Numbers]:
    """Apply the calibrations that a run names to its confidences. Other confidences are returned unchanged.

    Args:
        confidence: The stated confidence of each row, by column.
        run: The run, whose options name the calibrations.
        sources: The source of the probabilities, by column.

    Raises:
        UsageError: If a calibration no longer exists.
    """
    if isinstance(run, LiveRun):
        names, prefix = run.spec.options.calibration, run.spec.options.prefix
    else:
        shaping = run.header["shaping"]
        names, prefix = shaping.get("calibration"), shaping["prefix"]
    if not names:
        return dict(confidence)
    found = named_calibrations(names, identity_of_run(run))
    made = dict(confidence)
    for column, stated in confidence.items():
        one = found.get(column.removeprefix(prefix))
        if one is not None and one.source == sources.get(column):
            made[column] = one.calibrator(stated)
    return made


def _hash(prompt: str | None, system: str | None, schema: Any, model: str, options: Any) -> str:
    defaults = Options()
    chosen = {
        name: options.get(name, getattr(defaults, name)) if isinstance(options, Mapping) else getattr(options, name)
        for name in _OPTIONS
    }
    content = orjson.dumps([prompt, system, schema, model, chosen], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()[:32]


def _folder() -> str:
    return os.path.join(os.fspath(current_directory()), _FOLDER)


def _path(name: str) -> str:
    return os.path.join(_folder(), f"{name}.json")
