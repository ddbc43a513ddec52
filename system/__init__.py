"""TinyScene: sound classifiers inside a parameter and MAC budget, from wav to a challenge package."""

import os

__version__ = "0.1.0"

# Idle OpenMP threads sleep instead of spinning. Where another process shares the cores, spinning threads made
# training up to ten times slower (benchmarks/memory_layout.py --beside).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
