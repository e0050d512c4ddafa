"""What a reader asks of the labels of axes."""

from matplotlib.figure import Figure


def assert_legible(figure: Figure) -> None:
    """Each axis of the figure, once drawn, has two labels at least, and none lies over another."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in axis.get_major_ticks() + axis.get_minor_ticks() if low <= t.get_loc() <= high]
            boxes = [t.label1.get_window_extent() for t in ticks if t.label1.get_text()]
            assert len(boxes) >= 2
            assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
