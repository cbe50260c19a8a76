"""Bodies: what is read, and what is refused before anybody looks at it."""

import pytest

from fastagent.server.rest.bodies import DEPTH_MAX, parse_json
from fastagent.server.rest.problems import Problem


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b' {"a": {"a": 1}, "b": [{"a": 2}]} ', {"a": {"a": 1}, "b": [{"a": 2}]}),
        (rb'{"a\":": "x\\", "b": "::"}', {'a":': "x\\", "b": "::"}),
        (b"[1, null, true]", [1, None, True]),
        (b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, None),
    ],
)
def test_json_that_reads_in_one_way_is_read(body, value):
    read = parse_json(body)
    assert read == value or value is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "not-json"),
        (b"{", "not-json"),
        (b"{'a': 1}", "not-json"),
        (b'{"a": NaN}', "not-json"),
        (b'{"a": 1} {}', "not-json"),
        (b'{"a": "\xff"}', "not-json"),
        (b'{"a": "\\ud800"}', "not-json"),
        (b"[" * 5_000 + b"]" * 5_000, "not-json"),
        (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), "json-too-deep"),
        (b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1), "json-too-deep"),
        (b'{"a": 1, "a": 1}', "json-doubled-key"),
        (b'{"b": [{"a": 1, "\\u0061": 2}]}', "json-doubled-key"),
    ],
)
def test_other_bodies_are_bad_requests(body, kind):
    with pytest.raises(Problem) as refused:
        parse_json(body)
    assert (refused.value.status, refused.value.kind) == (400, kind)
