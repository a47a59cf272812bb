"""A repository in the format of SLiM's release of August 2026 (recipe, section 7)."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from slim_fast import SLiMEncoder
from slim_fast.model.encoder import EncoderConfig

REPOSITORY, SUBFOLDER = "JeonghyeokDo/SLiM", "ntu60_xsub"
_AT_256 = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
RATES = [rate * 64 / 256 for rate in _AT_256]
CARD = "---\nlicense: apache-2.0\ntags: [skeleton]\n---\n# SLiM\n\nNTU RGB+D.\n"


def write_release(
    folder: Path, encoder: SLiMEncoder, classes: int = 60, note: str | None = None
) -> None:
    """Write the subfolder's config.json, model.safetensors and linear/*.pth, and README.md."""
    own = folder / SUBFOLDER
    (own / "linear").mkdir(parents=True)
    sizes = {"arch": "vit_tiny"}
    if encoder.config != EncoderConfig():
        c = encoder.config
        sizes = {"embed_dim": c.width, "depth": c.depth, "num_heads": c.heads, "mlp_ratio": 4.0}
    config = {
        **sizes,
        "img_size": [64, 25],
        "patch_size": [8, 1],
        "in_chans": 3,
        "num_register_tokens": encoder.config.registers,
        "ffn_layer": "swiglufused",
        "block_chunks": 0,
    }
    (own / "config.json").write_text(json.dumps(config))
    save_file(
        {k: v.contiguous() for k, v in encoder.state_dict().items()}, own / "model.safetensors"
    )
    save_probes(own / "linear" / "slim_ntu60_best_xsub.pth", encoder.config.width, classes, note)
    (folder / "README.md").write_text(CARD)


def save_probes(path: Path, width: int, classes: int, note: str | None = None) -> None:
    """The 52 classifiers of the release, drawn at random."""
    state = {}
    for blocks in (1, 4):
        for pool in (True, False):
            for rate in RATES:
                name = f"classifier_{blocks}_blocks_avgpool_{pool}_lr_{rate:.5f}".replace(".", "_")
                key = f"classifiers_dict.{name}.linear"
                state[f"{key}.weight"] = torch.randn(classes, width * (blocks + pool))
                state[f"{key}.bias"] = torch.randn(classes)
    content = {"model": state, "iteration": 20_000}
    torch.save({**content, "note": note} if note else content, path)
