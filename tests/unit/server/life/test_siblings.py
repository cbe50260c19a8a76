"""Siblings: they find, lend to and reach one another; the dead and strangers are left out."""

import asyncio
import socket

import pytest

from fastagent.errors import ConfigurationError
from fastagent.server.life.listeners import find_listeners
from fastagent.server.life.siblings import ACCEPTING, Siblings, borrow_listeners, visit
from fastagent.settings import Settings


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def nobody(connection: socket.socket) -> None:
    raise AssertionError("nobody was to come")


def test_one_that_drains_is_known_and_does_not_count_as_accepting(folder):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            one, other = Siblings(folder, 8000, pid=1), Siblings(folder, 8000, pid=2)
            stranger = Siblings(folder, 8001, pid=3)
            one.enter([listener], nobody)
            stranger.enter([listener], nobody)
            assert not one.is_anybody_accepting()
            assert one.others() == []
            other.enter([listener], nobody)
            assert one.is_anybody_accepting()
            other.stand_down()
            assert not one.is_anybody_accepting()
            assert [path.name for path in one.others()] == ["8000-2.draining"]
            other.leave()
            assert one.others() == []
            for each in (one, stranger):
                each.leave()
        assert list(folder.iterdir()) == []

    asyncio.run(main())


def test_name_of_a_dead_process_is_deleted_by_who_notices(folder):
    one = Siblings(folder, 8000, pid=1)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "8000-2.accepting"))
        dead.listen()
        assert one.is_anybody_accepting()
    assert not one.is_anybody_accepting()
    assert list(folder.iterdir()) == []


def test_lent_socket_keeps_its_queue_when_the_lender_closes_it(folder):
    async def main():
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        one = Siblings(folder, port, pid=1)
        one.enter([listener], nobody)
        settings = Settings(port=port, run_dir=str(folder))
        with socket.create_connection(("127.0.0.1", port)) as waiting:
            (lent,) = await asyncio.to_thread(find_listeners, settings)
            one.leave()
            listener.close()
            with lent:
                assert lent.getsockname() == ("127.0.0.1", port)
                accepted, peer = lent.accept()
                accepted.close()
                assert peer == waiting.getsockname()
        assert borrow_listeners(folder, port) == []

    asyncio.run(main())


def test_visitor_reaches_the_sibling_over_a_connection_of_its_own(folder):
    async def main():
        loop = asyncio.get_running_loop()
        come: asyncio.Queue[socket.socket] = asyncio.Queue()
        one, other = Siblings(folder, 8000, pid=1), Siblings(folder, 8000, pid=2)
        one.enter([], come.put_nowait)
        (path,) = other.others(ACCEPTING)  # a look whether it lives brings no connection
        with visit(path) as near, await come.get() as far:
            near.send(b"hello")
            far.setblocking(False)
            assert await loop.sock_recv(far, 10) == b"hello"
        assert come.empty()
        one.leave()
        with pytest.raises(OSError, match="No such file"):
            visit(path)

    asyncio.run(main())


@pytest.mark.parametrize("is_lent", [False, True], ids=["inherited", "lent"])
def test_socket_that_others_reach_needs_a_token_whoever_bound_it(is_lent, folder):
    async def main():
        with socket.create_server(("0.0.0.0", 0)) as listener:
            port = listener.getsockname()[1]
            one = Siblings(folder, port, pid=1)
            one.enter([listener], nobody)
            settings = Settings(port=port, run_dir=str(folder))

            def find(settings: Settings) -> list[socket.socket]:
                return find_listeners(settings, () if is_lent else (listener.dup().detach(),))

            with pytest.raises(ConfigurationError, match="a token must be set"):
                await asyncio.to_thread(find, settings)
            (found,) = await asyncio.to_thread(find, settings.with_changes(admin_tokens=("x" * 40,)))
            found.close()
            one.leave()

    asyncio.run(main())


def test_folder_that_others_may_use_is_refused(tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        Siblings(tmp_path, 8000)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        borrow_listeners(tmp_path, 8000)


def test_path_too_long_for_a_socket_is_refused(tmp_path):
    async def main():
        with pytest.raises(ConfigurationError, match="too long"):
            Siblings(tmp_path / ("x" * 100), 8000).enter([], nobody)

    asyncio.run(main())
