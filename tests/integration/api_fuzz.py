"""Schemathesis against a running house: ``python -m tests.integration.api_fuzz EXAMPLES [SEED]``.

Every operation of the document gets EXAMPLES generated requests, good ones and bad ones, beside those of the
coverage phase and of stateful sequences; all checks are on.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from fastagent.server.rest.openapi import document
from fastagent.server.rest.routes import OPERATIONS
from tests.integration.api_house import TOKEN, open_house

ROOT = Path(__file__).parents[2]
HOOKS = "tests.integration.api_fuzz_hooks"
CARRIER_TOKEN = "a-token-for-the-carrier"
DIALS_NOBODY: dict[str, Any] = {
    "twilio_auth_tokens": ("0" * 32,),
    "twilio_account_sid": "AC1",
    "twilio_sms_from": "+15550100002",
    "public_url": "https://bridge.example.com",
    "dial_allow": ("+999999999",),
}
"""There is a way to have calls made, and no number that may be called."""
CONFIG = """\
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "409", "413", "415", "422"]

# What fits the schema may still be no graph, and no audio file.
[[operations]]
include-operation-id = "post_agent_config"
checks.positive_data_acceptance.expected-statuses = ["2xx", "409", "422"]

[[operations]]
include-operation-id = "start_playback"
checks.positive_data_acceptance.expected-statuses = ["202", "400", "404", "409", "415"]

# A number may fit and not be on the list.
[[operations]]
include-operation-id = "start_call"
checks.positive_data_acceptance.expected-statuses = ["400", "403", "404"]

# A text may fit and be no cursor that a page gave.
[[operations]]
include-operation-id = "list_sessions"
checks.positive_data_acceptance.expected-statuses = ["2xx", "422"]
"""


def fuzz(examples: int, *, seed: int, folder: Path, phases: str, include: tuple[str, ...] = ()) -> int:
    """Run it; the exit code, 0 for no finding. What it found stands on standard output."""
    (folder / "openapi.json").write_text(json.dumps(document(OPERATIONS)))
    (folder / "schemathesis.toml").write_text(CONFIG)
    tokens = {"audiocodes_tokens": (CARRIER_TOKEN,), "admin_tokens": (TOKEN,)}
    with open_house(folder, **tokens, **DIALS_NOBODY, auth_failures_max=10_000_000) as house:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml")),
            *(
                "run",
                str(folder / "openapi.json"),
                "--url",
                house.url,
                "-H",
                f"Authorization: Bearer {TOKEN}",
            ),
            # A call that is told to end goes on until the goodbye was heard, and what is kept of it stays.
            *("--checks", "all", "--exclude-checks", "use_after_free"),
            *("--mode", "all", "--max-examples", str(examples), "--seed", str(seed)),
            *("--phases", phases, "--workers", "1", "--request-timeout", "20", "--warnings", "off"),
            *("--report", "ndjson", "--report-ndjson-path", str(folder / "events.ndjson")),
            *("--generation-database", "none", "--no-color", "--suppress-health-check", "all"),
            *(part for name in include for part in ("--include-operation-id", name)),
        ]
        environment = {
            **os.environ,
            "PYTHONWARNINGS": "",
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": HOOKS,
        }
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def answered(folder: Path) -> dict[str, Counter[int]]:
    """How often each operation was answered with which status, in the run that used the folder."""
    seen: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for line in (folder / "events.ndjson").read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        label = recorder.get("label", "")
        for interaction in recorder.get("interactions", {}).values():
            if label.startswith(f"{interaction['request']['method']} /") and interaction.get("response"):
                seen[label][interaction["response"]["status_code"]] += 1
    return dict(seen)


def main() -> None:
    """Fuzz all operations."""
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        code = fuzz(examples, seed=seed, folder=Path(folder), phases="examples,coverage,fuzzing,stateful")
        for label, counts in sorted(answered(Path(folder)).items()):
            told = " ".join(f"{status}={count}" for status, count in sorted(counts.items()))
            print(f"{label:44} {counts.total():6} requests: {told}")
        sys.exit(code)


if __name__ == "__main__":
    main()
