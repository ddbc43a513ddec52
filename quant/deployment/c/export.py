"""network.c and network.h: a run's classifier as C99, from the samples of a segment to probabilities.

Nothing is needed but a compiler and a mathematics library. The integers are those of int8.onnx; the memory for maps and
spectra is one static piece, so that two threads must not call it at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from quant.deployment.c.front_end import constants, largest_factor
from quant.deployment.c.memory import placed
from quant.deployment.c.moves import MOVED
from quant.deployment.c.network import NetworkWriter
from quant.deployment.c.reals import KNOWN
from quant.deployment.c.statements import TAB, Statements
from quant.deployment.c.values import Value, linear, number
from quant.graph import read_graph
from quant.program import program_of
from system.checkpoint import Checkpoint
from system.errors import RunError
from system.files import write_text
from system.onnx_float import INPUT
from system.prediction import recorded

HERE = Path(__file__).parent
NAME = "tinyscene"
PREFIX = NAME.upper()


class Memory(NamedTuple):
    """Bytes, where spectra are float: constants of the network and of the front end, and what is written at work."""

    network: int
    front_end: int
    written: int


def write_network(checkpoint: Checkpoint, path: Path, folder: Path) -> Memory:
    """Write network.c and network.h into `folder`, of the int8.onnx at `path` with the decoding it was scored with.

    Raises RunError for what has no form in C, and for the network of another run.
    """
    checkpoint, c = recorded.with_decoding(path.parent, checkpoint), Statements()
    program = program_of(read_graph(path), {*KNOWN, *MOVED, "Shape"}, ("int8", "int4"))
    network, features, classes = NetworkWriter(program, c), checkpoint.spec.features, checkpoint.classes
    expected, found = list(checkpoint.spec.input_shape()), list(program.shapes[INPUT][1:])
    if found != expected:
        raise RunError(f"{path}: expected {expected} features of this run, found {found}")
    logit = network.write(_standardized(checkpoint, c))
    if network.logits != len(classes):
        raise RunError(f"{path}: expected the {len(classes)} classes of this run, found {network.logits}")
    arrays, (offsets, size) = c.used_arrays(logit), placed(c.buffers)
    maps = [
        f"{TAB}{kind} *const m{number} = ({kind} *)(memory.bytes + {offset});"
        for number, (kind, offset) in enumerate(zip(c.types, offsets, strict=True))
    ]
    tables, front_end, work = constants(checkpoint)
    text = [
        '#include "network.h"', "",
        f"#define {PREFIX}_LARGEST_FACTOR {max(2, largest_factor(features.n_fft // 2))}", "",
        (HERE / "log_mel.c").read_text(encoding="utf-8"), (HERE / "kernels.c").read_text(encoding="utf-8"),
        *(array.declared(name) for name, array in {**tables, **arrays}.items()), "",
        f"const char *const {NAME}_classes[{PREFIX}_CLASSES] = {{{', '.join(map(quoted, classes))}}};", "",
        "/* Maps of the network, of which those that live at once lie apart; or the spectra of a frame. */",
        f"static union {{ float aligned; Complex work[{features.n_fft}]; uint8_t bytes[{size}]; }} memory;",
        f"static int32_t row[4 * {c.row}];", *[f"static float line[{c.line}];"] * bool(c.line), "",
        f"void {NAME}_log_mel(const float *samples, float *log_mel)", "{",
        f"{TAB}static const FrontEnd g = {front_end};",
        f"{TAB}log_mel_of(&g, samples, log_mel, memory.work);", "}", "",
        f"void {NAME}_network(const float *log_mel, float *logits)", "{", *maps, *c.lines,
        f"{TAB}for (int i = 0; i < {PREFIX}_CLASSES; i++) logits[i] = {logit};", "}", "",
        f"void {NAME}_probabilities(const float *logits, float *probabilities)", "{",
        f"{TAB}for (int i = 0; i < {PREFIX}_CLASSES; i++) probabilities[i] = {_probability(checkpoint)};",
        *[f"{TAB}softmax(probabilities, {PREFIX}_CLASSES);"] * (checkpoint.thresholds is None), "}", "",
        f"void {NAME}_classify(const float *samples, float *probabilities)", "{",
        f"{TAB}static float log_mel[{PREFIX}_MEL_BANDS * {PREFIX}_FRAMES], logits[{PREFIX}_CLASSES];",
        f"{TAB}{NAME}_log_mel(samples, log_mel);", f"{TAB}{NAME}_network(log_mel, logits);",
        f"{TAB}{NAME}_probabilities(logits, probabilities);", "}", "",
    ]  # fmt: skip
    write_text(folder / "network.h", _header(checkpoint))
    write_text(folder / "network.c", "\n".join(text))
    _, bands, frames = checkpoint.spec.input_shape()
    beside = 4 * (4 * c.row + c.line + bands * frames + len(classes))
    of_network, of_front_end = (sum(array.bytes for array in some.values()) for some in (arrays, tables))
    return Memory(of_network, of_front_end, max(size, work // 2) + beside)


def _standardized(checkpoint: Checkpoint, c: Statements) -> Value:
    """The network's input, computed from log-mel where it is read."""
    shape = (1, *checkpoint.spec.input_shape())
    mean, std = (c.array("float", values) for values in (checkpoint.mean, checkpoint.std))
    return Value(
        shape, lambda index: f"((log_mel[{linear(index, shape)}] - {mean}[{index[2]}]) / {std}[{index[2]}])"
    )  # fmt: skip


