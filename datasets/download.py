"""Fetch the official data:  python -m datasets.download power  (gas hepmass miniboone bsds300 mnist, or all)

One archive, that of Papamakarios et al. 2017, holds the five tabular sets. It is kept under the data root, so that the
next set needs no network; a cut connection is resumed; a set's files appear whole or not at all; their SHA-256 go to
`checksums.json` beside them, which `find` verifies at each load.
"""

import argparse
import fcntl
import gzip
import hashlib
import json
import os
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from datasets.errors import DataError

CHECKSUMS = "checksums.json"
LOCK = ".checksums.lock"  # stays, empty: who removed it would let in two
CHUNK = 1 << 16
TIMEOUT = 60.0  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """A tar.gz file to fetch; `members` are the paths wanted under the data root, by dataset.

    A member is found in the archive by the last two parts of its path, whatever folder these lie in.
    """

    url: str
    md5: str
    members: Mapping[str, tuple[str, ...]]
    name: str = "data.tar.gz"


MAF = Archive(
    url="https://zenodo.org/record/1161203/files/data.tar.gz",
    md5="9b9c9b0375315ad270eba4ce80c093ab",
    members={
        "power": ("power/data.npy",),
        "gas": ("gas/ethylene_CO.pickle",),
        "hepmass": ("hepmass/1000_train.csv", "hepmass/1000_test.csv"),
        "miniboone": ("miniboone/data.npy",),
        "bsds300": ("BSDS300/BSDS300.hdf5",),
    },
)


@dataclass(frozen=True)
class Files:
    """Files of the dataset `name` to fetch one by one from the folder `url`: the name of each, and its md5."""

    name: str
    url: str
    md5: Mapping[str, str]

    @property
    def members(self) -> Mapping[str, tuple[str, ...]]:
        """Their paths under the data root, as Archive has them."""
        return {self.name: tuple(f"{self.name}/{file}" for file in self.md5)}


MNIST = Files(
    name="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist",
    md5={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    },
)


def data_root(configured: str | None = None) -> Path:
    """The folder of all data: `configured`, else $CNF_OT_DATA, else a folder of the user's cache."""
    chosen = configured or os.environ.get("CNF_OT_DATA")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("cnf-ot-bench"))


def remedy(dataset: str) -> str:
    """What to do about a file of `dataset` that is missing or damaged."""
    return f"fetch it with `python -m datasets.download {dataset}`; CNF_OT_DATA or data.root= names the data root"


def find(root: Path, dataset: str, recorded: bool = False, archive: Archive | Files = MAF) -> tuple[Path, ...]:
    """The official files of `dataset` under `root`.

    Raises DataError for a missing file, one that differs from its record in checksums.json, and, where `recorded`
    asks for that, one without a record, which no verified archive vouches for.
    """
    checksums = _checksums(root)
    paths = tuple(root / member for member in archive.members[dataset])
    for path, member in zip(paths, archive.members[dataset], strict=True):
        if not path.is_file():
            raise DataError(f"{path} is missing: {remedy(dataset)}")
        if recorded and member not in checksums:
            raise DataError(f"{path} did not come with a verified archive: {remedy(dataset)}")
        if member in checksums and _sha256(path) != checksums[member]:
            raise DataError(f"{path} has the wrong checksum: {remedy(dataset)}")
    return paths


def fetch(archive: Archive, root: Path, names: Sequence[str], progress: bool = True) -> None:
    """Bring the files of the datasets `names` under `root`, unless they are there already.

    Raises DataError, with the remedy, for whatever goes wrong; a file is then there whole or not at all.
    """
    wanted = [name for name in names if not _intact(archive, root, name)]
    if not wanted:
        return
    place = root / archive.name
    with _explained(archive.url, place):
        _download(archive.url, archive.md5, place, progress)
        _extract(place, [member for name in wanted for member in archive.members[name]], root)


def fetch_files(files: Files, root: Path, progress: bool = True) -> None:
    """Bring the files under `root`, unless they are there already. Raises DataError, as `fetch` does."""
    if _intact(files, root, files.name):
        return
    for member, (name, md5) in zip(files.members[files.name], files.md5.items(), strict=True):
        with _explained(f"{files.url}/{name}", root / member):
            _download(f"{files.url}/{name}", md5, root / member, progress)
            with _alone(root):
                _vouch(root, {member: _sha256(root / member)})


def keep(root: Path, member: str, content: bytes) -> None:
    """Write `content` to root/member, whole or not at all, vouched for in checksums.json. Raises DataError."""
    path = root / member
    try:
        with _alone(root):
            _vouch(root, {member: hashlib.sha256(content).hexdigest()})
            _replace(path, content)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror}): make room, or choose another data root") from error


def vouched(root: Path, member: str) -> bool:
    """Whether the file root/member is the one that checksums.json knows."""
    return _checksums(root).get(member) == _sha256(root / member)


def _intact(archive: Archive | Files, root: Path, name: str) -> bool:
    try:
        find(root, name, recorded=True, archive=archive)
    except DataError:
        return False
    return True


@contextmanager
def _explained(url: str, place: Path) -> Iterator[None]:
    from requests import HTTPError, RequestException

    try:
        yield
    except HTTPError as error:
        raise DataError(f"{error}; put the file at {place} and run the command again") from error
    except RequestException as error:
        kind = type(error).__name__
        raise DataError(f"cannot fetch {url} ({kind}): check the network; the same command resumes") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"cannot write under {place.parent} ({reason}): make room there, or choose another --root"
        ) from error


