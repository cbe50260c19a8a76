"""Stacks: what samplers print is read, named and told apart; what they cannot do is said plainly."""

import asyncio
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from fastagent.errors import SystemToolError
from fastagent.profile import stacks as stacks_module
from fastagent.profile.flame import draw_flame
from fastagent.profile.stacks import (
    FRAMES_MAX,
    NATIVE_SOURCES,
    Group,
    Sampler,
    Stacks,
    fold_perf,
    fold_py_spy,
    group_of,
    sample_stacks,
)

ROOT = Path(__file__).parents[3]
SO = ".cpython-311-x86_64-linux-gnu.so"
BEGIN = "main (fastagent/cli/__init__.py:53);uv_run (core.c:464)"
PY_SPY = [
    f"{BEGIN};Leg_on_ws_frame (fastagent/_native/listener{SO});write (picows/picows{SO});send (libc.so.6) 7",
    f"{BEGIN};0x7f9ae90a71f5 (libc.so.6);fa_resample (resample.c:9) 2",
    f"{BEGIN};uv__io_poll (linux.c:1452);epoll_pwait (libc.so.6) 5",
    "Thread.run (threading.py:971);PyThread_acquire_lock_timed (libpython3.11.so);0x7f9a (libc.so.6) 3",
    "nonsense",
]
PERF = [
    "python ",
    "\tffffffff81e31462 __sys_sendto ([kernel.kallsyms])",
    "\t          10aba4 __send (/usr/lib/x86_64-linux-gnu/libc.so.6)",
    f"\t           bf84 __pyx_f_9fastagent_7_native_8listener_3Leg__deliver (fastagent/_native/listener{SO})",
    "\tffffffffffffffff [unknown] ([unknown])",
    "",
    "python ",
    f"\t           64273 __pyx_pw_6picows_6picows_10WSProtocol_17buffer_updated (/x/picows/picows{SO})",
    "",
]


def test_py_spy_is_read():
    folded, waiting = fold_py_spy(PY_SPY)
    assert waiting == 8
    assert sum(folded.values()) == 9
    stacks = Stacks(Sampler.PY_SPY, 199, 3.0, folded, waiting)
    assert stacks.groups == {Group.KERNEL: 7, Group.FASTAGENT: 2}
    assert stacks.hottest(1) == [("send (libc.so.6)", 7)]
    assert "0x7f9ae90a71f5" not in stacks.text
    assert "listener" in stacks.text


def test_perf_is_read():
    folded, waiting = fold_perf(PERF)
    assert waiting == 0
    assert set(folded) == {
        (
            "listener.Leg._deliver (fastagent/_native/listener)",
            "__send (libc.so.6)",
            "__sys_sendto ([kernel.kallsyms])",
        ),
        ("picows.WSProtocol.buffer_updated (picows/picows)",),
    }
    assert Stacks(Sampler.PERF, 199, 1.0, folded, 0).groups == {Group.KERNEL: 1, Group.PICOWS: 1}


def test_a_function_is_one_frame_wherever_it_stands():
    lines = [
        "a (x.py:1);uv_run (core.c:464);Py_DECREF (object.h:537);uv_run (core.c:480);f (loop.c:9) 1",
        "a (x.py:1);uv_run (core.c:11);f (loop.c:12) 2",
    ]
    assert fold_py_spy(lines)[0] == {("a (x.py:1)", "uv_run (core.c)", "f (loop.c)"): 3}


def test_of_a_very_deep_stack_the_end_is_kept():
    line = ";".join(f"f{k} (x.py:{k})" for k in range(1000))
    ((stack, n),) = fold_py_spy([f"{line} 3"])[0].items()
    assert (len(stack), stack[-1], n) == (FRAMES_MAX, "f999 (x.py:999)", 3)


