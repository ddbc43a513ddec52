"""YAML and --set in, a validated experiment out; every fault at once, each with its place."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from system.budget import Budget
from system.config import load_yaml, override, parse
from system.errors import ConfigError
from system.features import check_bands
from system.files import write_yaml
from system.models.catalog import model_spec
from system.models.network import complexity
from system.options import add_common_options, add_experiment_options, check_device, experiment
from system.registry import Registry, unknown
from system.spec import ExperimentSpec, FeatureSpec, ModelSpec, TrainSpec


def refused(values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(ExperimentSpec, values, "some.yaml")
    assert str(caught.value).startswith("some.yaml: ")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("some.yaml: ")


def from_command_line(*words: str, **sections: dict[str, object]) -> ExperimentSpec:
    parser = argparse.ArgumentParser()
    add_experiment_options(parser)
    add_common_options(parser)
    return experiment(parser.parse_args(words), **sections)


def test_an_unknown_key_gets_the_nearest_known_one() -> None:
    assert refused({"trian": {}}) == "trian: unknown key, did you mean 'train'?"
    assert refused({"train": {"epoch": 3}}) == "train.epoch: unknown key, did you mean 'epochs'?"
    assert "did you mean 'depth'" in refused({"model": {"stages": [{}, {"deph": 1}]}})
    assert "model.stages.1.deph: " in refused({"model": {"stages": [{}, {"deph": 1}]}})


def test_an_unknown_key_without_likeness_gets_the_list() -> None:
    message = refused({"augment": {"zzz": 1}})
    assert message.startswith("augment.zzz: unknown key (known here: frequency_mask_bands, ")


def test_all_faults_are_reported_at_once() -> None:
    message = refused({"train": {"epochs": 0, "optimizer": "adan"}, "sed": 1, "features": {"n_mels": "many"}})
    parts = message.split("; ")
    assert len(parts) == 4
    assert {part.split(":")[0] for part in parts} == {"train.epochs", "train.optimizer", "sed", "features.n_mels"}
    assert "found 0" in message
    assert "found 'adan'" in message
    assert "found 'many'" in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train": 5}, "train: .*dictionary.*found 5"),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate: .*finite number, found nan"),
        ({"train": {"weight_decay": float("inf")}}, "train.weight_decay: .*finite number, found inf"),
        ({"data": {"validation_share": 0.6}}, "data.validation_share: .*less than or equal to 0.5, found 0.6"),
        ({"data": {"segment_seconds": 0}}, "data.segment_seconds: .*greater than 0, found 0"),
        ({"data": {"segment_seconds": 1e9}}, "data.segment_seconds: .*less than or equal to 3600, found 1000000000.0"),
        ({"features": {"sample_rate": 10**9}}, "features.sample_rate: .*less than or equal to 1000000, found 10{9}"),
        ({"features": {"n_fft": 10**8}}, "features.n_fft: .*less than or equal to 131072, found 10{8}"),
        ({"features": {"n_mels": 10**6}}, "features.n_mels: .*less than or equal to 4096, found 10{6}"),
        ({"features": {"win_length": 2048}}, "features: win_length must be at most n_fft .1024., found .*2048"),
        ({"features": {"f_min": 9000, "f_max": 8000}}, "features: 0 <= f_min < f_max <= sample_rate / 2 must hold"),
        ({"features": {"f_max": 20000}}, "found 0, 20000.* 11025"),
        ({"temperature": 1e-320}, "temperature: .*greater than or equal to 0.001, found 1e-320"),
        ({"train": {"learning_rate": 1e300}}, "train.learning_rate: .*less than or equal to 10{30}, found 1e.300"),
        ({"augment": {"time_masks": 10**12}}, "augment.time_masks: .*less than or equal to 1000, found 10{12}"),
        ({"augment": {"time_mask_frames": 10**20}}, "augment.time_mask_frames: .*less than or equal to 1000000"),
        ({"augment": {"frequency_mask_bands": 10**20}}, "augment.frequency_mask_bands: .*or equal to 1000000"),
        ({"augment": {"roll_seconds": 1e30}}, "augment.roll_seconds: .*less than or equal to 3600, found 1e.30"),
        ({"augment": {"mixup_alpha": 1e300}}, "augment.mixup_alpha: .*less than or equal to 1000, found 1e.300"),
        ({"model": {"width": 10**8}}, "model.width: .*less than or equal to 8192, found 10{8}"),
        ({"model": {"width_multiple": 10**6}}, "model.width_multiple: .*less than or equal to 8192, found 10{6}"),
        ({"model": {"stem_padding": [1000, 0]}}, "model.stem_padding.0: .*less than or equal to 100, found 1000"),
        ({"model": {"stem_ratio": 1e9}}, "model.stem_ratio: .*less than or equal to 1000, found 1000000000.0"),
        ({"model": {"stages": [{"ratio": 1e9}]}}, "model.stages.0.ratio: .*less than or equal to 1000, found"),
        ({"model": {"stages": [{"ratio": 999}]}}, "model: stem and stages must have at most 8192 .* ratio is 15984"),
        ({"seed": -1}, "seed: .*greater than or equal to 0, found -1"),
        ({"seed": 2**32}, "seed: .*less than or equal to 4294967295, found 4294967296"),
        ({1: 2}, "1: .*string"),
        (["train"], ".*dictionary"),
    ],
)
def test_a_wrong_value_names_place_and_find(values: Any, said: str) -> None:
    assert re.search(said, refused(values))


def test_a_long_value_is_shortened() -> None:
    message = refused({"seed": "x" * 5000})
    assert len(message) < 200
    assert "..." in message


def test_specs_are_frozen_and_changed_ones_validated() -> None:
    spec = TrainSpec()
    with pytest.raises(ValueError, match="frozen"):
        spec.epochs = 3  # type: ignore[misc]
    assert spec.changed(epochs=3).epochs == 3
    assert spec.epochs == 30
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        spec.changed(epochs=0)


def test_the_default_experiment_survives_yaml(tmp_path: Path) -> None:
    spec = ExperimentSpec(train=TrainSpec(learning_rate=1e-5, weight_decay=1e-12), budget="dcase2022")
    write_yaml(tmp_path / "config.yaml", spec.plain())
    assert parse(ExperimentSpec, load_yaml(tmp_path / "config.yaml"), "config.yaml") == spec


def test_the_defaults_are_the_report_s() -> None:
    features, train = FeatureSpec(), TrainSpec()
    assert (features.sample_rate, features.n_mels, features.win_length / 22050, features.hop_length / 22050) == (
        22050, 80, 0.04, 0.02,
    )  # fmt: skip
    assert (train.epochs, train.optimizer, train.weight_decay, train.batch_size, train.learning_rate) == (
        30, "adamw", 1e-3, 32, 3e-3,
    )  # fmt: skip
    assert train.warmup() == 5
    assert TrainSpec(epochs=3).warmup() == 0.5
    assert TrainSpec(epochs=4, warmup_epochs=2).warmup() == 2
    assert TrainSpec(epochs=4, warmup_epochs=14).warmup() == 2
    assert TrainSpec(epochs=20, schedule="one_cycle").warmup() == 6
    assert ExperimentSpec().input_shape() == (1, 80, 51)


@pytest.mark.parametrize(
    ("channels", "step", "expected"),
    [(8, 8, 8), (3, 8, 8), (12, 8, 16), (11.9, 8, 16), (67.2, 8, 64), (5, 4, 8), (7, 1, 7)],
)
def test_widths_are_rounded_to_multiples_never_below_nine_tenths(channels: float, step: int, expected: int) -> None:
    assert ModelSpec(width_multiple=step).rounded(channels) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train:\n  epochs: 3\n :x\n", ", line 3: not valid YAML"),
        ("train: [1, 2\nseed: 3\n", ", line 2: not valid YAML"),
        ("a: b: c\n", ", line 1: not valid YAML"),
        ("\tseed: 1\n", ", line 1: not valid YAML"),
        ("seed: !!python/object:os.system 1\n", ", line 1: not valid YAML: could not determine a constructor"),
        ("seed: 2024-99-99\n", ", line 1: not valid YAML: month must be in 1..12"),
        ("budget: 1\nseed: !!int ''\n", ", line 2: not valid YAML: '' is no int"),
        ("seed: !!bool maybe\n", ", line 1: not valid YAML: 'maybe' is no bool"),
        ("seed: !!timestamp foo\n", ", line 1: not valid YAML: 'foo' is no timestamp"),
        ('seed: "\\UFFFFFFFF"\n', ": not valid YAML: "),
        ("seed: " + "[" * 100_000, ": not valid YAML: maximum recursion depth"),
        ("seed: 1\ntrain: {}\nseed: 2\n", ", line 3: not valid YAML: 'seed' was given before, in line 1"),
        ("train: {epochs: 1, epochs: 2}\n", ", line 1: not valid YAML: 'epochs' was given before, in line 1"),
        ("- train\n", ": expected a mapping of sections, found list"),
        ("just words\n", ": expected a mapping of sections, found str"),
    ],
)
def test_a_yaml_fault_names_file_and_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    assert str(caught.value).startswith(f"{path}{said}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"budget: \xe9\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path / "latin.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_yaml(tmp_path / "empty.yaml") == {}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("seed=3", {"seed": 3}),
        ("train.epochs=10", {"train": {"epochs": 10, "batch_size": 8}}),
        ("train.learning_rate=1e-3", {"train": {"learning_rate": "1e-3", "batch_size": 8}}),
        ("model.kernel_size=[3, 5]", {"model": {"kernel_size": [3, 5]}}),
        ("features.f_max=null", {"features": {"f_max": None}}),
        ("features.f_max=", {"features": {"f_max": None}}),
        ("data.root=/a=b", {"data": {"root": "/a=b"}}),
        ("data.root=2024-99-99", {"data": {"root": "2024-99-99"}}),
        ("data.root=[unclosed", {"data": {"root": "[unclosed"}}),
        ("data.root=!!bool x", {"data": {"root": "!!bool x"}}),
        ("a.b.c=1", {"a": {"b": {"c": 1}}}),
        ("train=5", {"train": 5}),
    ],
)
def test_set_changes_one_value_of_a_copy(setting: str, expected: dict[str, Any]) -> None:
    config: dict[str, Any] = {"train": {"batch_size": 8}}
    result = override(config, [setting])
    assert result == {**config, **expected}
    assert config == {"train": {"batch_size": 8}}


@pytest.mark.parametrize("setting", ["train.epochs", "=3", "train.=3", ".epochs=3", "a..b=1", ""])
def test_a_set_of_another_form_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section\.key=value"):
        override({}, [setting])


def test_the_last_set_wins() -> None:
    assert override({}, ["train.epochs=1", "train.epochs=2"]) == {"train": {"epochs": 2}}


def test_options_are_laid_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("seed: 1\ntrain: {epochs: 9, learning_rate: 1e-3}\ndata: {fold: 2}\nprovenance: {python: 3.11}\n")
    spec = from_command_line(
        "--config", str(path), "--set", "train.batch_size=7", "--seed", "5", "--dataset", "csv", "--data-root", "/d",
        "--skip-bad", train={"epochs": 4},
    )  # fmt: skip
    assert (spec.seed, spec.train.epochs, spec.train.batch_size, spec.train.learning_rate) == (5, 4, 7, 1e-3)
    assert (spec.data.dataset, spec.data.root, spec.data.fold, spec.data.skip_bad) == ("csv", "/d", 2, True)
    assert spec.provenance is None
    assert from_command_line() == ExperimentSpec()


def test_options_name_the_file_of_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("train: {epoch: 9}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: train\.epoch: unknown key, did you mean 'epochs'"):
        from_command_line("--config", str(path))
    with pytest.raises(ConfigError, match=r"^experiment: train: .*found 5$"):
        from_command_line("--set", "train=5", train={"epochs": 1})
    with pytest.raises(ConfigError, match=r"data\.root: the data set csv needs a folder; give --data-root DIR"):
        from_command_line("--dataset", "csv")


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device cuda: no CUDA device"):
        check_device("cuda")
    check_device("auto")
    check_device("cpu")


def test_a_registry_explains_and_refuses_a_second_of_a_name() -> None:
    table: Registry[int] = Registry("thing")
    assert table.add("one")(1) == 1
    assert (table["one"], list(table), len(table), "two" in table) == (1, ["one"], 1, False)
    with pytest.raises(ConfigError, match=r"^unknown thing 'onne'; did you mean 'one'\? \(known: one\)$"):
        table["onne"]
    with pytest.raises(ValueError, match="'one' is registered twice"):
        table.add("one")(2)
    assert unknown("thing", 3, ["b", "a"]) == "unknown thing 3 (known: a, b)"


CONFIGS = sorted((Path(__file__).resolve().parents[2] / "system" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_published_experiment_is_whole_and_within_its_budget(path: Path) -> None:
    spec = from_command_line("--config", str(path))
    check_bands(spec.features)
    cost = complexity(spec.model, spec.input_shape(), 10)
    if spec.budget is not None:
        assert Budget.parse(spec.budget).excess(cost.totals()) == {}
    assert load_yaml(path).keys() <= {"recipe", *ExperimentSpec.model_fields}


def test_the_published_experiments_are_there() -> None:
    assert {"kt_final", "audio_rep_inception_128k", "dcase2024_baseline"} <= {path.stem for path in CONFIGS}
    baseline = from_command_line("--config", str(next(p for p in CONFIGS if p.stem == "dcase2024_baseline")))
    assert baseline.input_shape() == (1, 256, 65)
    assert baseline.model == model_spec("dcase2024_baseline")
