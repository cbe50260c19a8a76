"""TwilioOutbound: what a process sends out by Twilio, as its settings say."""

from fastagent.settings import Settings
from fastagent.telephony.quotas import DailyQuota
from fastagent.telephony.twilio_dialer import TwilioDialer
from fastagent.telephony.twilio_rest import CARRIER, TwilioRestClient
from fastagent.telephony.twilio_sms import TwilioSms

__all__ = ["TwilioOutbound", "twilio_outbound"]


def twilio_outbound(settings: Settings) -> "TwilioOutbound | None":
    """What the settings open; None when neither texts nor calls go out by Twilio.

    Raises:
        ConfigurationError: the extra ``twilio`` is not installed.
    """
    return TwilioOutbound(settings) if settings.texts_by_twilio or settings.dial_allow else None


class TwilioOutbound:
    """Text messages and calls of one process, with what limits them."""

    def __init__(self, settings: Settings) -> None:
        self.client = TwilioRestClient(
            settings.twilio_account_sid, settings.twilio_auth_tokens[0], base_url=settings.twilio_api_url
        )
        self.sms: TwilioSms | None = None
        """None: text messages go out by something else, or not at all."""
        if settings.texts_by_twilio:
            quota = DailyQuota(CARRIER, settings.sms_per_number_day, settings.sms_per_day)
            self.sms = TwilioSms(self.client, settings.twilio_sms_from, quota=quota)
        calls = DailyQuota(CARRIER, settings.dial_per_number_day, settings.dial_per_day)
        self.dialer = TwilioDialer(self.client, settings.dial_allow, calls)

    async def close(self) -> None:
        """Give the connections up."""
        await self.client.close()
