"""TwilioSms: text messages by way of Twilio, to as many numbers and as often as the limits allow."""

from fastagent.telephony.quotas import DailyQuota
from fastagent.telephony.sms import SMS_CHARS_MAX
from fastagent.telephony.twilio_rest import CARRIER, TwilioRestClient, check_number

__all__ = ["PER_DAY_MAX", "PER_NUMBER_DAY_MAX", "TwilioSms"]

PER_NUMBER_DAY_MAX = 5
PER_DAY_MAX = 500


class TwilioSms:
    """An `SmsChannel` of Twilio's. It sends to whoever it is told to: tell it callers' numbers alone.

    Args:
        sender: one of our numbers in E.164, or the SID of a messaging service (``MG…``).
        quota: what counts the messages of a day; None takes the defaults of this file.
    """

    def __init__(self, client: TwilioRestClient, sender: str, *, quota: DailyQuota | None = None) -> None:
        self._client = client
        self._sender = sender
        self.quota = quota or DailyQuota(CARRIER, PER_NUMBER_DAY_MAX, PER_DAY_MAX)
        """Replies to messages count in it, too."""

    async def send(self, to: str, text: str) -> None:
        """Send one; what is longer than `SMS_CHARS_MAX` is cut there.

        Raises:
            TelephonyLimitError: the day's messages are used up.
            TelephonyError: it was not handed over, or nobody knows whether it was.
        """
        # A number that is none uses nothing up; what Twilio refuses does, else a refusal could be asked for.
        number = check_number(to.removeprefix("tel:"))
        self.quota.take(number)
        await self._client.send_message(number, text[:SMS_CHARS_MAX], sender=self._sender)
