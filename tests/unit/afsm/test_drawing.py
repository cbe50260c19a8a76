"""Pictures of graphs and their coverage: everything is drawn once, readable, the same each time."""

import re
from itertools import combinations, pairwise
from random import Random
from xml.etree import ElementTree

import pytest

from fastagent.afsm import Graph
from fastagent.afsm.coverage import Coverage, Way, ways_of
from fastagent.afsm.definition import read_watches
from fastagent.afsm.drawing import to_mermaid, to_svg
from fastagent.afsm.drawing.layout import place
from fastagent.examples.appointment import agent
from fastagent.journal import MemoryJournal, RunRecorder

SVG = "{http://www.w3.org/2000/svg}"
GRAPH = Graph.from_states(
    [
        {
            "name": "a", "allowed_transitions": ["b", "end"], "slots": [{"name": "amount", "type": "number"}],
            "guards": {"b": 'slots.amount < 3 and "<&>" in input'}, "handles": {"transfer": "end"},
            "silence": [{"after_s": 8, "next_state": "a"}],
        },
        {"name": "b", "description": "Say <&>", "allowed_transitions": ["a", "end"]},
        {"name": "hours", "is_digression": True, "enter_when": "'hours' in words"},
        {"name": "end"},
    ],
    "a",
    supervisor=read_watches([{"name": "abuse", "words": ["damn"], "steps": [{"next_state": "end"}]}]),
)  # fmt: skip


def walked():
    coverage = Coverage()
    for move in (("", "a", "start"), ("a", "hours", "digression"), ("hours", "a", "return"),
                 ("a", "b", "continue"), ("b", "end", "answer")):  # fmt: skip
        coverage.note(*move)
    return coverage


def texts(svg):
    return ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_ways_are_moves_digressions_and_watches():
    assert [str(way) for way in ways_of(GRAPH)] == [
        "a → b (input)", "a → end (input)", "a → a (silence)", "a → end (transfer)", "b → a (input)",
        "b → end (input)", "* → hours (digression)", "* → end (watch)",
    ]  # fmt: skip


def test_mermaid_has_every_state_and_way_and_escapes_its_own_signs():
    text = to_mermaid(GRAPH)
    lines = text.splitlines()
    assert lines[0] == "flowchart TD"
    assert '    s3(["end"])' in lines
    assert '    s2[["hours"]]' in lines
    assert "    start --> s0" in lines
    assert '    s0 -->|"slots.amount #60; 3 and #34;#60;#38;#62;#34; in input"| s1' in lines
    assert '    s0 -.->|"silence"| s0' in lines
    assert '    any -.->|"watch: abuse"| s3' in lines
    assert sum("->" in line for line in lines) == len(ways_of(GRAPH)) + 1


def test_mermaid_tells_what_was_walked_and_what_not():
    text = to_mermaid(GRAPH, walked())
    assert '"a ×2"' in text
    assert "class s0,s1,s2,s3 walked" in text
    assert '    s1 -->|"×1"| s3' in text
    assert '    s1 -.->|"×0"| s0' in text
    positions = re.search(r"linkStyle ([\d,]+) ", text)[1]
    missed = [ways_of(GRAPH)[int(one) - 1] for one in positions.split(",")]
    assert missed == walked().missed(GRAPH)[1]


def test_svg_is_xml_with_every_state_and_way():
    drawn = to_svg(GRAPH, title="a <task>")
    root = ElementTree.fromstring(drawn)
    assert root.find(f"{SVG}title").text == "a <task>"
    assert set(texts(drawn)) >= {"a", "b", "hours", "end", "any state"}
    pairs = {(way.origin, way.target) for way in ways_of(GRAPH)}
    paths = [one for one in root.iter(f"{SVG}path") if "way" in one.get("class", "")]
    assert len(paths) == len(pairs) + 1
    assert [one.text for one in root.iter(f"{SVG}title")].count("Say <&>") == 1
    assert drawn == to_svg(GRAPH, title="a <task>")


def test_svg_tells_what_was_walked_and_what_not():
    root = ElementTree.fromstring(to_svg(GRAPH, walked()))
    classes = [one.get("class", "") for one in root.iter() if "way" in one.get("class", "")]
    assert sum("walked" in one.split() for one in classes) == 3
    assert sum("missed" in one.split() for one in classes) == 4
    alone = Coverage()
    assert "box missed" in to_svg(GRAPH, alone)


@pytest.mark.parametrize("seed", range(20))
def test_no_two_boxes_or_words_meet_and_all_is_within_the_picture(seed):
    random = Random(seed)
    names = [f"n{number}" for number in range(random.randint(1, 25))]
    pairs = list(
        dict.fromkeys((random.choice(names), random.choice(names)) for _ in range(random.randint(0, 50)))
    )
    widths = {name: random.uniform(80, 200) for name in names}
    words = {pair: random.uniform(0, 150) for pair in pairs}
    layout = place(widths, pairs, names[0], words)
    fixed = [(box.x, box.y, box.width) for box in layout.boxes.values()]
    fixed += [(*at, words[pair]) for pair, at in layout.words.items()]
    for (x0, y0, width0), (x1, y1, width1) in combinations(fixed, 2):
        assert y0 != y1 or abs(x0 - x1) >= (width0 + width1) / 2
    for x, y, width in fixed:
        assert x - width / 2 >= -0.01
        assert x + width / 2 <= layout.width + 0.01
        assert 0 <= y <= layout.height
    assert layout.bends.keys() == {pair for pair in pairs if pair[0] != pair[1]}


def test_a_chain_longer_than_the_stack_is_placed():
    names = [f"n{number}" for number in range(1_500)]
    pairs = list(pairwise(names))
    layout = place(dict.fromkeys(names, 80.0), pairs, "n0", {})
    assert layout.boxes["n1499"].y > layout.boxes["n0"].y


def test_missed_states_and_ways_are_named():
    coverage = Coverage()
    coverage.note("", "a", "start")
    states, ways = coverage.missed(GRAPH)
    assert states == ["b", "hours", "end"]
    assert len(ways) == 8
    assert coverage.summary(GRAPH) == "1 runs: 1 of 4 states, 0 of 8 ways"
    assert walked().times(Way("*", "hours", "digression")) == 1


def test_a_journal_counts_by_task_and_version():
    graph = agent.tasks["book_appointment"].graph
    journal = MemoryJournal()
    for run, task, version in (("1", "book_appointment", graph.content_hash), ("2", "other", ""),
                               ("3", "book_appointment", "old")):  # fmt: skip
        recorder = RunRecorder(journal, run)
        recorder.begin(task, version, slots={})
        recorder.record("transition", {"from": "", "to": "collect_date", "reason": "start"})
        recorder.record("transition", {"from": "collect_date", "to": "confirm", "reason": "answer"})
    coverage = Coverage()
    coverage.read(journal.entries(), graph, "book_appointment")
    assert coverage.runs == 2
    assert coverage.runs_of_other_versions == 1
    assert coverage.times(Way("collect_date", "confirm", "input")) == 2
    assert coverage.summary(graph) == "2 runs, 1 of other versions: 2 of 5 states, 1 of 9 ways"
