"""Named recipes: what each sets, and who decides where several speak."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from system.config import parse
from system.errors import ConfigError
from system.options import add_common_options, add_experiment_options, experiment
from system.recipes import RECIPES, resolved
from system.runs import load_experiment
from system.spec import AugmentSpec, ExperimentSpec, TrainSpec

CONFIGS = Path(__file__).resolve().parents[2] / "system" / "configs"


def from_command_line(*words: str) -> ExperimentSpec:
    parser = argparse.ArgumentParser()
    add_experiment_options(parser)
    add_common_options(parser)
    return experiment(parser.parse_args(words))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "some.yaml"
    path.write_text(
        "recipe: convnext_audio\nseed: 3\ntrain: {epochs: 7}\naugment: {gain_db: 6, frequency_masks: 0}\n"
        "model: {width: 20}\n"
    )
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_and_says_only_what_it_may(name: str) -> None:
    recipe = RECIPES[name]
    assert {"train", "augment"} <= set(recipe) <= {"train", "augment", "model"}
    assert set(recipe.get("model", {})) <= {"drop_path"}
    spec = parse(ExperimentSpec, resolved({"recipe": name}), name)
    asked = from_command_line("--recipe", name)
    assert spec == asked
    for section, values in recipe.items():
        written = getattr(spec, section).plain()
        assert {key: written[key] for key in values} == values  # nothing is rounded or changed
    assert {"epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "schedule"} <= set(recipe["train"])
    masks = {"time_masks", "time_mask_frames", "frequency_masks", "frequency_mask_bands"}
    assert masks <= set(recipe["augment"])  # the defaults are the report's, so others say theirs
    for epochs in (1, 3, 200):  # trials of a search are shorter
        assert 0 <= spec.train.changed(epochs=epochs).warmup() <= epochs / 2


def test_the_report_s_recipe_is_the_default() -> None:
    spec = from_command_line("--recipe", "kt")
    assert spec.train.changed(warmup_epochs=None) == TrainSpec()
    assert spec.train.warmup() == TrainSpec().warmup()
    assert spec.augment == AugmentSpec()


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (
            "audio_rep_inception",
            {"epochs": 50, "optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.01, "weight_decay": 1e-4,
             "milestones": (0.6, 0.8), "frozen_norms": "none"},
        ),
        (
            "audio_rep_inception_fine_tune",
            {"epochs": 30, "optimizer": "sgd", "learning_rate": 0.001, "frozen_norms": "all_but_stem"},
        ),
        ("convnext_audio", {"learning_rate": 4e-3, "weight_decay": 0.05, "schedule": "one_cycle"}),
        ("dcase2024_baseline", {"epochs": 150, "batch_size": 256, "learning_rate": 5e-3, "schedule": "cosine"}),
        ("cp_mobile", {"epochs": 150, "batch_size": 256, "learning_rate": 9e-4}),
    ],
)  # fmt: skip
def test_the_published_figures(name: str, facts: dict[str, Any]) -> None:
    train = from_command_line("--recipe", name).train
    assert {key: getattr(train, key) for key in facts} == facts


def test_the_published_augmentations() -> None:
    convnext = from_command_line("--recipe", "convnext_audio")
    assert (convnext.augment.speed, convnext.augment.mixup_alpha, convnext.model.drop_path) == ((0.5, 1.5), 1.0, 0.4)
    baseline = from_command_line("--recipe", "dcase2024_baseline").augment
    assert (baseline.mixstyle_p, baseline.mixstyle_alpha, baseline.roll_seconds) == (0.4, 0.3, 0.1)
    assert (baseline.frequency_masks, baseline.frequency_mask_bands, baseline.time_masks) == (1, 48, 0)
    assert from_command_line("--recipe", "cp_mobile").augment.impulse_response_p == 0.6


def test_the_file_s_own_values_lie_over_its_recipe(config: Path) -> None:
    spec = from_command_line("--config", str(config))
    assert (spec.train.epochs, spec.train.learning_rate, spec.seed) == (7, 4e-3, 3)
    assert (spec.augment.gain_db, spec.augment.frequency_masks, spec.augment.mixup_alpha) == (6, 0, 1.0)
    assert (spec.model.width, spec.model.drop_path) == (20, 0.4)
    assert load_experiment(config) == spec


def test_a_recipe_asked_for_replaces_the_file_s_sections(config: Path) -> None:
    spec = from_command_line("--config", str(config), "--recipe", "audio_rep_inception")
    alone = from_command_line("--recipe", "audio_rep_inception")
    assert (spec.train, spec.augment) == (alone.train, alone.augment)
    assert (spec.model.width, spec.model.drop_path, spec.seed) == (20, 0.0, 3)
    config.write_text("model: {width: 20, drop_path: 0.1}\n")
    assert from_command_line("--config", str(config), "--recipe", "kt").model.drop_path == 0.1
    assert from_command_line("--config", str(config), "--recipe", "convnext_audio").model.drop_path == 0.4


def test_set_has_the_last_word(config: Path) -> None:
    for words in (("--config", str(config)), ("--recipe", "convnext_audio")):
        spec = from_command_line(*words, "--set", "train.epochs=3", "--set", "augment.speed=[1.0, 1.0]")
        assert (spec.train.epochs, spec.augment.speed, spec.train.weight_decay) == (3, (1.0, 1.0), 0.05)


def test_an_unknown_recipe_names_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--recipe: unknown recipe 'cp_mobil'; did you mean 'cp_mobile'\?"):
        from_command_line("--recipe", "cp_mobil")
    path = tmp_path / "some.yaml"
    for text in ("recipe: ktt\n", "recipe: [kt]\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"some\.yaml: recipe: unknown recipe .*known: audio_rep_inception"):
            from_command_line("--config", str(path))
    path.write_text("recipe: kt\ntrain: 5\n")
    with pytest.raises(ConfigError, match=r"some\.yaml: train: .*found 5"):
        from_command_line("--config", str(path))


def test_a_folder_of_responses_must_be_there(tmp_path: Path) -> None:
    setting = f"augment.impulse_responses={tmp_path / 'none'}"
    with pytest.raises(ConfigError, match=r"augment\.impulse_responses: expected a folder, found none at .*none"):
        from_command_line("--recipe", "cp_mobile", "--set", setting)


def test_configurations_name_their_recipes() -> None:
    for name, recipe in (
        ("kt_final", "kt"),
        ("audio_rep_inception_128k", "audio_rep_inception"),
        ("dcase2024_baseline", "dcase2024_baseline"),
    ):
        spec = load_experiment(CONFIGS / f"{name}.yaml")
        alone = from_command_line("--recipe", recipe)
        assert (spec.train, spec.augment) == (alone.train, alone.augment)
