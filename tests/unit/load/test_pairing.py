"""Who belongs to whom: by the sign that a session hears, by order only where none comes through."""

from fastagent._native.load import SIGN_NUMBERS
from fastagent.load import pairing as pairing_module
from fastagent.load.pairing import PairingDesk


def joining():
    joined = []
    return joined, PairingDesk(lambda caller, model: joined.append((caller, model)) or True)


def test_sessions_that_come_in_another_order_find_their_callers():
    joined, desk = joining()
    first, second = desk.add_caller(1), desk.add_caller(2)
    desk.add_session(11)
    desk.add_session(12)
    desk.heard(11, second.sign)
    desk.heard(12, second.sign)  # a second connection for one call
    desk.heard(12, first.sign)
    assert joined == [(2, 11), (1, 12)]
    assert desk.look(first)
    assert desk.by_order == desk.strays == 0


def test_a_sign_is_used_again_last_and_a_session_without_a_caller_is_a_stray():
    _, desk = joining()
    gone = desk.add_caller(1)
    desk.remove_caller(gone)
    desk.remove_caller(gone)
    desk.add_session(11)
    desk.heard(11, gone.sign)
    desk.remove_session(11)
    assert desk.strays == 1
    signs = [desk.add_caller(i).sign for i in range(SIGN_NUMBERS + 1)]
    assert signs[-2:] == [gone.sign, -1]


def test_where_no_sign_comes_through_those_who_waited_long_are_paired_by_order(monkeypatch):
    joined, desk = joining()
    first, second = desk.add_caller(1), desk.add_caller(2)
    desk.add_session(11)
    assert not desk.look(first)
    monkeypatch.setattr(pairing_module, "SIGN_TIMEOUT_S", -1.0)
    assert desk.look(first)
    assert not desk.look(second)
    desk.add_session(12)
    assert desk.look(second)
    assert joined == [(1, 11), (2, 12)]
    assert desk.by_order == 2
