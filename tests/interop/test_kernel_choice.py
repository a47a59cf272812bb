"""A SLIM_KERNELS that nobody knows is one sentence, before any work."""

import pytest
from slim_kernels.runtime import dispatch

from slim_fast import SLiMClassifier, SLiMEncoder, UserError, evaluate, export, pretrain, stream
from slim_fast.data.synthetic import write_synthetic

SAYS = "SLIM_KERNELS='tritno' is not known; set it to reference or triton, or unset it."


@pytest.mark.parametrize("command", ["pretrain", "evaluate", "stream", "export"])
def test_commands_say_so(command, make_encoder, monkeypatch, tmp_path, capsys):
    make_encoder("ntu-25").save_pretrained(tmp_path / "run")
    write_synthetic(
        tmp_path / "cache",
        subjects=2,
        repetitions=1,
        test_fraction=0.5,
        actions=["wave"],
        progress=False,
    )
    run, data, out = map(str, (tmp_path / "run", tmp_path / "cache", tmp_path / "out"))
    main, arguments = {
        "pretrain": (pretrain.main, ["--out", out, "--data", data]),
        "evaluate": (evaluate.main, ["knn", run, "--data", data]),
        "stream": (stream.main, [run, "--data", data, "--out", f"{out}.gif"]),
        "export": (export.main, [run, "--to", "torch-export", "--out", out]),
    }[command]
    monkeypatch.setenv("SLIM_KERNELS", "tritno")
    capsys.readouterr()
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err == f"error: {SAYS}\n"
    assert printed.out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "run"]


def test_python_says_so_when_the_model_is_made(monkeypatch):
    monkeypatch.setenv("SLIM_KERNELS", "tritno")
    for kind in (SLiMEncoder, SLiMClassifier):
        with pytest.raises(UserError, match="SLIM_KERNELS='tritno' is not known"):
            kind()
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", False)
    with pytest.raises(
        UserError, match="triton is not installed; install it or unset the variable"
    ):
        SLiMEncoder()
    monkeypatch.setenv("SLIM_KERNELS", "")
    SLiMEncoder()