def _download(url: str, md5: str, place: Path, progress: bool) -> None:
    """Bring the file to `place`, unless it is there already."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the progress bar says the same
    fetcher = Resuming(place.with_name(f"{place.name}.part"), progress)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        pooch.retrieve(url, f"md5:{md5}", place.name, place.parent, downloader=fetcher)
    except ValueError as error:
        if type(error) is not ValueError:  # those of requests are ValueErrors too
            raise
        raise DataError(f"{url} has the wrong checksum, not md5 {md5}: run the command again") from error


@dataclass(frozen=True)
class Resuming:
    """A downloader for pooch: what came stays in `part`, and the rest is asked for by HTTP Range.

    It asks again as long as each attempt brings something. Raises requests' exceptions, and OSError.
    """

    part: Path
    progress: bool = True

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:
        from requests import ConnectionError, Timeout
        from requests.exceptions import ChunkedEncodingError

        while True:
            before = self._size()
            try:
                self._continue(url)
                break
            except (ConnectionError, ChunkedEncodingError, Timeout):
                if self._size() <= before:
                    raise
        os.replace(self.part, output_file)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _continue(self, url: str) -> None:
        import requests

        done = self._size()
        # identity: bytes are counted as they are stored
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            span = response.headers.get("Content-Range", "")
            if response.status_code == 416 and span == f"bytes */{done}":
                return  # all of it came before
            if response.status_code == 416:  # more than all of it: not our file
                self.part.unlink()
                return self._continue(url)
            response.raise_for_status()
            resumed = response.status_code == 206 and span.startswith(f"bytes {done}-")
            self._save(response, done if resumed else 0)

    def _save(self, response: Any, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        left = response.headers.get("Content-Length", "")
        total = done + int(left) if left.isdigit() else None
        with (
            open(self.part, "ab" if done else "wb") as file,
            Progress(*columns, console=Console(stderr=True), disable=not self.progress) as bar,
        ):
            task = bar.add_task(self.part.stem, total=total, completed=done)
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.advance(task, len(chunk))


def _extract(path: Path, members: Sequence[str], root: Path) -> None:
    """Extract `members` to a folder beside, then move each to its place in one step."""
    with tempfile.TemporaryDirectory(prefix=".extracting-", dir=root) as folder:
        try:
            found = dict(_extracted(path, members, Path(folder)))
        except tarfile.FilterError as error:
            raise DataError(f"{path} is refused ({error}): delete it") from error
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, TypeError) as error:  # a header that is cut
            raise DataError(f"{path} is truncated or damaged ({error}): delete it, run the command again") from error
        if missing := set(members) - set(found):
            raise DataError(f"{path} lacks {', '.join(sorted(missing))}: delete it, run the command again")
        sums = {member: _sha256(file) for member, file in found.items()}
        with _alone(root):
            for member, file in found.items():
                (root / member).parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, root / member)
            _vouch(root, sums)


def _extracted(path: Path, members: Sequence[str], folder: Path) -> Iterator[tuple[str, Path]]:
    left = {PurePosixPath(member).parts: member for member in members}
    with tarfile.open(path, "r|gz") as tar:
        for info in tar:
            member = left.pop(PurePosixPath(info.name).parts[-2:], None)
            if member is None:
                continue
            if not info.isreg():
                raise DataError(f"{path} is refused ({info.name} is not a plain file): delete it")
            safe = tarfile.data_filter(info, str(folder))
            tar.extract(safe, folder, filter="data")
            yield member, folder / safe.name
            if not left:
                return


def _checksums(root: Path) -> dict[str, str]:
    path = root / CHECKSUMS
    if not path.exists():
        return {}
    try:
        sums = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): delete it, and fetch the data again") from error
    return dict(sums)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Within, nobody else writes checksums.json, or what it vouches for; without effect where there are no locks.

    `fetch_files` downloads to its files' places outside: their MD5 being known, all who do bring the same.
    """
    root.mkdir(parents=True, exist_ok=True)
    with open(root / LOCK, "ab") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _vouch(root: Path, sums: Mapping[str, str]) -> None:
    """Add the SHA-256 of each member to checksums.json. To be called `_alone`: it is read and written anew."""
    text = json.dumps(_checksums(root) | dict(sums), indent=1, sort_keys=True) + "\n"
    _replace(root / CHECKSUMS, text.encode())


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step, over an older one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as folder:
        whole = Path(folder) / path.name
        whole.write_bytes(content)
        os.replace(whole, path)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: Sequence[str] | None = None, archive: Archive = MAF, files: Files = MNIST) -> int:
    """The command line. Returns the exit code: 0, 1 after one line on what failed, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m datasets.download", description="Fetch official data.")
    choices = [*archive.members, *files.members, "all"]
    parser.add_argument("dataset", nargs="+", choices=choices, metavar="DATASET", help=", ".join(choices))
    parser.add_argument("--root", help="the data root; else $CNF_OT_DATA, else a folder of the user's cache")
    options = parser.parse_args(arguments)
    names = choices[:-1] if "all" in options.dataset else options.dataset
    root = data_root(options.root)
    try:
        fetch(archive, root, [name for name in names if name in archive.members])
        if files.name in names:
            fetch_files(files, root)
    except DataError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: the same command resumes\n")
        return 130
    sys.stdout.write(f"{', '.join(names)}: complete under {root}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
