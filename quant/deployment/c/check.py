"""network.c compiled on this machine, against the file it was made from."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quant.deployment.c.export import NAME, write_network
from quant.graph import run_batches, session
from system.checkpoint import Checkpoint
from system.errors import RunError
from system.features import LogMel, log_mel
from system.files import staged
from system.prediction.onnx_file import path_probabilities

COMPILERS = ("cc", "gcc", "clang")
UNTRIED = "no C compiler to try it with"
FLAGS = ("-std=c99", "-O2", "-ffp-contract=off")
LEAST_EQUAL = 0.9  # of the logits; a norm's sum in another order rounds a few otherwise
ROUNDING = 1e-5  # of the largest logit: far below a step of 8 bits; where logits are reals, as means of maps are
Function = Callable[[np.ndarray, np.ndarray], None]  # (input, output) of one segment, float32


class Agreement(NamedTuple):
    """`equal`: share of the logits that are those of int8.onnx; `largest`: of a probability from the python path."""

    segments: int
    equal: float
    largest: float
    milliseconds: float  # of a segment, from samples to probabilities

    def __str__(self) -> str:
        return (
            f"compiled here, {self.equal:.2%} of the logits of {self.segments} made signals are those of int8.onnx; "
            f"probabilities from samples on are at most {self.largest:.1e} from the python path, "
            f"{self.milliseconds:.2f} ms a segment"
        )


def compiler() -> str | None:
    return next(filter(None, map(shutil.which, COMPILERS)), None)


@contextmanager
def compiled(source: Path, *flags: str) -> Iterator[Callable[[str], Function]]:
    """Yield a function from a step's name to its C. Raises RunError where there is no compiler, or it refuses."""
    program = compiler()
    if program is None:
        raise RunError(f"{source}: expected a C compiler to try it, found none of {', '.join(COMPILERS)}")
    with tempfile.TemporaryDirectory() as place:
        library = Path(place) / "network.so"
        words = [program, *FLAGS, *flags, "-shared", "-fPIC", str(source), "-o", str(library), "-lm"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr.strip()[:200]]
            raise RunError(f"{source} does not compile by {program}: {said[0]}")
        opened = ctypes.CDLL(str(library))

        def step(name: str) -> Function:
            function, pointer = getattr(opened, f"{NAME}_{name}"), ctypes.POINTER(ctypes.c_float)

            def call(given: np.ndarray, result: np.ndarray) -> None:
                function(given.ctypes.data_as(pointer), result.ctypes.data_as(pointer))

            return call

        yield step


def export_network(checkpoint: Checkpoint, folder: Path, samples: np.ndarray) -> str:
    """Write network.c and .h beside `folder`/int8.onnx and try them on (n, samples) signals; returns what to tell.

    The run is locked, as nobody else may stage files in `folder`. Raises RunError, and leaves what was there, for a
    network that has no form in C or gives other logits.
    """
    path = folder / "int8.onnx"
    with staged(folder) as part:
        memory = write_network(checkpoint, path, part)
        tried = check_network(checkpoint, path, part / "network.c", samples) if compiler() else UNTRIED
    return (
        f"{folder / 'network.c'} and .h: {memory.network:,} bytes of constants, {memory.front_end:,} of the front end, "
        f"{memory.written:,} of memory\n  {tried}"
    )


def check_network(checkpoint: Checkpoint, path: Path, source: Path, samples: np.ndarray) -> Agreement:
    """`source` against the int8.onnx at `path`, on (n, samples) signals.

    Raises RunError if it does not compile, or gives other logits.
    """
    runtime = session(path)
    features = log_mel(LogMel(checkpoint.spec.features), samples)
    expected = run_batches(runtime, iter([checkpoint.standardize(features)]))
    logits, probabilities = np.zeros((2, *expected.shape), np.float32)
    with compiled(source) as step:
        network, classify = step("network"), step("classify")
        for given, result in zip(np.ascontiguousarray(features), logits, strict=True):
            network(given, result)
        started = time.perf_counter()
        for given, result in zip(np.ascontiguousarray(samples), probabilities, strict=True):
            classify(given, result)
        seconds = time.perf_counter() - started
    equal = float((np.abs(logits - expected) <= ROUNDING * np.abs(expected).max()).mean())
    if equal < LEAST_EQUAL:
        raise RunError(f"{source.name}: expected the logits of {path}, found {equal:.1%} of them equal; not kept")
    apart = np.abs(probabilities - path_probabilities(runtime, checkpoint, samples)).max()
    return Agreement(len(samples), equal, float(apart), 1e3 * seconds / len(samples))
