"""What weights in a folder are, in a few lines: sizes, skeleton, probes, model card."""

from pathlib import Path

from slim_fast.interop.checkpoints.model_card import CARD, read_model_card
from slim_fast.interop.checkpoints.probes import FOLDER
from slim_fast.interop.checkpoints.read import read_checkpoint
from slim_fast.skeletons import Topology


def describe_weights(folder: Path) -> str:
    """The lines that `slim-fast weights show` prints. Raises: UserError as `read_checkpoint`."""
    checkpoint = read_checkpoint(folder)
    about, config = checkpoint.about, checkpoint.about.config
    topology = about.topology
    skeleton = topology.name if isinstance(topology, Topology) else "joints without names"
    size = sum(t.numel() for n, t in checkpoint.weights.items() if not n.startswith("head."))
    sizes = f"width {config.width}, {config.depth} blocks, {config.heads} heads"
    lines = [
        f"weights     {checkpoint.source}",
        f"skeleton    {skeleton}, {about.joints} joints, {about.channels}",
        f"encoder     {size:,} parameters: {sizes}, trained on clips of {config.window} frames",
    ]
    if "num_classes" in about.more:
        lines.append(f"classifier  {about.more['num_classes']} classes")
    for place in (folder / FOLDER, folder.parent / FOLDER):
        lines += [f"probes      {path}" for path in sorted(place.glob("*.pth"))]
    card = read_model_card(folder if (folder / CARD).exists() else folder.parent)
    if card is None:
        return "\n".join([*lines, "card        none"])
    for key in ("license", "base_model"):
        value = card.fields.get(key)
        names = value if isinstance(value, list) else [value]
        if texts := [name for name in names if isinstance(name, str)]:
            lines.append(f"{key:11} {', '.join(texts)}")
    lines += [f"reported    {line}" for line in card.results()]
    return "\n".join([*lines, f"card        {card.path}", "", card.text.strip()])
