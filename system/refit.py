"""Before an evaluation: a run's network trained anew on the whole development set (paper 002, Section 3).

No recording is left to score it on. So a refit is a run of its own inside the first one, RUN/refit, with best/ and
later quant/, but without scores: those of the first training speak for it, whose temperature, thresholds and
median window it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from system.checkpoint import Checkpoint, save_checkpoint
from system.config import override, parse
from system.dataset import PreparedData
from system.errors import ConfigError, RunError
from system.experiment import RESUME_FILE, complexity_report
from system.files import write_csv, write_json
from system.spec import ExperimentSpec
from system.training import fit

FOLDER = "refit"
CHANGEABLE = ("train.", "data.root=", "data.train_list=", "data.skip_bad=", "seed=")
COLUMNS = ("epoch", "train_loss", "seconds", "clips_per_second")  # of history.csv: nothing is validated


def refit_spec(run: Path, first: Checkpoint, settings: Sequence[str]) -> ExperimentSpec:
    """The experiment that gave `first`, on everything. Raises RunError for a refit, ConfigError for other settings."""
    if first.spec.data.refit:
        raise RunError(f"{run} was trained on everything already: it is itself a refit, of {run.absolute().parent}")
    if wrong := [setting for setting in settings if not setting.startswith(CHANGEABLE)]:
        raise ConfigError(f"--set {wrong[0]}: a refit keeps all of {run} but train.KEY, where its data is and the seed")
    return parse(ExperimentSpec, override(first.spec.plain(), [*settings, "data.refit=all"]), str(run))


def train_on_everything(
    spec: ExperimentSpec, first: Checkpoint, data: PreparedData, best: Path, device: str = "auto"
) -> None:
    """Write complexity.json, history.csv and, last, model.safetensors into the `best` folder of a refit.

    Continues where it was interrupted. Raises RunError if the data has other classes than `first`.
    """
    if data.classes != first.classes:
        raise RunError(f"trained on classes {', '.join(first.classes)}; the data has {', '.join(data.classes)}")
    resume_file = best / RESUME_FILE
    trained = fit(spec, data, device=device, what="training on everything", resume_file=resume_file)
    write_json(best / "complexity.json", complexity_report(spec, len(data.classes)))
    write_csv(best / "history.csv", COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in trained.history))
    save_checkpoint(
        best / "model.safetensors",
        replace(first, spec=spec, mean=trained.mean, std=trained.std, state=trained.network.state_dict()),
    )
    resume_file.unlink(missing_ok=True)
