"""`import zerver_runtime`: what it offers, and what it costs those who start no processes."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import zerver_runtime


@pytest.mark.parametrize("name", zerver_runtime.__all__)
def test_every_public_name_is_there_and_is_no_module(name: str) -> None:
    assert not inspect.ismodule(getattr(zerver_runtime, name))


def test_a_name_that_it_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'zerver_runtime' has no attribute 'aktor'"):
        zerver_runtime.aktor  # noqa: B018


@pytest.mark.parametrize(
    ("first", "wanted"), [("zerver_runtime.behaviour", "behaviour"), ("zerver_runtime.process", "run_node")]
)
def test_public_names_are_what_they_are_whatever_was_imported_before(first: str, wanted: str) -> None:
    """`behaviour` is a module's name too."""
    check = f"import {first}; from zerver_runtime import {wanted}; assert callable({wanted})"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=20)


def test_importing_it_imports_no_loop_and_no_sockets() -> None:
    check = (
        "import sys, zerver_runtime; found = {'asyncio', 'uvloop', 'socket', 'selectors'} & set(sys.modules);"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=20)
