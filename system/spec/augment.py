"""The section `augment`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from system.config import Spec
from system.spec.bounds import Probability

# far beyond anything of use, so that a slip of the pen is refused in place of filling the memory
Masks = Annotated[int, Field(ge=0, le=1000)]
Longest = Annotated[int, Field(ge=0, le=1_000_000)]  # frames or bands
Speed = Annotated[float, Field(ge=0.25, le=4)]


class AugmentSpec(Spec):
    """What training does to its batches at random; an augmentation is off where its size or probability is 0.

    The defaults are the KT report's: SpecAugment (Park et al. 2019) alone. `system/augment` says what each one does.
    """

    time_masks: Masks = 2
    time_mask_frames: Longest = 2  # largest width; each is uniform
    frequency_masks: Masks = 2
    frequency_mask_bands: Longest = 8
    time_warp_frames: Longest = 0  # a frame moves by up to so many
    roll_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0  # to either side
    gain_db: Annotated[float, Field(ge=0)] = 0.0  # up or down
    mixup_alpha: Annotated[float, Field(ge=0, le=1000)] = 0.0  # of the Beta distribution of the weight
    mixstyle_p: Probability = 0.0  # Freq-MixStyle
    mixstyle_alpha: Annotated[float, Field(gt=0, le=1000)] = 0.3
    speed: tuple[Speed, Speed] = (1.0, 1.0)  # range of the length after / the length before
    random_crop: bool = False  # segments at any offset of the recordings they are cut from
    impulse_responses: str | None = None  # folder of recording devices to simulate
    impulse_response_p: Probability = 0.5

    @field_validator("speed")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the slowest comes first")
        return value
