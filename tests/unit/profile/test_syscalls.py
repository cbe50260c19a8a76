"""System calls: the tools' tables are read, and the next way is taken where one is closed."""

import asyncio
import os
from pathlib import Path

import pytest

from fastagent.errors import SystemToolError
from fastagent.profile.syscalls import count_system_calls, parse_perf_trace, parse_strace

PERF_TRACE = """
 Summary of events:

 python (11666), 19087 events, 98.8%

   syscall            calls  errors  total       min       avg       max       stddev
                                     (msec)    (msec)    (msec)    (msec)        (%)
   --------------- --------  ------ -------- --------- --------- ---------     ------
   epoll_pwait         1693      0  1478.132     0.010     0.873     6.401      2.98%
   sendto              3962      0    87.367     0.014     0.022     0.078      0.43%

 python (11693), 226 events, 1.2%

   syscall            calls  errors  total       min       avg       max       stddev
   sendto                 8     44     0.693     0.012     0.017     0.034      4.28%
"""
STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.001200          12       100           sendto
 40.00    0.000800           8        99         3 read
------ ----------- ----------- --------- --------- ----------------
100.00    0.002000          10       199         3 total
"""


def test_tables_are_read():
    assert parse_perf_trace(PERF_TRACE) == {"epoll_pwait": 1693, "sendto": 3970}
    assert parse_strace(STRACE) == {"sendto": 100, "read": 99}
    assert parse_perf_trace("") == parse_strace("nothing\n") == {}


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_proc_tells_reads_and_writes_where_no_tool_is(tools):
    async def count() -> None:
        counting = asyncio.create_task(count_system_calls(os.getpid(), 0.1))
        await asyncio.sleep(0.02)
        for _ in range(50):
            os.write(descriptor, b"x")
        found = await counting
        assert found.source == "/proc/PID/io"
        assert found.counts["write"] >= 50
        assert "perf is not installed" in found.complaints[0]
        assert found.complaints[1] == "strace is not installed"

    descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        asyncio.run(count())
    finally:
        os.close(descriptor)


def test_strace_takes_over_from_perf(tools):
    path = tools / "table"
    path.write_text(STRACE)
    for name, script in (
        ("perf", "echo 'Operation not permitted' >&2; exit 1"),
        # The last argument names the file, which a shell without tools must write itself.
        ("strace", f'for last; do :; done; while read -r line; do echo "$line"; done <{path} >"$last"'),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    found = asyncio.run(count_system_calls(os.getpid(), 0.05))
    assert found.source == "strace"
    assert found.total == 199
    assert list(found.counts) == ["sendto", "read"]


def test_a_process_that_is_gone_cannot_be_counted(tools):
    with pytest.raises(SystemToolError, match="cannot be read"):
        asyncio.run(count_system_calls(2**22 + 1, 0.05))
