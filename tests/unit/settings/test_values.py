"""Settings: what the environment may say, what is refused, and what never shows."""

import dataclasses

import pytest

from fastagent.errors import ConfigurationError
from fastagent.settings import LOCAL_REALTIME, Settings

TOKEN = "correct-token-0123"
NUMBERS = [
    entry
    for entry in dataclasses.fields(Settings)
    if isinstance(entry.default, int | float) and not isinstance(entry.default, bool) and entry.name != "port"
]
MAY_BE_ZERO = (
    "workers",
    "drain_goodbye_s",
    "link_delay_ms",
    "coalesce_us",
    "recording_retention_days",
    "journal_retention_days",
    "calls_per_number",
    "calls_per_number_hour",
    "admission_lag_ms",
    "admission_cpu_percent",
)


def test_defaults_are_loopback_and_checked():
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.is_loopback
    settings.check()


def test_every_setting_has_a_variable_of_its_own():
    variables = [entry.metadata["variable"] for entry in dataclasses.fields(Settings)]
    assert len(set(variables)) == len(variables)
    given = {"PORT", "HOST", "LOG_LEVEL", "OPENAI_API_KEY", "MAX_SESSIONS", "DEFAULT_TIMEOUT_SECONDS"}
    assert given | {"WEBSOCKET_PING_INTERVAL"} <= set(variables)


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("PORT", "0", "port", 0),
        ("PORT", " 9000 ", "port", 9000),
        ("HOST", "::1", "host", "::1"),
        ("LOG_LEVEL", "debug", "log_level", "debug"),
        ("MAX_SESSIONS", "7", "max_sessions", 7),
        ("DEFAULT_TIMEOUT_SECONDS", "2.5", "default_timeout_s", 2.5),
        ("WEBSOCKET_PING_INTERVAL", "3", "ping_interval_s", 3.0),
        ("AUDIOCODES_TOKEN", TOKEN, "audiocodes_tokens", (TOKEN,)),
        ("AUDIOCODES_TOKEN", f" {TOKEN} ,, {TOKEN}2 ,", "audiocodes_tokens", (TOKEN, f"{TOKEN}2")),
        ("FASTAGENT_REALTIME_URL", LOCAL_REALTIME, "realtime_url", LOCAL_REALTIME),
        ("FASTAGENT_REALTIME_URL", "ws://[::1]:1/x?y=z", "realtime_url", "ws://[::1]:1/x?y=z"),
        ("FASTAGENT_LINK_DELAY_MS", "0", "link_delay_ms", 0),
        ("MAX_SESSIONS", "", "max_sessions", 1000),
        ("MAX_SESSIONS", "   ", "max_sessions", 1000),
    ],
)
def test_variable_is_read(variable, text, name, value):
    assert getattr(Settings.from_environment({variable: text}), name) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("PORT", "80.5"),
        ("LOG_LEVEL", "LOUD"),
        ("MAX_SESSIONS", "many"),
        ("MAX_SESSIONS", "1.5"),
        ("DEFAULT_TIMEOUT_SECONDS", "1,5"),
        ("FASTAGENT_REALTIME_URL", "https://example.org/"),
        ("FASTAGENT_REALTIME_URL", "example.org"),
        ("FASTAGENT_REALTIME_URL", "ws://"),
        ("FASTAGENT_REALTIME_URL", "wss:///v1/realtime"),
        ("FASTAGENT_REALTIME_URL", "ws://[::1"),
        ("FASTAGENT_REALTIME_URL", "ws://host:99999/"),
        ("FASTAGENT_REALTIME_URL", "ws://host:port/"),
        ("AUDIOCODES_TOKEN", "short"),
        ("AUDIOCODES_TOKEN", f"{TOKEN},short"),
        ("TWILIO_AUTH_TOKEN", "short"),
        ("TWILIO_SHARED_KEYS", "key-id"),
        ("TWILIO_SHARED_KEYS", "key-id=short"),
        ("FASTAGENT_PUBLIC_URL", "bridge.example.com"),
        ("FASTAGENT_PUBLIC_URL", "https://user:pass@bridge.example.com"),
        ("FASTAGENT_PUBLIC_URL", "https://bridge.example.com/?a=b"),
        ("FASTAGENT_PUBLIC_URL", "https://bridge.example.com/#ct=2000"),
        ("FASTAGENT_PUBLIC_URL", "https://[::1"),
        ("FASTAGENT_PUBLIC_URL", "https://"),
        ("FASTAGENT_AGENT_TOKEN", f"{TOKEN},short"),
        ("FASTAGENT_AGENT_DEMO", "perhaps"),
    ],
)
def test_value_that_cannot_work_is_refused_by_its_variable(variable, text):
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_environment({variable: text})


