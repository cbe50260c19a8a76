"""Options before variables before the file before defaults; values have places, faults have names."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fastagent.errors import ConfigurationError
from fastagent.settings import Settings
from fastagent.settings.sources import Reading, Source, read_sources

ENTRIES = dataclasses.fields(Settings)
TOKEN = "correct-token-0123"
CHOSEN = {
    "host": "::1",
    "log_level": "ERROR",
    "log_format": "json",
    "metrics": "open",
    "realtime_url": "local",
    "public_url": "https://voice.example.com",
    "traces_url": "http://127.0.0.1:4318/v1/traces",
    "redis_url": "redis://127.0.0.1:6379/0",
    "barge_in": "off",
    "resume_proof": "number",
    "session_secret": "a secret of thirty-two characters",
    "turn_detection": "local",
    "speech_detector": "webrtc",
    "speech_preset": "strict",
    "recording_encoding": "mulaw",
    "trusted_proxies": ("10.0.0.0/8", "::1"),
    "no_media_limit_s": 60.0,
    "twilio_shared_keys": (f"one={TOKEN}", f"two={TOKEN}"),
    "twilio_api_url": "https://api.dublin.ie1.twilio.com",
    "dial_allow": ("+1555", "+4930"),
}
"""Values that differ from the defaults, where not just any will do."""
ADDRESS: dict[str, Any] = {"public_url": CHOSEN["public_url"]}
NEEDED: dict[str, dict[str, Any]] = {
    "twilio_auth_tokens": ADDRESS,
    "twilio_shared_keys": ADDRESS,
    "text_channel": {
        **ADDRESS,
        "twilio_auth_tokens": (TOKEN,),
        "twilio_account_sid": "AC1",
        "sms_sender": "twilio",
        "twilio_sms_from": "+15550100002",
    },
    "dial_allow": {**ADDRESS, "twilio_auth_tokens": (TOKEN,), "twilio_account_sid": "AC1"},
}
"""What some settings work only with."""


def another(entry: dataclasses.Field[Any]) -> Any:
    """A value that works and is not the default."""
    if entry.name in CHOSEN:
        return CHOSEN[entry.name]
    if isinstance(entry.default, bool):
        return not entry.default
    if isinstance(entry.default, tuple):
        return (TOKEN, "sha256:" + "ab" * 32)
    if isinstance(entry.default, str):
        return f"{entry.name}-of-ours"
    return entry.default + 2


def as_text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def as_toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def read(environment: dict[str, str] | None = None, **sources: Any) -> Reading:
    return read_sources(ENTRIES, environment or {}, **sources)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fastagent.toml"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_setting_can_be_given_by_each_source(entry, file):
    value, variable = another(entry), entry.metadata["variable"]
    assert value != entry.default
    given = NEEDED.get(entry.name, {})
    needed = {Settings.variable(name): as_text(one) for name, one in given.items()}
    expected = Settings(**{entry.name: value}, **given)
    from_variable = read({variable: as_text(value), **needed})
    assert Settings.from_reading(from_variable) == expected
    assert from_variable.source(entry.name) == Source("variable", variable)
    file.write_text(f"# a comment\n\n{entry.name} = {as_toml(value)}\n")
    from_file = read(needed, config=str(file))
    assert Settings.from_reading(from_file) == expected
    assert from_file.source(entry.name) == Source("file", f"{file}:3")
    for name in (entry.name, variable):
        from_option = read(needed, assignments=[f"{name}={as_text(value)}"])
        if entry.metadata["is_secret"]:
            assert list(from_option.complaints) == [entry.name]
            assert TOKEN not in str(from_option.complaints)
        else:
            assert Settings.from_reading(from_option) == expected
            assert from_option.source(entry.name) == Source("option", f"--set {name}")
    override = read(needed, overrides={entry.name: value})
    assert Settings.from_reading(override) == expected


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_wrong_type_in_the_file_names_key_and_line_and_never_the_value(entry, file):
    wrong = {bool: '"hush"', int: '"hush"', float: '"hush"', str: "4711", tuple: "[4711]"}
    for text in (wrong[type(entry.default)], "2026-01-01", "{hush = 4711}"):
        file.write_text(f"{entry.name} = {text}\n")
        (complaint,) = read(config=str(file)).complaints.values()
        assert complaint.startswith(f"{file}:1: {entry.name}: expected ")
        assert "hush" not in complaint
        assert "4711" not in complaint


@pytest.mark.parametrize("sources", range(16))
def test_precedence_of_every_combination(sources, file):
    file.write_text("max_sessions = 1\n")
    reading = read(
        {"MAX_SESSIONS": "2"} if sources & 2 else {},
        config=str(file) if sources & 1 else None,
        assignments=["max_sessions=3"] if sources & 4 else [],
        overrides={"max_sessions": 4 if sources & 8 else None},
    )
    expected = 4 if sources & 8 else 3 if sources & 4 else 2 if sources & 2 else 1 if sources & 1 else 1000
    assert Settings.from_reading(reading).max_sessions == expected
    kinds = {4: "option", 3: "option", 2: "variable", 1: "file", 1000: "default"}
    assert reading.source("max_sessions").kind == kinds[expected]


def test_file_is_named_by_option_or_variable(file, tmp_path):
    other = tmp_path / "other.toml"
    file.write_text("port = 1\n")
    other.write_text("port = 2\n")
    environment = {"FASTAGENT_CONFIG": str(file)}
    assert Settings.from_environment(environment).port == 1
    assert Settings.from_environment(environment, config=str(other)).port == 2
    assert Settings.from_environment({"FASTAGENT_CONFIG": "  "}).port == 8000


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("prot", "port"),
        ("PORT", "port"),
        ("max_sesions", "max_sessions"),
        ("FASTAGENT_LEAD_MS", "lead_ms"),
        ("openai_key", "openai_api_key"),
        ("ping_interval", "ping_interval_s"),
    ],
)
def test_unknown_key_names_the_nearest_known(key, nearest, file):
    file.write_text(f"host = '::1'\n{key} = 1\n")
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({}, config=str(file))
    assert str(caught.value) == f"{file}:2: {key!r} is no setting; the nearest is {nearest!r}"
    with pytest.raises(ConfigurationError, match=f"--set: {key!r} is no setting|--set") as caught:
        Settings.from_environment({}, assignments=[f"{key}x=1"])
    assert "nearest" in str(caught.value)


def test_table_is_no_setting(file):
    file.write_text("port = 1\n[server]\nhost = '::1'\n")
    (complaint,) = read(config=str(file)).complaints.values()
    assert complaint.startswith(f"{file}:2: 'server' is no setting")


@pytest.mark.parametrize("data", [b"port = ", b"port = 1\nport = 2\n", b"\xff", b"#" * 2_000_000, None])
def test_file_that_cannot_be_read_is_one_complaint(data, file):
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({}, config=str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_value_of_a_file_that_cannot_work_is_named_by_file_and_line(file):
    file.write_text("\nmax_sessions = 0\n")
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({}, config=str(file))
    assert str(caught.value) == f"{file}:2: max_sessions: expected more than 0, got 0"


def test_good_value_of_a_higher_source_covers_a_wrong_one(file):
    file.write_text("port = 'x'\nmax_sessions = 'many'\n")
    settings = Settings.from_environment({"PORT": "5"}, config=str(file), max_sessions=6)
    assert (settings.port, settings.max_sessions) == (5, 6)


def test_wrong_value_of_a_higher_source_is_not_covered_by_a_lower_one(file):
    file.write_text("port = 5\n")
    with pytest.raises(ConfigurationError, match="PORT: expected int"):
        Settings.from_environment({"PORT": "x"}, config=str(file))


def test_several_faults_are_told_as_the_first_and_their_number():
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"PORT": "x", "MAX_SESSIONS": "y", "LOG_LEVEL": "LOUD"})
    assert str(caught.value) == "PORT: expected int, got 'x' (and 2 more: see --check)"


@pytest.mark.parametrize("assignment", ["port", "=5", ""])
def test_assignment_without_name_or_sign_is_refused(assignment):
    with pytest.raises(ConfigurationError, match="--set"):
        Settings.from_environment({}, assignments=[assignment])


def test_variables_that_look_like_ours_are_remembered():
    environment = {
        "FASTAGENT_TOKEN_FILE": "x",
        "FASTAGENT_VERIFY": "1",
        "FASTAGENT_SIMD": "sse",
        "OTHER": "y",
    }
    assert read(environment).unknown_variables == ["FASTAGENT_TOKEN_FILE"]


def test_numbers_of_the_file_keep_their_kind(file):
    file.write_text("ping_interval_s = 3\nmax_sessions = 5\n")
    settings = Settings.from_environment({}, config=str(file))
    assert isinstance(settings.ping_interval_s, float)
    file.write_text("max_sessions = 5.0\n")
    with pytest.raises(ConfigurationError, match="max_sessions: expected int, got float"):
        Settings.from_environment({}, config=str(file))
    file.write_text("max_sessions = true\n")
    with pytest.raises(ConfigurationError, match="max_sessions: expected int, got true or false"):
        Settings.from_environment({}, config=str(file))
