"""Fine-tuning: a training that starts from the weights of another, of other recordings, classes or devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from system.checkpoint import Checkpoint, load_checkpoint
from system.errors import ConfigError, RunError
from system.models.network import Network
from system.runs import differences
from system.spec import DataSpec, ExperimentSpec

CLASSIFIER = "head.classify."
"""What belongs to the classes: fresh where these are others."""


def checkpoint_file(path: Path) -> Path:
    """The model of a run folder, or the file itself. Raises RunError if there is none."""
    file = path if path.suffix == ".safetensors" else path / "best" / "model.safetensors"
    if not file.is_file():
        raise RunError(f"{path}: expected a run folder with best/model.safetensors, or such a file; found none")
    return file


def check_fold(key: str, path: Path, theirs: DataSpec, ours: DataSpec) -> None:
    """Raises ConfigError for a run that was trained on recordings which this experiment is tested on."""
    if ours.refit or not _same_recordings(theirs, ours):
        return
    if theirs.refit or theirs.fold != ours.fold:
        trained = "everything" if theirs.refit else f"all but fold {theirs.fold}"
        raise ConfigError(
            f"{key}: {path} was trained on {trained}, so on recordings that are the test of fold {ours.fold} here; "
            "expected a run of the same fold"
        )


def other_validation(theirs: ExperimentSpec, ours: ExperimentSpec) -> list[str]:
    """By which settings a run of the same recordings drew another validation part than this experiment does.

    It was then trained on recordings of this one. Empty if it was not, and where nothing is validated.
    """
    if ours.data.refit or not ours.data.validation_share or not _same_recordings(theirs.data, ours.data):
        return []
    one, other = (
        {"seed": spec.seed, "data": {key: getattr(spec.data, key) for key in ("validation_share", "train_list")}}
        for spec in (theirs, ours)
    )
    return differences(one, other)


def _same_recordings(one: DataSpec, other: DataSpec) -> bool:
    return (one.dataset, _folder(one.root)) == (other.dataset, _folder(other.root))


def _folder(root: str | None) -> Path | None:
    return None if root is None else Path(root).expanduser().resolve()


def take_weights(network: Network, spec: ExperimentSpec, classes: Sequence[str]) -> Checkpoint | None:
    """Give a fresh network the weights of the run `spec.init.run`, all but the classifier's if its classes are others.

    The features must be the same, as the network goes on with the run's own standardization. Raises ConfigError or
    RunError naming every setting, or the first tensor, that does not fit.
    """
    if spec.init.run is None:
        return None
    path = Path(spec.init.run).expanduser()
    source = load_checkpoint(checkpoint_file(path))
    check_fold("init.run", path, source.spec.data, spec.data)
    if other := differences(source.spec.features.plain(), spec.features.plain(), "features"):
        raise ConfigError(f"init.run: {path} hears other features: {'; '.join(other)}")
    state = dict(source.state)
    own = network.state_dict()
    if tuple(classes) != source.classes:
        state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIER)}
        state |= {key: value for key, value in own.items() if key.startswith(CLASSIFIER)}
    unlike = [key for key in own if key not in state or state[key].shape != own[key].shape]
    unlike += [key for key in state if key not in own]
    if unlike:
        there = tuple(state[unlike[0]].shape) if unlike[0] in state else "nothing"
        here = tuple(own[unlike[0]].shape) if unlike[0] in own else "nothing"
        settings = differences(source.spec.model.plain(), spec.model.plain(), "model")
        raise RunError(
            f"init.run: {path} holds another network: {unlike[0]} is {there} there and {here} here, "
            f"{len(unlike)} tensors differ ({'; '.join(settings) or 'by the length of a segment'})"
        )
    network.load_state_dict(state, strict=True)
    return source


def frozen_parts(network: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The parts `init.frozen` of a network. Raises ConfigError for one it does not have."""
    known = dict(network.named_modules())
    for name in names:
        if name not in known or not name:
            parts = [key for key in known if key and key.count(".") <= key.startswith("stages")]
            raise ConfigError(f"init.frozen: expected parts of the network such as {', '.join(parts)}; found {name!r}")
    return [known[name] for name in names]
