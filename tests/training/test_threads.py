"""Fewer threads while other processes keep ours waiting, more again when processors are idle, none
of it when fixed.
"""

from collections.abc import Callable, Iterator

import pytest
import torch

from slim_fast.training.threads import ThreadAdapter, count_processors, read_cpu_times


@pytest.fixture
def four_threads() -> Iterator[None]:
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def machine(
    four_threads: None,
) -> Callable[..., tuple[ThreadAdapter, list[str], Callable[..., int]]]:
    """A machine of which each second is told: how long threads waited, how many processors were
    idle.
    """

    def make(fixed: bool = False) -> tuple[ThreadAdapter, list[str], Callable[..., int]]:
        now, totals, said = [0.0], [0.0, 0.0], []
        threads = ThreadAdapter(fixed, said.append, lambda: (totals[0], totals[1]), lambda: now[0])

        def second(waited: float, idle: float, times: int = 1) -> int:
            for _ in range(times):
                now[0] += 1
                totals[0] += waited
                totals[1] += idle
                threads.adapt(int(now[0]))
            return torch.get_num_threads()

        return threads, said, second

    return make


def test_a_quiet_machine_keeps_all_threads(machine):
    _, said, second = machine()
    assert second(0.05, 0.1, 60) == 4
    assert said == []


def test_threads_that_wait_are_given_up_and_come_back_one_by_one(machine):
    _, said, second = machine()
    assert second(0.9, 0.0) == 3
    assert second(2.2, 0.0) == 1
    assert second(1.0, 0.0, 5) == 1  # one is left whatever happens
    assert second(0.0, 0.9, 9) == 1
    assert second(0.0, 0.3) == 1  # not idle enough: counted anew
    assert second(0.0, 1.5, 10) == 2
    assert second(0.0, 1.5, 20) == 4
    assert second(0.0, 3.0, 40) == 4
    assert len(said) == 5
    assert "3 instead of 4 threads, because other processes need the processors" in said[0]
    assert "idle again" in said[-1]


def test_a_number_that_was_asked_for_stays_and_is_said_once(machine):
    _, said, second = machine(fixed=True)
    assert second(3.0, 0.0, 30) == 4
    assert len(said) == 1
    assert "--threads" in said[0]


def test_the_machine_is_looked_at_once_a_second(four_threads):
    looks = []
    now = [0.0]
    threads = ThreadAdapter(False, print, lambda: looks.append(1) or (0.0, 0.0), lambda: now[0])
    for _ in range(1000):
        now[0] += 0.01
        threads.adapt(1)
    assert 9 <= len(looks) <= 11


def test_where_the_kernel_does_not_tell_nothing_changes(four_threads):
    threads = ThreadAdapter(False, print, lambda: None, iter(range(100)).__next__)
    for step in range(20):
        threads.adapt(step)
    assert torch.get_num_threads() == 4


def test_what_this_kernel_tells():
    assert count_processors() >= 1
    seen = read_cpu_times()
    if seen is None:
        pytest.skip("the kernel does not tell how long threads wait")
    torch.randn(300, 300) @ torch.randn(300, 300)
    later = read_cpu_times()
    assert later is not None
    assert all(b >= a >= 0 for a, b in zip(seen, later, strict=True))
