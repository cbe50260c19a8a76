"""TwilioDialer: calls that we make, to allowed numbers and as often as the limits allow."""

import re
from collections.abc import Sequence

from fastagent.errors import TelephonyLimitError
from fastagent.telephony.quotas import DailyQuota
from fastagent.telephony.twilio_rest import CARRIER, TwilioRestClient, check_number

__all__ = ["TwilioDialer", "is_allowed"]

_ALLOWED = re.compile(r"\+[1-9]\d{0,14}")


def is_allowed(number: str, allow: Sequence[str]) -> bool:
    """A number is on the list, or begins like an entry of it; nothing is on an empty one."""
    return any(_ALLOWED.fullmatch(one) and number.startswith(one) for one in allow)


class TwilioDialer:
    """Makes calls.

    Args:
        allow: numbers in E.164, or what they begin with.
    """

    def __init__(self, client: TwilioRestClient, allow: Sequence[str], quota: DailyQuota) -> None:
        self._client = client
        self._allow = tuple(allow)
        self._quota = quota

    def may_dial(self, number: str) -> bool:
        """The number is on the list."""
        return is_allowed(number, self._allow)

    async def dial(
        self,
        to: str,
        *,
        sender: str,
        url: str,
        status_callback: str = "",
        detects_machines: bool = False,
        waits_for_beep: bool = False,
        machine_callback: str = "",
    ) -> str:
        """Call a number, and give the call's SID.

        Args:
            url: asked for TwiML once somebody answers.
            detects_machines: Twilio finds out whether a machine answers: before it asks, or, with a
                callback, while the agent talks already.
            waits_for_beep: a machine is told of when its greeting is over.
            machine_callback: told who answered.

        Raises:
            TelephonyLimitError: it is not on the list, or the day's calls are used up.
            TelephonyError: no call was made, or nobody knows whether one was.
        """
        check_number(to)
        if not self.may_dial(to):
            raise TelephonyLimitError(CARRIER, "the number is not on the list of those that may be called")
        self._quota.take(to)
        return await self._client.create_call(
            to,
            sender=sender,
            url=url,
            status_callback=status_callback,
            detects_machines=detects_machines,
            waits_for_beep=waits_for_beep,
            machine_callback=machine_callback,
        )
