"""The official formats in small files, and the real partial data where they are."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from datasets import preprocess
from datasets.base import DataError, Samples
from datasets.download import CHECKSUMS, MAF
from datasets.partial import BSDS300Redrawn, GasSample, HepmassSample, MinibooneSmall, Power2007H1
from datasets.tabular import BSDS300, Gas, Hepmass, Miniboone, Power

REPOSITORY = Path(__file__).parents[2]
NAMES = ["power", "gas", "hepmass", "miniboone", "bsds300", "digits", "breast_cancer"]
NAMES += ["power_2007h1", "miniboone_small", "bsds300_redrawn", "gas_sample", "hepmass_sample"]


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape)


def write_power(root):
    (root / "power").mkdir()
    np.save(root / "power/data.npy", numbers(200, 8))


def write_miniboone(root):
    (root / "miniboone").mkdir()
    np.save(root / "miniboone/data.npy", numbers(200, 43))


def write_bsds300(root):
    (root / "BSDS300").mkdir()
    with h5py.File(root / "BSDS300/BSDS300.hdf5", "w") as file:
        for i, (name, n) in enumerate([("train", 30), ("validation", 20), ("test", 10)]):
            file[name] = numbers(n, 63) + i


def write_gas(root):
    (root / "gas").mkdir()
    rows = numbers(200, 19)
    rows[:, 3:11] = rows[:, 11:] + 0.01 * rows[:, 3:11]  # eight sensors follow the other eight: the first go
    columns = ["Time", "Meth", "Eth", *(f"R{i}" for i in range(16))]
    (root / "gas/ethylene_CO.pickle").write_bytes(pickle.dumps(pd.DataFrame(rows, columns=columns), protocol=2))
    record(root, "gas")


def write_hepmass(root):
    (root / "hepmass").mkdir()
    for name, n, extra in (("train", 200, 0), ("test", 60, 1)):
        rows = np.column_stack((np.arange(n) % 2, numbers(n, 27 + extra)))
        rows[:12, 1:7] = -9.0  # six columns whose smallest value repeats
        header = ["# label", *(f"f{i}" for i in range(27)), *["mass"] * extra]
        pd.DataFrame(rows, columns=header).to_csv(root / f"hepmass/1000_{name}.csv", index=False)


def record(root, name):
    """Vouch for the files of `name` as the downloader does."""
    sums = {member: hashlib.sha256((root / member).read_bytes()).hexdigest() for member in MAF.members[name]}
    (root / CHECKSUMS).write_text(json.dumps(sums))


OFFICIAL = {
    "power": (write_power, Power(rows=(162, 18, 20))),
    "gas": (write_gas, Gas(rows=(162, 18, 20))),
    "hepmass": (write_hepmass, Hepmass(rows=(90, 10, 30))),
    "miniboone": (write_miniboone, Miniboone(rows=(162, 18, 20))),
    "bsds300": (write_bsds300, BSDS300(rows=(30, 20, 10))),
}
official = pytest.mark.parametrize(("name", "write", "dataset"), [(n, w, d) for n, (w, d) in OFFICIAL.items()])


def rows_of(problem):
    return len(problem.source.train), len(problem.source.valid), len(problem.test)


@official
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_official_format_gives_a_problem_of_density_estimation(tmp_path, name, write, dataset, dtype):
    torch.set_default_dtype(dtype)
    write(tmp_path)
    problem = dataset.load(tmp_path)
    assert isinstance(problem.source, Samples)
    assert rows_of(problem) == dataset.rows
    assert problem.test.shape[1] == problem.source.dim == problem.target.dim == dataset.dim
    assert {part.dtype for part in (problem.source.train, problem.source.valid, problem.test)} == {dtype}
    origin = problem.target.log_prob(torch.zeros(1, dataset.dim))
    assert origin.item() == pytest.approx(-dataset.dim / 2 * np.log(2 * np.pi), rel=1e-5)
    assert problem.truth.nll is problem.truth.map is problem.truth.cost is None


def test_the_parts_of_bsds300_are_not_confused(tmp_path):
    write_bsds300(tmp_path)
    problem = BSDS300(rows=(30, 20, 10)).load(tmp_path)
    for i, part in enumerate((problem.source.train, problem.source.valid, problem.test)):
        np.testing.assert_array_equal(part.numpy(), numbers(len(part), 63) + i)


def test_gas_keeps_the_sensors_and_not_time_or_concentrations(tmp_path):
    write_gas(tmp_path)
    problem = Gas(rows=(162, 18, 20)).load(tmp_path)
    rows = torch.cat((problem.source.train, problem.source.valid, problem.test)).numpy()
    for found, sensor in zip(rows.T, numbers(200, 19)[:, 11:].T, strict=True):
        assert np.corrcoef(found, sensor)[0, 1] > 1 - 1e-9


@official
def test_a_missing_file_names_the_command_and_the_variable(tmp_path, name, write, dataset):
    with pytest.raises(DataError, match=rf"is missing: .*python -m datasets\.download {name}`.*CNF_OT_DATA") as error:
        dataset.load(tmp_path)
    assert "\n" not in str(error.value)


@official
def test_a_truncated_file_is_one_line(tmp_path, name, write, dataset):
    write(tmp_path)
    for member in MAF.members[name]:
        content = (tmp_path / member).read_bytes()
        (tmp_path / member).write_bytes(content[: len(content) * 2 // 3])
    record(tmp_path, name)
    with pytest.raises(DataError, match=str(tmp_path)) as error:
        dataset.load(tmp_path)
    assert "\n" not in str(error.value)


@official
def test_a_file_that_is_no_such_file_is_one_line(tmp_path, name, write, dataset):
    write(tmp_path)
    for content in (b"", b"\x00" * 1000, b"no\nnumbers\n"):
        for member in MAF.members[name]:
            (tmp_path / member).write_bytes(content)
        record(tmp_path, name)
        with pytest.raises(DataError, match=str(tmp_path)) as error:
            dataset.load(tmp_path)
        assert "\n" not in str(error.value)


@official
def test_the_wrong_checksum_is_refused(tmp_path, name, write, dataset):
    write(tmp_path)
    record(tmp_path, name)
    dataset.load(tmp_path)
    path = tmp_path / MAF.members[name][-1]
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"wrong checksum: .*datasets.download {name}"):
        dataset.load(tmp_path)


@official
def test_other_numbers_of_rows_than_the_official_ones_are_refused(tmp_path, name, write, dataset):
    write(tmp_path)
    with pytest.raises(DataError, match=rf"gives rows of shapes .* where \({type(dataset).rows[0]}, .*download {name}"):
        type(dataset)().load(tmp_path)


@pytest.mark.parametrize("shape", [(200, 7), (200,), (0, 8), (5, 5, 8)])
def test_another_shape_is_refused(tmp_path, shape):
    write_power(tmp_path)
    np.save(tmp_path / "power/data.npy", numbers(*shape))
    with pytest.raises(DataError, match=r"data.npy .*download power"):
        Power(rows=(162, 18, 20)).load(tmp_path)


@pytest.mark.parametrize(("row", "part"), [(0, "train"), (170, "valid"), (199, "test")])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_refused(tmp_path, row, part, bad):
    write_bsds300(tmp_path)
    rows = numbers(200, 63)
    rows[row, 7] = bad
    with h5py.File(tmp_path / "BSDS300/BSDS300.hdf5", "w") as file:
        for name, rows_of_part in zip(("train", "validation", "test"), np.split(rows, [162, 180]), strict=True):
            file[name] = rows_of_part
    with pytest.raises(DataError, match=f"the {part} rows hold NaN or infinity: .*download bsds300"):
        BSDS300(rows=(162, 18, 20)).load(tmp_path)


@pytest.mark.parametrize(("name", "columns"), [("power", 8), ("miniboone", 43)])
def test_nan_before_the_preprocessing_is_refused(tmp_path, name, columns):
    write, dataset = OFFICIAL[name]
    write(tmp_path)
    rows = numbers(200, columns)
    rows[3, 0] = np.nan
    np.save(tmp_path / f"{name}/data.npy", rows)
    with pytest.raises(DataError, match="rows hold NaN or infinity"):
        dataset.load(tmp_path)


def test_an_array_that_would_be_unpickled_is_refused(tmp_path):
    write_power(tmp_path)
    np.save(tmp_path / "power/data.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="allow_pickle=False"):
        Power().load(tmp_path)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch MARK",)


@pytest.mark.parametrize("vouched", [False, True])
def test_a_malicious_pickle_is_refused(tmp_path, monkeypatch, vouched):
    monkeypatch.chdir(tmp_path)
    write_gas(tmp_path)
    (tmp_path / "gas/ethylene_CO.pickle").write_bytes(pickle.dumps(Malicious()))
    (tmp_path / CHECKSUMS).unlink()
    if vouched:
        record(tmp_path, "gas")
    with pytest.raises(DataError, match="is refused: it asks for" if vouched else "with a verified archive"):
        Gas().load(tmp_path)
    assert not (tmp_path / "MARK").exists()


def test_a_good_pickle_from_nowhere_is_not_read(tmp_path):
    write_gas(tmp_path)
    (tmp_path / CHECKSUMS).unlink()
    with pytest.raises(DataError, match=r"did not come with a verified archive: .*download gas"):
        Gas(rows=(162, 18, 20)).load(tmp_path)


@pytest.mark.parametrize("dataset", [Power2007H1, MinibooneSmall, BSDS300Redrawn, GasSample, HepmassSample])
def test_a_missing_partial_set_says_what_else_there_is(tmp_path, dataset):
    with pytest.raises(DataError, match=r"is missing: .*CNF_OT_DATA.*python -m datasets\.download") as error:
        dataset().load(tmp_path)
    assert "\n" not in str(error.value)


def write_images(root, rng):
    for folder, n in (("train", 5), ("test", 2)):
        (root / "bsds300/images" / folder).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 256, size=(20, 24), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"bsds300/images/{folder}/{i}.jpg")


def test_bsds300_redrawn_from_few_images(tmp_path):
    write_images(tmp_path, np.random.default_rng(0))
    few = BSDS300Redrawn(patches=(300, 40, 20), images=(4, 1, 2))
    problem = few.load(tmp_path)
    assert rows_of(problem) == (300, 40, 20)
    assert torch.equal(problem.test, few.load(tmp_path).test)
    other = BSDS300Redrawn(patches=(300, 40, 20), images=(4, 1, 2), seed=1).load(tmp_path)
    assert not torch.equal(problem.test, other.test)
    with pytest.raises(DataError, match=r"5 training and 2 test images where \(180, 20, 100\) belong"):
        BSDS300Redrawn().load(tmp_path)
    path = tmp_path / "bsds300/images/test/0.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="truncated"):
        few.load(tmp_path)


@pytest.fixture
def real():
    root = Path(os.environ.get("CNF_OT_DATA") or REPOSITORY / "../shared/data")
    if not (root / "miniboone/miniboone_partial.npz").is_file():
        pytest.skip("the partial real data are not here: let CNF_OT_DATA name the folder that holds them")
    return root


def gaussian_score(problem):
    """Mean log-density of the test points under the Gaussian fitted to the training rows, and two standard errors."""
    train = problem.source.train
    fitted = torch.distributions.MultivariateNormal(train.mean(0), train.T.cov(correction=0))
    scores = fitted.log_prob(problem.test)
    return scores.mean().item(), 2 * scores.std().item() / len(scores) ** 0.5


@pytest.mark.parametrize(
    ("dataset", "rows", "score", "tolerance"),
    [
        (Power2007H1(), (225_878, 25_097, 27_886), -7.81, 0.005),
        (MinibooneSmall(), (4_307, 500, 3_648), -37.87, 0.005),
        pytest.param(
            BSDS300Redrawn(patches=(1_000_000, 50_000, 250_000)),
            (1_000_000, 50_000, 250_000),
            96.35,
            0.25,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_gaussian_score_of_real_data(real, dataset, rows, score, tolerance):
    problem = dataset.load(real)
    assert rows_of(problem) == rows
    assert gaussian_score(problem)[0] == pytest.approx(score, abs=tolerance)


def test_few_redrawn_patches_of_real_images_score_like_all(real):
    mean, spread = gaussian_score(BSDS300Redrawn(patches=(60_000, 10, 20_000)).load(real))
    assert mean == pytest.approx(96.35, abs=2 * spread)


@pytest.mark.parametrize(
    ("dataset", "rows"), [(GasSample(), (10_000, 10_000, 10_000)), (HepmassSample(), (4_506, 500, 4_924))]
)
def test_the_real_samples_are_standardised(real, dataset, rows):
    problem = dataset.load(real)
    assert rows_of(problem) == rows
    known = torch.cat((problem.source.train, problem.source.valid))
    torch.testing.assert_close(known.mean(0), torch.zeros(dataset.dim), atol=0.05, rtol=0)
    torch.testing.assert_close(known.std(0), torch.ones(dataset.dim), atol=0.1, rtol=0)


def test_real_miniboone_survives_its_own_cleaning(real):
    with np.load(real / "miniboone/miniboone_partial.npz", allow_pickle=False) as file:
        rows = np.vstack([file[f"{name}_raw"] for name in ("train_head", "val", "test")])
    splits = preprocess.miniboone(rows)
    assert sum(splits.rows) == len(rows)
    assert splits.train.shape[1] == 43


@pytest.mark.parametrize("name", NAMES)
def test_each_configuration_builds_a_dataset_with_defaults_only(name):
    dataset = instantiate(OmegaConf.load(REPOSITORY / f"bench/conf/dataset/{name}.yaml"))
    assert dataset == type(dataset)()
    assert dataset.version >= 1
    hash(dataset)  # frozen
