"""python -m tests.interop.checkpoints.stored.make: store checkpoints of this version, and their
outputs, for later versions to load. Run it once for a release, and never again for an old one.

Each folder holds `encoder` and `classifier` (save_pretrained), `run` (an unfinished run), `public`
(config.json and model.safetensors alone, as SLiM's release has them), `public.pth` (the release's
training checkpoint), and outputs.safetensors: clips and outputs of each.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from slim_fast import SLiMClassifier, SLiMEncoder, __version__
from slim_fast.data.cache_writer import CacheWriter
from slim_fast.data.clips import Clip
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import get_topology

FOLDER = Path(__file__).parent
RUN = """--data cache --out run --steps 4 --batch 4 --threads 1 --device cpu --precision fp32
--model.encoder.width 8 --model.encoder.depth 1 --model.encoder.heads 1 --model.head.hidden 8
--model.head.bottleneck 8 --model.head.prototypes 8 --views.window 16 --views.local
[{"window":8,"count":1,"interval":[0.35,0.7]}] --log.checkpoint_every 2 --log.keep 8
--log.plots false"""


def randomised(model: SLiMEncoder) -> SLiMEncoder:
    """The model with every weight away from its initial value."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def pretrain(work: Path) -> None:
    """The whole run, in work/run, or the rest of it, on random clips; no path is absolute."""
    rng = np.random.default_rng(0)
    with CacheWriter(work / "cache", get_topology("utd-mhad-20"), "xyz", ["a", "b"]) as writer:
        for number in range(8):
            positions = rng.normal(size=(24, 20, 3, 1)).astype(np.float32)
            writer.add(Clip(positions, str(number), number % 2, number))
    command = [sys.executable, "-m", "slim_fast.pretrain", *RUN.split()]
    subprocess.run(command, cwd=work, check=True)


def make_run(folder: Path) -> None:
    """An unfinished run: its settings and first checkpoint."""
    with tempfile.TemporaryDirectory() as work:
        pretrain(Path(work))
        run = Path(work) / "run"
        (folder / "checkpoints").mkdir(parents=True)
        shutil.copy(run / "config.json", folder)
        shutil.copy(min((run / "checkpoints").glob("*.pt")), folder / "checkpoints")


def make(folder: Path) -> None:
    """Write all checkpoints and outputs of this version."""
    torch.manual_seed(0)
    config = EncoderConfig(width=8, depth=1, heads=2, registers=2)
    encoder = randomised(SLiMEncoder("coco-17", "xyc", config))
    encoder.save_pretrained(folder / "encoder")
    names = ["wave", "clap", "jump"]
    classifier = SLiMClassifier(3, "ntu-25", "xyz", config, class_names=names)
    randomised(classifier).save_pretrained(folder / "classifier")
    # heads of 32 features, as all public checkpoints have
    public = randomised(SLiMEncoder(25, config=EncoderConfig(32, 1, 1, 1.0, 2)))
    public.bfloat16().save_pretrained(folder / "public")
    (folder / "public" / "slim_fast.json").unlink()
    weights = {f"backbone.{name}": tensor for name, tensor in public.state_dict().items()}
    torch.save({"teacher": weights, "iteration": 7}, folder / "public.pth")
    for card in folder.rglob("README.md"):
        card.unlink()
    make_run(folder / "run")
    run = SLiMEncoder.from_pretrained(folder / "run")
    tensors = {}
    for name, model in (
        ("encoder", encoder),
        ("classifier", classifier),
        ("public", public),
        ("run", run),
    ):
        x = torch.rand(1, model.channels, 8, model.joints, 2)
        with torch.no_grad():
            tensors |= {f"{name}.clips": x, f"{name}.output": model.float()(x)}
    save_file(tensors, folder / "outputs.safetensors")


if __name__ == "__main__":
    make(FOLDER / __version__)
