"""python examples/onnx_inference.py encoder.onnx clip.npy [answers.npz]: a clip through an exported encoder or
classifier, with numpy and onnxruntime alone.

The clip, (T, V, C) or (T, V, C, M), in metres (an npz: its first array), becomes 64 frames of its centred 95 %: the
middle frame of each of 64 equal bins, or linear interpolation of a shorter clip, as slim_fast's evaluation takes them.
"""

import json
import sys

import numpy as np
import onnxruntime

if len(sys.argv) not in (3, 4):
    raise SystemExit(__doc__)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
topology, dims = json.loads(about["topology"]), len(about["channels"].rstrip("c"))
centre = topology["joints"].index(topology["centre"]) if isinstance(topology, dict) else 0

clip = np.load(sys.argv[2])
clip = np.asarray(clip if isinstance(clip, np.ndarray) else clip[clip.files[0]], np.float32)
clip = clip if clip.ndim == 4 else clip[..., None]  # (T, V, C, M)
clip = clip[clip[:, :, :dims].any((1, 2, 3))]  # frames with somebody in them
length, place = max(1, int(len(clip) * np.float32(0.95))), np.arange(64)
frame = (2 * place + 1) * length // 128 if length >= 64 else np.clip((place + 0.5) * length / 64 - 0.5, 0, length - 1)
frame = frame + (len(clip) - length) // 2
lower, upper = clip[frame.astype(int)], clip[np.minimum(frame.astype(int) + 1, len(clip) - 1)]
here = [x.any((1, 2), keepdims=True) for x in (lower, upper)]  # nothing is mixed with an absent person's zeros
x = np.where(here[0] & here[1], lower + (frame % 1).astype(np.float32)[:, None, None, None] * (upper - lower), lower)
x[:, :, :dims] -= clip[clip[..., 0].any((1, 2)).argmax(), centre, :dims, 0][:, None]
x = (x * here[0]).transpose(2, 0, 1, 3)[None].astype(np.float32)  # (1, C, 64, V, M)

answers = {o.name: a for o, a in zip(session.get_outputs(), session.run(None, {"x": x}), strict=True)}
print(", ".join(f"{name} {value.shape}" for name, value in answers.items()))
names = json.loads(about.get("class_names", "{}"))
for number in answers.get("logits", np.zeros((1, 0)))[0].argsort()[::-1][:5]:
    print(f"class {names[number] if names else number}: logit {answers['logits'][0, number]:.2f}")
if len(sys.argv) == 4:
    np.savez(sys.argv[3], **answers)
