"""What ``--check`` finds: wrong, unsafe or fine; and that it never shows a secret."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fastagent.cli.settings_check import print_review
from fastagent.settings import Settings
from fastagent.settings.review import Level, Review, review
from fastagent.settings.sources import read_sources

STRONG = "5f0c6a8e91b24d7794c3ab0e6d1f2837"
URL = "https://voice.example.com"
PUBLIC = {"HOST": "0.0.0.0", "AUDIOCODES_TOKEN": STRONG}


def reviewed(environment: dict[str, str] | None = None, **sources: Any) -> Review:
    return review(read_sources(dataclasses.fields(Settings), environment or {}, **sources))


def test_defaults_are_fine_and_every_setting_is_a_row():
    found = reviewed()
    assert (found.exit_code, found.findings) == (0, ())
    assert [row.name for row in found.rows] == [entry.name for entry in dataclasses.fields(Settings)]
    assert {row.source for row in found.rows} == {"default"}


def test_public_address_with_a_strong_token_is_fine():
    assert reviewed(PUBLIC).findings == ()
    digest = {"HOST": "0.0.0.0", "AUDIOCODES_TOKEN": "sha256:" + "0a" * 32}
    assert reviewed(digest).findings == ()
    twilio = {"HOST": "0.0.0.0", "TWILIO_AUTH_TOKEN": STRONG, "FASTAGENT_PUBLIC_URL": URL}
    assert reviewed(twilio).findings == ()


@pytest.mark.parametrize(
    ("environment", "setting"),
    [
        ({"HOST": "0.0.0.0"}, "host"),
        ({"FASTAGENT_PUBLIC_URL": "https://voice.example.com"}, "host"),
        ({"FASTAGENT_TRUSTED_PROXIES": "127.0.0.1"}, "host"),
        ({**PUBLIC, "AUDIOCODES_TOKEN": STRONG[:20]}, "audiocodes_tokens"),
        ({**PUBLIC, "FASTAGENT_ADMIN_TOKEN": "changeme" * 3}, "admin_tokens"),
        ({**PUBLIC, "FASTAGENT_ADMIN_TOKEN": "ab" * 20}, "admin_tokens"),
        ({**PUBLIC, "FASTAGENT_ADMIN_TOKEN": STRONG}, "admin_tokens"),
        ({**PUBLIC, "TWILIO_AUTH_TOKEN": STRONG[:20], "FASTAGENT_PUBLIC_URL": URL}, "twilio_auth_tokens"),
        ({**PUBLIC, "FASTAGENT_METRICS": "open"}, "metrics"),
        ({**PUBLIC, "FASTAGENT_TRUSTED_PROXIES": "0.0.0.0/0"}, "trusted_proxies"),
        ({**PUBLIC, "FASTAGENT_PUBLIC_URL": "http://voice.example.com"}, "public_url"),
        ({**PUBLIC, "FASTAGENT_CALLS_PER_NUMBER": "0"}, "calls_per_number"),
        ({**PUBLIC, "FASTAGENT_CALLS_PER_NUMBER_HOUR": "0"}, "calls_per_number_hour"),
        ({**PUBLIC, "FASTAGENT_ADMISSION_LAG_MS": "0"}, "admission_lag_ms"),
        ({**PUBLIC, "FASTAGENT_ADMISSION_CPU_PERCENT": "0"}, "admission_cpu_percent"),
        ({"REDIS_URL": "redis://10.0.0.9/0"}, "redis_url"),
        ({"OPENAI_API_KEY": "k", "FASTAGENT_REALTIME_URL": "ws://10.0.0.9/v1/realtime"}, "realtime_url"),
    ],
)
def test_unsafe_setting_is_named_and_exits_1(environment, setting):
    found = reviewed(environment)
    assert found.exit_code == 1
    assert [(one.level, one.setting) for one in found.findings] == [(Level.UNSAFE, setting)]


@pytest.mark.parametrize(
    ("environment", "setting"),
    [
        ({"PORT": "x"}, "port"),
        ({"PORT": "70000"}, "port"),
        ({"FASTAGENT_TRUSTED_PROXIES": "proxy.example.com"}, "trusted_proxies"),
        ({"FASTAGENT_TRUSTED_PROXIES": "10.0.0.1/8"}, "trusted_proxies"),
        ({"FASTAGENT_PUBLIC_URL": "voice.example.com"}, "public_url"),
        ({"REDIS_URL": "http://127.0.0.1"}, "redis_url"),
        ({"FASTAGENT_METRICS": "ajar"}, "metrics"),
        ({"LOG_FORMAT": "xml"}, "log_format"),
        ({"FASTAGENT_NO_MEDIA_LIMIT_SECONDS": "15"}, "no_media_limit_s"),
        ({"FASTAGENT_ADMIN_TOKEN": "short"}, "admin_tokens"),
        ({"TWILIO_AUTH_TOKEN": STRONG}, "public_url"),
        ({"TWILIO_AUTH_TOKEN": STRONG, "FASTAGENT_PUBLIC_URL": "http://voice.example.com"}, "public_url"),
        ({"TWILIO_SHARED_KEYS": "id=short", "FASTAGENT_PUBLIC_URL": URL}, "twilio_shared_keys"),
        ({"FASTAGENT_ADMIN_TOKEN": "sha256:xyz"}, "admin_tokens"),
    ],
)
def test_wrong_setting_exits_2_and_is_listed(environment, setting):
    found = reviewed(environment)
    assert found.exit_code == 2
    wrong = [one.setting for one in found.findings if one.level is Level.WRONG]
    assert wrong == [setting]


def test_all_faults_are_listed_at_once():
    found = reviewed({"PORT": "x", "MAX_SESSIONS": "0", "LOG_LEVEL": "LOUD", "HOST": "0.0.0.0"})
    assert {one.setting for one in found.findings} == {"port", "max_sessions", "log_level", "host"}
    assert next(row.value for row in found.rows if row.name == "port") == "wrong"


def test_unknown_variable_is_a_note_and_still_fine():
    found = reviewed({"FASTAGENT_LEED_MS": "5"})
    assert found.exit_code == 0
    assert [(one.level, one.setting) for one in found.findings] == [(Level.NOTE, "FASTAGENT_LEED_MS")]


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o640, 0o600])
def test_files_that_others_may_read(mode, tmp_path: Path):
    tokens, config, folder = tmp_path / "tokens.toml", tmp_path / "config.toml", tmp_path / "recordings"
    tokens.write_text("")
    folder.mkdir()
    config.write_text(f'openai_api_key = "sk-0001"\ntokens_file = "{tokens}"\nrecordings_dir = "{folder}"\n')
    for path in (tokens, config, folder):
        path.chmod(mode)
    found = reviewed(config=str(config))
    expected = {"config", "tokens_file", "recordings_dir"} if mode & 0o004 else set()
    assert {one.setting for one in found.findings} == expected


def test_no_secret_is_shown_in_either_form(capsys, tmp_path):
    canaries = {
        "OPENAI_API_KEY": "sk-canary-0001",
        "AUDIOCODES_TOKEN": "canary-token-000002, canary-token-000003",
        "FASTAGENT_AGENT_TOKEN": "canary-token-000004",
        "FASTAGENT_ADMIN_TOKEN": "canary-token-000004",
        "FASTAGENT_METRICS_TOKEN": "canary",
        "TWILIO_AUTH_TOKEN": "canary-token-000005",
        "TWILIO_SHARED_KEYS": "canary=canary-token-000006",
        "REDIS_URL": "redis://user:canary@10.0.0.1/0",
        "FASTAGENT_REALTIME_URL": "wss://user:canary@model.example.com/v1?api-key=canary",
    }
    found = reviewed(canaries)
    for as_json in (False, True):
        assert print_review(found, as_json=as_json) == 2
        shown = capsys.readouterr().out
        assert "canary" not in shown
        assert "set (19 characters), set (19 characters)" in shown
        assert "wss://model.example.com/v1?…" in shown


def test_json_holds_what_the_text_does(capsys):
    environment = {"PORT": "9000", "HOST": "0.0.0.0"}
    assert print_review(reviewed(environment), as_json=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 1
    rows = {row["name"]: row for row in document["settings"]}
    assert rows["port"] == {"name": "port", "variable": "PORT", "value": "9000", "source": "variable PORT"}
    (finding,) = document["findings"]
    assert (finding["level"], finding["setting"]) == ("unsafe", "host")
