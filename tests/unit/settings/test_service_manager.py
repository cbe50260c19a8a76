"""What a service manager says in variables."""

import pytest

from fastagent.settings.service_manager import ServiceManager


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ServiceManager()),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "7"}, ServiceManager((3, 4))),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "8"}, ServiceManager()),  # meant for a process above us
        ({"LISTEN_FDS": "2"}, ServiceManager()),
        ({"LISTEN_FDS": "-1", "LISTEN_PID": "7"}, ServiceManager()),
        ({"LISTEN_FDS": "²", "LISTEN_PID": "7"}, ServiceManager()),
        ({"NOTIFY_SOCKET": "@name"}, ServiceManager(notify_address="@name")),
        ({"WATCHDOG_USEC": "30000000"}, ServiceManager(watchdog_s=30.0)),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, ServiceManager(watchdog_s=30.0)),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, ServiceManager()),
        ({"WATCHDOG_USEC": "soon"}, ServiceManager()),
    ],
)
def test_variables_are_read(environment, expected):
    assert ServiceManager.from_environment(environment, pid=7) == expected
