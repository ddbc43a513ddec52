"""Samples from standard input: formats, rates, windows; what is no stream of samples is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest

from system.errors import ConfigError, DataError
from system.prediction.onnx_file import slide
from system.prediction.raw_stream import Pcm, stream_blocks

RATE = 4000


def test_windows_slide_whatever_the_blocks() -> None:
    samples = np.arange(23, dtype=np.float32)
    for size in (1, 4, 7, 23):
        blocks = [samples[start : start + size] for start in range(0, 23, size)]
        windows = list(slide(blocks, 8, 4))
        assert [start for start, _ in windows] == [0, 4, 8, 12, 16]
        np.testing.assert_array_equal(windows[1][1], samples[4:12])
        np.testing.assert_array_equal(windows[-1][1], [*samples[16:], 0])
    assert [start for start, _ in slide([samples[:8]], 8, 4)] == [0]
    assert [start for start, _ in slide([samples[:2]], 8, 4)] == [0]
    assert list(slide([], 8, 4)) == []


@pytest.mark.parametrize(("name", "kind", "half"), [("u8", "u1", 192), ("s16le", "<i2", 2**14), ("s32le", "<i4", 2**30),
                                                    ("f32le", "<f4", 0.5)])  # fmt: skip
def test_sample_formats_have_one_full_scale(name: str, kind: str, half: float) -> None:
    content = np.full(100, half, kind).tobytes()
    found = np.concatenate(list(stream_blocks(Pcm(format=name, stream=io.BytesIO(content)), RATE, 7)))
    np.testing.assert_array_equal(found, np.full(100, 0.5, np.float32))


def test_a_stream_of_another_rate_is_resampled() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype("<f4")
    stream = io.BytesIO(tone.tobytes())
    found = np.concatenate(list(stream_blocks(Pcm(16000, "f32le", stream), RATE, RATE // 2)))
    assert len(found) == RATE
    expected = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=1e-2)


BAD_STREAMS = {
    "empty": (b"", "s16le", "found none"),
    "half a sample": (bytes(101), "s16le", "101 bytes"),
    "a wav file": (b"RIFF" + bytes(100), "s16le", "a WAV file"),
    "an aiff file": (b"FORM" + bytes(100), "s16le", "an AIFF file"),
    "an mp3 file": (b"ID3\x04" + bytes(100), "s16le", "an MP3 file"),
    "integers read as floats": (np.full(50, 0x7FC0, "<u4").tobytes()[2:] + bytes(2), "f32le", "--format"),
    "not numbers": (np.full(50, np.nan, "<f4").tobytes(), "f32le", "--format"),
}


@pytest.mark.parametrize(("content", "name", "message"), BAD_STREAMS.values(), ids=BAD_STREAMS)
def test_a_stream_that_holds_no_samples_is_refused(content: bytes, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(stream_blocks(Pcm(format=name, stream=io.BytesIO(content)), RATE, 10))


def test_a_stream_has_a_rate() -> None:
    with pytest.raises(ConfigError, match="--rate: expected a positive number of Hz, found 0"):
        list(stream_blocks(Pcm(rate=0, stream=io.BytesIO(bytes(100))), RATE, 10))
