"""Calibrations in the cache directory: kept by name, of one question and model, applied only where they are named."""

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
# Of the options, those that change what a confidence is worth.
_OPTIONS = ("samples", "effort", "temperature", "top_p")


@dataclass(frozen=True, slots=True)
class KeptCalibration:
    """A calibrator as it is kept in the cache directory.

    Attributes:
        name: What `calibration=` names it by.
        field: The result column, without the prefix.
        source: Of the probabilities: "samples", "logprobs", "decisions".
        identity: Of the question, its model and the options that change what a confidence is worth.
        calibrator: From stated to calibrated confidence.
        labels: Number of labels that it was fitted to.
    """

    name: str
    field: str
    source: str
    identity: str
    calibrator: Calibrator
    labels: int


def identity_of(prompt: str | None, system: str | None, output: OutputType | None, model: str, options: Any) -> str:
    """Return what a calibration belongs to, as a hash.

    Args:
        prompt: As a template's source, None for rows as labelled data.
        system: The system prompt.
        output: The type.
        model: As it was asked.
        options: An `Options`, or a mapping of those that are not the defaults.
    """
    schema = None if output is None else output.json_schema
    return _hash(prompt, system, schema, model, options)


def identity_of_run(run: LiveRun | RegisteredRun) -> str:
    """Return what a calibration of a run belongs to."""
    if isinstance(run, LiveRun):
        template = getattr(run.rows, "template", None)
        prompt = None if template is None else template.source
        return identity_of(prompt, run.spec.system, run.spec.output, run.spec.target.label, run.spec.options)
    header = run.header
    members = (header["ensemble"] or {}).get("members")
    model = members[0][0] if members else header["model"]
    return _hash(header["prompt"], header["system"], header["schema"], model, header["options"])


def keep(calibration: KeptCalibration) -> None:
    """Keep a calibration in the cache directory, in the place of one with its name."""
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
    """Return the calibrations in the cache directory that belong to a question and model, by name."""
    found = []
    for name in _kept():
        with suppress(UsageError):  # deleted meanwhile, or damaged
            found.append(_open(name))
    return [one for one in found if one.identity == identity]


def named_calibrations(names: str | Sequence[str], identity: str) -> dict[str, KeptCalibration]:
    """Return the calibrations with these names (or this one), by field.

    Raises:
        UsageError: If one is not kept, or is of another question or model. Nothing was sent.
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
    """Return the name of a calibration that was not named."""
    shown = re.sub(r"[^\w-]", "_", column)[:60]
    return f"{shown}-{identity[:8]}"


def calibrated(
    confidence: Mapping[str, Numbers], run: LiveRun | RegisteredRun, sources: Mapping[str, str]
) -> dict[str, Numbers]:
    """Return confidences as the calibrations that a run names have them; others as they are.

    Args:
        confidence: By column.
        run: Its options name the calibrations.
        sources: Of the probabilities, by column.

    Raises:
        UsageError: If one is kept no more.
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
