"""The downloader against a local server that cuts, forgets, and lies."""

import hashlib
import io
import json
import random
import resource
import subprocess
import sys
import tarfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datasets import download
from datasets.download import (
    CHECKSUMS,
    CHUNK,
    LOCK,
    MAF,
    Archive,
    Files,
    data_root,
    fetch,
    fetch_files,
    find,
    keep,
    main,
    vouched,
)
from datasets.errors import DataError

POWER = random.Random(0).randbytes(5 * CHUNK)  # does not compress: the archive comes in several chunks
TRAIN, TEST = b"train", b"test"
OFFICIAL = {
    "data/mnist/mnist.pkl.gz": b"not wanted",
    "data/power/data.npy": POWER,
    "data/hepmass/1000_train.csv": TRAIN,
    "data/hepmass/1000_test.csv": TEST,
}


def packed(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Served:
    """A server of one file: `cuts` are the bytes after which it hangs up, one per request; then it serves all."""

    def __init__(self, content, cuts=(), ranges=True):
        self.content, self.cuts, self.ranges = content, list(cuts), ranges
        self.asked = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                served.answer(self)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, request):
        asked = request.headers.get("Range")
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        total = len(self.content)
        if start >= total:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{total}")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        request.send_header("Content-Length", str(total - start))
        request.end_headers()
        end = start + self.cuts.pop(0) if self.cuts else total
        request.wfile.write(self.content[start:end])

    def archive(self, md5=None):
        url = f"http://127.0.0.1:{self.server.server_port}/data.tar.gz"
        return Archive(url, md5 or hashlib.md5(self.content).hexdigest(), MAF.members)


@pytest.fixture
def serve():
    running = []

    def start(*arguments, **settings):
        running.append(Served(*arguments, **settings))
        return running[-1]

    yield start
    for served in running:
        served.server.shutdown()
        served.server.server_close()


def files(root):
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.name != LOCK)


def test_brings_the_wanted_members_only_and_vouches_for_them(serve, tmp_path):
    served = serve(packed(OFFICIAL))
    fetch(served.archive(), tmp_path, ["power"], progress=False)
    assert files(tmp_path) == [CHECKSUMS, "data.tar.gz", "power/data.npy"]
    assert (tmp_path / "power/data.npy").read_bytes() == POWER
    assert find(tmp_path, "power", recorded=True) == (tmp_path / "power/data.npy",)


def test_the_next_set_comes_from_the_same_archive_and_the_same_set_from_nowhere(serve, tmp_path):
    served = serve(packed(OFFICIAL))
    fetch(served.archive(), tmp_path, ["power"], progress=False)
    fetch(served.archive(), tmp_path, ["hepmass"], progress=False)
    (tmp_path / "data.tar.gz").unlink()
    fetch(served.archive(), tmp_path, ["power", "hepmass"], progress=False)
    assert served.asked == [None]
    assert [path.read_bytes() for path in find(tmp_path, "hepmass", recorded=True)] == [TRAIN, TEST]
    assert len(json.loads((tmp_path / CHECKSUMS).read_text())) == 3


def test_files_come_one_by_one_and_are_vouched_for(serve, tmp_path):
    served = serve(POWER, cuts=[2 * CHUNK])
    md5 = hashlib.md5(POWER).hexdigest()
    given = Files("mnist", served.archive().url.rpartition("/")[0], {"a.gz": md5, "b.gz": md5})
    for _ in range(2):
        fetch_files(given, tmp_path, progress=False)
        assert served.asked == [None, f"bytes={2 * CHUNK}-", None], "a cut is resumed; what is there is left alone"
    assert files(tmp_path) == [CHECKSUMS, "mnist/a.gz", "mnist/b.gz"]
    found = find(tmp_path, "mnist", recorded=True, archive=given)
    assert [path.read_bytes() for path in found] == [POWER, POWER]
    found[0].write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"a\.gz has the wrong checksum: .*download mnist"):
        find(tmp_path, "mnist", archive=given)
    fetch_files(given, tmp_path, progress=False)
    assert found[0].read_bytes() == POWER
    wrong = Files("mnist", given.url, {"c.gz": "0" * 32})
    with pytest.raises(DataError, match=r"c\.gz has the wrong checksum, not md5 0+: run the command again"):
        fetch_files(wrong, tmp_path, progress=False)


def test_a_damaged_file_is_brought_again(serve, tmp_path):
    served = serve(packed(OFFICIAL))
    fetch(served.archive(), tmp_path, ["hepmass"], progress=False)
    (tmp_path / "hepmass/1000_test.csv").write_bytes(b"tesl")
    with pytest.raises(DataError, match=r"1000_test.csv has the wrong checksum: .*datasets.download hepmass"):
        find(tmp_path, "hepmass")
    fetch(served.archive(), tmp_path, ["hepmass"], progress=False)
    assert find(tmp_path, "hepmass")[1].read_bytes() == TEST


def test_resumes_by_itself_where_the_connection_was_cut(serve, tmp_path):
    cut = 2 * CHUNK
    served = serve(packed(OFFICIAL), cuts=[cut])
    fetch(served.archive(), tmp_path, ["power"], progress=False)
    assert served.asked == [None, f"bytes={cut}-"]
    assert (tmp_path / "power/data.npy").read_bytes() == POWER


def test_the_next_command_resumes_what_a_dead_server_left(serve, tmp_path):
    cut = 2 * CHUNK
    served = serve(packed(OFFICIAL), cuts=[cut, 0])
    with pytest.raises(DataError, match="check the network; the same command resumes"):
        fetch(served.archive(), tmp_path, ["power"], progress=False)
    assert files(tmp_path) == ["data.tar.gz.part"]
    fetch(served.archive(), tmp_path, ["power"], progress=False)
    assert served.asked[-1] == f"bytes={cut}-"
    assert (tmp_path / "power/data.npy").read_bytes() == POWER


