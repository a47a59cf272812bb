"""Results of every benchmark become charts, whatever was and was not measured."""

import struct
from itertools import combinations

import pytest

from benchmarks.records.charts import CHARTS
from slim_fast.drawing import style
from tests.benchmarks.records.samples import everything, result, sides


def size(path):
    """Pixels (width, height) of a whole PNG."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_drawn_from_what_it_shows_and_only_then(name, tmp_path):
    chart, path = CHARTS[name], tmp_path / "figures" / "chart.png"
    others = [r for r in everything() if r["benchmark"] not in chart.benchmarks]
    assert chart.draw(others, path) is None
    assert not path.exists()
    assert chart.draw(everything(), path) == path
    width, height = size(path)
    assert 700 < width < 1600
    assert 300 < height < 1600


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, still open to look at."""
    saved = []
    save = style.save
    monkeypatch.setattr(
        style, "save", lambda figure, path: (saved.append(figure), save(figure, path))[1]
    )
    return saved


SCALES = {
    "batch": (1, 8, 32, 128, 512, 1024),
    "frames": (8, 16, 32, 64, 128, 256, 512),
    "joints": (17, 25, 26, 67, 133),
    "prototypes": (1024, 4096, 16384, 65536, 131072, 262144),
}


@pytest.mark.parametrize("power", [0, 0.1, 1, 3])
def test_no_tick_is_printed_over_another_and_each_axis_has_at_least_two(power, tmp_path, figures):
    results = [
        result(
            "scaling",
            {"axis": axis, "value": n, "precision": "bf16"},
            **sides(n**power, 1.7 * n**power),
        )
        for axis, values in SCALES.items()
        for n in values
    ]
    CHARTS["scaling"].draw(results, tmp_path / "a.png")
    CHARTS["memory"].draw(everything(), tmp_path / "b.png")
    CHARTS["roofline"].draw(everything(), tmp_path / "c.png")
    for figure in figures:
        figure.draw_without_rendering()
        for axes in figure.axes:
            for number, axis in enumerate((axes.xaxis, axes.yaxis)):
                low, high = sorted(axis.get_view_interval())
                labels = [
                    t
                    for t in axis.get_ticklabels()
                    if t.get_text() and low <= t.get_position()[number] <= high
                ]
                boxes = [text.get_window_extent() for text in labels]
                shared = axes in figure.axes[1:] and axes._sharey is not None and number == 1
                assert len(boxes) >= 2 or shared
                assert not any(box.overlaps(other) for box, other in combinations(boxes, 2))


def test_a_bar_s_number_is_clear_of_its_target(tmp_path, figures):
    CHARTS["speedups"].draw(
        [result("views", {"batch": 64}, target=5.0, **sides(1, 3.9))], tmp_path / "a.png"
    )
    (axes,) = figures[0].axes
    figures[0].draw_without_rendering()
    (number,) = [text for text in axes.texts if text.get_text() == "3.90"]
    (target,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert number.get_window_extent().x0 > axes.transData.transform((target.get_xdata()[0], 0))[0]


def test_names_of_lines_are_clear_of_them(tmp_path, figures):
    CHARTS["memory"].draw(everything(), tmp_path / "a.png")
    (axes,) = figures[0].axes
    figures[0].draw_without_rendering()
    for text in axes.texts:
        box = text.get_window_extent()
        assert axes.get_window_extent().containsx(box.x0)
        for line in (line for line in axes.lines if len(line.get_xdata()) > 1):
            assert (
                not line.get_path()
                .transformed(line.get_transform())
                .intersects_bbox(box, filled=False)
            )


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_of_single_results(name, tmp_path):
    """As after a --quick run: one result of each benchmark."""
    single = list({r["benchmark"]: r for r in everything()}.values())
    single += [r for r in everything() if r["benchmark"] == "kernels" and r["flops"]][-1:]
    assert size(CHARTS[name].draw(single, tmp_path / "chart.png"))


def test_a_roofline_needs_the_ceilings_of_its_precision(tmp_path):
    results = [
        r for r in everything() if r["benchmark"] == "kernels" or r["case"] == {"precision": "fp32"}
    ]
    wide, narrow = tmp_path / "wide.png", tmp_path / "narrow.png"
    assert CHARTS["roofline"].draw(everything(), wide)
    assert CHARTS["roofline"].draw(results, narrow)
    assert size(narrow)[0] < size(wide)[0]
    kernels = [r for r in results if r["benchmark"] == "kernels"]
    assert CHARTS["roofline"].draw(kernels, tmp_path / "none.png") is None
