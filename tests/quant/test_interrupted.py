"""A quantization that was stopped goes on as the same one, or leaves what was there before as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning

from quant import qat
from system.errors import RunError
from system.learning.loop import Epoch
from system.spec import QuantSpec
from tests import tiny

from .light import LightBackend
from .test_run import SPEC, made_checkpoint

EPOCHS = 3


def train(folder: Path, **changes: Any) -> dict[str, Any]:
    """parity.json of EPOCHS epochs with quantization."""
    how = SPEC.quant.changed(**{"epochs": EPOCHS, "learning_rate": 0.05, **changes})
    checkpoint = made_checkpoint(spec=SPEC.changed(quant=how.plain()))
    return qat.quantize(checkpoint, tiny.data(), LightBackend(), folder, train=True)


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that were trained, in order."""
    seen: list[int] = []
    hold = qat.hold_ranges
    monkeypatch.setattr(
        qat, "hold_ranges", lambda network, epoch, quant: (seen.append(epoch), hold(network, epoch, quant))
    )
    return seen


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Train until the given epoch is over and Ctrl-C comes: before its weights are kept, or before its checkpoint."""

    def stop(folder: Path, epoch: int, before_checkpoint: bool = False, **changes: Any) -> None:
        keep, save = qat.keep_best, lightning.Trainer.save_checkpoint

        def keep_best(network: Any, row: Epoch, path: Path) -> None:
            if row.epoch == epoch and not before_checkpoint:
                raise KeyboardInterrupt
            keep(network, row, path)

        def save_checkpoint(trainer: lightning.Trainer, path: Path) -> None:
            if trainer.current_epoch + 1 == epoch and before_checkpoint:
                raise KeyboardInterrupt
            save(trainer, path)

        with monkeypatch.context() as patch:
            patch.setattr(qat, "keep_best", keep_best)
            patch.setattr(lightning.Trainer, "save_checkpoint", save_checkpoint)
            with pytest.raises(KeyboardInterrupt):
                train(folder, **changes)

    return stop


def without_times(parity: dict[str, Any]) -> dict[str, Any]:
    trained = {key: value for key, value in parity["validation"]["trained"].items() if key != "seconds"}
    return parity | {"validation": parity["validation"] | {"trained": trained}, "latency_ms": None, "energy": None}


@pytest.mark.parametrize("before_checkpoint", [False, True])
@pytest.mark.parametrize("epoch", [1, 2])
def test_it_goes_on_to_the_same_end(
    epoch: int, before_checkpoint: bool, stop: Callable[..., None], epochs: list[int], tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole")
    stop(tmp_path / "stopped", epoch, before_checkpoint)
    epochs.clear()
    assert without_times(train(tmp_path / "stopped")) == without_times(whole)
    assert epochs == list(range(epoch - 1, EPOCHS))
    assert not list((tmp_path / "stopped").glob(".*"))


@pytest.mark.parametrize("changes", [{"weight_bits": 4}, {"epochs": 2}, {"learning_rate": 0.01}], ids=str)
def test_other_settings_begin_anew(
    changes: dict[str, Any], stop: Callable[..., None], epochs: list[int], tmp_path: Path
) -> None:
    stop(tmp_path, 3)
    epochs.clear()
    parity = train(tmp_path, **changes)
    assert epochs == list(range(changes.get("epochs", EPOCHS)))
    assert (
        parity["validation"]["trained"]["last"] == train(tmp_path / "fresh", **changes)["validation"]["trained"]["last"]
    )
    assert not list(tmp_path.glob(".*")), "nothing is left of the first one"


def test_other_weights_begin_anew(tmp_path: Path) -> None:
    spec = SPEC.changed(quant=QuantSpec().plain())
    first, other = made_checkpoint(spec=spec), made_checkpoint(spec=spec)
    other.state["head.classify.conv.weight"] += 1
    keys = {
        qat.stopped_at(tmp_path, checkpoint, tiny.data())[0]
        for checkpoint in (first, made_checkpoint(spec=spec), other)
    }
    assert len(keys) == 2


def test_a_damaged_best_epoch_is_refused_by_name_and_without_it_all_begins_anew(
    stop: Callable[..., None], epochs: list[int], tmp_path: Path
) -> None:
    stop(tmp_path, 3)
    (best,) = tmp_path.glob(".qat-*.best.pt")
    best.write_bytes(best.read_bytes()[:100])
    with pytest.raises(RunError, match=r"best\.pt: expected a checkpoint to go on from, found a damaged file"):
        train(tmp_path)
    best.unlink()
    epochs.clear()
    train(tmp_path)
    assert epochs == list(range(EPOCHS))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(qat.STOPPED[:-1])}


def test_what_was_there_stays_until_the_new_files_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path)
    (tmp_path / "whole.onnx").write_bytes(b"made of the file before")
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(qat, "report", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, weight_bits=4)
    assert contents(tmp_path) == before
    train(tmp_path, weight_bits=4)
    after = contents(tmp_path)
    assert after.keys() == before.keys() - {"whole.onnx"}, "what was made of another int8.onnx goes with it"
    assert after["int8.onnx"] != before["int8.onnx"]
