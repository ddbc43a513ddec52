"""Counting any module by its operators: by hand, beside the real tools, and on the deploy form made by folding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchinfo
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from system.complexity import Complexity
from system.models.catalog import CATALOG
from system.models.explain import differences, print_differences, print_layers, undercounted
from system.models.forms import fold_norms, fresh
from system.models.hooked import count
from system.models.norms import LayerNorm2d
from tests.models.variants import inputs, randomised

SHAPE = (2, 6, 8)


class Calls(nn.Module):
    """A module made of one function and the layers it may use."""

    def __init__(self, forward: Callable[..., Tensor], **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def totals(cost: Complexity) -> tuple[int, int, int, int, int]:
    return cost.params, cost.macs_exact, cost.macs_torchinfo, cost.macs_nessi_tflite, cost.macs_fvcore


# module -> parameters, exact, torchinfo, NeSsi-TFLite, fvcore; the map is 2 channels of 6 x 8, which is 96 values
BY_HAND: dict[str, tuple[nn.Module, tuple[int, int, int, int, int]]] = {
    "convolution with bias": (nn.Conv2d(2, 3, 3), (57, 54 * 24, 57 * 24, 54 * 24, 54 * 24)),
    "strided, dilated, grouped": (
        nn.Conv2d(2, 4, (3, 1), (2, 1), dilation=(2, 1), groups=2, bias=False), (12, 12 * 8, 12 * 8, 12 * 8, 12 * 8),
    ),
    "batch norm": (nn.BatchNorm2d(2), (4, 0, 4, 0, 2 * 96)),
    "batch norm without parameters": (nn.BatchNorm2d(2, affine=False), (0, 0, 0, 0, 96)),
    "layer norm": (LayerNorm2d(2), (4, 0, 4, 3 * 96 + 48, 5 * 96)),
    "max pooling": (nn.MaxPool2d(2), (0, 0, 0, 4 * 24, 0)),
    "average pooling to one": (nn.AdaptiveAvgPool2d(1), (0, 0, 0, 96, 96)),
    "mean": (Calls(lambda _, x: x.mean(dim=(2, 3))), (0, 0, 0, 96, 0)),
    "sum of two": (Calls(lambda _, x: x + x), (0, 0, 0, 96, 0)),
    "sum in place": (Calls(lambda _, x: x.clone().add_(x)), (0, 0, 0, 96, 0)),
    "activations": (nn.Sequential(nn.ReLU(), nn.GELU(), nn.SiLU(inplace=True), nn.PReLU()), (1, 0, 1, 0, 0)),
    "linear on a vector": (nn.Sequential(nn.Flatten(), nn.Linear(96, 5)), (485, 480, 485, 480, 480)),
    "linear at every position": (
        Calls(lambda m, x: m.linear(x.permute(0, 2, 3, 1)), linear=nn.Linear(2, 5)), (15, 480, 15, 480, 480),
    ),
    "a function with a bare parameter": (
        Calls(lambda m, x: F.conv2d(x, m.kernel), kernel=nn.Parameter(torch.zeros(3, 2, 1, 1))), (6, 288, 0, 288, 288),
    ),
    "a gain": (Calls(lambda m, x: x * m.gain[:, None, None], gain=nn.Parameter(torch.zeros(2))), (2, 0, 0, 0, 0)),
    "a product of two maps": (
        Calls(lambda _, x: x.flatten(2) @ x.flatten(2).transpose(1, 2)), (0, 2 * 2 * 48, 0, 0, 2 * 2 * 48),
    ),
    "a weighted sum": (Calls(lambda _, x: (x * x.softmax(dim=-1)).sum(dim=-1)), (0, 96, 0, 0, 0)),
    "a module used twice": (
        Calls(lambda m, x: m.conv(m.conv(x)), conv=nn.Conv2d(2, 2, 1, bias=False)), (4, 8 * 48, 8 * 48, 8 * 48, 8 * 48),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("module", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_each_operator_by_hand(module: nn.Module, expected: tuple[int, ...]) -> None:
    assert totals(count(module, SHAPE)) == expected


@pytest.mark.parametrize("module", [case[0] for case in BY_HAND.values()], ids=BY_HAND)
def test_each_operator_by_the_real_tools(module: nn.Module) -> None:
    cost = count(module, SHAPE)
    module, x = module.eval(), torch.zeros(1, *SHAPE)
    official = torchinfo.summary(module, input_data=x, verbose=0)
    assert cost.macs_torchinfo == official.total_mult_adds
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    elementwise = sum(layer.macs_exact for layer in cost.layers if layer.kind == "weighted_sum")
    assert cost.macs_exact == counter.get_total_flops() // 2 + elementwise
    assert cost.macs_fvcore == fvcore_count(module, x)


def fvcore_count(module: nn.Module, x: Tensor) -> int:
    fvcore = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    analysis = fvcore.FlopCountAnalysis(module, x)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return int(analysis.total())


@pytest.mark.parametrize("form", ["train", "deploy"])
@pytest.mark.parametrize(
    "name",
    ["kt_final", "dcase2024_baseline", "cp_mobile", "bc_resnet_1", "audio_rep_inception_128k", "convnext_128k",
     "resnet50", "inception_next_tiny", "slow_fast"],
)  # fmt: skip
def test_the_fvcore_view_is_fvcore_s(name: str, form: Any) -> None:
    entry = CATALOG[name]
    if entry.module is not None:
        pytest.importorskip("timm", reason="timm is not installed")
    shape = entry.shape if entry.spec is not None else (1, 64, 64)  # tracing runs the network
    network = fresh(entry, form).eval()
    assert count(network, shape).macs_fvcore == fvcore_count(network, torch.zeros(1, *shape))


def test_the_module_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    count(module, SHAPE)
    assert module.training
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in module.modules())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_rows_have_the_names_of_their_modules_and_a_peak() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 2, 1))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(x)

    cost = count(Residual(), SHAPE)
    assert [(row.name, row.kind) for row in cost.layers] == [
        ("body.0", "conv"), ("body.1", "relu"), ("body.2", "conv"), ("", "add"),
    ]  # fmt: skip
    assert cost.peak_activation_bytes() == 96 + 8 * 48 + 96  # the input is kept for the sum, ReLU works in place


def test_nothing_is_left_out_silently() -> None:
    class Unused(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(2, 2, 1)
            self.forgotten = nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"parameters that no operator used: forgotten\.bias, forgotten\.weight"):
        count(Unused(), SHAPE)
    with pytest.raises(ValueError, match=r"part: no rule says what the operator 'conv_transpose2d' costs"):
        count(Calls(lambda m, x: m.part(x), part=nn.ConvTranspose2d(2, 2, 1)), SHAPE)


def test_a_linear_layer_at_every_position_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """ConvNeXt-Tiny written with linear layers: the official tool sees a fifteenth of it."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        network = timm.create_model("convnext_tiny", in_chans=1, num_classes=527, conv_mlp=False)
    cost = count(network, (1, 224, 1001))
    assert 15 < cost.macs_exact / cost.macs_torchinfo < 16
    assert len(undercounted(cost)) == 36  # two in each of 18 blocks
    print_differences(cost)
    said = capsys.readouterr().out
    assert "warning: 36 linear layers run at up to 14,000 positions" in said
    assert "15.2 times" in said
    assert all(differences(cost, view)["linear"] < 0 for view in ("macs_torchinfo",))


