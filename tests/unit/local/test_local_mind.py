"""The rules of the embedded engine's mind, as a table."""

from datetime import date

import orjson
import pytest

from fastagent.local.mind import Call, Entry, Mind, Say, Situation, waiting_task

INSTRUCTIONS = """\
You answer the telephone of a clinic. Be brief.
Opening hours: We are open Monday to Friday, nine to five.
Location: We are at twelve Main Street.
Price: The first visit is free. Every other visit is forty dollars.
Fax: five five five
Greeting: Hello, this is the clinic."""


def function(name: str, description: str = "", **properties: object) -> dict[str, object]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "name": name, "description": description, "parameters": parameters}


TOOLS = (
    function(
        "book_appointment",
        "Book an appointment for the caller.",
        date={"type": "string", "description": "The day."},
        time={"type": "string", "description": "The time of day."},
    ),
    function("task_reply", "Give a waiting task the caller's answer."),
    function("task_cancel", "Stop a task the caller no longer wants."),
    function("end_call", "Say goodbye and hang up."),
    function("transfer_call", "Hand the caller on to a person."),
)
WAITING = (
    Entry("user", "i would like to book an appointment"),
    Entry("call", "{}", name="book_appointment", call_id="c1"),
    Entry(
        "output", '{"status":"needs_input","task":"book_appointment","say":"What day, please?"}', call_id="c1"
    ),
    Entry("assistant", "What day, please?"),
)
DONE = (
    *WAITING,
    Entry("call", "{}", name="task_reply", call_id="c2"),
    Entry("output", '{"status":"done","task":"book_appointment","say":"Booked."}', call_id="c2"),
    Entry("assistant", "Booked. Is there anything else?"),
)


def decide(*entries: Entry, mind: Mind | None = None, **situation: object) -> tuple[Say | Call, ...]:
    defaults: dict[str, object] = {"instructions": INSTRUCTIONS, "tools": TOOLS}
    mind = mind or Mind(today=lambda: date(2026, 3, 4))
    return mind.decide(Situation(**{**defaults, **situation, "entries": entries}))  # type: ignore[arg-type]


def said(actions: tuple[Say | Call, ...]) -> str:
    (action,) = actions
    assert isinstance(action, Say)
    return action.text


def called(actions: tuple[Say | Call, ...]) -> tuple[str, dict[str, object]]:
    (action,) = actions
    assert isinstance(action, Call)
    return action.name, orjson.loads(action.arguments)


class TestFirstWords:
    def test_greets_with_the_greeting_of_the_instructions(self) -> None:
        assert said(decide()) == "Hello, this is the clinic."

    def test_greets_politely_without_one(self) -> None:
        assert said(decide(instructions="You answer.")) == "Hello, how can I help you?"

    @pytest.mark.parametrize(
        ("instructions", "text"),
        [
            ('Greet the caller with: "Good day. Who is calling?"', "Good day. Who is calling?"),
            ("Say: We close now.", "We close now."),
            ('say exactly: "One. Two."', "One. Two."),
        ],
    )
    def test_says_what_a_response_dictates(self, instructions: str, text: str) -> None:
        assert said(decide(*WAITING, response_instructions=instructions)) == text

    def test_response_instructions_that_dictate_nothing_do_not_speak(self) -> None:
        assert said(decide(response_instructions="Be friendly.")) == "Hello, this is the clinic."


