"""Published training recipes by name: what `recipe: NAME` in a file, or `--recipe NAME`, sets.

Each value that an experiment takes is decided by the last of these that names it:

    1. the defaults of system/spec
    2. the recipe that the file names
    3. the file's own sections
    4. `--recipe NAME`: the sections train and augment, whole, in place of the file's, and what it says of the model
    5. `--set` and the other options of the command line

What comes out is written into the run folder value by value; no recipe is looked up again.

Widths of masks are those of the source where it has segments of a second, or scaled to one second of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from system.errors import ConfigError
from system.registry import unknown

Recipe = Mapping[str, Mapping[str, Any]]

# Paper 001, IV-C; masks as in the authors' code: of 27 bands of 128 and 25 frames of 512, each width drawn twice there,
# so half as wide here, where it is drawn once. Their code moves a frame by up to 5.
AUDIO_REP_INCEPTION = {
    "batch_size": 32, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4, "decay_vectors": False,
    "schedule": "step", "warmup_epochs": 0.0, "milestone_factor": 0.1,
}  # fmt: skip
AUDIO_REP_INCEPTION_AUGMENT = {
    "time_masks": 2, "time_mask_frames": 2, "frequency_masks": 2, "frequency_mask_bands": 13, "time_warp_frames": 5,
}  # fmt: skip

RECIPES: dict[str, Recipe] = {
    # Paper 002, Section 2.1.
    "kt": {
        "train": {
            "epochs": 30, "batch_size": 32, "optimizer": "adamw", "momentum": 0.9, "learning_rate": 3e-3,
            "weight_decay": 1e-3, "schedule": "cosine", "warmup_epochs": 5.0,
        },
        "augment": {"time_masks": 2, "time_mask_frames": 2, "frequency_masks": 2, "frequency_mask_bands": 8},
    },
    "audio_rep_inception": {
        "train": {**AUDIO_REP_INCEPTION, "epochs": 50, "learning_rate": 1e-2, "milestones": [30 / 50, 40 / 50]},
        "augment": AUDIO_REP_INCEPTION_AUGMENT,
    },
    "audio_rep_inception_fine_tune": {
        "train": {
            **AUDIO_REP_INCEPTION, "epochs": 30, "learning_rate": 1e-3, "milestones": [20 / 30, 25 / 30],
            "frozen_norms": "all_but_stem",
        },
        "augment": AUDIO_REP_INCEPTION_AUGMENT,
    },
    # Paper 004, Sections 5 and 6, for clips of ten seconds: 75,000 steps of 512 are 20 epochs of AudioSet. Momentum
    # stays, where PyTorch's OneCycleLR, which the authors' code takes, moves it as well. Masks of 64 of 1001 frames.
    "convnext_audio": {
        "train": {
            "epochs": 20, "batch_size": 512, "optimizer": "adamw", "momentum": 0.9, "learning_rate": 4e-3,
            "weight_decay": 0.05, "decay_vectors": False, "schedule": "one_cycle",
        },
        "augment": {
            "time_masks": 2, "time_mask_frames": 4, "frequency_masks": 2, "frequency_mask_bands": 28,
            "mixup_alpha": 1.0, "speed": [0.5, 1.5],
        },
        "model": {"drop_path": 0.4},
    },
    # The organizers' code of 2022. Its learning rate is constant and the best epoch on a validation part is kept; here
    # the last epoch is kept, so the rate falls.
    "dcase2022_baseline": {
        "train": {
            "epochs": 200, "batch_size": 64, "optimizer": "adam", "momentum": 0.9, "learning_rate": 1e-3,
            "weight_decay": 0.0, "schedule": "cosine", "warmup_epochs": 0.0,
        },
        "augment": {"time_masks": 0, "time_mask_frames": 0, "frequency_masks": 0, "frequency_mask_bands": 0},
    },
    # The organizers' code: run_training.py of the baseline of 2024 and 2025. Its warm-up is 2000 steps of 256 clips,
    # 3.66 epochs of the whole training part. It masks with silence, before Freq-MixStyle; here masks come last.
    "dcase2024_baseline": {
        "train": {
            "epochs": 150, "batch_size": 256, "optimizer": "adamw", "momentum": 0.9, "learning_rate": 5e-3,
            "weight_decay": 1e-4, "schedule": "cosine", "warmup_epochs": 3.66,
        },
        "augment": {
            "time_masks": 0, "time_mask_frames": 0, "frequency_masks": 1, "frequency_mask_bands": 48,
            "roll_seconds": 0.1, "mixstyle_p": 0.4, "mixstyle_alpha": 0.3,
        },
    },
    # CP-JKU's code of 2023, without its distillation. Its warm-up is exponential. Responses are convolved in where
    # augment.impulse_responses names a folder of them, as often as there, but not only into recordings of device a.
    "cp_mobile": {
        "train": {
            "epochs": 150, "batch_size": 256, "optimizer": "adam", "momentum": 0.9, "learning_rate": 9e-4,
            "weight_decay": 1e-4, "schedule": "plateau", "warmup_epochs": 14.0, "milestones": [50 / 150, 134 / 150],
            "milestone_factor": 0.005,
        },
        "augment": {
            "time_masks": 0, "time_mask_frames": 0, "frequency_masks": 1, "frequency_mask_bands": 48,
            "roll_seconds": 0.125, "mixstyle_p": 0.4, "mixstyle_alpha": 0.3, "impulse_response_p": 0.6,
        },
    },
    # CP-JKU's code of 2022, submission 1 without its distillation: 750 epochs of one second out of ten are 75 here.
    "cp_resnet": {
        "train": {
            "epochs": 75, "batch_size": 64, "optimizer": "adam", "momentum": 0.9, "learning_rate": 1e-3,
            "weight_decay": 1e-3, "schedule": "plateau", "warmup_epochs": 10.0, "milestones": [250 / 750, 650 / 750],
            "milestone_factor": 0.005,
        },
        "augment": {
            "time_masks": 0, "time_mask_frames": 0, "frequency_masks": 0, "frequency_mask_bands": 0,
            "mixup_alpha": 0.3, "random_crop": True,
        },
    },
    # Kim et al., Interspeech 2021, and the authors' code, without its background noise. Frequency masks: 5 bands for
    # BC-ResNet-3, 3 for 2, 7 for 6 and 8; BC-ResNet-1 has none. Their shift in time leaves silence, this one rolls.
    "bc_resnet": {
        "train": {
            "epochs": 200, "batch_size": 100, "optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1,
            "weight_decay": 1e-3, "schedule": "cosine", "warmup_epochs": 5.0,
        },
        "augment": {
            "time_masks": 2, "time_mask_frames": 20, "frequency_masks": 2, "frequency_mask_bands": 5,
            "roll_seconds": 0.1,
        },
    },
}  # fmt: skip

WHOLE = ("train", "augment")
"""Sections that `--recipe` replaces: what it does not name there is a default, not the file's."""


