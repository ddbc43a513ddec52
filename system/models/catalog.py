"""The map of the papers: each module below registers the networks of one source in CATALOG, by name.

kt                KT's roadmap, DCASE 2022 (paper 002)
audio_inception   AudioRepInceptionNeXt (001) and AudioInceptionNeXt (000)
reference         baselines of the challenges and peers
"""

from system.models import audio_inception, kt, reference  # noqa: F401 (they register)
from system.models.entry import CATALOG, Entry, model_spec

__all__ = ["CATALOG", "Entry", "model_spec"]
