"""How much of a spectrogram one value of the last feature map sees, before pooling.

Along an axis a window of k inputs that lie d apart widens the field by (k - 1) d, and a stride of s puts its outputs
s d apart (Araujo et al., Computing Receptive Fields of Convolutional Neural Networks, 2019). Where paths meet, the
widest counts. Norms that compute statistics of the whole map, and the pooling, see all of it besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from system.complexity import LayerCost
from system.models.counting import CostLayers
from system.models.network import Network
from system.spec import ExperimentSpec, FeatureSpec

STATISTICS = ("freq_in", "resnorm", "grn")  # kinds of layers that see the whole map


class Field(NamedTuple):
    """Of one value of a map along one axis, in bands or frames of the input."""

    width: int = 1  # what it sees
    step: int = 1  # from one value to the next

    def through(self, window: int, stride: int) -> Field:
        return Field(self.width + (window - 1) * self.step, self.step * stride)


def receptive_field(spec: ExperimentSpec, classes: int) -> dict[str, Any] | None:
    """`bands` and `frames` of one value, of an input with so many in all; the same in Hz and ms, as far as it has them.

    A band is wider in Hz the higher it is: `hertz` is the width at the lowest and at the highest place. None for a
    foreign module, whose layers are not known.
    """
    if spec.model.module is not None:
        return None
    layers = CostLayers("deploy")
    network = Network(layers, spec.model, spec.input_shape(), classes)
    last = network.stages[-1].map
    bands, frames = fields(layers.rows, network.input.map)[id(last)]
    _, all_bands, all_frames = spec.input_shape()
    features, seen = spec.features, (min(bands.width, all_bands), min(frames.width, all_frames))
    samples = (seen[1] - 1) * features.hop_length + features.win_length
    edges = mel_edges(features)
    return {
        "bands": bands.width,
        "frames": frames.width,
        "of_bands": all_bands,
        "of_frames": all_frames,
        "milliseconds": round(1e3 * min(samples / features.sample_rate, spec.data.segment_seconds), 1),
        "hertz": [round(float(edges[seen[0] + 1] - edges[0]), 1), round(float(edges[-1] - edges[-seen[0] - 2]), 1)],
        "whole_map": sorted({row.kind for row in layers.rows if row.kind in STATISTICS}),
    }


def fields(rows: Sequence[LayerCost], first: object) -> dict[int, tuple[Field, Field]]:
    """Identity of each map -> its fields along frequency and time; `first` is the input."""
    found = {id(first): (Field(), Field())}
    for row in rows:
        known = [found[id(m)] for m in row.inputs if id(m) in found]
        if not known:  # a view that a norm works on
            continue
        freq, time = (
            Field(max(pair[axis].width for pair in known), known[0][axis].step).through(
                row.window[axis], row.stride[axis]
            )
            for axis in (0, 1)
        )
        found[id(row.output)] = (freq, time)
    return found


def mel_edges(features: FeatureSpec) -> np.ndarray:
    """(n_mels + 2,) Hz on Slaney's scale: band i reaches from edge i to edge i + 2."""

    def mel(hertz: float) -> float:
        return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)

    top = features.sample_rate / 2 if features.f_max is None else features.f_max
    mels = np.linspace(mel(features.f_min), mel(top), features.n_mels + 2)
    return np.where(mels < 15, 200 * mels / 3, 1000 * 6.4 ** ((mels - 15) / 27))
