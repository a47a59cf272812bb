"""A run of the smallest model on an arm that waves, with names that a page must escape."""

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slim_fast
from slim_fast import report
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.skeletons import Topology

CLASSES = ("<script>alert(1)</script>", "wave & 'more' %{x} <b>bold</b>", 'say "no"')
ARM = Topology(
    name="arm-5",
    joints=("hip", "chest", "shoulder", "elbow", "hand"),
    parents=(-1, 0, 1, 2, 3),
    mirror=(0, 1, 2, 3, 4),
    parts={"trunk": (0, 1), "left_arm": (2, 3, 4)},
    centre=1,
)
TINY: dict[str, Any] = {
    "steps": 4,
    "batch": 4,
    "device": "cpu",
    "precision": "fp32",
    "model.encoder.width": 16,
    "model.encoder.depth": 2,
    "model.encoder.heads": 2,
    "model.head.hidden": 16,
    "model.head.bottleneck": 8,
    "model.head.prototypes": 8,
    "views.window": 16,
    "views.local": [{"window": 8, "count": 1, "interval": [0.35, 0.7]}],
    "log.metrics_every": 1,
    "log.knn_every": 2,
    "log.plots": False,
}


def make_clips(count: int = 36) -> list[Clip]:
    """Clips of one or two arms; two of three for training; the classes are hard to tell apart."""
    random = np.random.default_rng(0)
    clips = []
    for number in range(count):
        time = np.arange(20 + number)[:, None, None, None]
        people = 1 + number % 5 // 4
        phase = random.uniform(0, 6, (1, 5, 3, people))
        positions = 1 + np.sin(0.1 * (1 + number % 3) * time + phase)
        side = "test" if number // 3 % 3 == 2 else "train"
        name = f"<i>{number:02d}</i>"
        clips.append(Clip(positions, name, number % 3, number // 6, split={"standard": side}))
    return clips


def write_cache(path: Path, clips: list[Clip], topology: Topology = ARM) -> Path:
    with CacheWriter(path, topology, classes=list(CLASSES)) as writer:
        for clip in clips:
            writer.add(clip)
    return path


@pytest.fixture(scope="session")
def cache_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("data") / "arms", make_clips())


@pytest.fixture(scope="session")
def cache(cache_path: Path) -> ClipCache:
    return ClipCache.open(cache_path)


@pytest.fixture(scope="session")
def run(cache_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; do not change it."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return slim_fast.train(cache_path, "small", out, **TINY).folder


@pytest.fixture(scope="session")
def page_path(run: Path, cache_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of that run."""
    folder = tmp_path_factory.mktemp("page")
    command = ["--data", cache_path, "--out", folder / "report.html", "--results", folder / "found"]
    assert report.main([str(run), *map(str, command)]) == 0
    return folder / "report.html"


@pytest.fixture
def write_page(run: Path, tmp_path: Path) -> Callable[..., str]:
    def write(*options: object, source: Path = run) -> str:
        """The page that the command writes with these options."""
        path = tmp_path / "page.html"
        command = [source, *options, "--out", path]
        if "--results" not in options:
            command += ["--results", tmp_path / "found"]
        assert report.main([*map(str, command)]) == 0
        return path.read_text("utf-8")

    return write


def rows_of(page: str, section: str) -> list[list[str]]:
    """The texts of the cells of every row of tables in a section."""
    html = re.search(rf'<section id="{section}">.*?</section>', page, re.DOTALL)
    assert html, section
    return [
        [
            unescape(re.sub("<.*?>", "", cell))
            for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)
        ]
        for row in re.findall(r"<tr.*?>(.*?)</tr>", html[0], re.DOTALL)
    ]


def films_of(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="films">(.*?)</script>', page)
    assert found
    films: dict[str, Any] = json.loads(found[1])
    return films
