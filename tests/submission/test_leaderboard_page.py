"""The page: whole in itself, well formed, named for those who do not see it, and safe with hostile names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from submission.leaderboard import main
from tests.submission import ranked

VOID = {"meta", "wbr", "br", "link", "img", "path", "use", "line"}
HOSTILE = '<img src=x onerror="alert(1)">&"'


class Reader(HTMLParser):
    """Collects elements, and what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.faults += self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("board"))
        yield made()


def made() -> str:
    """The page of two test folds, with a system of two splits whose name is hostile."""
    ranked.run(Path("good"), ranked.fold(3.0))
    ranked.run(Path("bad"), ranked.fold(0.5, seed=1), backend=None)
    ranked.run(Path("half"), ranked.part(ranked.fold(2.0), slice(0, 30)))
    files = [f"{HOSTILE}.output.split_{share}.csv" for share in (5, 10)]
    for seed, name in enumerate(files):
        ranked.output(Path(name), ranked.fold(1.0, seed))
    words = ["good", "bad", "half", *files]
    assert main([*words, "--edition", "2024", "--html", "board.html"]) == 0
    first = Path("board.html").read_text(encoding="utf-8")
    assert main([*words, "--edition", "2024", "--html", "board.html"]) == 0
    assert Path("board.html").read_text(encoding="utf-8") == first  # nothing in it depends on the day
    return first


@pytest.fixture
def page(text: str) -> Reader:
    return Reader(text)


def test_it_asks_for_nothing_else(text: str, page: Reader) -> None:
    links = [
        value for _, attributes in page.elements for name, value in attributes.items() if name.endswith(("href", "src"))
    ]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    assert page.all("script", "iframe", "object", "link") == []
    assert not re.search(r"url\((?!#)|@import", text)
    policy = next(meta for meta in page.all("meta") if "http-equiv" in meta)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_it_is_well_formed(page: Reader) -> None:
    assert page.faults == []
    ids = Counter(attributes["id"] for _, attributes in page.elements if attributes.get("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    targets = [link.get("href") or link.get("xlink:href") for link in page.all("a", "use")]
    assert targets
    assert {str(target)[1:] for target in targets} <= set(ids)


def test_it_is_told_in_words_too(text: str, page: Reader) -> None:
    assert next(iter(page.all("html")))["lang"] == "en"
    figures = page.all("svg")
    assert len(figures) >= 4
    for svg in figures:
        assert svg["role"] == "img"
        for name in str(svg["aria-labelledby"]).split():
            assert re.search(rf'<(title|desc) id="{name}">[^<]+<', text)
    assert len(page.all("table")) == len(page.all("caption")) > 8
    assert all(head.get("scope") in ("row", "col") for head in page.all("th"))
    for label in ("macro accuracy (%)", "log loss (nats)", "model size (kB, 1 kB = 1000 bytes)", "MACs per segment"):
        assert label in text


def test_colours_follow_the_page(text: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--ink)" in drawn
    assert "var(--accent)" in drawn
    assert re.findall(r"#[0-9a-f]{6}\b", drawn) == []
    assert "prefers-color-scheme: dark" in text


def test_names_are_text(text: str, page: Reader) -> None:
    assert page.all("img") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert HOSTILE in "".join(page.words)


def test_it_says_where_it_comes_from_and_what_is_not_sure(text: str) -> None:
    assert "python submission/leaderboard.py good bad half" in text
    assert "No primary source confirms:" in text
    assert "Test fold 2: 30 segments of 30 clips, 6 recording locations" in " ".join(text.split())
    assert "By split" in text
