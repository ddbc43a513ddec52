"""The packaged PyTorch module computes what ONNX Runtime computes, and is counted as what is deployed."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchinfo

from quant import program
from quant.activations import ACTIVATION_LAYERS
from quant.backend import load_backend
from quant.graph import Graph, read_graph, session
from quant.graph_cost import graph_complexity
from quant.norms import NORM_LAYERS
from quant.program import program_of
from submission.adapt import class_map, counted, with_classes
from submission.inference.checkpoint import packaged, sources
from submission.inference.integer_model import INTEGER, MOVES, REAL, Classifier, IntegerNet
from submission.packing.predict import accumulate
from submission.packing.systems import Part
from submission.run_parts import load_run
from system.dataset import stream_features
from system.editions import EDITIONS
from system.errors import RunError
from system.models.blocks import BLOCKS
from system.models.heads import HEADS, POOLINGS
from system.models.reparam import deploy
from system.models.stems import STEMS
from tests.quant.conftest import CASES, CLASSES, INVERTED, SHAPE, random_network
from tests.submission.conftest import INDOOR, TINY, write_wav


def net_of(graph: Graph) -> IntegerNet:
    """Through JSON, as a checkpoint keeps it."""
    program = program_of(graph, REAL)
    tensors = {name: torch.from_numpy(value.copy()) for name, value in program.tensors.items()}
    return IntegerNet(json.loads(json.dumps(program.plain())), tensors).eval()


SLOW = {  # and every entry of every table
    f"{field}_{name}": INVERTED.changed(**{field: name})
    for field, table in {
        "norm": NORM_LAYERS, "activation": ACTIVATION_LAYERS, "pooling": POOLINGS, "head": HEADS, "stem": STEMS,
        "block": BLOCKS,
    }.items()
    for name in table
    if name != "broadcast"  # its sub-bands do not divide these maps
}  # fmt: skip


@pytest.fixture(
    scope="module", params=[*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)], ids=str
)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT8 file of every kind of network."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    spec, backend = {**CASES, **SLOW}[request.param], load_backend("brevitas")
    features = torch.randn(48, *SHAPE)
    network = deploy(random_network(spec, features), spec, SHAPE, CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = backend.prepare(network, spec, SHAPE, CLASSES)
        backend.calibrate(quantized, list(features.split(16)))
        file = tmp_path_factory.mktemp(request.param) / "int8.onnx"
        backend.export_onnx(backend.freeze(quantized), SHAPE, file, 17)
    return file


def test_it_computes_the_integers_of_the_runtime(path: Path) -> None:
    inputs = np.random.default_rng(1).normal(size=(64, *SHAPE)).astype(np.float32)
    expected = session(path).run(None, {"features": inputs})[0]
    with torch.inference_mode():
        found = net_of(read_graph(path))(torch.from_numpy(inputs)).numpy()
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.98
    assert (found == expected).mean() >= 0.98  # equal but for what a norm's order of summation may round


def test_the_official_checker_counts_what_is_deployed(path: Path) -> None:
    """As the template of 2025: torchinfo on a float copy, and the parameters by their type."""
    graph = read_graph(path)
    net, costs = net_of(graph), graph_complexity(graph)
    profile = torchinfo.summary(copy.deepcopy(net).float(), input_size=(1, *SHAPE), verbose=0)
    assert profile.total_mult_adds == costs["macs_torchinfo"]
    sizes = {torch.float32: 4, torch.int8: 1, torch.uint8: 1, torch.int32: 4}
    assert sum(parameter.numel() * sizes[parameter.dtype] for parameter in net.parameters()) == costs["total_bytes"]
    stored = sum(p.numel() for name, p in net.named_parameters() if p.dtype == torch.int8)
    assert stored == costs["weight_bytes"]


def test_it_knows_what_programs_are_made_of() -> None:
    assert set(MOVES) == set(program.MOVES)
    assert {"Conv", *INTEGER} == set(program.WHOLE)


def test_an_operator_it_does_not_know_is_refused(path: Path) -> None:
    graph = read_graph(path)
    graph.model.graph.node[-1].op_type = "Einsum"
    with pytest.raises(RunError, match="Einsum"):
        program_of(graph, REAL)


def test_a_classifier_hears_what_the_graph_hears(quantized_runs: dict[str, Path], tmp_path: Path) -> None:
    """Front end, network, joined segments and joined classes, from the wav files on."""
    rules = EDITIONS["2020B"]
    run = counted(rules, load_run(quantized_runs["scenes"], "brevitas"))
    label_map = tmp_path / "map.yaml"
    label_map.write_text(json.dumps(INDOOR))
    mapping = class_map(run.predictions.classes, rules, label_map)
    part = Part(run, mapping, with_classes(run, mapping, rules.classes or ()))
    classifier = Classifier(*packaged(part, rules.classes or ()))
    generator = np.random.default_rng(2)
    paths = [tmp_path / f"{i}.wav" for i in range(6)]
    for i, file in enumerate(paths):
        write_wav(file, 0.2 * generator.normal(size=round((0.4 + 0.7 * i) * 16_000)), 16_000)

    batches = stream_features(paths, TINY.features, TINY.data.segment_seconds)
    standardized = ((rows, ((x + 5) / 2)[:, None].astype(np.float32)) for rows, x in batches)
    shares = accumulate(standardized, session(run.onnx), len(paths))
    columns = {
        name: [i for i, own in enumerate(run.predictions.classes) if mapping[own] == name] for name in mapping.values()
    }
    expected = np.stack([shares[:, columns[name]].sum(axis=1) for name in classifier.classes], axis=1)

    import soundfile

    inputs = [classifier.inputs(classifier.samples(*soundfile.read(file, dtype="float32"))) for file in paths]
    assert [len(x) for x in inputs] == [1, 1, 2, 3, 3, 4]
    found = torch.softmax(torch.stack(classifier.logits(inputs)), dim=1).numpy()
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("package", [".", ""])
def test_the_sources_need_nothing_of_the_project(package: str) -> None:
    for name, content in sources(package).items():
        imports = [line for line in content.decode().splitlines() if line.startswith(("from ", "import "))]
        assert not any(line.split()[1].split(".")[0] in ("quant", "system", "submission") for line in imports), name
        compile(content, name, "exec")
