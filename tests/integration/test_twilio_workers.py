"""Twilio calls with several workers on one port: any of them may get the next request of a call."""

from pathlib import Path

import pytest

from fastagent.errors import LegConnectError
from fastagent.testing.realtime_model import ModelSession, RealtimeModel
from fastagent.testing.twilio_phone import TwilioOptions, TwilioPhone
from tests.integration.processes import House
from tests.integration.scene import PUBLIC_URL, TWILIO_ACCOUNT, TWILIO_TOKEN
from tests.integration.test_drain import run

ATTEMPTS_MAX = 20
"""Each request comes to the other worker half the time."""
AGENT = 'from fastagent import FastAgent\nagent = FastAgent("desk", transfer_target="tel:+15550100099")\n'


def told(session: ModelSession) -> str:
    return str(session.sent("conversation.item.create"))


async def replayed(phone: TwilioPhone, url: str) -> None:
    """Neither what opened the call nor its ticket opens anything again, whichever worker is asked."""
    again = TwilioPhone(phone.line.options, call_sid=phone.line.call_sid, public_url=PUBLIC_URL)
    with pytest.raises(LegConnectError) as refused:
        await again.ask(url, TWILIO_TOKEN)
    assert refused.value.status == 403
    again.stream_url, again.parameters = phone.stream_url, dict(phone.parameters)
    await again.open_stream()
    await again.initiate()
    await again.wait_until(lambda line: line.is_over, "the refusal")
    await again.close()


def test_a_caller_whom_nobody_took_over_is_back_in_their_call_wherever_it_is(
    tmp_path: Path,
) -> None:
    async def scenario(here: House, model: RealtimeModel) -> None:
        (here.folder / "desk_of_test.py").write_text(AGENT)
        variables = {
            "TWILIO_AUTH_TOKEN": TWILIO_TOKEN,
            "TWILIO_ACCOUNT_SID": TWILIO_ACCOUNT,
            "FASTAGENT_PUBLIC_URL": PUBLIC_URL,
        }
        url = here.url.replace("ws://", "http://").replace("audiocodes", "twilio")
        async with here.process("--workers", "2", **variables) as process:
            await process.logged("2 workers take calls")
            for number in range(ATTEMPTS_MAX):
                options = TwilioOptions(dial_status="busy", comfort_noise_peak=0)
                phone = TwilioPhone(options, public_url=PUBLIC_URL)
                await phone.connect(url, TWILIO_TOKEN)
                await phone.initiate()
                session = await model.session(number)
                await replayed(phone, url)
                session.call_function("transfer_call", {"reason": "asked"})
                await phone.wait_ended()
                assert [verb.tag for verb in phone.verbs] == ["Connect", "Redirect", "Dial", "Connect"]
                await phone.come_back()
                await session.wait_until(lambda one: "the line was busy" in told(one), "the news")
                await phone.hang_up()
                assert phone.line.violations == []
                if number and "goes on in a sibling process" in process.log:
                    break
            assert "goes on in a sibling process" in process.log
            assert "Traceback" not in process.log

    run(tmp_path, scenario)
