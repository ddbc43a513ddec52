"""Networks of papers 000 and 001 as well-kept packages define them, for spectrograms: one input channel."""

from __future__ import annotations

from typing import Any

from torch import nn

from system.errors import MissingPackage
from system.models.audio_inception import VGG_SOUND, printed
from system.models.entry import CATALOG, Entry


def needed(name: str, package: str) -> Any:
    """The module of that name. Raises MissingPackage."""
    import importlib

    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise MissingPackage(
            f"the model {name!r} is defined by the package {package}: pip install 'tinyscene[reference]'"
        ) from None


def resnet50(classes: int) -> nn.Module:
    return needed("resnet50", "timm").create_model("resnet50", in_chans=1, num_classes=classes)


def inception_next_tiny(classes: int) -> nn.Module:
    """With a linear classifier, as the papers' count says, in place of timm's hidden layer."""
    body = needed("inception_next_tiny", "timm").create_model("inception_next_tiny", in_chans=1, num_classes=0)
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    body.head = nn.Sequential(pooled, nn.Linear(body.num_features, classes))
    return body


def bn_inception(classes: int) -> nn.Module:
    """GoogLeNet with BatchNorm (torchvision's, without auxiliary classifiers)."""
    network = needed("bn_inception", "torchvision.models").googlenet(
        num_classes=classes, aux_logits=False, init_weights=False, transform_input=False
    )
    first = network.conv1.conv
    network.conv1.conv = nn.Conv2d(1, first.out_channels, first.kernel_size, first.stride, first.padding, bias=False)
    return network


TABLES = "papers 000 (Table 1) and 001 (Table II)"
CATALOG.add("resnet50")(
    Entry(f"ResNet-50, {TABLES}", **VGG_SOUND, module=resnet50, published={"train": printed(24.13, 5.26)})
)
CATALOG.add("inception_next_tiny")(
    Entry(
        f"InceptionNeXt-Tiny, {TABLES}",
        **VGG_SOUND,
        module=inception_next_tiny,
        published={"train": printed(24.20, 5.46)},
    )
)
CATALOG.add("bn_inception")(
    Entry(
        "BN-Inception, paper 001, Table II",
        **VGG_SOUND,
        module=bn_inception,
        published={"train": printed(6.35, 1.86)},
        remark="0.44 million of the published parameters belong to no layer that is computed, since the MACs agree",
    )
)
