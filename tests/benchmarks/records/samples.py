"""Results of every benchmark."""


def q(median):
    return [0.9 * median, median, 1.1 * median]


def sides(ours, baseline=None):
    """Figures of a comparison; of ours alone without a baseline."""
    if baseline is None:
        return {"seconds": {"ours": q(ours)}, "peak_bytes": {"ours": 5_000_000}}
    return {
        "seconds": {"ours": q(ours), "baseline": q(baseline)},
        "speedup": q(baseline / ours),
        "peak_bytes": {"ours": 5_000_000, "baseline": 20_000_000},
    }


def result(benchmark, case, **figures):
    return {"benchmark": benchmark, "case": case, "threads": 2, "device": "cpu", **figures}


def everything():
    """A result or more of each benchmark."""
    both, target = ("fp32", "bf16"), {"target": 7.89}
    clips = {"clips": 8, "people": 1.22}
    treated = [
        "MAE SDPA",
        "MAE SDPA, compiled",
        "MAE explicit",
        "MAE explicit, compiled",
        "SLiM eager",
    ]
    errors = dict.fromkeys(("value", "student", "prototypes"), 1e-7)
    step = {"batch": 64, "precision": "fp32"}
    return [
        *(result("ceilings", {"precision": p}, gflops=q(100), gbytes=q(20)) for p in both),
        *(
            result(
                "inference",
                {"baseline": name, "clips": n, "people": 2, "precision": p},
                **sides(0.1, 0.9),
            )
            for name in treated
            for p in both
            for n in (1, 8)
        ),
        result(
            "inference",
            {"baseline": "MAE, treated alike", **clips, "precision": "best"},
            **sides(0.1, 0.5),
            **target,
        ),
        *(
            result(
                "inference_share",
                {**clips, "precision": p},
                target=t,
                share=q(0.6),
                share_of_fastest=q(0.3),
                gflops={"ours": q(60), "product": q(100), "eager": q(40), "fastest": q(200)},
            )
            for p, t in zip(both, (0.5, 0.7), strict=True)
        ),
        *(
            result(
                "drop_in", {"path": way, **clips, "places": 2, "precision": p}, **sides(0.1, 0.2)
            )
            for way in ("SLiMEncoder", "optimize()", "ONNX")
            for p in both
        ),
        *(
            result(
                name,
                {"baseline": baseline, **clips, "tokens": "all", "threads": 2, "precision": "bf16"},
                by={"ours": "openvino bf16", "baseline": "openvino fp32"},
                **sides(0.1, 0.2),
                **target,
            )
            for name, baseline in (
                ("runtimes", "openvino"),
                ("like_for_like", "MAE, its fastest runtime"),
            )
        ),
        *(
            result("baseline_training", {"baseline": n, **step}, **sides(1, 2))
            for n in ("MAE", "S-JEPA", "GFP")
        ),
        *(
            result(
                "kernels",
                {"op": op, "pass": way, "precision": p},
                **sides(0.01, 0.02),
                flops=flops,
                bytes=10**7,
            )
            for op, flops in (("norm_linear", 10**8), ("embed_tokens", 10**7), ("looks_up", 0))
            for p in both
            for way in ("forward", "forward and backward")
        ),
        *(
            result(
                "scaling",
                {"axis": axis, "value": value, "precision": p},
                **sides(value / 100, value / 50),
            )
            for axis in ("batch", "frames", "joints", "people", "prototypes")
            for value in (1, 64)
            for p in both
        ),
        result("scaling", {"axis": "prototypes", "value": 4096, "precision": "fp32"}, **sides(40)),
        result(
            "pretrain",
            {"sizes": "demo", "precision": "bf16"},
            seconds={"ours": q(0.25)},
            batch=64,
            samples_per_second=q(256),
        ),
        *(
            result(
                "training_step", {"sizes": "demo", **step, "views": v}, target=1.5, **sides(1, s)
            )
            for v, s in ((True, 2), (False, 0.8))
        ),
        result("visible_attention", {"sizes": "demo", **step}, **sides(1, 1)),
        result("views", {"batch": 64}, target=5.0, **sides(1, 6)),
        result("linear_grid", {"sizes": "small"}, target=5.0, flops=10**9, **sides(1, 6)),
        result(
            "watch",
            {"people": 3, "every": 8, "frames": 240, "precision": "fp32"},
            seconds={"ours": q(12)},
            target=25.0,
        ),
        result("prototype_loss_time", {"rows": 1000, "prototypes": 1024}, **sides(1, 1.2)),
        result(
            "prototype_loss_memory",
            {"rows": 1000, "prototypes": 1024},
            logits_bytes=4_096_000,
            peak_bytes={"ours": 0, "baseline": 9_000_000},
        ),
        result(
            "prototype_loss_memory",
            {"rows": 4000, "prototypes": 1024},
            logits_bytes=16_384_000,
            peak_bytes={"ours": 3_000_000},
        ),
        result(
            "prototype_loss_error",
            {"rows": 1000, "prototypes": 1024},
            errors=dict.fromkeys(("ours_float64", "ours_float32", "baseline_float32"), errors),
        ),
    ]
