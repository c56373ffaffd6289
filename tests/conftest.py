"""Tests that are not marked `slow` are quick, by the processor's time: that of other programs does not count."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator

import pytest

# One thread a process, as jobs have: the tests' tensors are small, and two workers' threads would wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

LIMIT = 5.0  # seconds; some tests take 2, and on a slow or busy machine everything takes up to twice as long
BEGUN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-speed", action="store_true", help="fail slow tests without the marker (as where CI is set)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.option.strict_speed |= os.environ.get("CI", "") not in ("", "0", "false")
    if hasattr(config, "cache") and not hasattr(config, "workerinput"):
        keep_bytecode(str(config.cache.mkdir("bytecode")))


def keep_bytecode(folder: str) -> None:
    """For all processes that tests start, the workers of pytest-xdist among them. Where Python is set to keep no
    bytecode, most of a short process would be compiling libraries; where it keeps it beside the sources, copies of the
    project would each hold their own."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = folder
    sys.dont_write_bytecode = False


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Bytecode of copies of the project goes with them."""
    if hasattr(session.config, "_tmp_path_factory") and not hasattr(session.config, "workerinput"):
        copies = session.config._tmp_path_factory.getbasetemp()
        shutil.rmtree(f"{sys.pycache_prefix}{copies}", ignore_errors=True)


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[BEGUN] = processor_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    result = yield
    spent = processor_seconds() - item.stash[BEGUN]
    if item.config.option.strict_speed and spent > LIMIT and item.get_closest_marker("slow") is None:
        pytest.fail(
            f"{item.nodeid} took {spent:.1f} s of the processor with its fixtures; more than {LIMIT:g} s is too much "
            "for a test that is run at every change. Make it smaller, or mark it: @pytest.mark.slow",
            pytrace=False,
        )
    return result
