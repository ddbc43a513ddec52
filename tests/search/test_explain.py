"""A network in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from search import run as command
from search.explain import ASPECTS, OF_ONE_WIDTH, against_kt, explain, explanation
from search.known_designs import KNOWN_DESIGNS
from search.space import SPACE, spec_of
from system.budget import Budget
from system.checkpoint import Checkpoint, save_checkpoint
from system.errors import TinySceneError
from system.files import write_json
from system.models.blocks import BLOCKS
from system.models.catalog import model_spec
from system.models.network import build, complexity
from system.spec import ExperimentSpec, ModelSpec
from tests import tiny

EXPERIMENT = ExperimentSpec()


def words(model: ModelSpec, budget: str | None = None) -> str:
    experiment = EXPERIMENT.changed(model=model.plain())
    return "\n".join(explanation(experiment, 10, Budget.parse(budget) if budget else None))


def test_kt_final_differs_from_itself_in_nothing() -> None:
    said = words(model_spec("kt_final"))
    assert said.count("; in KT final: ") == said.count("As in KT final: ") == 1  # what a value sees, said of both
    assert "As in KT final: the stem is one convolution of 5x5 with stride 2x1" in said
    assert "(0% more)" in said


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_widens_where_another_expansion_costs_more(block: str) -> None:
    sizes = {
        complexity(ModelSpec(block=block, sub_bands=1, expansion=expansion), (1, 80, 51), 10, "train").params
        for expansion in (1.0, 4.0)
    }
    assert (len(sizes) == 1) == (block in OF_ONE_WIDTH), "OF_ONE_WIDTH is in search/explain.py"


def test_what_differs_is_said_with_what_kt_has() -> None:
    model = model_spec("kt_final").changed(
        stem="double_conv", stem_kernel=(3, 3), activation="relu", activations_kept=None, norm="grn",
        norm_after=("stem", "block"), pooling="average", downsampling="strided", width=16,
    )  # fmt: skip
    said = words(model)
    for sentence in (
        "The stem is two convolutions of 3x3 with stride 2x1 (frequency x time); in KT final: one convolution of 5x5",
        "The activation is ReLU; in KT final: Swish.",
        "Activations stand wherever they can stand in a block; in KT final: only at depthwise.",
        "The normalization is global response normalization; in KT final: ResNorm.",
        "It stands after the stem and each block; in KT final: after each stage.",
        "Time and frequency are pooled by a global average; in KT final: self-attentive pooling, grouped.",
        "Maps shrink by the stride of a block; in KT final: a norm and a convolution of their own.",
    ):
        assert sentence in said
    cost = complexity(model, EXPERIMENT.input_shape(), 10)
    assert f"It costs {cost.params:,} parameters" in said
    assert "As in KT final: it is made of inverted bottlenecks" in said


def test_kt_s_network_is_compared_at_the_same_budget() -> None:
    said = words(model_spec("kt_final").changed(width=8), "30k_params")
    assert "at the width that fills 30k_params" in said
    assert "24-44-66" not in said


def test_every_value_of_the_space_can_be_said() -> None:
    """And differently from every other, so that no difference stays unsaid."""
    silent = {"sub_bands", "growth"}  # growth shows as channels; a part of one block alone is not spoken of
    for design in KNOWN_DESIGNS:
        for row in SPACE:
            if row.applies(design) and not row.asked_for and row.name not in silent | {"block", "norm", "depth_3"}:
                said = {
                    tuple(a.said(spec_of({**design, row.name: value}).changed(width=16)) for a in ASPECTS)
                    for value in row.values
                }
                assert len(said) == len(row.values), f"{row.name}: no Aspect of search/explain.py tells it"


def test_a_run_is_explained_from_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = tiny.experiment(budget="2k_params")
    network = build(experiment.model, experiment.input_shape(), 3)
    (tmp_path / "best").mkdir()
    saved = Checkpoint(experiment, tiny.CLASSES, 0.0, 1.0, network.state_dict())
    save_checkpoint(tmp_path / "best" / "model.safetensors", saved)
    said = explain(tmp_path)
    assert said.startswith(f"The network of {tmp_path} beside that of KT's report")
    assert "The activation is ReLU; in KT final: Swish." in said
    assert "trial" not in said
    kt, other = spec_of(KNOWN_DESIGNS[0]).changed(width=4).plain(), tiny.MODEL.plain()
    trials = [
        {"number": 0, "state": "COMPLETE", "spec": kt, "log_loss": 1.25},
        {"number": 1, "state": "COMPLETE", "spec": other, "log_loss": 1.125},
        {"number": 2, "state": "INFEASIBLE", "spec": None, "log_loss": None},
        {"number": 3, "state": "COMPLETE", "spec": {**other, "width": 2}, "log_loss": 1.0},  # it lost the race
    ]
    write_json(tmp_path / "search.json", {"trials": trials, "best": trials[3]})
    assert "was trial 0: it scored a validation log loss of 1.2500, the winner, trial 1, 1.1250." in explain(tmp_path)
    assert "KT's own design" in against_kt({"trials": trials}, experiment.changed(model=kt))[0]

    with pytest.raises(SystemExit) as ended:
        command.main(["--explain", str(tmp_path)])
    assert ended.value.code == 0
    assert "The activation is ReLU" in capsys.readouterr().out


def test_a_run_without_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TinySceneError, match=r"best/model\.safetensors"):
        explain(tmp_path)
