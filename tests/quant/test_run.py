"""The commands: what they leave in a run, what `check` prints side by side, and what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch import nn

from quant import frozen, qat
from quant.backend import BACKENDS, load_backend
from quant.check import compare, names_of, table
from quant.graph import session
from quant.run import main
from system.checkpoint import Checkpoint, save_checkpoint
from system.dataset import PreparedData
from system.errors import ConfigError, DataError, RunError
from system.learning.loop import Epoch
from system.models.network import build
from system.spec import QuantSpec
from tests import tiny

from .conftest import random_network
from .light import LightBackend
from .test_backends import loaded

SPEC = tiny.experiment(quant={"epochs": 1, "calibration_segments": 16, "batch_size": 16})
FILES = {"float.onnx", "int8.onnx", "parity.json", "complexity.json", "scores.json", "predictions.csv"}


def made_checkpoint(**changes: Any) -> Checkpoint:
    torch.manual_seed(0)
    data = tiny.data()
    bands = SPEC.features.n_mels
    mean, std = np.full(bands, -4, np.float32), np.full(bands, 2, np.float32)
    features = torch.from_numpy(((data.train.features - mean[:, None]) / std[:, None])[:, None].astype(np.float32))
    network = random_network(SPEC.model, features, len(tiny.CLASSES))
    return replace(Checkpoint(SPEC, tiny.CLASSES, mean, std, network.state_dict()), **changes)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained run, on data that needs no files."""
    save_checkpoint(tmp_path / "run/best/model.safetensors", made_checkpoint())
    monkeypatch.setattr("system.dataset.prepare", lambda *_: tiny.data())
    return tmp_path / "run"


def quantized(folder: Path, **data: Any) -> dict[str, Any]:
    return qat.quantize(made_checkpoint(), replace(tiny.data(), **data), LightBackend(), folder, train=False)


