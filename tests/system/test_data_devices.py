"""The device protocol: which responses, how they are heard, and who hears them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from system.data.devices import SEEN, UNSEEN, DeviceResponses, load_responses, load_training_responses, training_device
from system.errors import DataError

RATE = 32000


def response_folder(root: Path, sample_rate: int = RATE) -> Path:
    """Ten microphones in five folds; number n has its peak n samples after the 100th and an echo."""
    (root / "audio").mkdir(parents=True)
    lines = ["filename,label,fold"]
    for number in range(10):
        response = np.zeros(6000)
        response[100 + number] = -0.8
        response[100 + number + 40 * (number + 1)] = 0.4
        name = f"audio/{9 - number}.wav"
        soundfile.write(root / name, response, sample_rate, subtype="FLOAT")
        lines.append(f"{name},mic{number},{1 + number % 5}")
    (root / "meta.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    return root


@pytest.fixture
def responses(tmp_path: Path) -> DeviceResponses:
    return load_responses(response_folder(tmp_path / "irs"), RATE)


def test_choice_is_evenly_spaced_by_label(responses: DeviceResponses) -> None:
    # Folds 1 to 3 hold mics 0 1 2 5 6 7 (indices 0, 2, 4), folds 4 and 5 hold 3 4 8 9 (indices 0, 1, 2).
    expected = dict(zip((*SEEN, *UNSEEN), (0, 2, 6, 3, 4, 8), strict=True))
    for device, number in expected.items():
        taps = responses.responses[device]
        echo = 32 + 40 * (number + 1)
        assert np.flatnonzero(np.abs(taps) > 1e-3).tolist() == [32, echo]


def test_cut_and_energy(responses: DeviceResponses) -> None:
    assert responses.before_peak == 32
    for taps in responses.responses.values():
        assert taps.shape == (32 + 4096,)
        assert np.argmax(np.abs(taps)) == 32
        assert np.sum(taps.astype(np.float64) ** 2) == pytest.approx(1.0, abs=1e-5)


def test_cut_scales_with_the_sample_rate(tmp_path: Path) -> None:
    responses = load_responses(response_folder(tmp_path / "irs", 44100), 16000)
    assert responses.before_peak == 16
    for taps in responses.responses.values():
        assert taps.shape == (16 + 2048,)
        assert np.argmax(np.abs(taps)) == 16


def test_against_direct_convolution(responses: DeviceResponses) -> None:
    rng = np.random.default_rng(0)
    segments = (rng.standard_normal((3, 8000)) * np.array([[0.5], [0.01], [1e-4]])).astype(np.float32)
    heard = responses.apply(segments, "s5")
    assert heard.dtype == np.float32
    for before, after in zip(segments, heard, strict=True):
        direct = np.convolve(before, responses.responses["s5"])[32 : 32 + 8000]
        direct *= np.sqrt(np.mean(before**2.0) / np.mean(direct**2))
        assert np.abs(after - direct).max() < 1e-4 * np.abs(direct).max()


def test_direct_sound_stays_in_place(responses: DeviceResponses) -> None:
    click = np.zeros((1, 8000), np.float32)
    click[0, 4000] = 1.0
    for device in (*SEEN, *UNSEEN):
        assert np.argmax(np.abs(responses.apply(click, device))) == 4000


def test_level_is_restored_and_silence_stays(responses: DeviceResponses) -> None:
    segments = np.zeros((2, 4000), np.float32)
    segments[1] = 0.3 * np.random.default_rng(1).standard_normal(4000)
    for device in (*SEEN, *UNSEEN):
        heard = responses.apply(segments, device)
        assert not heard[0].any()
        assert np.sqrt(np.mean(heard[1] ** 2)) == pytest.approx(np.sqrt(np.mean(segments[1] ** 2)), rel=1e-5)
    assert responses.apply(segments, "a") is segments


def test_training_devices_are_stable_and_shared_out() -> None:
    drawn = [training_device(f"audio/{clip}.wav", segment) for clip in range(2000) for segment in range(5)]
    share = {device: count / len(drawn) for device, count in Counter(drawn).items()}
    assert share == pytest.approx({"a": 0.7, "s1": 0.1, "s2": 0.1, "s3": 0.1}, abs=0.015)
    # Fixed: another draw would make other results with the same seed.
    assert [training_device("audio/1-100032-A-0.flac", segment) for segment in range(5)] == ["a", "s3", "a", "s2", "a"]


def test_broken_folders(tmp_path: Path) -> None:
    def refused(message: str, change: Callable[[Path], object]) -> None:
        folder = response_folder(tmp_path / f"irs{len(list(tmp_path.iterdir()))}")
        change(folder)
        with pytest.raises(DataError, match=message):
            load_responses(folder, RATE)

    with pytest.raises(DataError, match="expected a folder of impulse responses"):
        load_responses(tmp_path / "nowhere", RATE)
    refused(r"meta\.csv does not exist", lambda folder: (folder / "meta.csv").unlink())
    refused("no column 'label'", lambda folder: rewrite(folder, "label", "name"))
    refused(
        r"line \d+: expected fold to be a whole number, found 'x'", lambda folder: rewrite(folder, "mic3,4", "mic3,x")
    )
    refused("at least 3 responses in folds 4 to 5, found 2", lambda folder: rewrite(folder, ",5", ",1"))
    refused(r"0\.wav.*cannot be decoded|[0-9]\.wav", lambda folder: [p.write_text("x") for p in folder.glob("audio/*")])
    refused(
        "expected a response, found silence",
        lambda folder: [soundfile.write(path, np.zeros(500), RATE) for path in folder.glob("audio/*")],
    )


def rewrite(folder: Path, old: str, new: str) -> None:
    path = folder / "meta.csv"
    path.write_text(path.read_text().replace(old, new))


def test_real_responses(shared_data: Path) -> None:
    responses = load_responses(shared_data / "micirp", 22050)
    assert tuple(responses.responses) == (*SEEN, *UNSEEN)
    assert responses.before_peak == 22
    assert all(len(taps) == 22 + 2822 for taps in responses.responses.values())


def test_training_takes_the_folds_of_seen_devices(tmp_path: Path) -> None:
    folder = response_folder(tmp_path / "irs")
    responses = load_responses(folder, RATE)
    training = load_training_responses(folder, RATE, [responses.responses[name] for name in UNSEEN])
    echoes = [int(np.flatnonzero(np.abs(taps) > 1e-3)[1]) - 32 for taps in training]
    assert sorted(echoes) == [40 * (number + 1) for number in (0, 1, 2, 5, 6, 7)]  # folds 1 to 3
    assert all(taps.shape == (4128,) for taps in training)
    assert {tuple(responses.responses[name]) for name in SEEN} <= {tuple(taps) for taps in training}


def test_a_folder_without_folds_is_taken_whole_but_never_a_device_of_the_test(tmp_path: Path) -> None:
    folder = response_folder(tmp_path / "irs")
    responses = load_responses(folder, RATE)
    (folder / "meta.csv").unlink()
    assert len(load_training_responses(folder, RATE)) == 10
    held_out = [responses.responses[name] for name in UNSEEN]
    with pytest.raises(DataError, match=r"\.wav is the response of a device that only the test may know"):
        load_training_responses(folder, RATE, held_out)
    (folder / "meta.csv").write_text("filename,label\naudio/0.wav,x\n")
    assert len(load_training_responses(folder, RATE, held_out)) == 1


def test_responses_for_training_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: expected a folder .*augment\.impulse_responses"):
        load_training_responses(tmp_path / "none", RATE)
    (tmp_path / "some").mkdir()
    with pytest.raises(DataError, match="some: expected impulse responses for training, found none"):
        load_training_responses(tmp_path / "some", RATE)
    soundfile.write(tmp_path / "some" / "silent.wav", np.zeros(100), RATE)
    with pytest.raises(DataError, match=r"silent\.wav: expected a response, found silence"):
        load_training_responses(tmp_path / "some", RATE)
    (tmp_path / "some" / "silent.wav").write_bytes(b"")
    with pytest.raises(DataError, match="empty file"):
        load_training_responses(tmp_path / "some", RATE)


def test_all_shared_responses_of_the_training_folds_load(shared_data: Path) -> None:
    protocol = load_responses(shared_data / "micirp", RATE)
    held_out = [protocol.responses[name] for name in UNSEEN]
    training = load_training_responses(shared_data / "micirp", RATE, held_out)
    assert len(training) > 30
    assert all(np.sum(taps.astype(float) ** 2) == pytest.approx(1.0, abs=1e-5) for taps in training)
