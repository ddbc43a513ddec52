"""Several systems on one command line, the report's place, and what a person must give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from submission import pack as pack_script
from submission import validate as validate_script
from submission.options import system_requests
from submission.packing.package import pack
from system.errors import ConfigError, DataError
from system.files import write_json
from tests.submission.conftest import PEOPLE, MakeRun, ask, guess, members_of, write_list

ENERGY = {
    "joules": 0.2,
    "joules_above_idle": 0.1,
    "runs": 9,
    "counters": ["/sys/class/powercap/intel-rapl:0/energy_uj"],
}


def requests(*words: str) -> list[tuple[dict[str, str], str, str | None]]:
    _, systems = system_requests(pack_script.parser(), ["--edition", "2024", *words])
    return [({part: str(run) for part, run in s.runs.items()}, s.backend, s.label) for s in systems]


def test_one_system_needs_nothing_new() -> None:
    assert requests("--run", "runs/a") == [({"": "runs/a"}, "brevitas", None)]
    assert requests("--run", "split_5=runs/a", "--run", "split_10=runs/b") == [
        ({"split_5": "runs/a", "split_10": "runs/b"}, "brevitas", None)
    ]


def test_further_systems_follow_their_word() -> None:
    words = ["--run", "a", "--label", "X_Y_task1_3", "--system", "--run", "split_5=b", "--backend", "other", "--system",
             "--run", "c"]  # fmt: skip
    assert requests(*words) == [
        ({"": "a"}, "brevitas", "X_Y_task1_3"),
        ({"split_5": "b"}, "other", None),
        ({"": "c"}, "brevitas", None),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--run", "a", "--system"], "--run"),
        (["--run", "a", "--system", "--run", "b", "--edition", "2022"], "--edition"),
        (["--run", "a", "--system", "--run", "b", "--out", "x"], "--out"),
    ],
)
def test_options_of_the_whole_come_first(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        requests(*words)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_part_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="the same part twice among R, R"):
        requests("--run", "a", "--run", "b")


def test_labels_and_teams(make_run: MakeRun) -> None:
    run = make_run()
    five = ask("2022", *[run] * 5, draft=True)
    with pytest.raises(ConfigError, match="at most 4 systems, found 5"):
        pack(five)
    twice = ask("2022", run, run, draft=True, label="A_B_task1_1")
    with pytest.raises(ConfigError, match="one team and a different last number"):
        pack(twice)


def test_the_report_is_a_pdf(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    text = tmp_path / "report.pdf"
    text.write_text("no pdf")
    with pytest.raises(ConfigError, match="found something else"):
        pack(ask("2022", run, draft=True, report=text))
    with pytest.raises(ConfigError, match="found none"):
        pack(ask("2022", run, draft=True, report=tmp_path / "none.pdf"))
    text.write_bytes(b"%PDF-1.4 words")
    packed = pack(ask("2022", run, draft=True, report=text))
    assert members_of(packed)["task1/Lastname_INST_task1.technical_report.pdf"] == b"%PDF-1.4 words"
    assert not any("technical report" in warning for warning in packed.warnings)


def test_the_skeleton_of_the_report_has_every_number(make_run: MakeRun, people: Path, eval_root: Path) -> None:
    run = make_run()
    packed = pack(ask("2022", run, people=people, eval_root=eval_root), guess)
    text = (run / "submission/technical_report.md").read_text()
    for words in (
        "# Small net: technical report, DCASE 2022 Task 1", "Ada Müller, Chi Okafor",
        "Technical University, Ulm, Germany", "120,000 parameters", "29,000,000 MACs",
        "| Muller_TU_task1_1 | 120,000 | 119,000 | 29,000,000 | 127,000 | 90,000 |",
        "log-mel energies, 80 bands", "*(to be written:", "| street_traffic, % |", "| s6, % |", "| depthwise |",
    ):  # fmt: skip
        assert words in text, words
    assert any("--report FILE.pdf puts it at task1/Muller_TU_task1.tech" in warning for warning in packed.warnings)


def test_all_that_a_person_must_give_is_told_at_once(make_run: MakeRun, tmp_path: Path) -> None:
    """Options, the people file, the run's results and the edition's own keys in one message."""
    path = tmp_path / "people.yaml"
    path.write_text(yaml.safe_dump({key: PEOPLE[key] for key in ("authors",)}))
    with pytest.raises(ConfigError) as caught:
        pack(ask("2023", make_run(), people=path, report=tmp_path / "none.pdf"))
    for words in (
        "--eval-root", "--report", "system.energy_consumption.training", "system.energy_consumption.inference",
        "system.energy_consumption.baseline_inference",
    ):  # fmt: skip
        assert words in str(caught.value)
    packed = pack(ask("2023", make_run("other"), people=path, draft=True))
    meta = next(value for name, value in members_of(packed).items() if name.endswith("meta.yaml"))
    assert yaml.safe_load(meta)["system"]["energy_consumption"] == dict.fromkeys(
        ("training", "inference", "baseline_inference")
    )


def test_validate_compares_with_the_runs(
    make_run: MakeRun, people: Path, eval_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = make_run(), make_run("other", complexity={"params": 119_000, "params_nonzero": 7})
    packed = pack(ask("2022", run, other, people=people, eval_root=eval_root), guess)
    assert packed.zip_path.name == "Muller_TU_task1.zip"
    words = [str(packed.zip_path), "--edition", "2022", "--eval-root", str(eval_root)]
    assert validate_script.main(words) == 0
    assert validate_script.main([*words, "--run", str(run), "--system", "--run", str(other)]) == 0
    capsys.readouterr()
    assert validate_script.main([*words, "--run", str(other), "--system", "--run", str(run)]) == 1
    told = capsys.readouterr().out
    assert "system.complexity.total_parameters: expected 119000 as measured, found 120000" in told
    assert "Muller_TU_task1_2.meta.yaml, line" in told
    assert validate_script.main([*words, "--run", str(run)]) == 1
    assert "expected 1 systems" in capsys.readouterr().out


def test_device_runs_of_2025_and_their_lists(
    make_run: MakeRun, quantized_runs: dict[str, Path], people: Path, tmp_path: Path
) -> None:
    run = make_run()
    with pytest.raises(ConfigError, match="takes --run R, and may take one for each device of a, b, c"):
        pack(ask("2025", {"": run, "split_5": run}, draft=True))
    with pytest.raises(ConfigError, match="found --run a="):
        pack(ask("2025", {"a": run}, draft=True))
    root = write_list(tmp_path / "no_devices", ["audio/0.wav"])
    with pytest.raises(
        DataError, match="device_id of a, b, c, s1, s2, s3, unknown for each recording, found no column"
    ):
        pack(ask("2025", quantized_runs["scenes"], people=people, eval_root=root), guess)


def test_measured_energy_of_inference_is_told(make_run: MakeRun, people: Path, tmp_path: Path) -> None:
    run = make_run()
    parity = json.loads((run / "quant/brevitas/parity.json").read_text())
    write_json(run / "quant/brevitas/parity.json", {**parity, "energy": ENERGY})
    meta = next(v for name, v in members_of(pack(ask("2023", run, draft=True))).items() if name.endswith("meta.yaml"))
    told = yaml.safe_load(meta)["system"]["energy_consumption"]
    assert told == {"training": None, "inference": pytest.approx(180 * 0.2 / 3.6e6), "baseline_inference": None}
