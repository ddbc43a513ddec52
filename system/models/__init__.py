"""Networks from specs. `layers.py` is the vocabulary, `network.py` the sentence.

stems.py, heads.py, blocks.py and blocks_*.py hold one registered class per choice, each declared to a layer factory
(`factory.py`): `float_layers.py` computes, `counting.py` counts. `reparam.py` maps a trained network onto its merged
or deploy form; `catalog.py` names the published networks.
"""

from system.models import blocks, blocks_challenge, blocks_inception, blocks_residual, catalog  # noqa: F401 (they register)
