"""A list that is cut short is never taken for the whole evaluation set without a word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from submission.packing.package import pack
from submission.validate import main, validate
from system.editions import EDITIONS
from system.errors import DataError
from tests.submission.conftest import LABEL, MakeRun, ask, guess

SHORT = "lists 200 recordings, edition 2022 has 118,800"


def test_a_list_of_another_length_is_told(
    make_run: MakeRun, people: Path, eval_root: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = make_run()

    def told(draft: bool) -> list[bool]:
        out = run / f"draft {draft}"
        warnings = pack(ask("2022", run, people=people, eval_root=eval_root, draft=draft, out=out), guess).warnings
        words = [str(out / f"{LABEL}.zip"), "--edition", "2022", "--eval-root", str(eval_root)]
        main([*words, "--draft"] if draft else words)
        return [any(SHORT in warning for warning in warnings), SHORT in capsys.readouterr().err]

    assert told(draft=False) == [True, True]
    assert told(draft=True) == [False, False]
    whole = replace(EDITIONS["2022"], evaluation_rows=200)
    monkeypatch.setattr(EDITIONS, "_items", {**EDITIONS._items, "2022": whole})
    assert told(draft=False) == [False, False]


def test_a_line_cut_in_the_middle(make_run: MakeRun, people: Path, eval_root: Path) -> None:
    zip_path = pack(ask("2022", make_run(), people=people, eval_root=eval_root), guess).zip_path
    path = eval_root / "evaluation_setup/fold1_test.csv"
    path.write_bytes(path.read_bytes()[:-5])  # audio/199
    with pytest.raises(DataError, match=r"expected names such as audio/0\.wav .* found audio/199$"):
        validate(zip_path, "2022", eval_root)