def test_two_backends_side_by_side(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for backend in ("brevitas", "onnxruntime"):
        main(["ptq", "--run", str(run), "--backend", backend])
        assert {path.name for path in (run / "quant" / backend).iterdir()} >= FILES
    capsys.readouterr()
    main(["check", "--run", str(run)])
    out = capsys.readouterr().out
    header, *lines = out.splitlines()
    assert header.split() == ["brevitas", "onnxruntime"]
    cells = {line[:22].strip(): line for line in lines}
    for quantity in ("accuracy", "log loss", "same decision", "logits within 1 LSB", "integer layers", "bytes"):
        assert quantity in cells, out
    assert "calibrated" in cells["weights"]
    for backend in ("brevitas", "onnxruntime"):
        parity = json.loads((run / "quant" / backend / "parity.json").read_text())
        assert f"{parity['float_vs_int8']['int8']['accuracy']:.4f}" in cells["accuracy"]
        assert parity["fused"]["conv_integer"] == parity["fused"]["conv_total"] > 0
        assert parity["latency_ms"].keys() == {"fp32", "int8"}
        cost = json.loads((run / "quant" / backend / "complexity.json").read_text())
        assert (cost["weight_bits"], cost["form"], cost["within_budget"]) == (8, "int8", True)
    assert "pytorch_quantization: not yet; python quant/run.py qat" in out
    shutil.copytree(run, run.parent / "other")
    main(["check", "--run", str(run), "--beside", str(run.parent / "other")])
    header, _, *lines = capsys.readouterr().out.splitlines()
    names = [name.strip() for name in header.strip("|").split("|")]
    assert names == ["", *(f"{folder}, {name}" for folder in ("run", "other") for name in ("brevitas", "onnxruntime"))]
    accuracy = next(line for line in lines if line.startswith("| accuracy")).strip("|").split("|")[1:]
    assert len(accuracy) == 4
    assert accuracy[:2] == accuracy[2:]


def test_runs_are_named_by_what_tells_them_apart() -> None:
    runs = [Path("runs/a/cp_mobile/f1"), Path("runs/a/bc_resnet/f1"), Path("runs/b/ours/f1")]
    assert list(names_of(runs)) == ["a/cp_mobile", "a/bc_resnet", "b/ours"]
    assert list(names_of(runs[:2])) == ["cp_mobile", "bc_resnet"]


def test_the_proof_and_the_price(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for backend, portable in (("brevitas", True), ("onnxruntime", False)):
        main(["ptq", "--run", str(run), "--backend", backend, "--set", f"quant.portable={portable}"])
    capsys.readouterr()
    main(["check", "--portable", "--run", str(run)])
    out = capsys.readouterr().out
    assert "brevitas: Portable: proven from the integer weights of all" in out
    assert "onnxruntime: Not proven portable: in" in out
    unsafe = json.loads((run / "quant/onnxruntime/parity.json").read_text())["portable"]
    assert f"in {unsafe['unsafe_filters']} of {unsafe['filters']} filters" in out
    for layer, filters in unsafe["unsafe_layers"].items():
        assert f"  {layer}: {filters} filters\n" in out
    portable, full_range = numbers("test logits, dB", out)
    assert (portable > 10, full_range - 6 < portable) == (True, True), "at most a bit is lost"


@pytest.mark.parametrize("how", [{}, {"weight_bits": 4, "learned_scales": True, "portable": False}], ids=["usual", "4"])
def test_the_network_that_was_kept_is_the_file(tmp_path: Path, how: dict[str, Any]) -> None:
    """Whatever it was quantized with; the checkpoint's own settings say nothing of it."""
    checkpoint = made_checkpoint(spec=SPEC.changed(quant={**SPEC.quant.plain(), **how}))
    backend = load_backend("brevitas")
    qat.quantize(checkpoint, tiny.data(), backend, tmp_path, train=False)
    original = made_checkpoint()
    network = frozen.kept(original, qat.deployable(original), backend, tmp_path)
    (batch,) = qat.calibration_inputs(original, tiny.data())
    with torch.inference_mode():
        expected = session(tmp_path / "int8.onnx").run(None, {"features": batch.numpy()})[0]
        np.testing.assert_array_equal(network(batch).numpy(), expected)


def test_a_network_that_does_not_tell_how_it_was_quantized_is_refused(tmp_path: Path) -> None:
    quantized(tmp_path)
    path = tmp_path / frozen.NAME
    path.write_bytes(save(load_file(path)))
    checkpoint = made_checkpoint()
    with pytest.raises(RunError, match="does not tell how it was quantized"):
        frozen.kept(checkpoint, qat.deployable(checkpoint), LightBackend(), tmp_path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(RunError, match="is not of this network"):
        frozen.kept(checkpoint, qat.deployable(checkpoint), LightBackend(), tmp_path)


def numbers(quantity: str, out: str) -> list[float]:
    """The cells of a table's row."""
    (line,) = [line for line in out.splitlines() if line.startswith(quantity)]
    return [float(cell.replace(",", "")) for cell in line[len(quantity) :].split()]


def test_layers_that_cost_most(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["ptq", "--run", str(run)])
    capsys.readouterr()
    main(["diagnose", "--run", str(run), "--segments", "8"])
    out = capsys.readouterr().out
    found = json.loads((run / "quant/brevitas/layers.json").read_text())
    worst = min(found["layers"], key=lambda row: row["alone"])
    assert out.splitlines()[1].split()[0] == worst["layer"]
    assert found["segments"] == 8
    assert (run / "quant/brevitas/layers.png").stat().st_size > 1000


def test_ways_to_quantize_side_by_side(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "quant.epochs=1", "--set", "quant.calibration_segments=16"]
    main(["diagnose", "--run", str(run), "--compare", "bits", *settings])
    out = capsys.readouterr().out
    eight, four, mixed = numbers("weight and bias bytes", out)
    assert four < mixed < eight
    eight, four, _ = numbers("validation logits, dB", out)
    assert eight > four
    main(["diagnose", "--run", str(run), "--compare", "scales", "--train", *settings])
    assert "learned" in capsys.readouterr().out
    main(["diagnose", "--run", str(run), "--compare", "teachers", "--train", *settings])
    out = capsys.readouterr().out
    assert all(0 < apart < 1 for apart in numbers("validation divergence", out))
    with pytest.raises(ConfigError, match="--compare teachers: they differ in how they are trained; add --train"):
        main(["diagnose", "--run", str(run), "--compare", "teachers"])
    with pytest.raises(ConfigError, match=r"--compare: unknown comparison 'bit'.*did you mean 'bits'"):
        main(["diagnose", "--run", str(run), "--compare", "bit"])
    with pytest.raises(ConfigError, match="no layers that can be quantized one at a time"):
        main(["diagnose", "--run", str(run), "--backend", "onnxruntime"])


def test_repairs_are_part_of_the_recipe_and_of_what_is_kept(tmp_path: Path) -> None:
    how = {"equalize": True, "correct_bias": True, "weight_bits": 4, "layer_bits": {"stem*": 8}}
    checkpoint = made_checkpoint(spec=SPEC.changed(quant={**SPEC.quant.plain(), **how}))
    parity = qat.quantize(checkpoint, tiny.data(), LightBackend(), tmp_path, train=False)
    assert (parity["max_lsb"], parity["fused"]["conv_integer"]) == (0, parity["fused"]["conv_total"])
    cost = json.loads((tmp_path / "complexity.json").read_text())
    assert cost["weight_bits"] == 8
    assert cost["weight_bytes"] < 0.6 * cost["params"]
    for row in cost["layers"]:
        assert row.get("weight_bits") in (None, 8 if row["name"].startswith("stem") else 4)


@pytest.mark.parametrize("backend", [name for name, row in BACKENDS.items() if row.trains])
def test_training_keeps_the_better_of_the_two(run: Path, backend: str) -> None:
    loaded(backend)
    main(["qat", "--run", str(run), "--backend", backend])
    parity = json.loads((run / "quant" / backend / "parity.json").read_text())
    history = parity["validation"]
    assert history["exported"] == min(("calibrated", "trained"), key=lambda name: history[name]["log_loss"])
    assert (parity["max_lsb"] <= 2, parity["n"]) == (True, 96)
    assert not list((run / "quant" / backend).glob(".*")), "nothing half-done is left"


def test_the_best_epoch_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the log loss of the quantized network; a learning rate this large makes it rise and fall."""
    rows: list[Epoch] = []
    keep = qat.keep_best
    monkeypatch.setattr(qat, "keep_best", lambda network, row, path: (rows.append(row), keep(network, row, path)))
    spec = SPEC.changed(quant=SPEC.quant.changed(epochs=4, learning_rate=0.2).plain())
    checkpoint, data = made_checkpoint(spec=spec), tiny.data()
    parity = qat.quantize(checkpoint, data, LightBackend(), tmp_path, train=True)
    history, best = parity["validation"], min(rows, key=lambda row: row.log_loss)
    assert len(rows) == 4
    assert (history["trained"]["epoch"], history["trained"]["log_loss"]) == (best.epoch, best.log_loss)
    assert history["trained"]["last"]["log_loss"] == rows[-1].log_loss
    assert history["exported"] == ("trained" if best.log_loss < history["calibrated"]["log_loss"] else "calibrated")
    found = parity["float_vs_int8"]["int8"]["log_loss"]
    assert np.isfinite(found)
    assert not list(tmp_path.glob(".qat*"))


def test_ranges_and_statistics_stay_in_the_last_epochs() -> None:
    from quant.brevitas_backend import BrevitasQuantizer

    network = nn.Sequential(BrevitasQuantizer(rectified=True), nn.BatchNorm2d(2)).train()
    for epoch, held in ((0, False), (7, False), (8, True)):
        qat.hold_ranges(network, epoch, QuantSpec(epochs=10, frozen_share=0.2))
        assert [parameter.requires_grad for parameter in network[0].parameters()] == [not held]
        assert network[1].training is not held
        assert network[1].weight.requires_grad


def test_the_float_model_teaches_the_quantized_one(tmp_path: Path) -> None:
    """Against labels that say otherwise."""
    data = tiny.data()
    turned = replace(data, train=replace(data.train, label=(data.train.label + 1) % 3), validation=tiny.segments(0, 5))
    distances = {}
    for weight in (0.0, 1.0):
        fields = {"epochs": 4, "learning_rate": 0.02, "distill_weight": weight}
        checkpoint = made_checkpoint(spec=SPEC.changed(quant=SPEC.quant.changed(**fields).plain()))
        deployed = qat.deployable(checkpoint)
        quantized = qat.calibrated(checkpoint, deployed, qat.calibration_inputs(checkpoint, turned), LightBackend())
        qat.trained(checkpoint, turned, quantized, deployed, tmp_path / str(weight), "cpu")
        x = torch.from_numpy(checkpoint.standardize(data.test.features))
        with torch.inference_mode():
            p, q = (network.eval()(x).softmax(dim=1) for network in (deployed, quantized))
        distances[weight] = (p - q).abs().mean().item()
    assert distances[1.0] < 0.5 * distances[0.0]


def test_a_refit_is_compared_without_scores(tmp_path: Path) -> None:
    """A network trained on everything has no validation and no test part."""
    empty = tiny.segments(0, 5)
    parity = quantized(tmp_path, validation=empty, test=empty)
    assert (parity["n"], parity["validation"]) == (48, {"exported": "calibrated"})
    assert "float_vs_int8" not in parity
    assert not (tmp_path / "scores.json").exists()
    assert "accuracy" not in compare({"light": tmp_path})


def test_a_run_that_was_never_trained_is_refused(tmp_path: Path) -> None:
    for command in ("ptq", "qat", "export", "diagnose"):
        with pytest.raises(RunError, match="nothing is trained here"):
            main([command, "--run", str(tmp_path)])
    with pytest.raises(ConfigError, match="nothing is quantized yet"):
        main(["check", "--run", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, value: float) -> None:
    checkpoint = made_checkpoint()
    name = "stages.0.blocks.0.project.conv.weight"
    checkpoint.state[name][0, 0] = value
    with pytest.raises(RunError, match=rf"{name} has 1 of \d+ values that are infinite or not numbers"):
        qat.quantize(checkpoint, tiny.data(), LightBackend(), tmp_path, train=False)
    save_checkpoint(tmp_path / "best/model.safetensors", checkpoint)
    with pytest.raises(RunError, match=name):
        main(["export", "--run", str(tmp_path)])


def test_silent_calibration_data_is_refused(tmp_path: Path) -> None:
    silent = tiny.data()
    silent.train.features[:] = -11.5
    with pytest.raises(DataError, match=r"tiny: all 16 segments .* are silent .*-11\.5"):
        qat.quantize(made_checkpoint(), silent, LightBackend(), tmp_path, train=False)
    assert list(tmp_path.iterdir()) == []


def test_features_that_are_no_numbers_give_no_ranges(tmp_path: Path) -> None:
    broken = tiny.data()
    broken.train.features[:] = np.nan
    with pytest.raises(DataError, match="infinite or not numbers"):
        qat.quantize(made_checkpoint(), broken, LightBackend(), tmp_path, train=False)


def test_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="trained on classes airport, bus, park; the data has a, b, c"):
        quantized(tmp_path, classes=("a", "b", "c"))


def test_training_a_large_network_with_quantization_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qat, "MOST_TRAINED", 100)
    with pytest.raises(RunError, match=r"at most 100 parameters, found \d+; python quant/run\.py ptq"):
        qat.quantize(made_checkpoint(), tiny.data(), LightBackend(), tmp_path, train=True)
    assert qat.quantize(made_checkpoint(), tiny.data(), LightBackend(), tmp_path, train=False)["n"] == 96


def test_the_backend_without_training_does_not_train(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"onnxruntime does not train: python quant/run\.py ptq"):
        main(["qat", "--run", str(run), "--backend", "onnxruntime"])


def test_an_opset_that_lacks_an_operator_is_refused(tmp_path: Path) -> None:
    spec = SPEC.changed(model=SPEC.model.changed(norm="layer").plain(), quant={"opset": 13})
    checkpoint = made_checkpoint(spec=spec, state=build(spec.model, spec.input_shape(), 3).state_dict())
    with pytest.raises(ConfigError, match=r"quant\.opset: LayerNormalization needs at least 17, found 13"):
        qat.quantize(checkpoint, tiny.data(), LightBackend(), tmp_path, train=False)


def swapped(folder: Path) -> None:
    """An int8 file where float is expected."""
    (folder / "float.onnx").write_bytes((folder / "int8.onnx").read_bytes())


def cut(folder: Path) -> None:
    whole = (folder / "int8.onnx").read_bytes()
    (folder / "int8.onnx").write_bytes(whole[: len(whole) // 2])


def unquantized(folder: Path) -> None:
    (folder / "int8.onnx").write_bytes((folder / "float.onnx").read_bytes())


def scrambled(folder: Path) -> None:
    (folder / "parity.json").write_text("{")


def another(folder: Path) -> None:
    (folder / "parity.json").write_text("[]")


DAMAGES: dict[Callable[[Path], None], str] = {
    swapped: r"float\.onnx is an integer graph; a float one is expected",
    cut: r"int8\.onnx is not a whole ONNX file",
    unquantized: r"int8\.onnx is a float graph; an integer one is expected",
    scrambled: r"parity\.json cannot be read as JSON",
    another: r"parity\.json: expected fused, validation, n, found no fused",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_check_opens_the_files(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    quantized(tmp_path)
    compare({"light": tmp_path})
    damage(tmp_path)
    with pytest.raises(RunError, match=DAMAGES[damage]) as refused:
        compare({"light": tmp_path})
    assert len(str(refused.value).splitlines()) == 1


def test_a_table_has_a_column_for_each_and_a_gap_where_one_has_no_value() -> None:
    lines = table({"one": {"bytes": "1,000", "mAP": "0.5"}, "two": {"bytes": "20"}}).splitlines()
    assert lines == ["       one    two", "bytes  1,000  20", "mAP    0.5"]


def test_settings_other_than_of_quantization_are_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.width=8: only quant\.KEY"):
        main(["ptq", "--run", str(run), "--set", "model.width=8"])


def test_calibration_takes_what_the_seed_draws() -> None:
    checkpoint = made_checkpoint()
    data: PreparedData = tiny.data()
    first, again = (torch.cat(qat.calibration_inputs(checkpoint, data)) for _ in range(2))
    assert first.shape == (16, *SPEC.input_shape())
    assert torch.equal(first, again)
    other = qat.calibration_inputs(replace(checkpoint, spec=SPEC.changed(seed=1)), data)
    assert not torch.equal(first, torch.cat(other))
