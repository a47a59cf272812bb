"""An encoder for COCO-17 pictures out of one of any other skeleton: python examples/transfer.py
ENCODER_FOLDER
"""

import sys

import torch

from slim_fast import SLiMEncoder
from slim_fast.skeletons.correspondence import match_joints

encoder = SLiMEncoder.from_pretrained(sys.argv[1])
pictures = encoder.to_skeleton("coco-17", "xy")
found = match_joints(encoder.topology, pictures.topology)
print(found)
# (B, C, T, V, M): x to the right, y down, about two units a body height
clips = torch.randn(2, 2, 64, 17, 1)
origin = torch.einsum("bctvm,v->bctm", clips[:, :, :1, :, :1], torch.tensor(found.origin))
# the first person's first frame is centred as the old skeleton's was
clips = clips - origin[:, :, :, None]
with torch.no_grad():
    print(pictures(clips).shape)
