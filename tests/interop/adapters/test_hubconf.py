"""torch.hub loads the encoder from the repository where nothing is installed."""

import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[3]
# An editable install hooks itself into the import system or the path.
SCRIPT = """
import importlib.util, sys
root, folder, out = sys.argv[1:]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]
sys.path[:] = [p for p in sys.path if not p.startswith(root) or "site-packages" in p]
sys.path_hooks[:] = [h for h in sys.path_hooks if "editable" not in repr(h)]
sys.path_importer_cache.clear()
assert not importlib.util.find_spec("slim_fast") and not importlib.util.find_spec("slim_kernels")
import torch
torch.set_num_threads(1)
path = list(sys.path)
encoder = torch.hub.load(root, "slim_encoder", source="local", pretrained=folder)
assert sys.path == path
torch.manual_seed(0)
x = torch.randn(2, 3, 16, 5, 2)
from slim_fast.interop import ctrgcn  # what was not imported before is found, too
from slim_fast.data import cache
import slim_kernels.check
classifier = torch.hub.load(
    root, "slim_classifier", source="local", pretrained=folder, num_classes=3)
assert classifier(x).shape == (2, 3)
plane = torch.hub.load(root, "slim_encoder", source="local", topology=17, channels="xy")
assert plane.joints == 17
try:
    torch.hub.load(root, "slim_encoder", source="local", pretrained=True)
except ValueError as error:
    assert "give pretrained=PATH" in str(error)
else:
    raise SystemExit("True was taken")
torch.save(encoder.optimize(torch.float32)(x), out)
"""


def test_loaded_where_nothing_is_installed(make_encoder, tmp_path):
    encoder = make_encoder()
    encoder.save_pretrained(tmp_path / "e")
    arguments = [str(ROOT), str(tmp_path / "e"), str(tmp_path / "out.pt")]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    torch.manual_seed(0)
    want = encoder(torch.randn(2, 3, 16, 5, 2))
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), want)
