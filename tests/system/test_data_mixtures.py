"""Mixtures: sources stay apart, annotations tell where the sound is, the same seed gives the same bytes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from system.config import parse
from system.data.csv_folder import load, read_clips
from system.data.mixtures import MixtureSpec, excerpt, make_mixtures, mix
from system.errors import ConfigError, DataError
from system.spec import DataSpec

RATE = 8000
SPEC = MixtureSpec(
    per_fold=6, pools=3, seconds=2.0, most_events=2, event_seconds=(0.2, 0.5), sample_rate=RATE, background_db=-80.0
)


@pytest.fixture
def clips(csv_folder: Callable[..., Path]) -> Path:
    """Two folds of six sources with two clips each, of one class."""
    rows = [
        (f"audio/{fold}-{source}-{take}.wav", ("dog", "rain", "siren")[source % 3], fold, f"{fold}-{source}")
        for fold in (1, 2)
        for source in range(6)
        for take in range(2)
    ]
    return csv_folder(rows, header="filename,label,fold,source_id", name="clips")


def events_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "events.csv").open() as file:
        return list(csv.DictReader(file))


def test_no_source_is_on_two_sides(clips: Path, tmp_path: Path) -> None:
    make_mixtures(clips, tmp_path / "mix", SPEC)
    source_of = {clip.filename: (clip.source, fold) for clip, fold in read_clips(clips)}
    mixture_of = {clip.filename: (clip.source, fold) for clip, fold in read_clips(tmp_path / "mix")}
    assert len(mixture_of) == 12
    assert {source for source, _ in mixture_of.values()} == {f"fold{fold}-pool{i}" for fold in (1, 2) for i in range(3)}
    pools: dict[str, set[str]] = {}
    for row in events_of(tmp_path / "mix"):
        source, fold = source_of[row["clip"]]
        pool, mixture_fold = mixture_of[row["filename"]]
        assert fold == mixture_fold
        pools.setdefault(source, set()).add(pool)
    assert pools
    assert all(len(found) == 1 for found in pools.values())
    folds = load(DataSpec(dataset="csv", root=str(tmp_path / "mix")), 0)
    assert folds.classes == ("dog", "rain", "siren")
    assert all(clip.events is not None for clip in folds.test)


def test_the_sound_is_where_the_annotation_says(clips: Path, tmp_path: Path) -> None:
    make_mixtures(clips, tmp_path / "mix", SPEC)
    for clip, _ in read_clips(tmp_path / "mix"):
        samples, rate = soundfile.read(clip.path)
        assert (rate, len(samples)) == (RATE, 2 * RATE)
        assert 0 < np.abs(samples).max() < 1
        inside = np.zeros(len(samples), dtype=bool)
        for event in clip.events or ():
            inside[round(event.onset * RATE) : round(event.offset * RATE)] = True
            assert event.offset - event.onset <= 0.5
        assert 20 * np.log10(np.sqrt(np.mean(samples[~inside] ** 2))) < -70
        assert 20 * np.log10(np.sqrt(np.mean(samples[inside] ** 2))) > -35


@pytest.mark.parametrize("level", [-20.0, 10.0])
def test_the_level_told_is_that_of_the_sound_also_where_the_mixture_would_clip(
    level: float, clips: Path, tmp_path: Path
) -> None:
    make_mixtures(clips, tmp_path / "mix", SPEC.changed(most_events=1, event_db=(level, level)))
    for row in events_of(tmp_path / "mix"):
        samples, _ = soundfile.read(tmp_path / "mix" / row["filename"])
        heard = samples[round(float(row["onset"]) * RATE) : round(float(row["offset"]) * RATE)]
        assert 20 * np.log10(np.sqrt(np.mean(heard**2))) == pytest.approx(float(row["level_db"]), abs=0.1)
        assert float(row["level_db"]) <= min(level, 0)


def test_the_seed_decides(clips: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_mixtures(clips, tmp_path / name, SPEC.changed(seed=seed))
    content = {name: {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
               for name in "abc"}  # fmt: skip
    assert content["a"] == content["b"]
    assert content["a"][Path("events.csv")] != content["c"][Path("events.csv")]


def test_a_fold_may_be_negative_and_draws_for_itself(clips: Path, tmp_path: Path) -> None:
    meta = (clips / "meta.csv").read_text().replace(",2,2-", ",-1,2-")
    (clips / "meta.csv").write_text(meta)
    make_mixtures(clips, tmp_path / "mix", SPEC)
    assert {fold for _, fold in read_clips(tmp_path / "mix")} == {1, -1}
    onsets = [[row["onset"] for row in events_of(tmp_path / "mix") if f"fold{fold}-" in row["filename"]]
              for fold in (1, -1)]  # fmt: skip
    assert onsets[0] != onsets[1]


def test_an_excerpt_starts_and_ends_with_sound() -> None:
    generator = np.random.default_rng(0)
    samples = np.zeros(4 * RATE, np.float32)
    for start in (1.0, 3.0):  # two barks
        samples[int(start * RATE) : int((start + 0.2) * RATE)] = generator.normal(size=int(0.2 * RATE))
    lengths = set()
    for seed in range(20):
        sound = excerpt(samples, 0.5, RATE, np.random.default_rng(seed))
        edges = np.abs(sound[:400]).max(), np.abs(sound[-400:]).max()
        assert min(edges) > 0.05
        assert abs(sound[0]) < 0.05
        lengths.add(len(sound) / RATE)
    assert max(lengths) <= 0.2
    assert len(excerpt(samples[:10], 0.5, RATE, generator)) == 10
    echo = samples.copy()  # after the first bark: 30 dB below it still is sound, 50 dB is not
    for decibels, seconds in ((-30, 0.3), (-50, 0.2)):
        echo[int(1.2 * RATE) : int(1.3 * RATE)] = samples[RATE : RATE + RATE // 10] * 10 ** (decibels / 20)
        assert len(excerpt(echo[: 2 * RATE], 0.5, RATE, generator)) <= seconds * RATE
        assert any(len(excerpt(echo[: 2 * RATE], 0.5, RATE, np.random.default_rng(seed))) == seconds * RATE
                   for seed in range(20))  # fmt: skip
    noise = generator.normal(size=4 * RATE).astype(np.float32)  # sound all through: as long as may be
    assert {len(excerpt(noise, 0.5, RATE, np.random.default_rng(seed))) for seed in range(20)} == {RATE // 2}


def test_the_background_is_pink(clips: Path) -> None:
    """Power falls by 3 dB per octave, so that every octave holds as much of it."""
    pool = [clip for clip, _ in read_clips(clips)]
    spec = SPEC.changed(seconds=20.0, background_db=-20.0, event_db=(-90.0, -90.0))
    samples, _ = mix(pool, spec, np.random.default_rng(0))
    assert 20 * np.log10(np.sqrt(np.mean(samples**2))) == pytest.approx(-20, abs=0.1)
    power = np.abs(np.fft.rfft(samples)) ** 2
    octaves = [power[20 * low : 40 * low].sum() for low in (125, 250, 500, 1000, 2000)]  # 20 values a hertz
    assert np.array(octaves) / np.mean(octaves) == pytest.approx(np.ones(5), abs=0.15)


def test_refusals(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="there exists already"):
        make_mixtures(clips, tmp_path / "there", SPEC)
    with pytest.raises(
        DataError, match=r"fold 1: expected at least 7 sources, one for each pool, found 6; .*--set pools=6"
    ):
        make_mixtures(clips, tmp_path / "mix", SPEC.changed(pools=7))
    assert not (tmp_path / "mix").exists()
    make_mixtures(clips, tmp_path / "mix", SPEC)
    with pytest.raises(DataError, match="expected clips of one class each to mix"):
        make_mixtures(tmp_path / "mix", tmp_path / "again", SPEC)
    with pytest.raises(ConfigError, match="event_db: the first number must not be above the second"):
        parse(MixtureSpec, {"event_db": [-10, -20]}, "--set")
    with pytest.raises(ConfigError, match=r"event_seconds: an excerpt must be at least 0\.02 s long"):
        parse(MixtureSpec, {"event_seconds": [0.0, 1.0]}, "--set")
    for key, value in {"sample_rate": 10, "seconds": 1e9}.items():
        with pytest.raises(ConfigError, match=f"{key}: Input should be"):
            parse(MixtureSpec, {key: value}, "--set")
    with pytest.raises(ConfigError, match="sample_rate: Input should be"):
        parse(MixtureSpec, {"sample_rate": 1_000_000}, "--set")  # more than FLAC can tell


def test_real_clips(shared_data: Path, tmp_path: Path) -> None:
    make_mixtures(shared_data / "esc10_32k", tmp_path / "mix", MixtureSpec(per_fold=2, pools=2))
    mixed = read_clips(tmp_path / "mix")
    assert len(mixed) == 10
    assert all(1 <= len(clip.events or ()) <= 4 for clip, _ in mixed)
    assert (tmp_path / "mix" / "ATTRIBUTION.txt").is_file()
