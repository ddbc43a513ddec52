"""The section `data`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from system.config import Spec


class DataSpec(Spec):
    """Which recordings, which of them are tested on, and how long a segment is."""

    dataset: str = "made"
    root: str | None = None
    fold: int = 1  # as the data set numbers them, from 0 too
    train_list: str | None = None  # of tau2022, in place of its own: a subset such as split25.csv of DCASE 2024
    segment_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    # of the training fold, by source; 0: none. It is one of n parts, n the whole number nearest to 1 / share: 0.3 gives
    # a third and 0.4 a half; a class of fewer than n clips, if it is the largest, makes n smaller
    validation_share: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    silence_rms: Annotated[float, Field(ge=0)] = 1e-4  # segments of longer clips below this are padding
    device: str | None = None  # every part is of this device alone
    device_irs: str | None = None  # folder of microphone impulse responses: the device protocol
    skip_bad: bool = False  # leave damaged recordings out, counted, instead of refusing them
    refit: Literal["all"] | None = None  # all: trained on everything (system/refit.py); nothing is left to score
