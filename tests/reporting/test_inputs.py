"""Reports without labels, of other skeletons, and mistakes: one sentence each."""

import shutil
import sys
from dataclasses import replace

import pytest

from slim_fast import SLiMEncoder, report
from slim_fast.model.encoder import EncoderConfig
from slim_fast.reporting.run_files import RunFiles
from slim_fast.skeletons import get_topology
from tests.reporting.conftest import ARM, make_clips, rows_of, write_cache

BY_LABEL = ("confusion", "classes", "errors")


@pytest.mark.parametrize("kept", ["labels", "split", "neither"])
def test_without_labels_or_a_split_the_rest_is_there(kept, tmp_path, write_page):
    clips = make_clips()
    if kept != "labels":
        clips = [replace(clip, label=-1) for clip in clips]
    if kept != "split":
        clips = [replace(clip, split={}) for clip in clips]
    page = write_page("--data", write_cache(tmp_path / "cache", clips))
    assert not any(f'<section id="{name}">' in page for name in BY_LABEL)
    assert not any(f'href="#{name}"' in page for name in BY_LABEL)
    for name in ("curves", "embedding", "gallery", "attention", "views"):
        assert f'<section id="{name}">' in page
    why = (
        "no labelled training clips in split standard" if kept == "split" else "no train/test split"
    )
    assert page.count(f"{why}: accuracies, confusion and errors are left out.") == 1
    assert rows_of(page, "accuracy") == []
    assert "✓" not in page
    assert "✗" not in page
    assert "The run was trained on" in page


def test_another_skeleton_is_refused_or_said(tmp_path, run, write_page, capsys):
    swapped = [replace(c, positions=c.positions[:, [0, 1, 2, 4, 3]]) for c in make_clips()]
    joints = ("hip", "chest", "shoulder", "hand", "elbow")
    other = replace(ARM, name="other-arm", joints=joints, parents=(-1, 0, 1, 4, 2))
    data = write_cache(tmp_path / "other", swapped, other)
    assert report.main([str(run), "--data", str(data), "--out", str(tmp_path / "no.html")]) == 2
    said = capsys.readouterr().err
    assert "arm-5" in said
    assert "other-arm" in said
    assert "--match-joints" in said
    assert not (tmp_path / "no.html").exists()
    page = write_page("--data", data, "--match-joints")
    assert "trained on another skeleton: arm-5 with xyz" in page


def test_a_shipped_skeleton(tmp_path, write_page):
    coco = get_topology("coco-17")
    joints = [*range(5)] * 3 + [0, 1]
    clips = [replace(clip, positions=clip.positions[:, joints]) for clip in make_clips(12)]
    config = EncoderConfig(width=16, depth=1, heads=1)
    SLiMEncoder(coco, config=config).save_pretrained(tmp_path / "encoder")
    data = write_cache(tmp_path / "coco", clips, coco)
    page = write_page("--data", data, source=tmp_path / "encoder")
    assert "(coco-17, 17 joints, xyz, split standard)" in page
    assert "left wrist" in page


def test_large_caches_play_some_and_list_all(cache_path, write_page):
    page = write_page("--data", cache_path, "--clips", "3")
    rows = rows_of(page, "errors")[1:]
    assert len(rows) > 3
    assert page.count("data-shown=") == 3
    assert "The first 3 play" in page
    assert "3 of 12 test clips by their features" in page


@pytest.mark.parametrize("library", ["plotly", "jinja2"])
def test_a_missing_library_is_named_with_what_installs_it(
    library, run, cache_path, tmp_path, monkeypatch, capsys
):
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    out = tmp_path / "page.html"
    assert report.main([str(run), "--data", str(cache_path), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"needs {library}" in said
    assert 'pip install "slim_fast[report]"' in said
    assert len(said.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--clips", "0"], "clips=0: must be at least 1"),
        (["--people", "0"], "people=0: must be at least 1"),
        (["--split", "standart"], "did you mean standard?"),
        (["--out", "FILE/page.html"], "choose another --out"),
    ],
)
def test_options_that_make_no_sense(options, says, run, cache_path, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    options = [option.replace("FILE", str(tmp_path / "file")) for option in options]
    default = ["--out", str(tmp_path / "page.html"), "--results", str(tmp_path / "found")]
    assert report.main([str(run), "--data", str(cache_path), *default, *options]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "page.html").exists()


def test_few_clips(run, tmp_path, write_page, capsys):
    data = write_cache(tmp_path / "three", make_clips(3))
    assert report.main([str(run), "--data", str(data), "--out", str(tmp_path / "no.html")]) == 2
    assert "has 3 clips: a report needs at least 4" in capsys.readouterr().err
    clips = [replace(clip, split={}) for clip in make_clips(4)]
    page = write_page("--data", write_cache(tmp_path / "four", clips))
    assert '<section id="embedding">' not in page  # two clips make no map
    assert '<section id="gallery">' in page


@pytest.mark.parametrize("file", ["config.json", "summary.json"])
def test_a_damaged_run(file, run, cache_path, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / file).write_text("{cut")
    assert report.main([str(copy), "--data", str(cache_path)]) == 2
    said = capsys.readouterr().err
    assert f"{copy / file} is damaged" in said
    assert len(said.splitlines()) == 1
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize(
    ("model", "prototypes"),
    [
        ({"head": {"prototypes": 8}}, 8),
        ({"head": {"prototypes": -1}}, None),
        ({"head": 1}, None),
        ("x", None),
        (None, None),
    ],
)
def test_prototypes_of_settings_of_any_kind(model, prototypes):
    assert RunFiles({"model": model}, [], {}).prototypes == prototypes
