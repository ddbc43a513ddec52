"""From folds to arrays: rows, devices, caching and streaming."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from system import dataset
from system.data.decoding import read_mono
from system.data.devices import training_device
from system.dataset import PreparedData, prepare, stream_features
from system.errors import ConfigError, DataError
from system.features import LogMel
from system.spec import DataSpec, FeatureSpec
from tests.system.test_data_devices import response_folder

FEATURES = FeatureSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=128, n_mels=20)
ROWS = [(f"audio/{label}{n}.wav", label, 1 + n % 2) for label in ("dog", "rain") for n in range(8)]


@pytest.fixture
def root(cache: Path, csv_folder: Callable[..., Path]) -> Path:
    return csv_folder(ROWS, seconds=2.0)


def ready(root: Path, seed: int = 0, **data: object) -> PreparedData:
    return prepare(DataSpec.model_validate({"dataset": "csv", "root": str(root), **data}), FEATURES, seed)


def test_rows_hold_their_own_features(root: Path) -> None:
    data = ready(root)
    front_end = LogMel(FEATURES)
    assert (data.name, data.classes, data.skipped) == ("csv", ("dog", "rain"), 0)
    assert data.device_groups == {"a": "real"}
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 4, 16]
    for part in (data.train, data.validation, data.test):
        assert part.features.shape == (len(part), 20, FEATURES.frames(1.0))
        assert part.features.dtype == np.float32
        assert len(part.label) == len(part.device) == len(part.source) == len(part.segment) == len(part)
        for row in range(len(part)):
            samples, _ = read_mono(root / part.filename[row], 8000)
            start = 8000 * int(part.segment[row])
            expected = front_end(torch.from_numpy(samples[None, start : start + 8000]))[0].numpy()
            assert np.abs(part.features[row] - expected).max() < 1e-5
            assert data.classes[part.label[row]] in part.filename[row]
            assert part.source[row] == part.filename[row]


def test_for_a_refit_everything_is_trained_on(root: Path) -> None:
    parts, everything = ready(root), ready(root, refit="all")
    assert [len(part) for part in (everything.train, everything.validation, everything.test)] == [32, 0, 0]
    rows = {
        (name, int(number)): features
        for part in (parts.train, parts.validation, parts.test)
        for name, number, features in zip(part.filename, part.segment, part.features, strict=True)
    }
    for name, number, features in zip(
        everything.train.filename, everything.train.segment, everything.train.features, strict=True
    ):
        np.testing.assert_array_equal(features, rows.pop((name, int(number))))
    assert rows == {}
    assert everything.checksum != parts.checksum


def test_for_a_refit_every_segment_is_heard_once_through_any_device(root: Path, tmp_path: Path) -> None:
    data = ready(root, refit="all", device_irs=str(response_folder(tmp_path / "irs")))
    assert len(data.train) == len({*zip(data.train.filename, data.train.segment.tolist(), strict=True)}) == 32
    assert {"s4", "s5", "s6"} & set(data.train.device)
    assert "a" in data.train.device


def test_second_call_computes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ready(root)

    def refuse(*arguments: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(dataset, "_compute", refuse)
    monkeypatch.setattr("system.data.audio._read_all", refuse)
    again = ready(root)
    assert np.array_equal(first.train.features, again.train.features)
    assert first.checksum == again.checksum
    for change in ({"n_mels": 16}, {"log_floor": 1e-6}, {"f_max": 3000.0}):
        with pytest.raises(AssertionError, match="computed again"):
            prepare(DataSpec(dataset="csv", root=str(root)), FEATURES.changed(**change), 0)
    with pytest.raises(AssertionError, match="computed again"):
        ready(root, fold=2)


def test_checksum_stands_for_data_not_for_seed(root: Path) -> None:
    base = ready(root)
    assert ready(root, seed=5).checksum == base.checksum
    assert ready(root, fold=2).checksum != base.checksum
    soundfile.write(root / ROWS[0][0], np.random.default_rng(77).standard_normal(16000) * 0.1, 8000)
    assert ready(root).checksum != base.checksum


def test_device_protocol(root: Path, tmp_path: Path) -> None:
    irs = response_folder(tmp_path / "irs")
    plain, heard = ready(root), ready(root, device_irs=str(irs))
    assert heard.device_groups == {"a": "real"} | dict.fromkeys(("s1", "s2", "s3"), "seen") | dict.fromkeys(
        ("s4", "s5", "s6"), "unseen"
    )
    assert len(heard.test) == 7 * len(plain.test)
    assert set(Counter(heard.test.device).values()) == {len(plain.test)}
    assert len(set(zip(heard.test.filename, heard.test.segment.tolist(), heard.test.device, strict=True))) == len(
        heard.test
    )
    for part in (heard.train, heard.validation):
        expected = tuple(map(training_device, part.filename, part.segment.tolist()))
        assert part.device == expected
    as_recorded = [row for row, device in enumerate(heard.test.device) if device == "a"]
    assert np.abs(heard.test.features[as_recorded] - plain.test.features).max() < 1e-5
    by_device = [row for row, device in enumerate(heard.test.device) if device == "s4"]
    assert np.abs(heard.test.features[by_device] - plain.test.features).mean() > 0.05
    assert heard.checksum != plain.checksum


def test_the_training_part_as_samples(root: Path, tmp_path: Path) -> None:
    data = ready(root, device_irs=str(response_folder(tmp_path / "irs", 8000)))
    recordings = data.recordings
    assert recordings is not None
    assert (len(recordings.responses), len(recordings.held_out)) == (3, 3)
    names = np.array(["a", "s1", "s2", "s3"])
    assert tuple(names[recordings.device]) == data.train.device
    for row, name in enumerate(data.train.filename):
        samples, _ = read_mono(root / name, 8000)
        start = 8000 * int(data.train.segment[row])
        assert np.array_equal(recordings.read([row])[0], samples[start : start + 8000])
    assert set(recordings.length.tolist()) == {2}


def test_no_device_is_held_out_of_a_refit(root: Path, tmp_path: Path) -> None:
    recordings = ready(root, device_irs=str(response_folder(tmp_path / "irs", 8000)), refit="all").recordings
    assert recordings is not None
    assert (len(recordings.responses), len(recordings.held_out)) == (6, 0)


def test_device_groups_of_a_set_with_devices(cache: Path, csv_folder: Callable[..., Path]) -> None:
    devices = {1: ("phone", "tablet", "s1", "s9"), 2: ("phone", "phone", "s1", "s1")}
    rows = [
        (f"{label}{fold}{n}.wav", label, fold, device)
        for label in ("dog", "rain")
        for fold, names in devices.items()
        for n, device in enumerate(names)
    ]
    data = ready(csv_folder(rows, header="filename,label,fold,device"))
    assert data.device_groups == {"phone": "real", "s1": "seen", "s9": "unseen", "tablet": "unseen"}
    assert data.recordings is not None
    assert {name: int(k) for name, k in zip(data.train.device, data.recordings.device, strict=True)} == {
        "phone": 0,
        "s1": -1,  # simulated by the set: it passes no second device
    }


def test_skipped_recordings_are_counted(root: Path) -> None:
    (root / ROWS[0][0]).write_bytes(b"")
    with pytest.raises(DataError, match="--skip-bad"):
        ready(root)
    data = ready(root, skip_bad=True)
    assert data.skipped == 1
    assert ROWS[0][0] not in data.test.filename


def test_skipping_may_not_take_a_class_away(root: Path) -> None:
    for name, label, fold in ROWS:
        if label == "dog" and fold == 2:
            (root / name).write_bytes(b"")
    with pytest.raises(DataError, match="every recording of class 'dog' in the training part is damaged"):
        ready(root, skip_bad=True)


def test_segment_shorter_than_a_window(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.segment_seconds"):
        ready(root, segment_seconds=0.01)


def test_more_bands_than_the_spectrum_has_bins_for(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"features\.n_mels: .* found \d+ of 200 that lie between its 129 bins"):
        prepare(DataSpec(dataset="csv", root=str(root)), FEATURES.changed(n_mels=200), 0)


@pytest.mark.parametrize("silence_rms", [0.0, 1e-4])
def test_nothing_but_silence_to_train_on(root: Path, silence_rms: float) -> None:
    for name, _, fold in ROWS:
        if fold == 2:
            soundfile.write(root / name, np.zeros(16000), 8000)
    with pytest.raises(DataError, match=f"{root}: expected sound in the training part, found .* segments of silence"):
        ready(root, silence_rms=silence_rms)


def test_unknown_data_set() -> None:
    with pytest.raises(ConfigError, match="unknown data set 'cvs'; did you mean 'csv'"):
        prepare(DataSpec(dataset="cvs"), FEATURES, 0)


def test_streaming(root: Path) -> None:
    paths = [root / name for name, _, _ in ROWS]
    soundfile.write(paths[3], np.full(800, 0.1), 8000)  # shorter than a segment
    batches = list(stream_features(paths, FEATURES, 1.0, batch=5))
    rows = np.concatenate([rows for rows, _ in batches])
    features = np.concatenate([features for _, features in batches])
    assert [len(rows) for rows, _ in batches] == [5, 5, 5, 5, 5, 5, 1]
    assert rows.tolist() == sorted([*range(16), *(row for row in range(16) if row != 3)])
    data = ready(root)
    for row, name in enumerate(data.test.filename):
        position = [str(path) for path in paths].index(str(root / name))
        streamed = features[rows == position]
        assert np.abs(streamed[data.test.segment[row]] - data.test.features[row]).max() < 1e-5


def test_streaming_stops_at_a_missing_file(root: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.wav does not exist$"):
        list(stream_features([root / "nowhere.wav"], FEATURES))


def test_esc10(cache: Path, shared_data: Path) -> None:
    spec = DataSpec(dataset="csv", root=str(shared_data / "esc10_32k"), device_irs=str(shared_data / "micirp"))
    data = prepare(spec, FeatureSpec(), 0)
    assert data.train.features.shape[1:] == (80, 51)
    assert len(set(data.test.filename)) == 80
    assert len(data.train) + len(data.validation) + len(data.test) // 7 == 1820
    assert len(data.test) % 7 == 0
    assert np.isfinite(data.train.features).all()
