"""McpServer: what is refused when it is written down. McpPool: names."""

import asyncio

import pytest

from fastagent.agent import FastAgent
from fastagent.errors import ConfigurationError
from fastagent.tools import McpPool, McpServer, ToolCall
from fastagent.tools.mcp_schema import PinnedTool

URL = "https://tools.example.com/mcp"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": ""}, "name"),
        ({"name": "a_b"}, "name"),
        ({"name": "x" * 33}, "name"),
        ({"url": ""}, "either a command or a url"),
        ({"command": ("a",)}, "either a command or a url"),
        ({"url": "", "command": "a b"}, "lists of texts"),
        ({"allowed_tools": "find"}, "lists of texts"),
        ({"url": "ftp://example.com"}, "https"),
        ({"url": "https:///mcp"}, "https"),
        ({"url": "http://example.com/mcp", "headers": {"Authorization": "Bearer 4711"}}, "need https"),
        ({"deadline_s": 0}, "above 0"),
        ({"connect_timeout_s": -1}, "above 0"),
        ({"max_output_bytes": 0}, "above 0"),
        ({"max_message_bytes": 0}, "above 0"),
        ({"max_concurrency": 0}, "above 0"),
    ],
)
def test_servers_that_cannot_work_are_refused(options, complaint):
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        McpServer(**{"name": "orders", "url": URL, **options})
    assert "4711" not in str(caught.value)


def test_credentials_are_not_shown():
    server = McpServer("orders", url="http://127.0.0.1/mcp", headers={"a": "4711"}, env={"KEY": "4711"})
    assert "4711" not in repr(server)


def test_one_name_for_two_servers_is_refused():
    one, other = McpServer("orders", url=URL), McpServer("orders", url=URL + "2")
    assert list(McpPool([one, McpServer("orders", url=URL)]).servers) == ["orders"]
    with pytest.raises(ConfigurationError, match="two different MCP servers"):
        McpPool([one, other])
    with pytest.raises(ConfigurationError, match="two MCP servers of one name"):
        FastAgent("desk", mcp_servers=[one, one])


def test_agent_takes_only_a_pool_that_has_its_servers():
    server = McpServer("orders", url=URL)
    agent = FastAgent("desk", mcp_servers=[server])
    with pytest.raises(ConfigurationError, match="no MCP server 'orders'"):
        agent.use_mcp(McpPool([McpServer("orders", url=URL + "2")]))
    pool = McpPool([server])
    agent.use_mcp(pool)
    agent.use_mcp(pool)
    with pytest.raises(ConfigurationError, match="already"):
        agent.use_mcp(McpPool([server]))
    agent.use_mcp(None)
    agent.use_mcp(McpPool([server]))


class Known:
    """A connection that has tools and never was one."""

    def __init__(self, *names, is_connected=True):
        self._tools = [PinnedTool.of(name, "Words.", {"type": "object"}) for name in names]
        self._is_connected = is_connected

    def tools(self):
        return self._tools if self._is_connected else []

    def known_names(self):
        return [tool.name for tool in self._tools]


def names(taken=(), **connections):
    servers = [McpServer(name, url=URL) for name in connections]
    pool = McpPool(servers)
    pool._connections = connections
    return {tool.qualified_name: tool.name for tool in pool.tools(servers, taken)}


def test_names_are_the_servers_own_where_they_do_not_clash():
    assert names(a=Known("find", "x.y/z"), b=Known("get")) == {
        "a:find": "find",
        "a:x.y/z": "x_y_z",
        "b:get": "get",
    }


def test_names_that_clash_are_prefixed_with_their_server():
    assert names(a=Known("find"), b=Known("find"), taken={"get"}) == {"a:find": "a_find", "b:find": "b_find"}
    assert names(a=Known("get"), taken={"get"}) == {"a:get": "a_get"}
    assert names(a=Known("x.y", "x_y")) == {"a:x.y": "a_x_y", "a:x_y": f"a_x_y_{digest('x_y')}"}


def test_name_does_not_depend_on_whether_the_other_server_is_up():
    assert names(a=Known("find"), b=Known("find", is_connected=False)) == {"a:find": "a_find"}


def test_long_names_are_cut_and_told_apart():
    first, second = "x" * 70, "x" * 71
    found = names(a=Known(first, second))
    assert set(map(len, found.values())) == {64}
    assert len(set(found.values())) == 2


def digest(name):
    return PinnedTool.of(name, "Words.", {"type": "object"}).digest[:8]


def test_call_without_a_connection_is_refused():
    server = McpServer("a", url=URL)
    pool = McpPool([server])
    pinned = PinnedTool.of("find", "Words.", {"type": "object"})
    result = asyncio.run(pool.call(server, pinned, "{}", ToolCall("call-1", "fc-1")))
    assert (result.status, result.cause) == ("error", "closed")


def test_pool_without_servers_starts_nothing():
    async def enter():
        async with McpPool([]) as pool:
            return pool.status(), pool.tools([]), pool._thread

    assert asyncio.run(enter()) == ((), (), None)
