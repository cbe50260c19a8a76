"""``fastagent serve --check``: its exit codes, and that it looks where only other rooms can."""

import json
import os
from pathlib import Path

import pytest

from fastagent.cli import main

AGENT = "fastagent.examples.appointment:agent"
STRONG = "5f0c6a8e91b24d7794c3ab0e6d1f2837"


@pytest.fixture(autouse=True)
def _no_variables_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FASTAGENT_", "OPENAI_")) or name in ("HOST", "PORT", "AUDIOCODES_TOKEN"):
            monkeypatch.delenv(name)


LOCAL = {"FASTAGENT_REALTIME_URL": "local"}


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "complaint"),
    [
        ([], LOCAL, 0, ""),
        ([AGENT], LOCAL, 0, ""),
        ([], {"OPENAI_API_KEY": "sk-canary-0001"}, 0, ""),
        ([], {**LOCAL, "HOST": "0.0.0.0"}, 1, "unsafe: HOST: 0.0.0.0 is reachable"),
        (["--host", "0.0.0.0"], LOCAL, 1, "unsafe: --host: 0.0.0.0 is reachable"),
        (["--host", "0.0.0.0"], {**LOCAL, "AUDIOCODES_TOKEN": STRONG}, 0, ""),
        ([], {}, 2, "wrong: api.openai.com needs an API key"),
        ([], {**LOCAL, "PORT": "http"}, 2, "wrong: PORT: expected int, got 'http'"),
        (["--set", "prot=1"], LOCAL, 2, "'prot' is no setting; the nearest is 'port'"),
        (["--set", "PORT=70000"], LOCAL, 2, "wrong: --set PORT: expected 0 to 65535"),
        (["--config", "missing.toml"], LOCAL, 2, "wrong: missing.toml: No such file"),
        ([], {**LOCAL, "FASTAGENT_TOKENS_FILE": "missing.toml"}, 2, "wrong: missing.toml: No such file"),
        (["no_such_module:agent"], LOCAL, 2, "wrong: cannot import no_such_module"),
        ([], {**LOCAL, "FASTAGENT_LEED_MS": "1"}, 0, "note: FASTAGENT_LEED_MS: no setting"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_exit_code_and_finding(arguments, variables, code, complaint, as_json, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["serve", "--check", *arguments, *(["--json"] if as_json else [])]) == code
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "canary" not in shown.out
    if as_json:
        document = json.loads(shown.out)
        assert document["exit_code"] == code
        texts = [f"{one['level']}: {one['text']}" for one in document["findings"]]
        assert complaint in "\n".join(texts)
        assert bool(texts) is bool(complaint)
    else:
        assert complaint in shown.out
        assert shown.out.splitlines()[-1].startswith({0: "fine", 1: "unsafe", 2: "wrong"}[code])


def test_every_kind_of_source_is_named(monkeypatch, tmp_path: Path, capsys):
    monkeypatch.chdir(tmp_path)
    Path("house.toml").write_text("\nmax_sessions = 5\nlead_ms = 200\n")
    monkeypatch.setenv("FASTAGENT_REALTIME_URL", "local")
    monkeypatch.setenv("FASTAGENT_LEAD_MS", "300")
    assert (
        main(["serve", "--check", "--config", "house.toml", "--port", "9000", "--set", "backlog_ms=7"]) == 0
    )
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert rows["max_sessions"] == ["5", "file", "house.toml:2"]
    assert rows["lead_ms"] == ["300", "variable", "FASTAGENT_LEAD_MS"]
    assert rows["port"] == ["9000", "option", "--port"]
    assert rows["backlog_ms"] == ["7", "option", "--set", "backlog_ms"]
    assert rows["host"] == ["127.0.0.1", "default"]


@pytest.mark.parametrize("arguments", [[], ["--json"], [AGENT, "--json"]])
def test_serving_needs_an_agent_and_json_needs_check(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: fastagent serve")
