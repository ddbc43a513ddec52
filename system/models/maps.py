"""The map that a layer writes, by arithmetic over the one it reads; what does not fit is refused here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from system.complexity import Map
from system.errors import ConfigError

Pair = tuple[int, int]  # (freq, time)


class MapError(ConfigError):
    """A size that the map cannot take: `part` says which, the kernel or the stride."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


@contextmanager
def asked_by(**fields: str) -> Iterator[None]:
    """Let a kernel or stride that the map cannot take name the field of the spec that asks for it."""
    try:
        yield
    except MapError as error:
        raise ConfigError(f"{fields[error.part]}: {error}") from None


def conv_map(x: Map, channels: int, kernel: Pair, stride: Pair, padding: Pair, what: str = "convolution") -> Map:
    """The map a sliding kernel writes. Raises MapError if nothing is left of it."""
    freq = (x.freq + 2 * padding[0] - kernel[0]) // stride[0] + 1
    time = (x.time + 2 * padding[1] - kernel[1]) // stride[1] + 1
    too_far = stride[0] > x.freq or stride[1] > x.time
    if too_far or min(freq, time) < 1:
        part, limit = ("stride", "the map") if too_far else ("kernel", "the padded map")
        raise MapError(
            part,
            f"a {what} with kernel {kernel[0]}x{kernel[1]} and stride {stride[0]}x{stride[1]} (freq x time) "
            f"does not fit a map of {x.freq}x{x.time}: its {part} must be at most {limit}; "
            "use smaller strides or more mel bands and frames",
        )
    return Map(channels, freq, time)


def sub_band_map(x: Map, sub_bands: int) -> Map:
    """Each part of the frequency axis as channels of its own. Raises ConfigError if the parts are not equal."""
    if x.freq % sub_bands:
        raise ConfigError(
            f"model.sub_bands: must divide the bands of every map that is normalized by them; found {sub_bands} "
            f"for a map of {x.freq}x{x.time} (freq x time)"
        )
    return Map(x.channels * sub_bands, x.freq // sub_bands, x.time)


def dilated(kernel: Pair, dilation: Pair) -> Pair:
    """The size of a kernel with gaps."""
    return ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)


def same_padding(kernel: Pair) -> Pair:
    """Half the kernel; keeps the size for odd kernels at stride 1."""
    return ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