def resolved(config: Mapping[str, Any], asked: str | None = None, origin: str = "--recipe") -> dict[str, Any]:
    """The sections of a file with its recipe laid under them; or with the recipe `asked` for laid over them.

    Raises ConfigError for a recipe that is not there.
    """
    sections = {key: value for key, value in config.items() if key != "recipe"}
    if asked is not None:
        kept = {key: value for key, value in sections.items() if key not in WHOLE}
        return {**kept, **{key: _over(kept.get(key), values) for key, values in _recipe(asked, "--recipe").items()}}
    if config.get("recipe") is None:
        return sections
    named = _recipe(config["recipe"], f"{origin}: recipe")
    under = {key: _under(sections[key], values) if key in sections else dict(values) for key, values in named.items()}
    return {**sections, **under}


def _recipe(name: Any, origin: str) -> Recipe:
    if not isinstance(name, str) or name not in RECIPES:
        raise ConfigError(f"{origin}: {unknown('recipe', name, RECIPES)}")
    return RECIPES[name]


def _under(section: Any, values: Mapping[str, Any]) -> Any:
    """A section with a recipe's values below its own; what is no mapping is left for validation to refuse."""
    return {**values, **section} if isinstance(section, dict) else section


def _over(section: Any, values: Mapping[str, Any]) -> Any:
    return {**section, **values} if isinstance(section, dict) else dict(values) if section is None else section
