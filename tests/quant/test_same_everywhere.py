"""One integer file gives the same logits, however ONNX Runtime is set."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from quant.graph import LEVELS, read_graph, session

from .exported import exported, few_or_slow

SETTINGS = list(itertools.product(LEVELS, (1, 2)))


@pytest.mark.parametrize("name", few_or_slow())
def test_every_level_of_optimization_and_number_of_threads(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    network = exported(name, tmp_path_factory.getbasetemp())
    logits = [
        session(network.path, threads, level=level).run(None, {"features": network.features})[0]
        for level, threads in SETTINGS
    ]
    assert np.ptp(logits[-1]) > 10 * network.lsb, "the comparison must not be vacuous"
    apart = {setting: network.steps(found, logits[-1]).max() for setting, found in zip(SETTINGS, logits, strict=True)}
    assert max(apart.values()) <= 1, apart


@pytest.mark.parametrize("name", few_or_slow())
def test_the_file_itself_has_integer_convolutions_only(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Not only after a runtime has rewritten it."""
    graph = read_graph(exported(name, tmp_path_factory.getbasetemp()).path)
    assert any(True for _ in graph.nodes("QLinearConv"))
    assert [node.name for node in graph.nodes("Conv", "Gemm", "MatMul", "ConvTranspose")] == []
