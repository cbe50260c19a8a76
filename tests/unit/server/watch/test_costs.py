"""Costs: every token is billed once, and what has no price costs nothing."""

import json

import pytest

from fastagent.errors import ConfigurationError
from fastagent.server.watch.costs import (
    BUILT_IN_PRICES,
    OTHER_MODEL,
    TokenCount,
    load_prices,
    model_label,
)
from fastagent.wire.realtime_events import Usage

ENTRY = {
    "text_in": 1, "text_cached": 0.5, "text_out": 2, "audio_in": 10, "audio_cached": 5, "audio_out": 20,
    "as_of": "2026-11-01", "source": "a contract",
}  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (Usage(), (0, 0, 0, 0, 0, 0)),
        (Usage(100, 200, 0, 30, 40), (100, 0, 30, 200, 0, 40)),
        (Usage(313, 476, 640, 9, 23, cached_audio=384), (57, 256, 9, 92, 384, 23)),
        # not told of which kind: text first
        (Usage(100, 200, 150, 0, 0), (0, 100, 0, 150, 50, 0)),
        # more than there are: never below nought
        (Usage(10, 10, 500, 0, 0, cached_audio=400), (0, 10, 0, 0, 10, 0)),
        (Usage(10, 10, 5, 0, 0, cached_audio=9), (10, 0, 0, 5, 5, 0)),
    ],
)
def test_each_token_is_in_one_class(usage, tokens):
    count = TokenCount.of(usage)
    assert tuple(count) == tokens
    assert sum(count) == usage.input_text + usage.input_audio + usage.output_text + usage.output_audio
    assert min(count) >= 0


def test_money_is_that_of_the_list():
    tokens = TokenCount.of(Usage(313, 476, 640, 9, 23, cached_audio=384))
    expected = (57 * 4 + 640 * 0.4 + 9 * 16 + 92 * 32 + 23 * 64) / 1e6
    assert BUILT_IN_PRICES["gpt-realtime"].dollars(tokens) == pytest.approx(expected)


def test_every_price_has_a_day_and_a_source():
    for prices in BUILT_IN_PRICES.values():
        assert len(prices.as_of) == 10
        assert prices.source


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("gpt-realtime", "gpt-realtime"),
        ("gpt-realtime-2025-08-28", "gpt-realtime"),
        ("gpt-realtime-mini-2025-10-06", "gpt-realtime-mini"),
        ("gpt-realtime-2", "gpt-realtime-2"),
        ("gpt-realtime-20", OTHER_MODEL),
        ("gpt-realtime-2025-08-2x", OTHER_MODEL),
        ('x"} 1\nfastagent_calls 7', OTHER_MODEL),
        ("", OTHER_MODEL),
    ],
)
def test_label_is_of_a_known_model_or_other(model, label):
    assert model_label(model, BUILT_IN_PRICES) == label


def test_file_adds_and_replaces(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"mine": ENTRY, "gpt-realtime": ENTRY}))
    prices = load_prices(str(path))
    assert prices["mine"].dollars(TokenCount(1_000_000, 0, 0, 0, 0, 0)) == 1.0
    assert prices["gpt-realtime"].source == "a contract"
    assert prices["gpt-realtime-mini"] is BUILT_IN_PRICES["gpt-realtime-mini"]


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"mine": 4}',
        json.dumps({"mine": {**ENTRY, "extra": 1}}),
        json.dumps({"mine": {**ENTRY, "text_in": -1}}),
        json.dumps({"mine": {**ENTRY, "text_in": True}}),
        json.dumps({"mine": {**ENTRY, "as_of": 4}}),
        json.dumps({str(n): ENTRY for n in range(65)}),
    ],
)
def test_file_that_does_not_fit_is_a_configuration_error(content, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="FASTAGENT_PRICES"):
        load_prices(str(path))


def test_missing_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="FASTAGENT_PRICES"):
        load_prices(str(tmp_path / "none.json"))
