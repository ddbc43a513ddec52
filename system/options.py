"""Command line options that several scripts share, and the experiment they describe."""

from __future__ import annotations

import argparse
import difflib
import os
from pathlib import Path
from typing import Any

from system.config import load_yaml, override, parse
from system.errors import ConfigError
from system.recipes import RECIPES, resolved
from system.spec import ExperimentSpec

CONFIGS = Path(__file__).parent / "configs"


def add_experiment_options(parser: argparse.ArgumentParser) -> None:
    """--config, --recipe, --set, --dataset, --data-root and --skip-bad."""
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="an experiment, such as one of "
                        "system/configs (default: the KT report's)")  # fmt: skip
    parser.add_argument("--recipe", metavar="NAME", help=f"train by a published recipe, whole: {', '.join(RECIPES)}")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="change one value of the experiment; may be repeated",
    )  # fmt: skip
    parser.add_argument("--dataset", metavar="D", help="made (default), tau2022 or csv")
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data set")
    parser.add_argument("--skip-bad", action="store_true", help="leave damaged recordings out, and count them")


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """--device and --seed, which every command takes, also those that compute nothing at random."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="where to compute (default: auto, a GPU where there is one)")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="seed of everything random (default: the run's, or 0)")


def experiment(args: argparse.Namespace, **sections: dict[str, object]) -> ExperimentSpec:
    """The experiment of --config with --set and the shorthand options applied, validated as a whole.

    Raises ConfigError listing every fault.
    """
    read = load_yaml(_existing(args.config)) if args.config else {}
    config = resolved(read, getattr(args, "recipe", None), str(args.config))
    config.pop("provenance", None)
    settings = list(args.settings)
    if args.seed is not None:
        settings.append(f"seed={args.seed}")
    config = _as_begun(override(config, settings))
    given = {
        "dataset": getattr(args, "dataset", None),
        "root": getattr(args, "data_root", None),
        "skip_bad": getattr(args, "skip_bad", False) or None,
    }
    extra: dict[str, dict[str, object]] = {"data": {key: value for key, value in given.items() if value is not None}}
    for section, values in {**extra, **sections}.items():
        old = config.get(section)
        if isinstance(old, dict) or old is None:
            config[section] = {**(old or {}), **values}
    spec = parse(ExperimentSpec, config, str(args.config or "experiment"))
    if spec.data.refit:
        raise ConfigError("data.refit: is set by system/run.py train --run RUN --refit all, once RUN has its scores")
    if spec.data.dataset == "csv" and spec.data.root is None:
        raise ConfigError("data.root: the data set csv needs a folder; give --data-root DIR")
    responses = spec.augment.impulse_responses
    if responses is not None and not Path(responses).expanduser().is_dir():
        raise ConfigError(f"augment.impulse_responses: expected a folder, found none at {responses}")
    return spec


def _existing(config: Path) -> Path:
    """Raises ConfigError for a file that is not there, with the published experiment that may be meant."""
    if not config.exists():
        published = {path.stem: path for path in CONFIGS.glob("*.yaml")}
        near = difflib.get_close_matches(config.stem, published, n=1)
        hint = f"; did you mean {os.path.relpath(published[near[0]])}?" if near else ""
        raise ConfigError(f"--config {config} does not exist{hint}")
    return config


def _as_begun(config: dict[str, Any]) -> dict[str, Any]:
    """The network and the features of `init.run` under what the experiment says of them itself."""
    init = config.get("init")
    if not isinstance(init, dict) or not init.get("run"):
        return config
    path = Path(str(init["run"])).expanduser() / "best" / "config.yaml"
    if not path.is_file():
        return config
    theirs = load_yaml(path)
    return config | {key: {**(theirs.get(key) or {}), **(config.get(key) or {})} for key in ("features", "model")}


def needs_validation(spec: ExperimentSpec, what: str) -> None:
    """Raises ConfigError where everything is trained on, and `what` would choose by nothing."""
    if not spec.data.validation_share:
        raise ConfigError(f"data.validation_share: {what} chooses on a validation part; expected more than 0, found 0")


def check_device(device: str) -> str:
    """The name of the torch device. Raises ConfigError if --device cuda is asked for where there is none."""
    if device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise ConfigError("--device cuda: no CUDA device is visible here; use --device auto or cpu")
    return "cpu"


def check_devices(device: str, devices: int, nodes: int) -> None:
    """Raises ConfigError for fewer than one process, or more than there are GPUs where they would compute."""
    for option, value in (("--devices", devices), ("--nodes", nodes)):
        if value < 1:
            raise ConfigError(f"{option}: expected at least 1, found {value}")
    if device == "cuda":
        import torch

        if devices > (found := torch.cuda.device_count()):
            raise ConfigError(f"--devices: expected at most the {found} GPUs of this machine, found {devices}")
