"""Logarithmic axes whose labels can be read, and the size of the smallest print."""

from matplotlib import rcParams
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator


def logarithmic(*axes: Axis) -> None:
    """Powers of ten; with 2 and 5 between them, or round numbers, where an axis spans little. No label over another."""
    for axis in axes:
        low, high = sorted(axis.get_view_interval())
        if high > 30 * low:
            axis.set_major_locator(LogLocator(numticks=8))
        else:
            narrow = high < 5 * low
            axis.set_major_locator(MaxNLocator(3) if narrow else LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
            axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def small() -> float | str:
    """The size of small print: that of the labels of ticks, which a venue sets."""
    size: float | str = rcParams["xtick.labelsize"]
    return size
