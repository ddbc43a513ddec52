"""Decoding, cutting and caching, and every damaged recording that we could think of."""

import errno
import multiprocessing
import os
import resource
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from system.data import audio
from system.data.audio import cached_audio, cut, stream_segments
from system.data.decoding import SUFFIXES, Damaged, read_mono, seconds_of
from system.data.folds import Clip
from system.errors import DataError

RATE = 8000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def clip(path: Path) -> Clip:
    return Clip(filename=path.name, path=path, label="x", source=path.name)


def cached(paths: list[Path], **settings: object) -> audio.AudioCache:
    options: dict = {"sample_rate": RATE, "segment_seconds": 1.0, "silence_rms": 1e-4, "skip_bad": False}
    return cached_audio([clip(path) for path in paths], **{**options, **settings})


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    for number, path in enumerate(paths):
        soundfile.write(path, noise(2.0, number), RATE)
    return paths


def test_mono_and_resampled(tmp_path: Path) -> None:
    time = np.arange(44100) / 44100
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone, 0 * tone], axis=1), 44100, subtype="PCM_24")
    samples, _ = read_mono(path, 22050)
    assert samples.shape == (22050,)
    assert samples.dtype == np.float32
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    assert np.abs(samples - expected)[500:-500].max() < 1e-4


@pytest.mark.parametrize(("seconds", "expected"), [(0.3, 1), (1.0, 1), (1.49, 1), (1.5, 2), (5.0, 5)])
def test_segments_of_a_clip(seconds: float, expected: int) -> None:
    samples = noise(seconds).astype(np.float32)
    segments, index = cut(samples, RATE, 1e-4)
    assert segments.shape == (expected, RATE)
    assert index.tolist() == list(range(expected))
    kept = min(len(samples), expected * RATE)
    assert np.array_equal(segments.reshape(-1)[:kept], samples[:kept])
    assert not segments.reshape(-1)[kept:].any()


def test_silent_segments_of_longer_clips_are_padding() -> None:
    samples = np.concatenate([noise(1.0), np.zeros(RATE), noise(1.0)]).astype(np.float32)
    assert cut(samples, RATE, 1e-4)[1].tolist() == [0, 2]
    assert cut(np.zeros(RATE, np.float32), RATE, 1e-4)[1].tolist() == [0]
    assert len(cut(np.zeros(3 * RATE, np.float32), RATE, 1e-4)[1]) >= 1


def test_cache_holds_every_segment_in_file_order(cache: Path, recordings: list[Path]) -> None:
    found = cached(recordings[::-1])
    assert found.filename == ("a.wav", "b.wav", "c.wav")
    assert found.clip.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.segment.tolist() == [0, 1, 0, 1, 0, 1]
    for number, path in enumerate(recordings):
        assert np.array_equal(found.samples[2 * number : 2 * number + 2].reshape(-1), read_mono(path, RATE)[0])


def test_key_changes_with_everything_that_matters(cache: Path, recordings: list[Path]) -> None:
    first = cached(recordings)
    assert cached(recordings).key == first.key
    keys = {first.key}
    for change in (
        {"sample_rate": 4000},
        {"segment_seconds": 0.5},
        {"silence_rms": 1e-3},
        {"skip_bad": True},
    ):
        keys.add(cached(recordings, **change).key)
    keys.add(cached(recordings[:2]).key)
    os.utime(recordings[0], ns=(1, 1))
    keys.add(cached(recordings).key)
    assert len(keys) == 7


def test_changed_file_is_read_again(cache: Path, recordings: list[Path]) -> None:
    before = cached(recordings)
    soundfile.write(recordings[1], noise(2.0, 99), RATE)
    after = cached(recordings)
    assert after.checksum != before.checksum
    assert np.array_equal(after.samples[2:4].reshape(-1), read_mono(recordings[1], RATE)[0])


