"""TwilioConnector: points phone numbers at this server by Twilio's REST API, and serves their agents.

::

    connector = TwilioConnector(account_sid, auth_token, "https://bridge.example.com/twilio/webhook")
    await connector.register_agent(agent_id="front", phone_number="+15550100002")
    await connector.start()
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from fastagent.errors import ConfigurationError, TelephonyError
from fastagent.telephony.registered import RegisteredAgents, public_url
from fastagent.telephony.twilio_rest import API_URL, PhoneNumber, TwilioRestClient

__all__ = ["NumberChange", "TwilioConnector"]

WEBHOOK_PATH = "/twilio/webhook"


@dataclass(frozen=True, slots=True)
class NumberChange:
    """What is, or would be, changed at a phone number: names of Twilio's parameters, without what stays."""

    phone_number: str
    sid: str
    before: Mapping[str, str] = field(repr=False)
    after: Mapping[str, str] = field(repr=False)

    @property
    def is_empty(self) -> bool:
        """It is as it should be already."""
        return not self.after


class TwilioConnector:
    """Numbers of one account and the agents that answer them. Close it, or open it as a context.

    Args:
        auth_token: the account's; Twilio signs its requests with it, too.
        webhook_url: where Twilio finds this server, ``https://HOST`` with or without ``/twilio/webhook``.
        api_url: another address for Twilio's regions.

    Raises:
        ConfigurationError: an address or credentials that cannot work, or the extra ``twilio`` is missing.
    """

    def __init__(
        self, account_sid: str, auth_token: str, webhook_url: str, *, api_url: str = API_URL
    ) -> None:
        self._public_url = public_url(webhook_url, WEBHOOK_PATH, schemes=("https",))
        self._account_sid = account_sid
        self._auth_token = auth_token
        self._api_url = api_url
        self._client = TwilioRestClient(account_sid, auth_token, base_url=api_url)
        self._registered = RegisteredAgents()
        self._changes: dict[str, NumberChange] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections up; numbers stay as they are."""
        await self._client.close()

    @property
    def agents_by_number(self) -> dict[str, str]:
        """Ids of the registered agents by their numbers."""
        return self._registered.by_number

    async def register_agent(
        self, *, agent_id: str, phone_number: str, agent: Any = None, dry_run: bool = False
    ) -> NumberChange:
        """Have a number's calls and messages come to an agent here; doing it again changes nothing.

        Args:
            agent: a `FastAgent`; None for the one of this id that the process has.
            dry_run: only tell what would be changed.

        Raises:
            ConfigurationError: the account has no such number.
            TelephonyError: Twilio did not change it; with ``may_be_done`` nobody knows, and `undo` puts it
                back none the less.
        """
        self._registered.check(agent_id, phone_number, agent)
        found = await self._client.find_number(phone_number)
        if found is None:
            raise ConfigurationError("the account has no such phone number")
        change = _change(found, self._wanted(agent_id))
        if dry_run:
            return change
        if not change.is_empty:
            earlier = self._changes.get(phone_number)
            # Written down before it is done, so that a lost answer can be undone, too.
            self._changes[phone_number] = change if earlier is None else _joined(earlier, change)
            try:
                await self._client.update_number(found.sid, change.after)
            except TelephonyError as error:
                if not error.may_be_done:
                    del self._changes[phone_number]
                    if earlier is not None:
                        self._changes[phone_number] = earlier
                raise
        self._registered.add(agent_id, phone_number, agent)
        return change

    async def undo(self, *changes: NumberChange) -> list[NumberChange]:
        """Put back what was at the numbers before, as far as nobody changed it since; tells what was done.

        Args:
            changes: those of an earlier process; none for all of this connector.

        Raises:
            TelephonyError: Twilio did not; what is left is undone by another call.
        """
        done = []
        for change in changes or tuple(reversed(self._changes.values())):
            found = await self._client.find_number(change.phone_number)
            if found is not None:
                ours = {
                    name: value
                    for name, value in change.before.items()
                    if found.settings.get(name, "") == change.after[name]
                }
                back = _change(found, ours)
                if not back.is_empty:
                    await self._client.update_number(found.sid, back.after)
                done.append(back)
            self._changes.pop(change.phone_number, None)
            self._registered.remove(change.phone_number)
        return done

    async def start(self, *, host: str | None = None, port: int | None = None, **settings: Any) -> None:
        """Answer the registered numbers with their agents until the process is told to stop.

        Args:
            host: address to listen on; None takes it from the environment, as all that is not given.
            port: port to listen on.
            settings: further fields of `Settings`.

        Raises:
            ConfigurationError: no agent is registered, or there is none of an id.
        """
        await self._registered.serve(
            **{
                "twilio_account_sid": self._account_sid,
                "twilio_auth_tokens": (self._auth_token,),
                "twilio_api_url": self._api_url,
                "public_url": self._public_url,
                **settings,
                "host": host,
                "port": port,
            }
        )

    def _wanted(self, agent_id: str) -> dict[str, str]:
        return {
            "VoiceUrl": f"{self._public_url}{WEBHOOK_PATH}?bot={quote(agent_id, safe='')}",
            "VoiceMethod": "POST",
            "VoiceFallbackUrl": f"{self._public_url}/twilio/fallback",
            "StatusCallback": f"{self._public_url}/twilio/status",
            "SmsUrl": f"{self._public_url}/twilio/sms",
            "SmsMethod": "POST",
            # Where one of these is set Twilio does not look at the addresses above.
            "VoiceApplicationSid": "",
            "TrunkSid": "",
            "SmsApplicationSid": "",
        }


def _change(found: PhoneNumber, wanted: Mapping[str, str]) -> NumberChange:
    after = {name: value for name, value in wanted.items() if found.settings.get(name, "") != value}
    before = {name: found.settings.get(name, "") for name in after}
    return NumberChange(found.number, found.sid, before, after)


def _joined(first: NumberChange, then: NumberChange) -> NumberChange:
    """Both as one: what was before the first, what is after the second."""
    return NumberChange(
        first.phone_number, first.sid, {**then.before, **first.before}, {**first.after, **then.after}
    )