class TestFunctions:
    @pytest.mark.parametrize(
        ("text", "arguments"),
        [
            ("i would like to book an appointment", {}),
            ("i need an appointment", {}),
            ("book an appointment for tomorrow", {"date": "tomorrow"}),
            (
                "I'd like an appointment next Friday at half past ten, please.",
                {"date": "next friday", "time": "half past ten"},
            ),
            ("schedule an appointment on monday at three pm", {"date": "monday", "time": "three pm"}),
        ],
    )
    def test_words_that_fit_a_function_call_it(self, text: str, arguments: dict[str, str]) -> None:
        assert called(decide(Entry("user", text))) == ("book_appointment", arguments)

    def test_undoing_does_not_start_what_it_would_undo(self) -> None:
        assert "catch" in said(decide(Entry("user", "cancel my appointment")))

    def test_tool_choice_none_calls_nothing(self) -> None:
        assert isinstance(decide(Entry("user", "book an appointment"), tool_choice="none")[0], Say)

    def test_a_value_that_a_parameter_lists_counts_like_a_word_of_the_name(self) -> None:
        tool = function("desk", "Does it.", request={"type": "string", "enum": ["opening_balance", "card"]})
        action = called(decide(Entry("user", "what is my balance"), tools=(tool,), instructions="Be kind."))
        assert action == ("desk", {})
        assert called(decide(Entry("user", "a card"), tools=(tool,))) == ("desk", {"request": "card"})

    def test_a_labelled_answer_comes_before_a_function_and_any_other_sentence_after_it(self) -> None:
        tool = function("transfer_money", "Transfer money.")
        labelled = "You transfer money.\nFee: A transfer of money is free."
        question = Entry("user", "does a transfer of money take long")
        assert said(decide(question, tools=(tool,), instructions=labelled)) == "A transfer of money is free."
        assert called(decide(question, tools=(tool,), instructions="You transfer money."))[0] == tool["name"]

    def test_tool_choice_required_calls_something(self) -> None:
        assert called(decide(Entry("user", "hello"), tool_choice="required"))[0] == "book_appointment"

    def test_a_named_tool_is_called_whatever_was_said(self) -> None:
        choice = {"type": "function", "name": "end_call"}
        assert called(decide(Entry("user", "hello"), tool_choice=choice)) == ("end_call", {})

    def test_a_person_is_fetched_by_the_transfer_tool(self) -> None:
        assert called(decide(Entry("user", "i want to speak to a person")))[0] == "transfer_call"

    @pytest.mark.parametrize("text", ["goodbye", "thank you goodbye", "that is all", "no thank you"])
    def test_goodbye_ends_the_call(self, text: str) -> None:
        assert called(decide(*DONE, Entry("user", text))) == ("end_call", {})

    def test_goodbye_is_said_when_nothing_can_hang_up(self) -> None:
        assert said(decide(Entry("user", "goodbye"), tools=())) == "Thank you for calling. Goodbye."


class TestTasks:
    @pytest.mark.parametrize("text", ["on monday", "i do not know", "goodbye", "yes please"])
    def test_a_waiting_task_gets_the_callers_words(self, text: str) -> None:
        arguments = {"task": "book_appointment", "answer": text}
        assert called(decide(*WAITING, Entry("user", text))) == ("task_reply", arguments)

    @pytest.mark.parametrize("text", ["cancel", "never mind", "stop please"])
    def test_never_mind_cancels_it(self, text: str) -> None:
        assert called(decide(*WAITING, Entry("user", text))) == ("task_cancel", {"task": "book_appointment"})

    def test_without_the_cancel_tool_the_task_hears_it(self) -> None:
        tools = [tool for tool in TOOLS if tool["name"] != "task_cancel"]
        assert called(decide(*WAITING, Entry("user", "cancel"), tools=tools))[0] == "task_reply"

    def test_a_side_question_is_answered_and_the_task_goes_on_waiting(self) -> None:
        entries: tuple[Entry, ...] = (*WAITING, Entry("user", "what are your opening hours"))
        answer = said(decide(*entries))
        assert answer == "We are open Monday to Friday, nine to five."
        entries = (*entries, Entry("assistant", answer), Entry("user", "on monday"))
        assert called(decide(*entries))[0] == "task_reply"

    def test_a_question_that_only_a_stray_sentence_touches_goes_to_the_task(self) -> None:
        instructions = "Tell the status of an order."
        question = Entry("user", "what is the status")
        assert called(decide(*WAITING, question, instructions=instructions))[0] == "task_reply"

    def test_a_question_nobody_can_answer_goes_to_the_task(self) -> None:
        assert called(decide(*WAITING, Entry("user", "what is the weather")))[0] == "task_reply"

    def test_nothing_understood_repeats_the_tasks_question(self) -> None:
        assert said(decide(*WAITING, Entry("user", ""))) == "Sorry, I did not catch that. What day, please?"

    def test_a_report_by_system_message_is_spoken_and_waited_for(self) -> None:
        report = Entry("system", 'A task reports: {"status":"needs_input","task":"survey","say":"Any pain?"}')
        assert said(decide(*DONE, report)) == "Any pain?"
        reply = called(decide(*DONE, report, Entry("assistant", "Any pain?"), Entry("user", "no")))
        assert reply == ("task_reply", {"task": "survey", "answer": "no"})

    @pytest.mark.parametrize("status", ["done", "cancelled", "failed", "working", "error"])
    def test_a_task_stops_waiting_with_its_next_report(self, status: str) -> None:
        report = orjson.dumps({"status": status, "task": "book_appointment", "say": "x"}).decode()
        assert waiting_task(WAITING) == "book_appointment"
        assert waiting_task((*WAITING, Entry("output", report, call_id="c2"))) is None

    def test_the_task_that_asked_last_is_answered(self) -> None:
        other = Entry("output", '{"status":"needs_input","task":"other","say":"Name?"}', call_id="c9")
        again = Entry(
            "output", '{"status":"needs_input","task":"book_appointment","say":"Day?"}', call_id="c3"
        )
        assert waiting_task((*WAITING, other)) == "other"
        assert waiting_task((*WAITING, other, again)) == "book_appointment"