def _probability(checkpoint: Checkpoint) -> str:
    """Of events its own, of a scene what the softmax is taken of."""
    return (
        "sigmoid(logits[i])" if checkpoint.thresholds is not None else f"logits[i] / {number(checkpoint.temperature)}"
    )


def quoted(text: str) -> str:
    """A C string of UTF-8; `?` is escaped, as two would begin a trigraph."""
    return '"' + "".join(
        character if character.isascii() and character.isprintable() and character not in '"\\?'
        else "".join(f"\\{byte:03o}" for byte in character.encode()) for character in text
    ) + '"'  # fmt: skip


def _header(checkpoint: Checkpoint) -> str:
    features, (_, bands, frames) = checkpoint.spec.features, checkpoint.spec.input_shape()
    sizes: dict[str, int | str] = {
        "SAMPLE_RATE": features.sample_rate,
        "SAMPLES": checkpoint.spec.segment_samples(),
        "MEL_BANDS": bands,
        "FRAMES": frames,
        "CLASSES": len(checkpoint.classes),
    }
    if checkpoint.thresholds is not None:
        limits = ", ".join(f"{np.float32(value)!s}f" for value in checkpoint.thresholds)  # C++11 knows no hexadecimals
        sizes |= {"MEDIAN": f"{checkpoint.median_window} /* segments, of whose probabilities it is compared with */",
                  "THRESHOLDS": f"{{{limits}}}"}  # fmt: skip
    return "\n".join([
        f"#ifndef {PREFIX}_NETWORK_H", f"#define {PREFIX}_NETWORK_H", "",
        "#ifdef __cplusplus", 'extern "C" {', "#endif", "",
        *(f"#define {PREFIX}_{name} {value}" for name, value in sizes.items()), "",
        f"extern const char *const {NAME}_classes[{PREFIX}_CLASSES]; /* UTF-8 */", "",
        "/* Memory is static: not for two threads at once. Samples are those of one segment, from -1 to 1. Compile by",
        "   -std=c99 or -ffp-contract=off: a * b + c rounded once would change a logit in many thousands. */", "",
        f"void {NAME}_classify(const float *samples, float *probabilities);", "", "/* The same in three steps. */",
        f"void {NAME}_log_mel(const float *samples, float *log_mel); /* [mel bands][frames] */",
        f"void {NAME}_network(const float *log_mel, float *logits);",
        f"void {NAME}_probabilities(const float *logits, float *probabilities);", "",
        "#ifdef __cplusplus", "}", "#endif", "", "#endif", "",
    ])  # fmt: skip