def test_the_reasons_add_up_and_every_number_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    cost = count(fresh(CATALOG["kt_final"]), CATALOG["kt_final"].shape)
    for view in ("macs_torchinfo", "macs_nessi_tflite", "macs_fvcore"):
        assert cost.macs_exact + sum(differences(cost, view).values()) == getattr(cost, view)
    print_layers(cost)
    print_differences(cost)
    said = capsys.readouterr().out
    for word in ("stages.0.blocks.0.depthwise.conv", "weighted_sum", "2 for each value", "warning"):
        assert (word in said) == (word != "warning")


# -- the deploy form of a module


class TwoPaths(nn.Module):
    """Every place a BatchNorm can stand in."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.norm = nn.BatchNorm2d(4)  # before an unpadded convolution
        self.patch = nn.Conv2d(4, 4, 2, 2, bias=False)
        self.before_padding = nn.BatchNorm2d(4)
        self.padded = nn.Conv2d(4, 4, 3, padding=1)
        self.shared = nn.Conv2d(4, 4, 1)  # read by more than its norm
        self.after_shared = nn.BatchNorm2d(4)
        self.bands = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(self.norm(self.stem(x)))  # (B, 4, 3, 4)
        x = self.padded(self.before_padding(F.relu(x)))
        shared = self.shared(x)
        x = shared + self.after_shared(shared)
        return self.bands(x.transpose(1, 2)).transpose(1, 2)


def test_folding_is_exact_and_leaves_what_cannot_be_folded() -> None:
    network = randomised(TwoPaths()).double()
    folded = fold_norms(network)
    left = {name for name, part in folded.named_modules() if isinstance(part, nn.BatchNorm2d)}
    assert left == {"before_padding", "after_shared", "bands"}
    x = inputs(SHAPE).double()
    with torch.inference_mode():
        expected = network(x)
        assert (folded(x) - expected).abs().max() < 1e-12 * expected.abs().max()
    assert sum(isinstance(part, nn.BatchNorm2d) for part in network.modules()) == 5  # the original keeps its own
    assert count(folded, SHAPE).params == count(network, SHAPE).params - 2 * 4 * 2 + 2 * 4  # two norms, two biases


def test_a_convolution_that_runs_twice_keeps_its_norms() -> None:
    conv, norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
    network = Calls(lambda m, x: m.norm(m.conv(m.conv(x))), conv=conv, norm=norm)
    assert any(isinstance(part, nn.BatchNorm2d) for part in fold_norms(network).modules())
