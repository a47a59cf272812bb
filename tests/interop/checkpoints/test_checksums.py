"""`slim-fast weights`: checksums of what is shipped, saved and downloaded; cards."""

import subprocess
from pathlib import Path

import pytest

from slim_fast import SLiMEncoder
from slim_fast.__main__ import main
from slim_fast.interop.checkpoints.checksums import SUMS, write_manifest
from slim_fast.interop.checkpoints.shipped import find_shipped
from slim_fast.model.encoder import EncoderConfig
from tests.interop.checkpoints.released import REPOSITORY, SUBFOLDER, write_release


@pytest.fixture
def saved(make_encoder, tmp_path) -> Path:
    make_encoder("ntu-25").save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("name", find_shipped())
def test_what_is_shipped_is_as_recorded(name, capsys):
    """After a change of its files: python -m slim_fast.weights manifest FOLDER."""
    assert main(["weights", "verify", name]) == 0
    printed = capsys.readouterr().out
    for file in ("config.json", "model.safetensors", "slim_fast.json"):
        assert f"{file.ljust(17)}  as recorded" in printed


def test_a_manifest_is_sha256sums_own(saved):
    write_manifest(saved)
    subprocess.run(["sha256sum", "-c", SUMS], cwd=saved, check=True, capture_output=True)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_file_that_is_not_as_recorded_is_named(saved, capsys, damage):
    assert main(["weights", "manifest", str(saved)]) == 0
    assert main(["weights", "verify", str(saved)]) == 0
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the encoder loads all the same
    path.unlink() if damage == "missing" else path.write_bytes(content)
    (saved / "more.txt").write_text("text")
    capsys.readouterr()
    assert main(["weights", "verify", str(saved)]) == 2
    printed = capsys.readouterr()
    state = "differs" if damage == "changed" else "missing"
    assert printed.err == (
        f"error: {saved} is not what was recorded: model.safetensors ({state}); copy or download "
        "it again.\n"
    )
    assert "more.txt           not recorded" in printed.out


def test_a_download_is_compared_with_what_the_hub_said(server, tmp_path, capsys):
    encoder = SLiMEncoder("ntu-25", config=EncoderConfig(width=32, depth=4, heads=1))
    write_release(tmp_path / "release", encoder)
    server.put(REPOSITORY, tmp_path / "release")
    command = ["weights", "verify", REPOSITORY, "--subfolder", SUBFOLDER]
    assert main(command) == 0
    printed = capsys.readouterr().out
    probes = "linear/slim_ntu60_best_xsub.pth"
    for file in ("config.json", "model.safetensors", probes):
        assert f"{file.ljust(len(probes))}  as recorded" in printed
    cached = next((tmp_path / "default cache").rglob(probes)).resolve()
    cached.write_bytes(cached.read_bytes() + b"\0")
    assert main(command) == 2
    assert f"{probes} (differs)" in capsys.readouterr().err
    # a manifest of one's own counts for more
    (tmp_path / "mine").write_text(f"{'0' * 64}  config.json\n")
    assert main([*command, "--manifest", str(tmp_path / "mine")]) == 2
    assert f"config.json (differs), {probes} (differs)" in capsys.readouterr().err


def test_what_cannot_be_verified(saved, tmp_path, capsys):
    (tmp_path / "list").write_text("no checksums\n")
    (tmp_path / "empty").mkdir()
    for words, says in (
        (["verify", str(saved)], "No checksums are known"),
        (["verify", str(saved), "--manifest", str(tmp_path / "list")], "no list of SHA-256"),
        (["verify", str(saved), "--manifest", str(tmp_path / "no")], "No such file"),
        (["verify", "slim_fast/synthetic"], "did you mean slim_fast/synthetic-small?"),
        (["verify", str(saved), "--subfolder", "no"], "There is no folder"),
        (["manifest", str(tmp_path / "no")], "There is no folder"),
        (["manifest", str(tmp_path / "empty")], "holds no files"),
    ):
        assert main(["weights", *words]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1


def test_show_reads_the_card(server, make_encoder, tmp_path, capsys):
    assert main(["weights", "show", "slim_fast/synthetic-small"]) == 0
    printed = capsys.readouterr().out
    assert "157,088 parameters: width 64, 3 blocks, 2 heads" in printed
    assert "# slim_fast/synthetic-small" in printed
    write_release(tmp_path / "release", SLiMEncoder("ntu-25", config=EncoderConfig(32, 4, 1)))
    server.put(REPOSITORY, tmp_path / "release")
    assert main(["weights", "show", f"{REPOSITORY}/{SUBFOLDER}"]) == 0
    printed = capsys.readouterr().out
    assert "license     apache-2.0" in printed
    assert "slim_ntu60_best_xsub.pth" in printed
    assert printed.endswith("# SLiM\n\nNTU RGB+D.\n")
    make_encoder("ntu-25").save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "README.md").write_text("---\n: no [yaml\n---\ntext")
    assert main(["weights", "show", str(tmp_path / "bare")]) == 0
    assert capsys.readouterr().out.endswith("---\n: no [yaml\n---\ntext\n")