@pytest.mark.parametrize("left", [lambda whole: whole, lambda whole: whole + b"more"])
def test_a_partial_file_that_is_complete_or_too_long(serve, tmp_path, left):
    served = serve(packed(OFFICIAL))
    (tmp_path / "data.tar.gz.part").write_bytes(left(served.content))
    fetch(served.archive(), tmp_path, ["power"], progress=False)
    assert (tmp_path / "power/data.npy").read_bytes() == POWER


def test_starts_over_where_the_server_knows_no_ranges(serve, tmp_path):
    served = serve(packed(OFFICIAL), cuts=[2 * CHUNK], ranges=False)
    fetch(served.archive(), tmp_path, ["power"], progress=False)
    assert (tmp_path / "power/data.npy").read_bytes() == POWER


def test_a_wrong_checksum_leaves_nothing(serve, tmp_path):
    served = serve(packed(OFFICIAL))
    with pytest.raises(DataError, match=r"has the wrong checksum, not md5 0{32}: run the command again"):
        fetch(served.archive(md5="0" * 32), tmp_path, ["power"], progress=False)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed(OFFICIAL)[: 3 * CHUNK], "truncated or damaged"),
        (packed(OFFICIAL)[:3], "truncated or damaged"),  # tarfile's TypeError
        (b"<html>no archive</html>", "truncated or damaged"),
        (packed({"data/power/other.npy": POWER}), "lacks power/data.npy"),
        (packed({"../power/data.npy": POWER}), r"is refused \(.*outside the destination"),
    ],
)
def test_an_archive_that_is_not_what_it_should_be(serve, tmp_path, content, message):
    root = tmp_path / "root"
    served = serve(content)
    with pytest.raises(DataError, match=message):
        fetch(served.archive(), root, ["power"], progress=False)
    assert files(tmp_path) == ["root/data.tar.gz"]
    assert not any(path.is_dir() for path in root.iterdir())


def test_a_link_in_the_place_of_a_file_is_refused(serve, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("data/power/data.npy")
        info.type, info.linkname = tarfile.SYMTYPE, "elsewhere"
        tar.addfile(info)
    with pytest.raises(DataError, match="not a plain file"):
        fetch(serve(buffer.getvalue()).archive(), tmp_path, ["power"], progress=False)
    assert files(tmp_path) == ["data.tar.gz"]


@pytest.fixture
def small_files():
    """Writing more than 64 KiB to one file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("power", [POWER, bytes(len(POWER))], ids=["while downloading", "while extracting"])
@pytest.mark.usefixtures("small_files")
def test_a_full_disk(serve, tmp_path, power):
    served = serve(packed({"data/power/data.npy": power}))
    with pytest.raises(DataError, match=r"File too large.*make room there, or choose another --root"):
        fetch(served.archive(), tmp_path, ["power"], progress=False)
    assert not (tmp_path / "power").exists()
    assert not list(tmp_path.glob(".extracting-*"))


@pytest.mark.parametrize(
    ("served", "message"),
    [(True, ": complete under "), (False, "error: cannot fetch http://127.0.0.1:1/x (ConnectionError): check")],
)
def test_the_command_line(serve, tmp_path, capfd, served, message):
    archive = serve(packed(OFFICIAL)).archive() if served else Archive("http://127.0.0.1:1/x", "0" * 32, MAF.members)
    code = main(["power", "hepmass", "--root", str(tmp_path)], archive)
    out, err = capfd.readouterr()
    assert code == (0 if served else 1)
    assert message in (out if served else err)
    assert served or err.count("\n") == 1


def test_a_page_that_is_not_there_is_one_line(serve, tmp_path):
    served = serve(b"")
    served.answer = lambda request: request.send_error(404)
    with pytest.raises(DataError, match=r"^404 .*put the file at .*data.tar.gz and run the command again$"):
        fetch(served.archive(), tmp_path, ["power"], progress=False)


def test_an_unknown_name_is_refused(capfd):
    with pytest.raises(SystemExit) as stopped:
        main(["powre"])
    assert stopped.value.code == 2
    assert "'power'" in capfd.readouterr().err


def test_a_damaged_list_of_checksums_is_one_line(tmp_path):
    (tmp_path / CHECKSUMS).write_text("{")
    with pytest.raises(DataError, match=r"checksums.json is damaged .* delete it"):
        find(tmp_path, "power")


def test_two_writers_lose_nothing_of_each_other(tmp_path, monkeypatch):
    """Each is held back until the other has read the list too, or long enough where that one is kept out."""
    both, read = threading.Barrier(2), download._checksums

    def slowly(root):
        found = read(root)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return found

    monkeypatch.setattr(download, "_checksums", slowly)
    writers = [threading.Thread(target=keep, args=(tmp_path, name, name.encode())) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    monkeypatch.undo()
    assert files(tmp_path) == ["a", "b", CHECKSUMS]
    assert vouched(tmp_path, "a")
    assert vouched(tmp_path, "b")


def test_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("CNF_OT_DATA", "/environment")
    assert data_root("configured") == Path("configured")
    assert data_root() == Path("/environment")
    monkeypatch.setenv("CNF_OT_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root().is_relative_to(tmp_path)
    assert data_root().name == "cnf-ot-bench"


def test_the_command_starts_without_torch():
    code = "import datasets.download, sys; print([m for m in ('torch', 'pooch', 'requests') if m in sys.modules])"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
