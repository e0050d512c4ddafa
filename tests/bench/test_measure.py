import gc
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from bench import measure
from bench.measure import Clock, Noise, Work, peak_bytes, repeat, reset_peak, rows_within

CPU = torch.device("cpu")


def test_clock_adds_up_only_what_is_timed() -> None:
    clock = Clock(CPU)
    for _ in range(2):
        with clock.timed():
            time.sleep(0.02)
        assert clock.last >= 0.02
        before = clock.seconds
        time.sleep(0.03)
        assert clock.seconds == before, "off the clock"
    assert clock.seconds >= 0.02 + clock.last


def test_clock_turns_the_collector_off_and_on_again() -> None:
    clock = Clock(CPU)

    def fail() -> None:
        with clock.timed():
            assert not gc.isenabled()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert gc.isenabled()
    assert clock.seconds > 0
    gc.disable()
    try:
        with clock.timed():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(("least", "seconds", "expected"), [(3, 0.0, 3), (1, 0.0, 1), (1, 9.0, measure.MOST)])
def test_repeat(least: int, seconds: float, expected: int) -> None:
    calls: list[int] = []
    assert len(repeat(lambda: calls.append(1), CPU, least, seconds)) == len(calls) == expected


def test_rows_within_takes_all_rows_where_they_fit() -> None:
    asked: list[int] = []
    rows, seconds = rows_within(asked.append, 1000, 10.0, CPU)
    assert rows == 1000
    assert seconds < 1
    assert asked[0] == asked[1], "the first call is a warm-up"
    assert asked[-1] == 1000


def test_rows_within_cuts_what_takes_too_long() -> None:
    rows, seconds = rows_within(lambda n: time.sleep(0.002 * n), 1_000_000, 1.0, CPU)
    assert 100 <= rows <= 500, "500 rows a second, less the overhead of sleeping"
    assert seconds == pytest.approx(1.0, rel=0.02), "rows are cut to fit the seconds, whatever a row takes"


def test_work_counts_the_flops_of_matrix_products_in_both_passes() -> None:
    n, i, o = 7, 5, 3
    layer = nn.Linear(i, o)
    x = torch.randn(n, i, requires_grad=True)
    with Work() as forward:
        y = layer(x)
    assert forward.flops == 2 * n * i * o
    with Work() as backward:
        y.sum().backward()
    assert backward.flops == 2 * (2 * n * i * o)
    assert backward.calls > 2


def test_work_counts_products_added_in_place_and_written_to_what_is_there() -> None:
    a, b, c = torch.randn(4, 5), torch.randn(5, 3), torch.randn(4, 3)
    x, y, z = torch.randn(2, 4, 5), torch.randn(2, 5, 3), torch.randn(2, 4, 3)
    for product in (lambda: c.addmm_(a, b), lambda: torch.mm(a, b, out=c), lambda: torch.addmm(c, a, b)):
        with Work() as work:
            product()
        assert (work.calls, work.flops) == (1, 2 * 4 * 5 * 3)
    with Work() as work:
        z.baddbmm_(x, y)
        z.add_(1.0).mul_(2.0)
    assert (work.calls, work.flops) == (3, 2 * 2 * 4 * 5 * 3)


def test_work_counts_alike_in_inference_mode() -> None:
    layer, x = nn.Linear(4, 3), torch.randn(6, 4)
    with Work() as plain:
        layer(x)
    with torch.inference_mode(), Work() as inference:
        layer(x)
    assert plain.flops == inference.flops == 2 * 6 * 4 * 3


def test_work_counts_through_the_adjoint() -> None:
    """FlopCounterMode fails here (pytorch#131753)."""
    from torchdiffeq import odeint_adjoint

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    def count() -> tuple[int, int]:
        torch.manual_seed(0)
        field = Field()
        with Work() as work:
            x = odeint_adjoint(field, torch.ones(3, 2), torch.tensor([0.0, 1.0]), method="rk4")
            x.sum().backward()
        return work.flops, work.calls

    first = count()
    assert first[0] > 4 * 2 * 3 * 2 * 2, "four evaluations forward, more backward"
    assert first == count()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_peak_is_of_the_time_since_the_reset() -> None:
    megabytes = 64
    reset_peak(CPU)
    before = peak_bytes(CPU)
    block = torch.ones(megabytes * 2**17, dtype=torch.float64)
    during = peak_bytes(CPU)
    assert before is not None
    assert during is not None
    assert during - before >= 0.9 * megabytes * 2**20
    del block
    reset_peak(CPU)
    after = peak_bytes(CPU)
    assert after is not None
    assert after < during - 0.5 * megabytes * 2**20


def test_peak_is_none_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measure, "STATUS", tmp_path / "none")
    monkeypatch.setattr(measure, "CLEAR_REFS", tmp_path / "none" / "none")
    reset_peak(CPU)
    assert peak_bytes(CPU) is None


def test_noise_is_a_difference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pressure, stat = tmp_path / "cpu", tmp_path / "stat"
    monkeypatch.setattr(measure, "PRESSURE", pressure)
    monkeypatch.setattr(measure, "STAT", stat)
    pressure.write_text("some avg10=1.0 avg60=1.0 avg300=0.4 total=1000000\nfull avg10=0 avg60=0 avg300=0 total=0\n")
    stat.write_text("cpu  100 0 100 700 0 0 0 100 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    noise = Noise()
    pressure.write_text("some avg10=1.0 avg60=1.0 avg300=0.4 total=1000500\n")
    stat.write_text("cpu  150 0 150 770 0 0 0 130 0 0\n")
    seconds = time.monotonic() - noise.begin[0]
    found = noise.read()
    assert found["steal"] == pytest.approx(30 / 200)
    assert found["cpu_pressure"] is not None
    assert 0 < found["cpu_pressure"] <= 500e-6 / seconds
    assert found["switches_per_second"] is not None


def test_noise_is_none_where_files_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measure, "PRESSURE", tmp_path / "cpu")
    monkeypatch.setattr(measure, "STAT", tmp_path / "stat")
    found = Noise().read()
    assert found["cpu_pressure"] is None
    assert found["steal"] is None
