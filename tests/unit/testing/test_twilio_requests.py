"""The requests of the scripted Twilio."""

import asyncio

from fastagent.testing.twilio_requests import post_form


def test_head_and_body_that_come_apart_are_one_answer():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 11\r\n\r\n")
        await writer.drain()
        # The client has sent its body, so it is waiting for ours.
        await reader.readexactly(len("a=1"))
        for _ in range(20):
            await asyncio.sleep(0)
        writer.write(b"<Response/>")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            found = await post_form(f"http://127.0.0.1:{port}/", [("a", "1")], {})
        assert (found.status, found.body) == (200, b"<Response/>")

    asyncio.run(main())
