"""The speed-ups of a machine, run by run: a line of JSON each, and a plot. Advice, no verdict."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import env


def machine() -> str:
    """This machine by processor and number of cores, as a file name: `amd-epyc-2`."""
    name = f"{env.cpu_model()} {env.threads_allowed()}".lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def append(folder: Path, speed_ups: Sequence[Mapping[str, Any]]) -> Path:
    """Add a run to this machine's file in `folder` and draw its plot anew; the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine()}.jsonl"
    run = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": env.commit()["commit"]}
    run["speed_ups"] = {one["name"]: list(one["head"]) for one in speed_ups}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(run) + "\n")
    draw(read(path), path.with_suffix(".png"))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The runs in `path`, oldest first; a torn line is passed over."""
    runs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            runs.append(json.loads(line))
        except ValueError:
            continue
    return [run for run in runs if isinstance(run, dict) and isinstance(run.get("speed_ups"), dict)]


def draw(runs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A panel per headline: the speed-up with its interval against the run."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = sorted({name for run in runs for name in run["speed_ups"]})
    if not names:
        return
    figure, axes = plt.subplots(
        len(names), 1, figsize=(5.5, 1.1 * len(names)), sharex=True, squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[:, 0], names, strict=True):
        points = [(i, *run["speed_ups"][name]) for i, run in enumerate(runs) if name in run["speed_ups"]]
        at, value, low, high = zip(*points, strict=True)
        axis.fill_between(at, low, high, color="#0072B2", alpha=0.2, linewidth=0)
        axis.plot(at, value, color="#0072B2", marker="o", markersize=3, linewidth=1)
        axis.set_ylim(bottom=0)
        axis.set_title(name, fontsize=8, loc="left")
        axis.tick_params(labelsize=7)
    axes[-1, 0].set_xlabel("run", fontsize=8)
    figure.supylabel("FFJORD / OT-Flow", fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
