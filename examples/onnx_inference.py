"""python examples/onnx_inference.py encoder.onnx clip.npy [outputs.npz]: a clip (T, V, C[, M]) in
metres through an exported encoder or classifier, with numpy and onnxruntime alone. As by
slim_fast.preprocess it becomes 64 frames of its middle 95 %, or interpolated ones if shorter."""

import json
import sys

import numpy as np
import onnxruntime

if len(sys.argv) not in (3, 4):
    raise SystemExit(__doc__)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
topology, dims = json.loads(about["topology"]), len(about["channels"].rstrip("c"))
window = int(about.get("window", 64))  # frames
centre = topology["joints"].index(topology["centre"]) if isinstance(topology, dict) else 0
clip = clip[clip.files[0]] if hasattr(clip := np.load(sys.argv[2]), "files") else clip
clip = np.asarray(clip, np.float32).reshape(*clip.shape[:3], -1)  # (T, V, C, M)
detected = np.isfinite(clip).all(2) & clip[:, :, :dims].any(2) & (clip[:, :, dims:] > 0).all(2)
order = np.argsort(-detected.any(1).sum(0), kind="stable")  # who is detected longest comes first
clip = np.where(detected[:, :, None], clip, 0)[detected.any((1, 2))][..., order]
time = np.clip((np.arange(window) + 0.5) * len(clip) / window - 0.5, 0, len(clip) - 1)
if len(clip) > window:
    time = len(clip) // 40 + np.arange(window) * max(len(clip) * 19 // 20, window) // window
lower, upper = clip[time.astype(int)], clip[np.minimum(time.astype(int) + 1, len(clip) - 1)]
valid = [x[:, :, :dims].any(2, keepdims=True) for x in (lower, upper)]
between = lower + (time % 1).astype(np.float32)[:, None, None, None] * (upper - lower)
x = np.where(valid[0] & valid[1], between, lower)  # nothing is mixed with an undetected joint
first = clip[:, :, :dims, 0].any(2)  # (T, V): the first person's centre, or else any joint
first &= (np.arange(len(first[0])) == centre) | ~first[:, centre].any()
x[:, :, :dims] -= clip[:, :, :dims, 0][first][: first[first.any(1)][0].sum()].mean(0)[:, None]
x = (x * valid[0]).transpose(2, 0, 1, 3)[None].astype(np.float32)  # (1, C, 64, V, M)
out = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x}), strict=True))
print(", ".join(f"{name} {value.shape}" for name, value in out.items()))
classes, logits = json.loads(about.get("class_names", "{}")), out.get("logits", [np.empty(0)])
for i in logits[0].argsort()[::-1][:5]:
    print(f"class {classes[i] if classes else i}: logit {logits[0][i]:.2f}")
if len(sys.argv) == 4:
    np.savez(sys.argv[3], **out)
