"""The section `features`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from system.config import Spec
from system.spec.bounds import Positive


class FeatureSpec(Spec):
    """The log-mel front end. Names are torchaudio's; lengths are in samples."""

    sample_rate: Annotated[int, Field(ge=1, le=1_000_000)] = 22050
    n_fft: Annotated[int, Field(ge=1, le=2**17)] = 1024
    win_length: Positive = 882  # 40 ms
    hop_length: Positive = 441  # 20 ms
    n_mels: Annotated[int, Field(ge=1, le=4096)] = 80
    f_min: Annotated[float, Field(ge=0)] = 0.0
    f_max: float | None = None  # None: half the sample rate
    log_floor: Annotated[float, Field(gt=0)] = 1e-5  # added to the mel power before the natural logarithm

    @model_validator(mode="after")
    def _windows_fit(self) -> FeatureSpec:
        if self.win_length > self.n_fft:
            raise ValueError(f"win_length must be at most n_fft ({self.n_fft}), found win_length {self.win_length}")
        top = self.f_max if self.f_max is not None else self.sample_rate / 2
        if not self.f_min < top <= self.sample_rate / 2:
            raise ValueError(
                f"0 <= f_min < f_max <= sample_rate / 2 must hold, found {self.f_min:g}, {top:g} and "
                f"{self.sample_rate / 2:g}"
            )
        return self

    def frames(self, seconds: float) -> int:
        """Frames of a segment: centred windows, one more than whole hops."""
        return round(seconds * self.sample_rate) // self.hop_length + 1
