"""The whole classifier as one ONNX file: input `waveform` (batch, samples), output `probabilities` (batch, classes).

The front end of system/features.py, the standardization and the softmax stand around the integer graph, which is
taken as it is. Its input is rounded to integers, and behind a value that rounds the other way the logits of a network
of 8-bit layers change by whole steps; so spectra are computed in float64 and rounded to float32 once, which gives the
same features wherever the file runs, where float32 spectra differ from one FFT to the next.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper

from quant.graph import read_graph, session
from quant.writer import Writer
from system.checkpoint import Checkpoint
from system.errors import RunError
from system.features import LogMel
from system.files import write_with
from system.onnx_float import INPUT, OUTPUT
from system.prediction import recorded
from system.prediction.onnx_file import (
    BATCH,
    PROBABILITIES,
    WAVEFORM,
    Description,
    path_probabilities,
)
from system.progress import progress

TOLERANCE = 1e-4  # of a probability, to the python path
STFT_OPSET = 17
SIGNALS = 64


class Difference(NamedTuple):
    """What the file gives against the python path, in probabilities."""

    segments: int
    largest: float  # with spectra in float64 on both sides
    largest_float32: float  # with the float32 spectra that the network was trained and scored on
    within: float  # share of the segments within TOLERANCE of the latter


def front_end(checkpoint: Checkpoint, opset: int, ir_version: int) -> onnx.ModelProto:
    """`waveform` (batch, samples) float32 in [-1, 1] -> `features` (batch, 1, mel bands, frames), standardized."""
    spec = checkpoint.spec.features
    log_mel = LogMel(spec)
    window = np.zeros(spec.n_fft)
    before = (spec.n_fft - spec.win_length) // 2
    window[before : before + spec.win_length] = log_mel.window.double().numpy()
    half = spec.n_fft // 2

    graph = Writer(opset)
    graph.scope = "front_end"
    x = graph.add("Pad", WAVEFORM, graph.constant(np.array([0, half, 0, half])), mode="reflect")
    x = graph.add("Cast", x, to=TensorProto.DOUBLE)
    x = graph.add("Unsqueeze", x, graph.constant(np.array([2])))  # (B, samples, 1): real
    x = graph.add(
        "STFT", x, graph.constant(np.int64(spec.hop_length)), graph.constant(window),
        graph.constant(np.int64(spec.n_fft)), onesided=1,
    )  # fmt: skip
    x = graph.reduce("ReduceSumSquare", x, 3)  # (B, frames, bins, 1)
    x = graph.add("Squeeze", x, graph.constant(np.array([3])))
    filters = graph.add("Cast", graph.constant(log_mel.filters), to=TensorProto.DOUBLE)  # half the bytes in the file
    x = graph.add("MatMul", x, filters)  # (B, frames, mel bands)
    x = graph.add("Log", graph.add("Add", x, graph.constant(np.float64(spec.log_floor))))
    x = graph.add("Transpose", graph.add("Cast", x, to=TensorProto.FLOAT), perm=[0, 2, 1])
    x = graph.add("Sub", x, graph.constant(checkpoint.mean[:, None].astype(np.float32)))
    x = graph.add("Div", x, graph.constant(checkpoint.std[:, None].astype(np.float32)))
    x = graph.add("Unsqueeze", x, graph.constant(np.array([1])))
    graph.nodes.append(helper.make_node("Identity", [x], [INPUT], "front_end/features"))
    shape = checkpoint.spec.input_shape()
    described = helper.make_graph(
        graph.nodes,
        "front_end",
        [helper.make_tensor_value_info(WAVEFORM, TensorProto.FLOAT, ["batch", checkpoint.spec.segment_samples()])],
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *shape])],
        list(graph.constants.values()),
    )
    return helper.make_model(described, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def whole_model(checkpoint: Checkpoint, path: Path) -> onnx.ModelProto:
    """The integer graph at `path` between its front end and its softmax, with the metadata that describes it.

    Raises RunError for a file that is not the network's integer graph, or of an opset that knows no spectra.
    """
    integer = read_graph(path).model
    opset = next((entry.version for entry in integer.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < STFT_OPSET:
        raise RunError(
            f"{path}: expected opset {STFT_OPSET} or above, whose STFT the front end needs, found {opset}; "
            f"quantize with --set quant.opset={STFT_OPSET}"
        )
    names = [value.name for value in (*integer.graph.input, *integer.graph.output)]
    if names != [INPUT, OUTPUT]:
        raise RunError(f"{path}: expected a network from {INPUT} to {OUTPUT}, found {' to '.join(names)}")
    sizes = [dim.dim_value for dim in integer.graph.input[0].type.tensor_type.shape.dim][1:]
    if sizes != list(checkpoint.spec.input_shape()):
        raise RunError(f"{path}: expected {list(checkpoint.spec.input_shape())} features of this run, found {sizes}")
    model = compose.merge_models(
        front_end(checkpoint, opset, integer.ir_version), integer, [(INPUT, INPUT)], name="waveform_to_probabilities",
        producer_name="tinyscene",
    )  # fmt: skip
    finish(model, checkpoint)
    helper.set_model_props(model, Description.of(checkpoint).metadata())
    onnx.checker.check_model(model)
    return model


def finish(model: onnx.ModelProto, checkpoint: Checkpoint) -> None:
    """Replace the output `logits` by `probabilities`: a softmax, or a sigmoid where classes may sound together."""
    graph, classes = model.graph, len(checkpoint.classes)
    if checkpoint.thresholds is None:
        graph.initializer.append(helper.make_tensor("temperature", TensorProto.FLOAT, [], [checkpoint.temperature]))
        graph.node.append(helper.make_node("Div", [OUTPUT, "temperature"], ["scaled_logits"], "temperature/Div"))
        graph.node.append(helper.make_node("Softmax", ["scaled_logits"], [PROBABILITIES], "softmax", axis=1))
    else:
        graph.node.append(helper.make_node("Sigmoid", [OUTPUT], [PROBABILITIES], "sigmoid"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["batch", classes]))


def write_whole(checkpoint: Checkpoint, integer: Path, path: Path) -> Difference:
    """Write `path` from the graph `integer`, with the decoding that its folder's scores were made with.

    Raises RunError where it is not what python computes.
    """
    checkpoint = recorded.with_decoding(integer.parent, checkpoint)
    model = whole_model(checkpoint, integer)
    found: list[Difference] = []

    def save(part: Path) -> None:
        onnx.save(model, str(part))
        found.append(compare(checkpoint, integer, part, signals(checkpoint)))
        if not found[0].largest < TOLERANCE:
            raise RunError(
                f"{path}: expected the probabilities of the python path within {TOLERANCE:g}, "
                f"found a difference of {found[0].largest:.2g}; nothing is written"
            )

    write_with(path, save)
    return found[0]


def compare(checkpoint: Checkpoint, integer: Path, whole: Path, waveform: np.ndarray) -> Difference:
    """The whole file against front end, integer graph and softmax one after the other; `waveform` (n, samples)."""
    here, network = session(whole), session(integer)
    ours: list[np.ndarray] = []
    exact: list[np.ndarray] = []
    usual: list[np.ndarray] = []
    with progress("comparing with the python path", len(waveform), unit="segments") as step:
        for start in range(0, len(waveform), BATCH):
            batch = waveform[start : start + BATCH]
            ours.append(here.run([PROBABILITIES], {WAVEFORM: batch})[0])
            for results, number in ((exact, torch.float64), (usual, torch.float32)):
                results.append(path_probabilities(network, checkpoint, batch, number))
            step(len(batch))
    found, exactly, usually = (np.concatenate(results) for results in (ours, exact, usual))
    in_float32 = np.abs(found - usually).max(axis=1)
    return Difference(
        segments=len(waveform),
        largest=float(np.abs(found - exactly).max()),
        largest_float32=float(in_float32.max()),
        within=float((in_float32 < TOLERANCE).mean()),
    )


def signals(checkpoint: Checkpoint) -> np.ndarray:
    """(n, samples) float32: noises and tones from -80 to 0 dB, silence, a click, full scale. No data set is needed."""
    random = np.random.default_rng(checkpoint.spec.seed)
    length, rate = checkpoint.spec.segment_samples(), checkpoint.spec.features.sample_rate
    time = np.arange(length) / rate
    level = 10.0 ** (-random.uniform(0, 80, (SIGNALS, 1)) / 20)
    tones = np.sin(2 * np.pi * random.uniform(50, rate / 2, (SIGNALS, 1)) * time)
    noise = random.normal(size=(SIGNALS, length))
    made: Any = np.clip(level * np.where(random.random((SIGNALS, 1)) < 0.5, noise, tones + 0.01 * noise), -1, 1)
    made[0], made[1], made[2] = 0, np.eye(1, length, length // 2), np.sign(tones[2])
    return made.astype(np.float32)


def network_inputs(checkpoint: Checkpoint) -> np.ndarray:
    """(n, 1, mel bands, frames): the standardized features of `signals`."""
    with torch.inference_mode():
        log_mel = LogMel(checkpoint.spec.features)(torch.from_numpy(signals(checkpoint))).numpy()
    return checkpoint.standardize(log_mel)
