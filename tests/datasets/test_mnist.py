"""MNIST from made files of its format: the parser, the split, the autoencoder and what is kept of it."""

import gzip
import hashlib
import json
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from datasets import mnist
from datasets.autoencoder import EPS, train
from datasets.base import Samples
from datasets.download import CHECKSUMS, MNIST
from datasets.errors import DataError
from datasets.files import read_idx
from datasets.mnist import MNISTLatent

SIDE = 4
SMALL = MNISTLatent(rows=(60, 20, 30), side=SIDE, dim=3, epochs=3)
TRAIN, TEST = MNIST.members["mnist"]


def idx(images, magic=0x00000803, shape=None):
    return struct.pack(">4i", magic, *(shape or images.shape)) + images.tobytes()


def images(n, seed=0):
    """Grey levels that three numbers determine."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(9).random((3, SIDE * SIDE))
    return (255 * rng.dirichlet([1.0] * 3, n) @ basis).astype(np.uint8).reshape(n, SIDE, SIDE)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mnist").mkdir()
    for name, n, seed in ((TRAIN, 80, 1), (TEST, 30, 2)):
        (tmp_path / name).write_bytes(gzip.compress(idx(images(n, seed))))
    return tmp_path


def test_an_idx_file_is_read_row_by_row(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(pixels)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz", (2, 3, 4)), pixels)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (idx(images(2), magic=0x00000801), "not an IDX file of images"),
        (b"\0\0\x08\x03", "not an IDX file of images"),
        (idx(images(80))[:-1], "1279 pixels where 80 images of 4 x 4 belong"),
        (idx(images(80)) + b"\0", "more than 1280 pixels where 80 images of 4 x 4 belong"),
        (idx(images(80), shape=(-80, -4, 4)), "-80 images of -4 x 4 where 80 images of 4 x 4 belong"),
        (idx(images(80), shape=(160, 4, 2)), "160 images of 4 x 2 where 80 images of 4 x 4 belong"),
        (idx(images(81)), "81 images of 4 x 4 where 80 images of 4 x 4 belong"),
    ],
)
def test_files_that_are_not_mnist(root, content, said):
    (root / TRAIN).write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=said) as caught:
        SMALL.load(root)
    assert "python -m datasets.download mnist" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(80, SIDE, SIDE), (2**20, SIDE, SIDE)])
def test_no_more_is_inflated_than_belongs(root, shape):
    """A file of few bytes may hold any number of zeros, whatever it says that it holds."""
    (root / TRAIN).write_bytes(gzip.compress(idx(np.zeros(2**24, np.uint8), shape=shape)))
    tracemalloc.start()
    with pytest.raises(DataError, match="where 80 images"):
        SMALL.load(root)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("content", [b"", b"nothing", gzip.compress(idx(images(80)))[:-20]])
def test_files_that_are_damaged(root, content):
    (root / TEST).write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-images.* is truncated or not what it should be|not an IDX"):
        SMALL.load(root)


def test_what_is_missing_is_said_in_a_line(tmp_path):
    with pytest.raises(DataError, match=r"^[^\n]*train-images-idx3-ubyte.gz is missing: .*download mnist"):
        SMALL.load(tmp_path)


def test_codes_are_standardised_and_split_in_order(root):
    problem = SMALL.load(root)
    assert isinstance(problem.source, Samples)
    parts = problem.source.train, problem.source.valid, problem.test
    assert [tuple(part.shape) for part in parts] == [(60, 3), (20, 3), (30, 3)]
    assert problem.target.dim == 3
    assert parts[0].dtype == torch.get_default_dtype()
    assert parts[0].mean(0) == pytest.approx(np.zeros(3), abs=1e-5)
    assert parts[0].std(0, correction=0) == pytest.approx(np.ones(3), rel=1e-4)
    pixels = read_idx(root / TRAIN, (80, SIDE, SIDE)).reshape(80, -1) / np.float32(255)
    codec = train(pixels[:60], 3, 3, 0)
    assert np.array_equal(parts[1].numpy(), codec.encode(pixels[60:]))


def test_codes_are_decoded_to_images(root):
    problem = SMALL.load(root)
    assert problem.decode is not None
    found = problem.decode(problem.test[:7])
    assert found.shape == (7, SIDE, SIDE)
    assert 0 <= found.min() <= found.max() <= 1


def test_training_brings_images_back():
    pixels = images(400).reshape(400, -1) / np.float32(255)
    errors = []
    for epochs in (1, 1000):
        codec = train(pixels, 3, epochs, 0)
        errors.append(np.square(codec.decode(torch.tensor(codec.encode(pixels))).numpy() - pixels).mean())
    assert errors[1] < 0.15 * pixels.var(0).mean() < errors[0]


def test_the_code_is_the_affine_function_that_the_decoder_undoes():
    codec = train(images(50).reshape(50, -1) / np.float32(255), 3, 2, 0)
    x = np.random.default_rng(3).random((5, SIDE * SIDE), dtype=np.float32)
    y = x @ codec.encoder.weight.detach().numpy().T + codec.encoder.bias.detach().numpy()
    z = (y - codec.mean.numpy()) / codec.scale.numpy()
    assert codec.encode(x) == pytest.approx(z, rel=1e-4, abs=1e-5)
    logits = y @ codec.decoder.weight.detach().numpy().T + codec.decoder.bias.detach().numpy()
    assert codec.decode(torch.tensor(z)).numpy() == pytest.approx(1 / (1 + np.exp(-logits)), rel=1e-4)
    flat = train(np.zeros((50, 16), np.float32), 3, 1, 0)
    assert flat.scale.numpy() == pytest.approx(np.full(3, EPS)), "a code that does not vary"


def test_training_is_the_same_each_time_and_leaves_the_global_generator_alone():
    pixels = images(300).reshape(300, -1) / np.float32(255)
    before = torch.random.get_rng_state()
    one = train(pixels, 3, 2, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    two, other = train(pixels, 3, 2, 0), train(pixels, 3, 2, 1)
    assert all(np.array_equal(a, b) for a, b in zip(one.arrays().values(), two.arrays().values(), strict=True))
    assert not np.array_equal(one.arrays()["encoder.weight"], other.arrays()["encoder.weight"])


def test_the_autoencoder_is_trained_once_and_vouched_for(root, monkeypatch):
    first = SMALL.load(root)
    (kept,) = root.glob("mnist/*.npz")
    sums = json.loads((root / CHECKSUMS).read_text())
    assert sums == {f"mnist/{kept.name}": hashlib.sha256(kept.read_bytes()).hexdigest()}
    monkeypatch.setattr(mnist, "train", None)
    again = SMALL.load(root)
    assert torch.equal(again.test, first.test)
    assert torch.equal(again.decode(again.test), first.decode(first.test))
    kept.write_bytes(kept.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"autoencoder.* is not the file of checksums.json: delete it"):
        SMALL.load(root)


def test_other_settings_have_an_autoencoder_of_their_own(root):
    for settings in ({}, {"dim": 2}, {"epochs": 1}, {"seed": 1}, {"rows": (50, 30, 30)}):
        MNISTLatent(**{"rows": SMALL.rows, "side": SIDE, "dim": 3, "epochs": 3, **settings}).load(root)
    assert len(list(root.glob("mnist/*.npz"))) == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(root):
    (root / "mnist").chmod(0o500)
    with pytest.raises(DataError, match="cannot write"):
        SMALL.load(root)


def test_a_disk_that_is_full(root, monkeypatch):
    monkeypatch.setattr("datasets.download.os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(DataError, match=r"^cannot write .*autoencoder.* \(No space left\): make room"):
        SMALL.load(root)


def test_the_configuration_is_the_papers_dimension():
    conf = Path(__file__).parents[2] / "bench/conf/dataset/mnist_latent.yaml"
    assert OmegaConf.load(conf) == {"_target_": "datasets.mnist.MNISTLatent"}
    assert (MNISTLatent().dim, MNISTLatent().rows) == (128, (50_000, 10_000, 10_000))
