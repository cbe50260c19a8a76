"""AudiocodesConnector: what to enter at AudioCodes for each agent, and a server that answers there.

::

    connector = AudiocodesConnector("wss://bridge.example.com/audiocodes/webhook", api_key)
    print(await connector.register_agent(agent_id="front", phone_number="+15550100002"))
    await connector.start()

VoiceAI Connect is configured by its own administrators (a provider, a bot, a routing rule for the number),
Live Hub in its pages; neither is changed from here. Names of parameters:
https://techdocs.audiocodes.com/voice-ai-connect/Content/Bot-API/ac-bot-api-streaming.htm and
https://techdocs.audiocodes.com/livehub/Content/LiveHub/AudiocodesAPI-framework.htm.
"""

import asyncio
import http.client
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from fastagent.errors import ConfigurationError, TelephonyError, TelephonyRefusedError
from fastagent.telephony.registered import RegisteredAgents, public_url

__all__ = ["AudiocodesConnector", "BotConfiguration"]

CARRIER = "audiocodes"
WEBHOOK_PATH = "/audiocodes/webhook"
KEY_CHARACTERS_MIN = 16
CHECK_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 4096
STATUS_OK = 200


@dataclass(frozen=True, slots=True)
class BotConfiguration:
    """What is entered at AudioCodes for one agent. As text it hides the token; `as_json` may show it."""

    agent_id: str
    """The bot's name there: it picks the agent here."""
    phone_number: str
    bot_url: str
    token: str = field(repr=False)

    def as_json(self, *, with_token: bool = False) -> dict[str, Any]:
        """Provider, bot and routing, by AudioCodes' names."""
        token = self.token if with_token else f"({len(self.token)} characters)"
        return {
            "provider": {"type": "ac-api", "botURL": self.bot_url, "token": token},
            "bot": {
                "name": self.agent_id,
                "acBotApiType": "streaming",
                "directSTT": True,
                "directTTS": True,
                "bargeIn": True,
            },
            "routing": {"number": self.phone_number, "bot": self.agent_id},
        }

    def __str__(self) -> str:
        return orjson.dumps(self.as_json(), option=orjson.OPT_INDENT_2).decode()


class AudiocodesConnector:
    """Numbers at AudioCodes and the agents that answer them.

    Args:
        webhook_url: the bot URL, ``wss://HOST`` with or without ``/audiocodes/webhook``; ``ws://`` for a
            server on this machine.
        api_key: the permanent token that AudioCodes presents.

    Raises:
        ConfigurationError: an address that cannot work, or a token that could be guessed.
    """

    def __init__(self, webhook_url: str, api_key: str) -> None:
        self._public_url = public_url(webhook_url, WEBHOOK_PATH, schemes=("wss", "https", "ws", "http"))
        if len(api_key) < KEY_CHARACTERS_MIN or not (api_key.isascii() and api_key.isprintable()):
            raise ConfigurationError(
                f"api_key: expected at least {KEY_CHARACTERS_MIN} printable ASCII characters"
            )
        self._api_key = api_key
        self._registered = RegisteredAgents()

    @property
    def agents_by_number(self) -> dict[str, str]:
        """Ids of the registered agents by their numbers."""
        return self._registered.by_number

    async def register_agent(
        self, *, agent_id: str, phone_number: str, agent: Any = None
    ) -> BotConfiguration:
        """Have an agent answer a number, and give what is to be entered for it at AudioCodes.

        Args:
            agent: a `FastAgent`; None for the one of this id that the process has.

        Raises:
            ConfigurationError: an id that cannot be, or too many numbers.
        """
        self._registered.add(agent_id, phone_number, agent)
        scheme, _, place = self._public_url.partition("://")
        bot_url = f"{'wss' if scheme == 'https' else 'ws'}://{place}{WEBHOOK_PATH}"
        return BotConfiguration(agent_id, phone_number, bot_url, self._api_key)

    async def check(self, *, timeout_s: float = CHECK_TIMEOUT_S) -> None:
        """Ask the bot URL what AudioCodes' "validate bot connection" asks.

        Raises:
            TelephonyRefusedError: it answers with an error, 401 for another token.
            TelephonyError: it does not answer, or not as a bot does.
        """
        status, body = await asyncio.to_thread(self._ask, timeout_s)
        if status != STATUS_OK:
            raise TelephonyRefusedError(CARRIER, status)
        try:
            answer = orjson.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or answer.get("success") is not True:
            raise TelephonyError(CARRIER, "what answers at the bot URL is no bot")

    def _ask(self, timeout_s: float) -> tuple[int, bytes]:
        # Neither redirects nor proxies are followed: the token is for this host alone.
        parts = urlsplit(self._public_url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            headers = {"Authorization": f"Bearer {self._api_key}"}
            connection.request("GET", parts.path + WEBHOOK_PATH, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise TelephonyError(CARRIER, f"not reached: {type(error).__name__}", retryable=True) from None
        finally:
            connection.close()

    async def start(self, *, host: str | None = None, port: int | None = None, **settings: Any) -> None:
        """Answer the registered numbers with their agents until the process is told to stop.

        Args:
            host: address to listen on; None takes it from the environment, as all that is not given.
            port: port to listen on.
            settings: further fields of `Settings`.

        Raises:
            ConfigurationError: no agent is registered, or there is none of an id.
        """
        tokens = {"audiocodes_tokens": (self._api_key,), "public_url": self._public_url}
        await self._registered.serve(**{**tokens, **settings, "host": host, "port": port})
