"""The page in Chromium, offline: it plays clips, and its answers are PyTorch's."""

import io
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from slim_fast import SLiMClassifier
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.errors import UserError
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.export import main
from slim_fast.interop.web.runtime import MODULE, WASM, read_runtime
from slim_fast.skeletons import get_topology
from tests.interop.conftest import SMALL, noisy

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE = 300_000  # milliseconds, on a machine with other work
CLASSES = ["</script><b>wave</b> @@patch@@", "步行", "kick & jump"]
OWN = "<i>clip</i> 0"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    """Clips of one or two people, labelled, and joints that were not detected."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "cache"
    with CacheWriter(path, get_topology("ntu-25"), classes=CLASSES) as writer:
        for number in range(12):
            people = 1 + number % 2
            clip = random.normal(0, 0.4, (30 + 10 * number, 25, 3, people)) + 3
            clip[5:9, 4, :, 0] = 0
            side = {"all": "test" if number < 6 else "train"}
            name = OWN if number == 0 else f"clip {number}"
            writer.add(Clip(clip, name, number % 3, number // 3, split=side))
    return ClipCache.open(path)


@pytest.fixture(scope="module")
def classifier() -> SLiMClassifier:
    torch.manual_seed(0)
    made = noisy(SLiMClassifier(3, "ntu-25", config=SMALL, class_names=CLASSES))
    assert isinstance(made, SLiMClassifier)
    return made


@pytest.fixture(scope="module")
def model(classifier: SLiMClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    classifier.save_pretrained(folder)
    return folder


def npm_package() -> Path | None:
    """onnxruntime-web, unpacked in the repository's node_modules or packed beside them."""
    found = [ROOT / "node_modules" / "onnxruntime-web", *sorted(ROOT.glob("onnxruntime-web-*.tgz"))]
    return next((path for path in found if path.exists()), None)


def fake_package(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            content = f"/* ONNX Runtime Web v9.8.7 */ {name}".encode()
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def page(model: Path, cache: ClipCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by the command."""
    package = npm_package()
    if package is None:
        pytest.skip("no onnxruntime-web: npm install --no-save onnxruntime-web")
    path = tmp_path_factory.mktemp("page") / "page.html"
    command = [str(model), "--to", "web", "--data", str(cache.path), "--out", str(path)]
    clips = ["--clips", OWN, "clip 1", "4"]
    assert main([*command, *clips, "--runtime", str(package)]) == 0
    return path


@pytest.fixture(scope="module")
def opened(page: Path) -> Iterator[object]:
    """The page, offline; whatever it says on the console or asks of a network is an error."""
    if BROWSER is None:
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = {"executable_path": BROWSER, "args": FLAGS.split(), "timeout": PATIENCE}
        running = playwright.chromium.launch(**options)
        context = running.new_context(offline=True)
        context.set_default_timeout(PATIENCE)
        tab, said = context.new_page(), []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_function("() => window.slimFast")
        yield tab
        running.close()
        assert [text for text in said if not text.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("frames", [8, 24, 64])
def test_the_browser_s_logits_are_pytorch_s(opened, classifier, cache, frames):
    assert opened.evaluate("slimFast.clips") == [OWN, "clip 1", "clip 4"]
    x = load_evaluation_clips(cache, np.array([0, 1, 4])).permute(0, 4, 2, 3, 1)
    with torch.no_grad():
        want = classifier(x[:, :, :frames])
    for number in range(3):
        got = opened.evaluate(
            "async ([n, t]) => (await slimFast.predict(n, t)).logits", [number, frames]
        )
        torch.testing.assert_close(torch.tensor(got), want[number], rtol=1e-3, atol=1e-3)
    assert (want[0] - want[1]).abs().max() > 0.1


def test_it_plays_the_chosen_clip_and_shows_names_as_they_are(opened):
    options = opened.locator("#clips option").all_text_contents()
    assert options == [OWN, "clip 1", "clip 4"]
    opened.locator("#clips").select_option(index=1)
    opened.wait_for_function("() => document.querySelectorAll('#bars .row').length === 3")
    shown = opened.locator("#bars .row span:first-child").all_text_contents()
    assert sorted(shown) == sorted(CLASSES)
    opened.wait_for_function("() => /of 64 frames/.test(document.getElementById('time').innerText)")
    canvas = opened.locator("#scene")
    before = canvas.evaluate("(canvas) => canvas.toDataURL()")
    opened.wait_for_function(
        "([canvas, before]) => canvas.toDataURL() !== before",
        arg=[canvas.element_handle(), before],
    )
    assert re.search(r"recorded as", str(opened.locator("#time").text_content()))


def test_the_page_fits_a_phone(opened):
    opened.set_viewport_size({"width": 400, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400


def test_the_runtime_is_read_from_a_package_or_its_folder(tmp_path, monkeypatch):
    package = fake_package(tmp_path / "onnxruntime-web-9.8.7.tgz", MODULE, WASM)
    read = read_runtime(package)
    assert read.version == "9.8.7"
    assert read.wasm.endswith(WASM.encode())
    monkeypatch.chdir(tmp_path)
    assert read_runtime(None) == read
    with tarfile.open(package) as archive:
        archive.extractall(tmp_path / "node_modules", filter="data")
    (tmp_path / "node_modules" / "package").rename(tmp_path / "node_modules" / "onnxruntime-web")
    package.unlink()
    assert read_runtime(None) == read


@pytest.mark.parametrize(
    "kind", ["missing", "no archive", "cut short", "another package", "folder"]
)
def test_what_is_no_runtime_is_one_sentence(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path: Path | None = tmp_path / "a.tgz"
    if kind == "missing":
        path = None
    elif kind == "no archive":
        (tmp_path / "a.tgz").write_text("nothing")
    elif kind == "cut short":
        fake_package(tmp_path / "whole.tgz", MODULE, WASM)
        content = (tmp_path / "whole.tgz").read_bytes()
        (tmp_path / "a.tgz").write_bytes(content[: len(content) // 2])
    elif kind == "another package":
        fake_package(tmp_path / "a.tgz", MODULE)
    else:
        path = tmp_path
    with pytest.raises(UserError, match=r'get it from npm, "npm pack onnxruntime-web"'):
        read_runtime(path)


def test_bad_options_write_nothing(model, cache, tmp_path, capsys, make_encoder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = str(fake_package(tmp_path / "a.tgz", MODULE, WASM))
    make_encoder("ntu-25").save_pretrained(tmp_path / "encoder")
    web = ["--to", "web", "--out", "page.html"]
    data = ["--data", str(cache.path)]
    before = sorted(tmp_path.iterdir())
    for arguments, says in (
        ([str(model), *web], "--to web needs --data CACHE"),
        ([str(model), *web, *data], "npm pack onnxruntime-web"),
        ([str(model), *web, *data, "--runtime", package, "--clips", "x"], "has no clip 'x'"),
        ([str(model), "--to", "onnx", *data], "--data is for --to web"),
        ([str(model), "--to", "onnx", "--clips", "1"], "--clips is for --to web"),
        (["encoder", *web, *data, "--runtime", package], "an encoder without classes"),
    ):
        assert main(arguments) == 2
        assert says in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
