"""Bounds that several sections share: a number outside of them is refused where the YAML is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Positive = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]
