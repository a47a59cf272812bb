"""Launches on file for sm_80, run as compiled: a seventh of the problems, each in one dtype; with
`--thorough`, as in CI, all in both.
"""

from slim_kernels.check.run import run


def test_every_launch_is_right(thorough) -> None:
    outcomes = list(run(80, sample=not thorough, share=(0, 1 if thorough else 7)))
    faults = [str(outcome) for outcome in outcomes if outcome.fault]
    assert not faults, "\n".join(faults)
    assert {outcome.dtype for outcome in outcomes} == {"bf16", "fp16"}
    assert {outcome.autocast for outcome in outcomes} == {True, False}
    assert all(len(outcome.gradients) > 0 for outcome in outcomes)
