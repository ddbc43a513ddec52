"""A network for each recording device, as the edition of 2025 allows: a general run fine-tuned on each one's clips.

Each is a run of its own, RUN/devices/DEVICE, so that it is evaluated, quantized and packed like any other (as
`--run RUN --run DEVICE=RUN/devices/DEVICE`). Whether it is better than the general run on its device is told by the
validation part; RUN/devices/devices.json holds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from system.checkpoint import Checkpoint
from system.config import override, parse
from system.dataset import PreparedData, prepare
from system.errors import ConfigError, RunError
from system.experiment import check_sources, train_and_report
from system.files import read_json, write_json
from system.learning.objectives import log_loss_and_accuracy
from system.options import needs_validation
from system.runs import check_recordings, check_same, locked, provenance, write_settings
from system.spec import ExperimentSpec
from system.training import logits_of

FOLDER = "devices"
CHANGEABLE = ("train.", "augment.", "init.frozen=", "distill.")  # no seed: it draws the validation part
SLOWER, SHORTER = 0.1, 1 / 3  # of the general run's learning rate and epochs, unless --set says otherwise


def devices_of(data: PreparedData, names: str | None) -> list[str]:
    """The devices of a comma-separated list, or all that every part has. Raises ConfigError for another."""
    shared = set.intersection(*(set(part.device) for part in (data.train, data.validation, data.test)))
    asked = sorted(shared) if names is None else [name.strip() for name in names.split(",")]
    if wrong := [name for name in asked if name not in shared]:
        raise ConfigError(f"--only: expected devices of every part, {', '.join(sorted(shared))}; found {wrong[0]!r}")
    return asked


def device_spec(run: Path, general: Checkpoint, device: str, settings: Sequence[str]) -> ExperimentSpec:
    """The experiment that fine-tunes `general`, the model of `run`, on one device.

    Raises ConfigError for a setting that cannot change, RunError for a run that has no scores of its own.
    """
    if general.spec.data.refit:
        raise RunError(f"{run} was trained on everything: no recording is left that tells whether a device gains")
    if wrong := [setting for setting in settings if not setting.startswith(CHANGEABLE)]:
        raise ConfigError(f"--set {wrong[0]}: only {', '.join(key.rstrip('.=') for key in CHANGEABLE)} can change")
    recipe = general.spec.train
    usual = [
        f"data.device={device}", f"init.run={run}", "init.frozen=[]",
        f"train.learning_rate={SLOWER * recipe.learning_rate!r}",
        f"train.epochs={max(1, round(SHORTER * recipe.epochs))}",
    ]  # fmt: skip
    return parse(ExperimentSpec, override(general.spec.plain(), [*usual, *settings]), str(run))


def specialize(
    run: Path, general: Checkpoint, names: str | None, settings: Sequence[str], device: str = "auto"
) -> dict[str, Any]:
    """Train what is not yet trained; returns devices.json: both runs on the validation part of each device.

    Raises RunError where the recordings are others than those of the run.
    """
    spec = general.spec
    needs_validation(spec, "specialize")
    everything = prepare(spec.data, spec.features, spec.seed)
    check_recordings(run / "best" / "config.yaml", everything.checksum)
    report: dict[str, Any] = {}
    for name in devices_of(everything, names):
        own = device_spec(run, general, name, settings)
        data = prepare(own.data, own.features, own.seed)
        folder = run / FOLDER / name
        best = folder / "best"
        if not (check_same(best / "config.yaml", own.plain()) and (best / "scores.json").is_file()):
            check_sources(own, data, device)
            best.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                write_settings(best / "config.yaml", own.plain(), provenance(own, data.checksum))
                train_and_report(own, data, best, device, what=f"fine-tuning for device {name}")
        logits = logits_of(general.network(), data.validation, general.mean, general.std)
        log_loss, accuracy = log_loss_and_accuracy(logits, data.validation.label, data.task)
        tuned = read_json(best / "scores.json", f"python system/run.py specialize --run {run}")["validation"]
        report[name] = {
            "general": {"log_loss": log_loss, "accuracy": accuracy},
            "fine_tuned": {"log_loss": tuned["log_loss"], "accuracy": tuned["accuracy"]},
            "n": len(data.validation),
            "better": bool(tuned["log_loss"] < log_loss),
        }
    write_json(run / FOLDER / "devices.json", report)
    return report
