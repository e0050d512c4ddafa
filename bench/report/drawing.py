"""Draw the figures of the report and write their files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.report import (
    figures,
    gallery,
    images,
    kernels,
    marginals,
    quality,
    ranks,
    shown,
    transport_figures,
    work_precision,
    written,
)
from bench.report.figures import Drawn
from bench.report.lint import Group
from bench.report.options import Options
from bench.report.page import Picture
from bench.report.render import file_name
from bench.report.venues import FORMATS, formats


@dataclass(frozen=True)
class Written:
    """The figures of one part of the report: each one's file name (without its suffix) and caption, the pictures that
    the page shows, and a line for each picture of a run that could not be read.
    """

    named: Sequence[tuple[str, str]]
    pictures: Sequence[Picture]
    unread: Sequence[str] = ()


def all_of(groups: Sequence[Group], options: Options) -> list[Written]:
    """The figures of each group of records, and last those of the experiments on kernels."""
    figures.use_theme(options.venue)
    return [*(of_group(group, options) for group in groups), of_kernels(options)]


def of_group(group: Group, options: Options) -> Written:
    """Draw and write the figures of one group of records."""
    pictures, unread = shown.pictures_of(group.frame, options.reference)
    drawn = [*quality.figures(group, options.reference), *gallery.all_of(group, pictures, options.reference)]
    drawn += marginals.all_of(group, pictures, options.reference)
    drawn += work_precision.figures(group, options.reference)
    drawn += ranks.all_of(group, options.reference)
    drawn += transport_figures.all_of(group, pictures, options.reference)
    drawn += images.all_of(group, pictures, options.reference)
    return _write(drawn, options, unread, group.caveats)


def of_kernels(options: Options) -> Written:
    """Draw and write the figures of the experiments on kernels, where any were made."""
    return _write(kernels.all_of(options.records), options)


def _write(
    drawn: Iterable[Drawn], options: Options, unread: Sequence[str] = (), caveats: Sequence[str] = ()
) -> Written:
    """Each figure in its formats, for a venue in its size; each caption with the `caveats`."""
    folder, suffixes = options.out / "figures", formats(options.venue)
    folder.mkdir(parents=True, exist_ok=True)
    named, pictures = [], []
    for one in drawn:
        path, caption = folder / file_name(one.name), " ".join([one.caption, *caveats])
        named.append((path.name, caption))
        if options.venue:
            one.figure.set_size_inches(options.venue.fitted(*one.figure.get_size_inches()))
        engine = figures.settle(one.figure)
        for suffix, how in suffixes.items():
            if suffix == ".pgf":
                one.figure.set_layout_engine(engine)  # LaTeX sets texts in other widths
                figures.for_latex(one.figure)
            one.figure.savefig(path.with_suffix(suffix), **how)
            rasters = folder.glob(f"{path.name}-img[0-9]*.png") if suffix == ".pgf" else ()  # which it includes
            written.note(path.with_suffix(suffix), *sorted(rasters))
        figures.close(one.figure)
        if not one.explored:
            pictures.append(Picture.read(path.with_suffix(".png"), caption, FORMATS[".png"]["dpi"]))
    return Written(named, pictures, unread)