@pytest.mark.parametrize(
    ("frame", "group"),
    [
        ("f (fastagent/call/call.py:1)", Group.FASTAGENT_PYTHON),
        ("f (fastagent/_native/pump)", Group.FASTAGENT),
        ("f (convert.c:100)", Group.FASTAGENT),
        ("f (picows/picows)", Group.PICOWS),
        ("f (uvloop/loop)", Group.LOOP),
        ("uv_run (core.c:1)", Group.LOOP),
        ("f (json/decoder.py:1)", Group.PYTHON),
        ("_PyEval (libpython3.11.so.1.0)", Group.INTERPRETER),
        ("recv (libc.so.6)", Group.KERNEL),
        ("malloc (libc.so.6)", Group.OTHER),
    ],
)
def test_frames_have_owners(frame, group):
    assert group_of(frame) is group


def test_every_native_source_is_known():
    native = ROOT / "native"
    linked = {path.name for path in native.glob("src/*.c")}
    # Of kernels that run beside no call's path nothing can be sampled.
    beside = {"jitter.c", "conceal.c", "sign.c", *(path.name for path in native.glob("src/load*.c"))}
    assert linked - beside <= NATIVE_SOURCES


def test_flame_graph_is_svg_and_its_boxes_are_shares():
    folded = {("a <b>", "c"): 3, ("a <b>", "d"): 1, ("e",): 4}
    svg = draw_flame(Stacks(Sampler.PERF, 199, 1.0, folded, 0), 'one & "two"')
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    boxes = {
        str(one.findtext(f"{space}title")).partition(":")[0]: float(one.find(f"{space}rect").get("width", 0))  # type: ignore[union-attr]
        for one in root.iter(f"{space}g")
    }
    assert set(boxes) == {"all", "a <b>", "c", "d", "e"}
    assert boxes["a <b>"] == pytest.approx(boxes["all"] / 2, abs=1)
    assert boxes["c"] == pytest.approx(3 * boxes["d"], abs=1.5)
    assert "one &amp;" in svg


def test_a_flame_graph_of_nothing_is_drawn():
    ElementTree.fromstring(draw_flame(Stacks(Sampler.PERF, 199, 1.0, {}, 4), "nothing"))


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it but the shell."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(stacks_module, "_py_spy", lambda: None)
    return tmp_path


def sampled(sampler: Sampler | None = None) -> Stacks:
    return asyncio.run(sample_stacks(os.getpid(), 0.1, sampler))


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (None, "py-spy is not installed .*; perf is not installed"),
        (Sampler.PERF, "^perf is not installed"),
        (Sampler.PY_SPY, r"^py-spy is not installed \(pip install 'fastagent\[profile\]'\)$"),
    ],
)
def test_what_is_not_installed_is_said(tools, sampler, words):
    with pytest.raises(SystemToolError, match=words):
        sampled(sampler)


def test_what_is_not_allowed_is_said(tools):
    tool(tools, "perf", "echo 'Error: No permission to enable cycles event.' >&2; exit 255")
    with pytest.raises(SystemToolError, match=r"perf is not allowed .*perf_event_paranoid"):
        sampled()


def test_perf_takes_over_from_py_spy(tools, monkeypatch):
    tool(tools, "py-spy", "echo 'Error: Operation not permitted (os error 1)' >&2; exit 1")
    monkeypatch.setattr(stacks_module, "_py_spy", lambda: str(tools / "py-spy"))
    with pytest.raises(SystemToolError, match="py-spy is not allowed"):
        sampled(Sampler.PY_SPY)
    frame = "    10aba4 work (/x/libx.so)"
    tool(tools, "perf", f'[ "$1" = record ] || echo "python\n{frame}"')
    assert sampled().folded == {("work (libx.so)",): 1}


def test_a_failure_is_told_by_its_last_line(tools):
    tool(tools, "perf", "echo first >&2; echo 'no such thing' >&2; exit 1")
    with pytest.raises(SystemToolError, match="perf failed: no such thing"):
        sampled()


def test_a_sampler_that_gives_nothing_is_no_reading(tools):
    tool(tools, "perf", "exit 0")
    with pytest.raises(SystemToolError, match="perf took no sample"):
        sampled()
