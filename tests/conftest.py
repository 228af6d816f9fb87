"""What every test shares: shapes checked at run time, one torch thread, the reference files."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytensor
import pytest
import torch
from annotations import unchecked
from modes import COMPILED, PYTHON
from threadpoolctl import threadpool_limits

# Annotations are checked at every call in the modules that work on tensors; the hook must be there
# before they are imported for the first time.
jaxtyping.install_import_hook(
    [
        "jana_pymc.flows",
        "jana_pymc.joint_network",
        "jana_pymc.likelihoods",
        "jana_pymc.networks",
        "jana_pymc.posterior",
    ],
    "beartype.beartype",
)

# Figures without a display; matplotlib reads this when it is imported.
os.environ.setdefault("MPLBACKEND", "Agg")

# For the processes that tests start, workers among them; here NumPy has been imported already.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"


def pytest_configure() -> None:
    """ArviZ 0.23 keeps the day of its last warning in a file; first here, for workers collide."""
    importlib.import_module("arviz")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where networks are trained, checks of annotations take a sixth of the time: none there."""
    jaxtyping.config.update("jaxtyping_disable", item.get_closest_marker("trains") is not None)


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference data sets and weights that lies beside the repository."""
    if not REFERENCE.is_dir():
        pytest.skip(f"no reference files: {Path('..', 'shared', 'reference')} does not exist")
    return REFERENCE


@pytest.fixture
def interpreted() -> Iterator[None]:
    """PyTensor without compiler and rewrites, which take longer than a few evaluations."""
    with pytensor.config.change_flags(cxx="", mode=PYTHON):
        yield


@pytest.fixture
def compiled() -> Iterator[None]:
    """PyTensor as for users, but for the rewrite that takes half of the time."""
    with pytensor.config.change_flags(mode=COMPILED):
        yield


@pytest.fixture
def unchecked_annotations() -> Iterator[None]:
    """For tests that pass what the annotations forbid, to see what a user is told about it."""
    with unchecked():
        yield


@pytest.fixture(scope="session", autouse=True)
def few_sets_to_pool() -> Iterator[None]:
    """Every `fit` ends by learning the pool's weight, which few tests are about: from few sets."""
    pooling = importlib.import_module("jana_pymc.refinement.pooling")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MOST_SETS", "FEWEST_SETS"):
            patch.setattr(pooling, name, 10)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Test workers share the cores; and sums must not depend on the number of threads.

    Two threads of NumPy's and SciPy's BLAS wait for each other on cores that other workers use,
    which makes small matrices cost ten times as much.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1, user_api="blas"):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def torch_random_state() -> Iterator[None]:
    """Weights begin the same whatever was tested before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield
