"""Which table each benchmark has: its title, what was measured, its columns."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.records import curves
from benchmarks.records.cells import (
    case,
    ends,
    error,
    from_to,
    gpu,
    megabytes,
    milliseconds,
    peak,
    people,
    quartiles,
    rate,
    ratio,
    reached,
    runtime,
    share,
    watched_rate,
)
from benchmarks.records.gpu_rows import TITLES
from benchmarks.records.recorder import Result


@dataclass(frozen=True)
class Table:
    """How one benchmark's results are shown: a title, what was measured, and the columns' cells."""

    title: str
    about: str
    columns: dict[str, Callable[[Result], str]]
    rows: Callable[[list[Result]], list[Result]] = list
    """Makes the rows of the results."""


def cases(*names: str) -> dict[str, Callable[[Result], str]]:
    return {name: case(name) for name in names}


PEAKS = {"MB ours": peak("ours"), "MB baseline": peak("baseline")}
GRADIENTS = ("student", "prototypes")
TABLES = {
    "inference": Table(
        "Inference",
        "Clips a second through the encoder, against SLiM's in eager PyTorch and the masked "
        "autoencoder's (MAE): in the fastest of the treatments that SLiM gets too (SDPA, "
        "torch.compile, either precision), and in the fastest of all, among them explicit "
        "attention one person at a time. People: of so many slots in a clip; the baselines "
        "compute all slots. MB: by which each raises its process' peak memory.",
        {
            **cases("baseline", "clips"),
            "people": people,
            **cases("precision"),
            "ours": rate("ours", "clips"),
            "baseline's": rate("baseline", "clips"),
            "ours / baseline": ratio,
            **PEAKS,
        },
    ),
    "inference_share": Table(
        "Inference: share of the processor",
        "GFLOP/s of our encoder and of SLiM's in eager PyTorch, and the share that ours reaches "
        "of one large matrix product by torch.mm, and of the same by the faster of torch.mm and "
        "oneDNN (in fp32 torch.mm calls MKL).",
        {
            **cases("clips"),
            "people": people,
            **cases("precision"),
            "eager": quartiles("gflops", "eager"),
            "ours": quartiles("gflops", "ours"),
            "torch.mm": quartiles("gflops", "product"),
            "ours / torch.mm": share,
            "faster library": quartiles("gflops", "fastest"),
            "ours / faster (%)": quartiles("share_of_fastest", scale=100),
        },
    ),
    "like_for_like": Table(
        "Inference: the masked autoencoder in its fastest runtime",
        "Milliseconds of a call with so many clips, by the masked autoencoder's encoder (MAE) in "
        "PyTorch (explicit attention, one person at a time), OpenVINO and onnxruntime, and by ours "
        "in its fastest. Both are run alike in OpenVINO. The MAE computes all tokens of "
        "every place for a person. The paper's cost model has 4.78 times the operations with two "
        "people.",
        {
            **cases("baseline", "precision", "clips"),
            "people": people,
            **cases("tokens", "threads"),
            "ours, ms": milliseconds("ours"),
            "MAE, ms": milliseconds("baseline"),
            "MAE / ours": ratio,
            "ours in": runtime("ours"),
            "MAE in": runtime("baseline"),
        },
    ),
    "runtimes": Table(
        "Inference: runtimes",
        'Milliseconds of a call of `optimize(backend="auto")`, which leaves out absent people, '
        "against the same encoder in each runtime: PyTorch's leaves them out too, the others "
        "compute every place, as exported files do. In bf16 the fastest peer may be one in fp32. "
        "CLS: nothing else is computed in the last block.",
        {
            **cases("baseline", "precision", "clips"),
            "people": people,
            **cases("tokens", "threads"),
            "ours, ms": milliseconds("ours"),
            "its, ms": milliseconds("baseline"),
            "its / ours": ratio,
            "ours in": runtime("ours"),
            "it is": runtime("baseline"),
        },
    ),
    "drop_in": Table(
        "The drop-in encoder",
        "Milliseconds of a call and clips a second by each way in which other code runs "
        "SLiMEncoder, against SLiM's encoder in eager PyTorch in the same precision, which "
        "computes all slots. Clips come and features go in float32.",
        {
            **cases("path", "clips"),
            "people": people,
            **cases("precision"),
            "ours, ms": milliseconds("ours"),
            "eager, ms": milliseconds("baseline"),
            "ours, clips/s": rate("ours", "clips"),
            "eager / ours": ratio,
            **PEAKS,
        },
    ),
    "baseline_training": Table(
        "Training step against other methods",
        "Samples a second of our whole optimisation step and of the masked methods' on as many "
        "clips, and MB by which each raises its process' peak memory.",
        {
            **cases("baseline", "batch", "precision"),
            "ours": rate("ours"),
            "baseline's": rate("baseline"),
            "ours / baseline": ratio,
            **PEAKS,
        },
    ),
    "training_step": Table(
        "Training step",
        "Samples a second of a whole optimisation step, against four padded forwards with "
        "materialised logits in eager PyTorch, in the same precision. Views: made within the "
        "step (ours for the batch at once, the baseline sample by sample in numpy), or the same "
        "ones on both sides, prepared beforehand.",
        {
            **cases("sizes", "batch", "precision"),
            "views": lambda result: "made" if result["case"]["views"] else "prepared",
            "ours": rate("ours"),
            "baseline": rate("baseline"),
            "ours / baseline": ratio,
        },
    ),
    "visible_attention": Table(
        "Attention to visible tokens only",
        "Samples a second of our step with `--model.encoder.attention visible`, against the same "
        "with `all`, on the same views prepared beforehand.",
        {
            **cases("sizes", "batch", "precision"),
            "visible": rate("ours"),
            "all": rate("baseline"),
            "visible / all": ratio,
        },
    ),
    "watch": Table(
        "Watching",
        "Frames a second of the command `watch` with people in every frame, without finding their "
        "poses and without drawing: following them, carrying their joints over from MediaPipe's "
        "skeleton to NTU's, classifying windows of 64 frames with a model of the paper's sizes.",
        {
            **cases("people"),
            "a prediction every, frames": case("every"),
            **cases("precision"),
            "frames/s": watched_rate,
        },
    ),
    "pretrain": Table(
        "Pre-training",
        "A whole run of the demo, as the command's own summary has it.",
        {
            **cases("sizes", "precision"),
            "batch": lambda result: f"{result['batch']:,}",
            "ms a step": milliseconds("ours"),
            "samples a second": quartiles("samples_per_second"),
        },
    ),
    "views": Table(
        "View pipeline",
        (
            "Samples a second (ten views and their masks each) on one core, against one sample "
            "at a time in numpy."
        ),
        {**cases("batch"), "ours": rate("ours"), "numpy": rate("baseline"), "ours / numpy": ratio},
    ),
    "linear_grid": Table(
        "Grid of linear classifiers",
        "Milliseconds of 100 iterations of all classifiers of the paper's grid (batch 64; small: "
        "width 64, 27 classes, 2,000 clips; recipe: width 256, 60 classes, 2,000 clips; few clips: "
        "width 256, 27 classes, 431 clips), trained at once, against one after another in eager "
        "PyTorch. Both sides do the same products, but for those of few clips, of which ours does "
        "fewer; GFLOP/s are what ours reaches in its own.",
        {
            **cases("sizes"),
            "ours": milliseconds("ours"),
            "one after another": milliseconds("baseline"),
            "ours faster by": ratio,
            "GFLOP/s": reached,
        },
    ),
    "kernels": Table(
        "Kernels",
        "Milliseconds of each op on the recipe's mix of lengths, against plain PyTorch "
        "(attention: SDPA length by length; to visible tokens: padded to the longest, with a "
        "mask); what ours reaches, and its operations for each byte that must at least be moved.",
        {
            **cases("op", "pass", "precision"),
            "ours": milliseconds("ours"),
            "plain": milliseconds("baseline"),
            "ours faster by": ratio,
            "GFLOP/s": reached,
            "FLOP/byte": lambda result: f"{result['flops'] / result['bytes']:.3g}",
        },
    ),
    "prototype_loss_time": Table(
        "Prototype loss: time",
        "Milliseconds of the feature-reconstruction loss with its gradients, streamed (ours) and "
        "with the N×K logits in memory.",
        {
            "rows N": case("rows"),
            "prototypes K": case("prototypes"),
            "ours": milliseconds("ours"),
            "materialised": milliseconds("baseline"),
            "ours faster by": ratio,
        },
    ),
    "prototype_loss_memory": Table(
        "Prototype loss: memory",
        (
            "MB by which the peak resident memory of a fresh process rises in its first forward "
            "and backward."
        ),
        {
            "rows N": case("rows"),
            "prototypes K": case("prototypes"),
            "one N×K matrix": lambda result: megabytes(result["logits_bytes"]),
            "ours": peak("ours"),
            "materialised": peak("baseline"),
        },
    ),
    "prototype_loss_error": Table(
        "Prototype loss: error",
        "Against the materialised loss in float64: relative error of the value, and of the "
        "gradients relative to their largest entry.",
        {
            "prototypes K": case("prototypes"),
            "ours, float64: value": error("ours_float64", "value"),
            "gradients": error("ours_float64", *GRADIENTS),
            "ours, float32": error("ours_float32", "value", *GRADIENTS),
            "materialised, float32": error("baseline_float32", "value", *GRADIENTS),
        },
    ),
    "scaling": Table(
        "Scaling",
        "Inference against SLiM's in eager PyTorch, and the prototype loss against the "
        "materialised one, as one size grows: both ends of each curve, and MB by which each side "
        "raises its process' peak memory.",
        {
            **cases("axis", "precision"),
            "size": from_to(lambda result, _: result["case"]["value"]),
            "unit": lambda row: curves.AXES[row["case"]["axis"]],
            "ours": from_to(curves.time),
            "baseline": from_to(curves.time, "baseline"),
            "ours / baseline (×)": from_to(
                lambda result, _: result.get("speedup", (None, None))[1]
            ),
            "MB ours": from_to(curves.memory),
            "MB baseline": from_to(curves.memory, "baseline"),
        },
        ends,
    ),
    "ceilings": Table(
        "What the machine reaches at most",
        (
            "One large matrix product, by the faster of torch.mm and oneDNN, and a copy (bytes "
            "read and written)."
        ),
        {**cases("precision"), "GFLOP/s": quartiles("gflops"), "GB/s": quartiles("gbytes")},
    ),
}
GPU_CELLS = ("ours", "baseline", "ratio", "target", "met", "note")
GPU_COLUMNS = {**cases("op", "what"), **{name: gpu(name) for name in GPU_CELLS}}
GPU_TABLES = {
    f"gpu_{name}": Table(f"GPU: {name}", about, GPU_COLUMNS) for name, about in TITLES.items()
}
ALL_TABLES = {**TABLES, **GPU_TABLES}