@pytest.mark.parametrize("url", ["https://bridge.example.com", "https://h:8443/voice/", "https://[::1]"])
def test_twilios_keys_go_with_the_address_it_calls(url):
    environment = {
        "TWILIO_AUTH_TOKEN": f"{TOKEN},{TOKEN}2",
        "TWILIO_SHARED_KEYS": f"id={TOKEN}",
        "TWILIO_ACCOUNT_SID": "AC1",
        "FASTAGENT_PUBLIC_URL": url,
    }
    settings = Settings.from_environment(environment)
    assert settings.twilio_auth_tokens == (TOKEN, f"{TOKEN}2")
    assert settings.twilio_shared_keys == (f"id={TOKEN}",)
    assert (settings.twilio_account_sid, settings.public_url) == ("AC1", url)
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("variable", ["TWILIO_AUTH_TOKEN", "TWILIO_SHARED_KEYS"])
@pytest.mark.parametrize("url", ["", "http://bridge.example.com"])
def test_twilio_needs_the_address_it_calls_and_that_by_https(variable, url):
    environment = {variable: f"id={TOKEN}", "FASTAGENT_PUBLIC_URL": url}
    with pytest.raises(ConfigurationError, match="FASTAGENT_PUBLIC_URL: expected https"):
        Settings.from_environment(environment)
    Settings.from_environment(environment | {"FASTAGENT_PUBLIC_URL": "https://bridge.example.com"})


OUTBOUND = {
    "sms_sender": "twilio",
    "twilio_sms_from": "+15550100002",
    "dial_allow": ("+1555",),
    "twilio_auth_tokens": (TOKEN,),
    "twilio_account_sid": "AC1",
    "public_url": "https://voice.example.com",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("twilio_sms_from", ""),
        ("twilio_sms_from", "15550100002"),
        ("twilio_sms_from", "MG1"),
        ("twilio_auth_tokens", ()),
        ("twilio_account_sid", ""),
        ("dial_allow", ("+",)),
        ("dial_allow", ("*",)),
        ("dial_allow", ("1555",)),
        ("transfer_allow", ("1555",)),
        ("transfer_ring_s", 4),
        ("transfer_ring_s", 601),
        ("transfer_allow", ("tel:+1555",)),
        ("transfer_allow", ("sip:desk",)),
        ("transfer_allow", ("@",)),
        ("transfer_allow", ("*",)),
        ("twilio_api_url", "http://api.twilio.com"),
        ("twilio_api_url", "https://user@api.twilio.com"),
    ],
)
def test_texts_and_calls_by_twilio_need_what_they_go_out_with(name, value):
    Settings(**OUTBOUND).check()
    with pytest.raises(ConfigurationError, match=Settings.variable(name)):
        Settings(**{**OUTBOUND, name: value}).check()


@pytest.mark.parametrize(("name", "value"), [("sms_sender", "log"), ("resume_proof", "off")])
def test_the_text_channel_needs_messages_to_answer_and_something_to_go_on_with(name, value):
    assert "by text" not in Settings(**OUTBOUND).interruption_text
    assert "{code} to go on by text" in Settings(**OUTBOUND, text_channel=True).interruption_text
    assert Settings(**OUTBOUND, text_channel=True, sms_text="Ring us.").interruption_text == "Ring us."
    Settings(**OUTBOUND, text_channel=True).check()
    with pytest.raises(ConfigurationError, match="FASTAGENT_TEXT_CHANNEL"):
        Settings(**{**OUTBOUND, "text_channel": True, name: value}).check()


