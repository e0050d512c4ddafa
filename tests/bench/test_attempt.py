import os
from pathlib import Path

import pytest

from bench import attempt


def test_an_attempt_goes_on_from_the_latest_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    plain = attempt.path(tmp_path, "ab")
    assert plain == tmp_path / "checkpoints" / "ab.pt"
    attempt.adopt(plain)
    assert not plain.exists(), "there is nothing to go on from"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    paths = [plain, attempt.path(tmp_path, "ab")]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    paths.append(attempt.path(tmp_path, "ab"))
    assert [path.name for path in paths] == ["ab.pt", "ab.7-0.pt", "ab.7-1.pt"]
    plain.parent.mkdir()
    other = plain.with_name("abc.pt")
    for age, path in ((3, plain), (9, paths[1]), (0, other)):
        path.write_text(path.name)
        os.utime(path, (1e9 - age, 1e9 - age))
    attempt.adopt(paths[2])
    assert paths[2].read_text() == "ab.pt", "the newest of the same key"
    paths[2].write_text("own")
    attempt.adopt(paths[2])
    assert paths[2].read_text() == "own"
    os.utime(paths[1], (9e9, 9e9))
    attempt.adopt(paths[2])
    assert paths[2].read_text() == "ab.7-0.pt", "another attempt went further since"
    attempt.discard(plain)
    assert list(plain.parent.iterdir()) == [other]
