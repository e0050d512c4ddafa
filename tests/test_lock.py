"""The file with hashes pins what the file without them does."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pins(text: str) -> set[str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", text, re.M)
    return {f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}" for name, version in found}


def test_the_lock_is_of_the_same_pins() -> None:
    plain, locked = ((ROOT / name).read_text() for name in ("requirements.txt", "requirements.lock"))
    assert {pin for pin in pins(plain) if not pin.startswith("torch==")} == pins(locked)
    entries = re.split(r"\n(?=\S)", locked.split("\n", 1)[1].strip())
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert "://" not in locked