class TestOutputs:
    @pytest.mark.parametrize(
        ("output", "text"),
        [
            ('{"status":"done","task":"t","say":"Booked for Monday."}', "Booked for Monday."),
            ("It is sunny.", "It is sunny."),
            ('{"slots":["nine","ten"],"id":4}', "slots: nine and ten."),
            ('{"error":"database"}', "Sorry, that did not work."),
            ('{"status":"working"}', "One moment, please."),
            ("{}", "That is done."),
            ("", "That is done."),
            ("null", "That is done."),
            ("{broken", "{broken"),
        ],
    )
    def test_an_output_is_spoken(self, output: str, text: str) -> None:
        call = Entry("call", "{}", name="lookup", call_id="c1")
        assert said(decide(Entry("user", "x"), call, Entry("output", output, call_id="c1"))) == text

    def test_outputs_of_one_response_are_spoken_together(self) -> None:
        entries = (
            Entry("call", "{}", name="a", call_id="c1"),
            Entry("call", "{}", name="b", call_id="c2"),
            Entry("output", '{"say":"One."}', call_id="c1"),
            Entry("output", '{"say":"Two."}', call_id="c2"),
        )
        assert said(decide(*entries)) == "One. Two."

    def test_an_ended_call_with_nothing_to_say_stays_silent(self) -> None:
        call = Entry("call", "{}", name="end_call", call_id="c1")
        assert decide(call, Entry("output", '{"ok":true}', call_id="c1")) == ()

    def test_an_output_nobody_heard_is_told_when_the_caller_is_not_understood(self) -> None:
        assert said(decide(*WAITING[:3], Entry("user", ""))) == "What day, please?"


class TestQuestions:
    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            ("what are your opening hours", "We are open Monday to Friday, nine to five."),
            ("When do you close?", "We are open Monday to Friday, nine to five."),
            ("where are you located", "We are at twelve Main Street."),
            ("how much does it cost", "The first visit is free. Every other visit is forty dollars."),
            ("what is your fax", "Fax: five five five"),
        ],
    )
    def test_answered_from_the_instructions(self, question: str, answer: str) -> None:
        assert said(decide(Entry("user", question))) == answer

    def test_unlabelled_sentences_are_facts_too(self) -> None:
        text = said(
            decide(Entry("user", "where are you located"), instructions="Be kind. We are located in Rome.")
        )
        assert text == "We are located in Rome."

    def test_what_is_not_there_is_not_invented(self) -> None:
        assert "catch" in said(decide(Entry("user", "what is the capital of france")))


class TestSmallTalk:
    @pytest.mark.parametrize(
        ("text", "last_said", "answer"),
        [
            ("can you repeat that", "We close at five.", "We close at five."),
            ("thank you", "", "You are welcome. Is there anything else?"),
            ("can you help me", "", "Of course. I can book appointment."),
            ("bananas", "Hi. What day?", "Sorry, I did not catch that. What day?"),
            ("bananas", "Hi.", "Sorry, I did not catch that. How can I help you?"),
            ("", "Hi. What day?", "Sorry, I did not catch that. What day?"),
        ],
    )
    def test_is_answered(self, text: str, last_said: str, answer: str) -> None:
        assert said(decide(Entry("assistant", last_said), Entry("user", text), last_said=last_said)) == answer

    def test_silence_after_we_spoke_is_asked_about(self) -> None:
        assert (
            said(decide(Entry("assistant", "Hi."), last_said="What day?")) == "Are you still there? What day?"
        )

    def test_the_same_situation_gives_the_same_actions(self) -> None:
        entries = (*WAITING, Entry("user", "on monday"))
        assert decide(*entries) == decide(*entries, mind=Mind())
