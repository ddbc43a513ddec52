"""The map of the papers: each module below registers the networks of one source in CATALOG, by name.

kt                KT's roadmap, DCASE 2022 (paper 002)
audio_inception   AudioRepInceptionNeXt (001) and AudioInceptionNeXt (000)
convnext_audio    ConvNeXt for audio (004)
cnn14             PANNs' CNN6 and CNN14, and their variants (004)
reference         baselines of the challenges, and others' entries: CP-Mobile, CP-ResNet, BC-ResNet
slow_fast         Auditory Slow-Fast, which 000 and 001 compare with
replknet          RepLKNet-31T, likewise (001)
from_packages     ResNet-50, InceptionNeXt-Tiny, BN-Inception, likewise: timm's and torchvision's
"""

from system.models import (  # noqa: F401 (they register)
    audio_inception,
    cnn14,
    convnext_audio,
    from_packages,
    kt,
    reference,
    replknet,
    slow_fast,
)
from system.models.entry import CATALOG, Entry, model_spec

__all__ = ["CATALOG", "Entry", "model_spec"]
