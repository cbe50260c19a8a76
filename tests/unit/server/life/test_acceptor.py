"""Acceptor: one connection a turn, none once it paused, and none lost that waits."""

import asyncio
import errno
import socket

import pytest
import uvloop

from fastagent.server.life.acceptor import Acceptor


class Greeter(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()


def play(scenario, new_loop=uvloop.new_event_loop):
    async def main():
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            listener.setblocking(False)
            acceptor = Acceptor([listener], Greeter)
            await scenario(acceptor, listener)
            await acceptor.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


async def greeting(address) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    async with asyncio.timeout(10):
        read = await reader.read()
    writer.close()
    return read


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_connections_are_served_and_while_it_pauses_left_to_another(new_loop):
    async def scenario(acceptor, listener):
        address = listener.getsockname()
        acceptor.resume()
        assert await asyncio.gather(*(greeting(address) for _ in range(20))) == [b"hello"] * 20
        assert acceptor.accepted == 20
        acceptor.pause()
        other = Acceptor([listener.dup()], Greeter)
        waiting = asyncio.create_task(greeting(address))
        other.resume()
        assert await waiting == b"hello"
        assert (acceptor.accepted, other.accepted) == (20, 1)
        await other.close()
        acceptor.resume()
        assert await greeting(address) == b"hello"

    play(scenario, new_loop)


def test_queue_is_emptied_in_one_go_before_the_last_descriptor_closes():
    async def scenario(acceptor, listener):
        acceptor.resume()
        waiting = [socket.create_connection(listener.getsockname()) for _ in range(10)]
        acceptor.empty()
        assert acceptor.accepted == 10
        await acceptor.close()
        for one in waiting:
            with one:
                one.settimeout(10)
                assert await asyncio.to_thread(one.recv, 10) == b"hello"

    play(scenario)


def test_without_descriptors_it_waits_and_goes_on(caplog):
    class Poor:
        """A listener that has no descriptor left for a while."""

        def __init__(self, listener):
            self._listener = listener
            self.failures = 3

        def accept(self):
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self._listener.accept()

        def fileno(self):
            return self._listener.fileno()

        def close(self):
            """The test's own."""

    async def scenario(_, listener):
        acceptor = Acceptor([Poor(listener)], Greeter)
        acceptor.resume()
        assert await greeting(listener.getsockname()) == b"hello"
        assert caplog.text.count("cannot accept connections") == 3
        await acceptor.close()

    play(scenario)
