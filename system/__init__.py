"""TinyScene: sound classifiers inside a parameter and MAC budget, from wav to a challenge package."""

import os

from system.allocation import keep_buffers

__version__ = "0.1.0"

# Idle OpenMP threads sleep instead of spinning. Where another process shares the cores, spinning threads made
# training up to ten times slower (benchmarks/training_step.py --beside).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
keep_buffers()
