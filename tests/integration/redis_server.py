"""Real Redis servers for tests: alone, as a cluster, or watched by sentinels; nothing of them is kept."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

BINARY = "redis-server"
START_TIMEOUT_S = 20.0
LOOPBACK = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One server on a port of its own; a sentinel when it is given what a sentinel is to watch."""

    def __init__(self, *options: str, port: int = 0, sentinel: str = "") -> None:
        found = shutil.which(BINARY)
        assert found, f"{BINARY} is not installed: apt-get install redis-server"
        self.directory = Path(tempfile.mkdtemp(prefix="fastagent-redis-"))
        self.port = port or free_port()
        self.url = f"redis://{LOOPBACK}:{self.port}"
        self.socket_path = self.directory / "redis.sock"
        self._config = self.directory / "redis.conf"
        self._config.write_text(sentinel)
        words = [found, str(self._config), *(["--sentinel"] if sentinel else [])]
        words += ["--port", str(self.port), "--bind", LOOPBACK, "--dir", str(self.directory)]
        if not sentinel:
            words += ["--save", "", "--appendonly", "no", "--unixsocket", str(self.socket_path)]
        self._words = [*words, *options]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                if self.ask("PING").startswith(("+PONG", "-NOAUTH")):
                    return
            except OSError:
                pass
            assert self.process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def ask(self, *words: str) -> str:
        """The first line of the answer."""
        return self.ask_all(*words).split("\r\n")[0]

    def ask_all(self, *words: str) -> str:
        """The answer, asked for without the client under test."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with socket.create_connection((LOOPBACK, self.port), 5) as connection:
            connection.settimeout(5)
            connection.sendall(request.encode())
            with connection.makefile("rb") as answer:
                line = answer.readline()
                if not line:
                    raise ConnectionError
                if line[:1] == b"$":
                    return answer.read(int(line[1:])).decode(errors="replace")
                return line.decode(errors="replace")

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class RedisCluster:
    """Two nodes that share the slots, so that whatever touches two slots at once is refused or strays."""

    def __init__(self) -> None:
        self.nodes: list[RedisServer] = []
        buses = [str(free_port()) for _ in range(2)]
        for bus in buses:
            self.nodes.append(RedisServer("--cluster-enabled", "yes", "--cluster-port", bus))
        first, second = self.nodes
        first.ask("CLUSTER", "ADDSLOTSRANGE", "0", "8191")
        second.ask("CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
        assert first.ask("CLUSTER", "MEET", LOOPBACK, str(second.port), buses[1]) == "+OK"
        deadline = time.monotonic() + START_TIMEOUT_S
        while any(self._state(node) != "ok" for node in self.nodes):
            assert time.monotonic() < deadline, "the cluster does not come up"
            time.sleep(0.05)
        self.url = f"redis+cluster://{LOOPBACK}:{first.port}"

    @staticmethod
    def _state(node: RedisServer) -> str:
        answer = node.ask_all("CLUSTER", "INFO")
        known = "cluster_known_nodes:2" in answer and "cluster_slots_assigned:16384" in answer
        return "ok" if known and "cluster_state:ok" in answer else "no"

    def close(self) -> None:
        for node in self.nodes:
            node.close()