def test_twilio_alone_may_be_reached_from_other_machines():
    settings = Settings.from_environment(
        {"HOST": "0.0.0.0", "TWILIO_AUTH_TOKEN": TOKEN, "FASTAGENT_PUBLIC_URL": "https://bridge.example.com"}
    )
    assert settings.has_tokens
    assert settings.has_twilio


@pytest.mark.parametrize(("name", "most"), [("append_ms", 200), ("coalesce_us", 1000)])
def test_what_delays_audio_has_a_most(name, most):
    variable = f"FASTAGENT_{name.upper()}"
    assert getattr(Settings.from_environment({variable: str(most)}), name) == most
    with pytest.raises(ConfigurationError, match=f"at most {most}, got {most + 1}"):
        Settings.from_environment({variable: str(most + 1)})


@pytest.mark.parametrize("entry", NUMBERS, ids=lambda entry: entry.name)
def test_limits_and_waits_are_positive_and_finite(entry):
    variable = entry.metadata["variable"]
    refused = ["-1"] + ([] if entry.name in MAY_BE_ZERO else ["0"])
    if isinstance(entry.default, float):
        refused += ["nan", "inf", "-inf"]
    for text in refused:
        with pytest.raises(ConfigurationError, match=variable):
            Settings.from_environment({variable: text})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_token(host):
    assert Settings.from_environment({"HOST": host}).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_reachable_host_needs_a_token(host):
    with pytest.raises(ConfigurationError, match="AUDIOCODES_TOKEN"):
        Settings.from_environment({"HOST": host})
    assert not Settings.from_environment({"HOST": host, "AUDIOCODES_TOKEN": TOKEN}).is_loopback


def test_overrides_win_unless_they_are_none():
    environment = {"PORT": "1", "MAX_SESSIONS": "2"}
    settings = Settings.from_environment(environment, port=3, max_sessions=None)
    assert (settings.port, settings.max_sessions) == (3, 2)


def test_changed_copy_is_checked():
    settings = Settings()
    assert settings.with_changes(port=1).port == 1
    assert settings.port == 8000
    with pytest.raises(ConfigurationError, match="PORT"):
        settings.with_changes(port=-1)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_secrets_show_neither_in_repr_nor_in_errors():
    settings = Settings(
        openai_api_key="sk-secret",
        audiocodes_tokens=(TOKEN,),
        twilio_auth_tokens=("auth-of-twilio-0001",),
        twilio_shared_keys=("id=shared-with-twilio",),
    )
    assert set(settings.secrets) == {"sk-secret", TOKEN, "auth-of-twilio-0001", "shared-with-twilio"}
    assert "twilio-0001" not in repr(settings)
    assert "shared-with" not in repr(settings)
    assert "sk-secret" not in repr(settings)
    assert TOKEN not in repr(settings)
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"AUDIOCODES_TOKEN": "hush-hush"})
    assert "hush" not in str(caught.value)


def test_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("MAX_SESSIONS", "41")
    assert Settings.from_environment().max_sessions == 41


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("TRUE", True), ("on", True), ("0", False), ("no", False)]
)
def test_switches_are_read_as_people_write_them(text, value):
    assert Settings.from_environment({"FASTAGENT_INBAND_DTMF": text}).inband_dtmf is value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FASTAGENT_INBAND_DTMF", "perhaps"),
        ("FASTAGENT_BARGE_IN", "always"),
        ("FASTAGENT_TURN_DETECTION", "vad"),
        ("FASTAGENT_SPEECH_DETECTOR", "magic"),
        ("FASTAGENT_SPEECH_PRESET", "loud"),
        ("FASTAGENT_RECORDING_ENCODING", "mp3"),
    ],
)
def test_a_value_outside_the_choices_is_refused_by_its_variable(variable, text):
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_environment({variable: text})
