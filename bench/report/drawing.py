"""Draw the figures of the report and write their files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from bench.report import (
    beside,
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


OF_RECORDS = (quality.figures, work_precision.figures, ranks.all_of)
OF_PICTURES = (gallery.all_of, marginals.all_of, transport_figures.all_of, images.all_of)
KINDS = len(OF_RECORDS) + len(OF_PICTURES)


def begin(groups: Sequence[Group], options: Options, two: bool) -> Callable[[], list[Written]]:
    """Begin to draw, with a process beside this one where `two`: what is returned waits for the figures.

    They are those of each group of records, and last those of the experiments on kernels.
    """
    jobs: list[Callable[[], Written]] = [job for group in groups for job in _of_group(group, options)]
    jobs.append(partial(of_kernels, options))
    drawn = beside.share(jobs, beside=two)

    def wait() -> list[Written]:
        *made, kernels = drawn()
        written.order(options.out / "figures")
        return [*(_together(made[i : i + KINDS]) for i in range(0, len(made), KINDS)), kernels]

    return wait


def of_group(group: Group, options: Options) -> Written:
    """Draw and write the figures of one group of records."""
    return _together([job() for job in _of_group(group, options)])


def _of_group(group: Group, options: Options) -> Iterator[Callable[[], Written]]:
    """One job for each of KINDS."""
    pictures, unread = shown.pictures_of(group.frame, options.reference)
    for make in OF_RECORDS:
        yield partial(_write, partial(make, group, options.reference), options, (), group.caveats)
    for draw in OF_PICTURES:
        yield partial(_write, partial(draw, group, pictures, options.reference), options, unread, group.caveats)


def _together(parts: Sequence[Written]) -> Written:
    named, pictures = ([one for part in parts for one in getattr(part, name)] for name in ("named", "pictures"))
    return Written(named, pictures, [*dict.fromkeys(line for part in parts for line in part.unread)])


def of_kernels(options: Options) -> Written:
    """Draw and write the figures of the experiments on kernels, where any were made."""
    return _write(partial(kernels.all_of, options.records), options)


def _write(
    draw: Callable[[], Iterable[Drawn]], options: Options, unread: Sequence[str] = (), caveats: Sequence[str] = ()
) -> Written:
    """Each figure in its formats, for a venue in its size; each caption with the `caveats`."""
    figures.use_theme(options.venue)
    folder, suffixes = options.out / "figures", formats(options.venue)
    folder.mkdir(parents=True, exist_ok=True)
    named, pictures = [], []
    for one in draw():
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