def test_checksum_is_of_content_alone(cache: Path, recordings: list[Path], tmp_path: Path) -> None:
    copies = [tmp_path / "elsewhere" / path.name for path in recordings]
    copies[0].parent.mkdir()
    for path, copy in zip(recordings, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    assert cached(copies).checksum == cached(recordings).checksum


def test_code_version_is_part_of_the_key(cache: Path, recordings: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    before = cached(recordings).key
    monkeypatch.setattr(audio, "CODE_VERSION", -1)
    assert cached(recordings).key != before


def _cache_in_process(paths: list[Path], queue: "multiprocessing.Queue[tuple[str, float]]") -> None:
    found = cached(paths)
    queue.put((found.checksum, float(found.samples.sum())))


def test_two_processes_build_one_cache(cache: Path, recordings: list[Path]) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_cache_in_process, args=(recordings, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    results = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(results) == 1
    assert len([path for path in (cache / "audio").iterdir() if path.is_dir()]) == 1


def test_a_failed_read_leaves_nothing(cache: Path, recordings: list[Path]) -> None:
    recordings[1].write_bytes(b"RIFF")
    with pytest.raises(DataError):
        cached(recordings)
    assert [path for path in (cache / "audio").iterdir() if path.is_dir()] == []


def _cache_with_a_full_disk(paths: list[Path], queue: "multiprocessing.Queue[int | None]") -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        cached(paths)
    except OSError as error:
        queue.put(error.errno)


def test_a_full_disk_leaves_nothing(cache: Path, recordings: list[Path]) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_cache_with_a_full_disk, args=(recordings, queue))
    worker.start()
    assert queue.get(timeout=60) == errno.EFBIG
    worker.join()
    assert [path for path in (cache / "audio").iterdir() if path.is_dir()] == []
    assert cached(recordings).samples.shape == (6, RATE)


def test_leftovers_of_a_killed_build_are_removed(cache: Path, recordings: list[Path]) -> None:
    key = cached(recordings).key
    (cache / "audio" / key).rename(cache / "audio" / f".{key}.killed.part")
    cached(recordings)
    assert [path.name for path in (cache / "audio").iterdir() if path.is_dir()] == [key]


def truncated_wav(path: Path) -> None:
    soundfile.write(path, noise(1.0), RATE)
    path.write_bytes(path.read_bytes()[:-3000])


def truncated_wav_with_extra_chunk(path: Path) -> None:
    soundfile.write(path, noise(1.0), RATE)
    content = path.read_bytes()
    extra = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"  # odd size, padded
    path.write_bytes(content[:12] + extra + content[12:-3000])


def truncated_flac(path: Path) -> None:
    soundfile.write(path, noise(1.0), RATE, format="FLAC")
    path.write_bytes(path.read_bytes()[:-3000])


def header_alone(path: Path) -> None:
    soundfile.write(path, noise(1.0), RATE)
    path.write_bytes(path.read_bytes()[:44])


def zero_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE)


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("this is not audio")


def not_a_number(path: Path) -> None:
    samples = noise(1.0)
    samples[17] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def infinite(path: Path) -> None:
    samples = noise(1.0)
    samples[3] = -np.inf
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def too_large(path: Path) -> None:
    """The mean of both channels is beyond float32, and the power of one already is."""
    samples = np.stack([noise(1.0)] * 2, axis=1)
    samples[5] = 3e38
    soundfile.write(path, samples, RATE, subtype="FLOAT")


DAMAGE = {
    truncated_wav: "is truncated: expected 16000 bytes of samples, found 13000",
    truncated_wav_with_extra_chunk: "is truncated: expected 16000 bytes of samples, found 13000",
    truncated_flac: "truncated|cannot be decoded",
    header_alone: "is truncated|zero samples",
    zero_samples: "found zero samples",
    empty_file: "found an empty file",
    text: "cannot be decoded",
    not_a_number: "found nan at sample 17",
    infinite: "found -inf at sample 3",
    too_large: r"expected samples from about -1 to 1, found 3e\+38 at sample 5",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damaged_recording_is_refused_or_skipped(cache: Path, recordings: list[Path], damage: object) -> None:
    assert callable(damage)
    damage(recordings[1])
    with pytest.raises(DataError, match=DAMAGE[damage]) as caught:
        cached(recordings)
    message = str(caught.value)
    assert str(recordings[1]) in message
    assert "--skip-bad" in message
    assert "\n" not in message
    found = cached(recordings, skip_bad=True)
    assert found.skipped == ("b.wav",)
    assert found.filename == ("a.wav", "c.wav")
    assert np.array_equal(found.samples[2:4].reshape(-1), read_mono(recordings[2], RATE)[0])
    with pytest.raises(Damaged, match=DAMAGE[damage]):
        list(stream_segments(recordings, RATE, RATE))


def test_few_recordings_are_read_before_they_are_asked_for(
    recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def reading(path: Path, rate: int) -> tuple[np.ndarray, str]:
        read.append(path)
        return read_mono(path, rate)

    monkeypatch.setattr(audio, "read_mono", reading)
    found = stream_segments(recordings * 20, RATE, RATE)
    assert next(found)[0] == 0
    assert len(read) <= 1 + audio.AHEAD
    assert [position for position, _ in found] == list(range(1, 20 * len(recordings)))
    assert read == recordings * 20


@pytest.mark.parametrize("silence_rms", [0.0, 1e-4])
def test_a_long_recording_is_cut_in_little_more_memory_than_it_takes(silence_rms: float) -> None:
    samples = noise(600.0).astype(np.float32)
    tracemalloc.start()
    segments, _ = cut(samples, RATE, silence_rms)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert segments.nbytes == samples.nbytes
    assert most < 2.25 * samples.nbytes


def test_integers_written_as_floats_are_read(tmp_path: Path) -> None:
    path = tmp_path / "integers.wav"
    samples = np.round(noise(1.0) * 2.0**31).astype(np.float32)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    assert np.array_equal(read_mono(path, RATE)[0], samples)


def test_wav_of_unknown_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, noise(1.0), RATE)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 40, 0xFFFFFFFF)
    path.write_bytes(content)
    assert len(read_mono(path, RATE)[0]) == RATE


def test_all_damaged(cache: Path, recordings: list[Path]) -> None:
    for path in recordings:
        text(path)
    with pytest.raises(DataError, match="all 3 are damaged"):
        cached(recordings, skip_bad=True)


def test_missing_recording_is_not_skipped(cache: Path, recordings: list[Path]) -> None:
    recordings[2].unlink()
    with pytest.raises(DataError, match=r"c\.wav is listed but cannot be found"):
        cached(recordings, skip_bad=True)


def test_cache_that_cannot_be_written(tmp_path: Path, recordings: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINYSCENE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match="TINYSCENE_CACHE"):
        cached(recordings)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_how_long_a_recording_is_stands_in_its_header_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    format, subtype = {".opus": ("OGG", "OPUS"), ".aif": ("AIFF", None)}.get(suffix, (suffix[1:].upper(), None))
    soundfile.write(tmp_path / f"a{suffix}", np.zeros(24_000), 16_000, format=format, subtype=subtype)
    odd = tmp_path / (b"\xff".decode("utf-8", "surrogateescape") + suffix)
    (tmp_path / f"a{suffix}").rename(odd)
    assert seconds_of(odd) == pytest.approx(1.5, abs=0.1)
