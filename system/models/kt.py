"""KT's report for DCASE 2022 (paper 002): the roadmap of Table 1, from the baseline to the submitted network."""

from __future__ import annotations

from system.models.entry import CATALOG, Entry
from system.spec import ModelSpec, StageSpec

# Last row of Table 1: stem 5x5 with stride 2 over frequency, inverted bottleneck E = 2 with kernel 5, Swish in the
# middle only, ResNorm, attentive pooling, BatchNorm + strided convolution between stages.
KT_FINAL = ModelSpec(
    width=18,
    width_multiple=2,
    activations_kept=("depthwise",),
    stages=(
        StageSpec(depth=2),
        StageSpec(depth=2, stride=(2, 2), ratio=2.0),
        StageSpec(depth=2, stride=(2, 2), ratio=4.0),
    ),
)

CATALOG.add("kt_final")(Entry("KT, DCASE 2022, Table 1, s.d conv", spec=KT_FINAL))
