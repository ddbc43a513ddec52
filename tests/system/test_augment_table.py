"""Every augmentation of the table: off and on, its turn, its noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from system.augment.table import AUGMENTATIONS, NOTHING, Around, Batch, augmented, names_of, reads_samples
from system.config import parse
from system.errors import ConfigError
from system.spec import AugmentSpec, ExperimentSpec
from tests import tiny

SWITCHES = {name: dict(row.usual) for name, row in AUGMENTATIONS.items()}


def around(**fields: Any) -> Around:
    return Around(tiny.experiment(augment=NOTHING.changed(**fields)), torch.zeros(16), 1, 4)


def batch(stage: str) -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = (12, 1600) if stage == "waveform" else (12, 16, 21)
    target = torch.eye(3).repeat(4, 1)
    return Batch(torch.randn(shape, generator=generator), target, torch.zeros(12, dtype=torch.long), target.flip(1))


def test_the_report_s_default_is_spec_augment_alone() -> None:
    spec = AugmentSpec()
    assert (spec.time_masks, spec.time_mask_frames, spec.frequency_masks, spec.frequency_mask_bands) == (2, 2, 2, 8)
    assert names_of(spec) == ["SpecAugment"]
    assert names_of(NOTHING) == names_of(AugmentSpec(time_mask_frames=0, frequency_mask_bands=0)) == []
    assert names_of(AugmentSpec(impulse_response_p=0.6)) == ["SpecAugment"]  # a recipe has no folder


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_one_is_on_by_its_own_fields(name: str) -> None:
    spec = NOTHING.changed(**SWITCHES[name])
    assert names_of(spec) == [name]
    assert reads_samples(spec) == (AUGMENTATIONS[name].stage != "spectrogram")


def test_all_together_act_in_the_order_of_the_table() -> None:
    together = {key: value for fields in SWITCHES.values() for key, value in fields.items()}
    assert names_of(AugmentSpec(**together)) == list(AUGMENTATIONS)


@pytest.mark.parametrize("name", [name for name, row in AUGMENTATIONS.items() if row.apply is not None])
def test_a_row_changes_its_batch_alike_by_seed_and_every_clip_for_itself(name: str) -> None:
    stage = AUGMENTATIONS[name].stage
    before = batch(stage)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augmented(before, stage, around(**SWITCHES[name])))
    first, again, other = results
    fields = [key for key in Batch._fields if not torch.equal(getattr(first, key), getattr(before, key))]
    assert fields == {"mixup": ["x", "target", "taught"], "device impulse responses": ["device"]}.get(name, ["x"])
    for key in Batch._fields:
        value = getattr(first, key)
        assert torch.equal(value, getattr(again, key))
        assert value.shape == getattr(before, key).shape
        assert value.dtype == getattr(before, key).dtype
        assert value.isfinite().all()
    assert any(not torch.equal(getattr(first, key), getattr(other, key)) for key in fields)
    # one clip twelve times over
    alike = Batch(before.x[:1].expand_as(before.x), before.target, before.device, before.taught)
    torch.manual_seed(1)
    drawn = augmented(alike, stage, around(**SWITCHES[name]))
    distinct = {tuple(getattr(drawn, fields[-1])[i].flatten().tolist()) for i in range(12)}
    # of twelve copies of one clip, mixing and style give the same again
    assert len(distinct) > (0 if name == "Freq-MixStyle" else 2)


@pytest.mark.parametrize("stage", ["waveform", "spectrogram"])
def test_what_is_off_draws_no_random_number(stage: Any) -> None:
    before = batch(stage)
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    after = augmented(before, stage, around())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(a is b for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"speed": [1.5, 0.5]}, r"augment\.speed: the slowest comes first, found \[1\.5, 0\.5\]"),
        ({"speed": [0.0, 1.0]}, r"augment\.speed\.0: .*greater than or equal to 0\.25, found 0\.0"),
        ({"mixstyle_p": 1.5}, r"augment\.mixstyle_p: .*less than or equal to 1, found 1\.5"),
        ({"mixup_alpha": -1}, r"augment\.mixup_alpha: .*greater than or equal to 0, found -1"),
        ({"mixup": 0.3}, r"augment\.mixup: unknown key, did you mean 'mixup_alpha'"),
        ({"time_masks": -1}, r"augment\.time_masks: .*greater than or equal to 0"),
    ],
)
def test_a_wrong_value_names_place_and_find(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(ExperimentSpec, {"augment": fields}, "some.yaml")
