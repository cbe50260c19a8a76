"""Builds the kernels of ``native/`` into ``fastagent._native``; all metadata is in pyproject.toml.

Switches, each on when the variable is set to 1: ``FASTAGENT_DEBUG`` (-O0 -g, assertions),
``FASTAGENT_SANITIZE`` (ASan and UBSan, signed overflow included), ``FASTAGENT_COVERAGE`` (gcov).
"""

import copy
import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


def switched_on(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


COMPILE = [
    "-std=c11", "-D_GNU_SOURCE", "-O3", "-ffp-contract=off", "-fvisibility=hidden",
    "-fstack-protector-strong", "-Wall", "-Wextra", "-Werror",
    # What Cython generates is not ours to mend.
    "-Wno-unused-function", "-Wno-unused-parameter", "-Wno-unused-variable",
    "-Wno-missing-field-initializers",
    "-Wno-sign-compare", "-Wno-cast-function-type", "-Wno-maybe-uninitialized", "-Wno-implicit-fallthrough",
    # Python.h of a newer interpreter may deprecate what the generated code calls.
    "-Wno-error=deprecated-declarations", "-Wno-unknown-warning-option",
]  # fmt: skip
LINK = ["-Wl,-z,relro,-z,now"]
MACROS: list[tuple[str, str | None]] = []

if switched_on("FASTAGENT_DEBUG"):
    COMPILE += ["-O0", "-g", "-UNDEBUG"]
else:
    COMPILE += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
if switched_on("FASTAGENT_SANITIZE"):
    # Without -fno-wrapv UBSan misses signed overflow: CPython's own flags define it away.
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    COMPILE += [*sanitize, "-fno-wrapv", "-fno-omit-frame-pointer", "-g", "-O1", "-U_FORTIFY_SOURCE"]
    LINK += sanitize
if switched_on("FASTAGENT_COVERAGE"):
    COMPILE += ["--coverage", "-O0"]
    LINK += ["--coverage"]
    MACROS += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]

# Everything an extension may include. Without it the sdist loses the files: generated C lives in build/.
SHARED = sorted(glob("native/include/*.h") + glob("native/*.pxd") + glob("fastagent/_native/*.pxd"))

# Kernel name -> C bodies it links. A kernel that chains others links theirs too: no symbol crosses a module.
KERNELS: dict[str, list[str]] = {
    "g711": ["g711", "g711_avx2"],
    "base64": ["base64", "base64_avx2"],
    "envelope": ["envelope", "utf8"],
    "resample": ["resample", "resample_avx2"],
    "pump": [
        "base64", "base64_avx2", "convert", "envelope", "g711", "g711_avx2", "playout", "resample",
        "resample_avx2", "scratch", "stages",
    ],
    "listener": ["stages", "utf8"],
    "stages": ["stages"],
    "vad": ["bands", "vad"],
    "bargein": ["bands", "bargein", "vad"],
    "dtmf": ["dtmf"],
    "jitter": ["jitter"],
    "conceal": ["conceal"],
    "level": ["level"],
    "record": ["g711", "g711_avx2", "record"],
    "load": [
        "base64", "base64_avx2", "envelope", "g711", "g711_avx2", "load", "load_frame", "load_histogram",
        "load_marks", "load_orders", "load_schedule", "load_socket", "sign", "utf8",
    ],
    "tap": [
        "bands", "bargein", "convert", "dtmf", "g711", "g711_avx2", "level", "playout", "record", "reference",
        "resample", "resample_avx2", "stages", "tap", "vad",
    ],
}  # fmt: skip


def extension(kernel: str, bodies: list[str]) -> Extension:
    pyx = f"native/{kernel}.pyx"
    sources = [f"native/src/{body}.c" for body in bodies]
    return Extension(
        f"fastagent._native.{kernel}",
        [pyx, *sources],
        include_dirs=["native/include"],
        libraries=["m"],
        depends=[pyx, *sources, *SHARED],
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
        define_macros=MACROS,
    )


class BuildKernels(build_ext):
    """Keeps each kernel's objects in a folder of its own: they share C, and may be built side by side."""

    def build_extension(self, ext: Extension) -> None:
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)
        build_ext.build_extension(own, ext)


setup(
    cmdclass={"build_ext": BuildKernels},
    ext_modules=cythonize(
        [extension(kernel, bodies) for kernel, bodies in KERNELS.items()],
        include_path=["native", "."],
        build_dir="build",
        language_level=3,
        compiler_directives={
            "embedsignature": False,
            "binding": True,
            "autotestdict": False,
            "auto_pickle": False,
            "linetrace": switched_on("FASTAGENT_COVERAGE"),
        },
    ),
)
