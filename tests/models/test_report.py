"""`system/run.py complexity`: every model beside its published numbers, and one layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from system.errors import ConfigError
from system.models.catalog import CATALOG
from system.models.report import catalog_report, rows
from system.run import main

CONFIG = Path(__file__).resolve().parents[2] / "system" / "configs" / "cp_mobile.yaml"


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(["complexity", *words])
    return capsys.readouterr().out


def test_a_row_has_its_numbers_the_published_ones_and_their_distance(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "--model", "replknet_31t").splitlines()
    title = next(i for i, line in enumerate(lines) if line.startswith("model "))
    train, published, apart, merged = (line.split() for line in lines[title + 1 : title + 5])
    assert train == [
        "replknet_31t", "1x1x128x512", "train", "29,523,125", "7,801,874,944", "7,802,038,325", "7,808,887,296",
        "7,862,397,440",
    ]  # fmt: skip
    assert published == ["published", "29,520,000", "7,860,000,000"]
    assert apart == ["apart", "+0.01%", "+0.03%"]
    assert merged[2:4] == ["merged", "29,322,421"]


def test_a_form_is_listed_where_it_differs_or_was_published() -> None:
    shown = [(row.name, row.form) for row in rows(catalog_report(["cp_mobile", "audio_rep_inception_b1"]))]
    assert shown == [
        ("cp_mobile", "train"), ("cp_mobile", "deploy"),
        *(("audio_rep_inception_b1", form) for form in ("train", "merged", "deploy")),
    ]  # fmt: skip


def test_the_markdown_table_has_one_width_and_the_remarks(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "--model", "bn_inception", "--markdown").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) >= 4
    assert {line.count("|") for line in table} == {10}
    assert "| bn_inception | 1x1x128x512 | train | 5,910,357 | 6,350,000 | -6.92% | 1,861,774,336 fvcore |" in table[2]
    assert lines[-1] == f"- bn_inception: {CATALOG['bn_inception'].remark}"


def test_the_layers_are_named_and_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "--model", "cp_mobile", "--form", "deploy")
    table = said[said.index("deploy form, 124,862 parameters") :].splitlines()
    layers = [line.split() for line in table[2 : table.index("")]]
    params = sum(int(line[-5].replace(",", "")) for line in layers)
    exact = sum(int(line[-4].replace(",", "")) for line in layers)
    assert (params, exact) == (124_862, 28_889_088)
    assert "stages.0.blocks.0.depthwise.conv" in said
    assert "conv: its biases, at every position" in said


def test_the_network_of_an_experiment_is_explained_too(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "--config", str(CONFIG))
    assert "train form, 126,952 parameters" in said
    narrow = printed(capsys, "--config", str(CONFIG), "--set", "model.width=16", "--classes", "3")
    assert "train form, 126,952 parameters" not in narrow
    assert "3x16x8" in narrow  # the classifier's map


def test_the_json_has_the_forms_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(printed(capsys, "--model", "audio_rep_inception_b1", "--json"))["audio_rep_inception_b1"]
    assert report["input"] == [1, 1, 128, 512]
    assert report["published"] == {
        "params": 11_830_000, "macs_fvcore": 2_620_000_000,
        "merged": {"params": 11_690_000, "macs_fvcore": 2_550_000_000},
    }  # fmt: skip
    for form in ("train", "merged", "deploy"):
        assert {"params", "macs_exact", "macs_torchinfo", "macs_fvcore"} <= set(report[form])


def test_an_unknown_model_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown model 'cp_mobil'; did you mean 'cp_mobile'"):
        main(["complexity", "--model", "cp_mobil"])
