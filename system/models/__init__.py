"""Networks from specs. `layers.py` is the vocabulary, `network.py` the sentence.

stems.py, blocks.py and heads.py hold one registered class per choice; `counting.py` counts what `layers.py`
computes; `reparam.py` maps a trained network onto its deploy form; `catalog.py` names the published networks.
"""
