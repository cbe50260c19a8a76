"""Loads a kernel once per SIMD variant, side by side in one process.

A kernel chooses its body when its shared object is loaded. A copy of the file is another shared object to the
loader, so it chooses anew, under the environment given here.
"""

import importlib
import os
import shutil
import tempfile
from functools import cache
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType


def names(kernel: str) -> list[str]:
    """The variants this machine can run: the one chosen by itself and "scalar"."""
    chosen: str = importlib.import_module(f"fastagent._native.{kernel}").variant()
    return sorted({chosen, "scalar"})


@cache
def load(kernel: str, variant: str) -> ModuleType:
    """The kernel's module running the given variant."""
    qualified = f"fastagent._native.{kernel}"
    module = importlib.import_module(qualified)
    if module.variant() == variant:
        return module
    assert variant == "scalar"
    assert module.__file__ is not None
    before = os.environ.get("FASTAGENT_SIMD")
    with tempfile.TemporaryDirectory() as folder:
        copied = shutil.copy(module.__file__, Path(folder) / Path(module.__file__).name)
        spec = spec_from_file_location(qualified, copied, loader=ExtensionFileLoader(qualified, str(copied)))
        assert spec is not None
        assert spec.loader is not None
        os.environ["FASTAGENT_SIMD"] = variant
        try:
            scalar = module_from_spec(spec)
            spec.loader.exec_module(scalar)
        finally:
            if before is None:
                del os.environ["FASTAGENT_SIMD"]
            else:
                os.environ["FASTAGENT_SIMD"] = before
    assert scalar.variant() == variant
    return scalar
