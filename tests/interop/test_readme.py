"""What the README says of the encoder's use holds: its snippets run, its swaps are those of the tested examples."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGS = [path for path in (ROOT / "examples").iterdir() if "# slim_fast" in path.read_text(encoding="utf-8")]
BLOCKS = [
    block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "slim_fast" in block or "coco" in block
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_the_swapped_lines_are_shown(config):
    marked = [line.split("  #")[0].strip() for line in config.read_text().splitlines() if line.endswith("# slim_fast")]
    assert marked
    for line in marked:
        assert f"`{line}`" in README or f"`  {line}`" in README


def test_the_snippets_run_one_after_the_other(make_encoder, make_classifier, tmp_path, monkeypatch):
    make_encoder("ntu-25").save_pretrained(tmp_path / "runs" / "demo" / "encoder")
    make_classifier(4, "ntu-25").save_pretrained(tmp_path / "my-classifier")
    monkeypatch.chdir(tmp_path)
    camera = [(torch.randn(2, 25, 3), ["ann", "bo"]) for _ in range(16)]
    names = {"camera": camera}
    for block in BLOCKS:
        exec(block.replace(".optimize()", ""), names)
    assert len(BLOCKS) == 3
    assert names["features"].shape == (4, 16)
    assert names["answer"].frame == 16
    assert set(names["answer"].person_probabilities) == {"ann", "bo"}
    assert names["coco"].topology.name == "coco-17"


def test_the_film_is_there():
    with Image.open(ROOT / "docs" / "figures" / "stream.gif") as film:
        assert film.n_frames > 30
