"""python examples/features.py ENCODER: features of clips by a pretrained encoder.

ENCODER: a run's or an encoder's folder, a .pth file, or a Hugging Face repository (owner/name).
"""

import sys

import torch

from slim_fast import SLiMEncoder, UserError

if len(sys.argv) != 2:
    raise SystemExit(__doc__)
try:
    encoder = SLiMEncoder.from_pretrained(sys.argv[1]).optimize()
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from error

# (B, C, T, V, M): clips, coordinates (metres, the centre joint of the first frame at 0), frames,
# joints, people
clips = torch.randn(4, encoder.channels, 64, encoder.joints, 2)
clips[0, ..., 1] = 0  # absent: skipped, its features are zeros
patches, cls = encoder.get_intermediate_layers(clips, n=1, return_class_token=True)[0]
print(
    f"patches {tuple(patches.shape)}, one for 8 frames of a joint; clips {tuple(cls.shape)}, one "
    "for each person"
)
