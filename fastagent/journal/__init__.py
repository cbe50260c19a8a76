"""The append-only, hash-chained record of a conversation: what a restart resumes from and replay reads.

`entry` is a line and its place in the chain, `memory` the chain itself, `file` keeps it on the disk by one
thread for all conversations, `append_file` is the file and its repair, `redaction` keeps secrets out.
"""

from fastagent.journal.append_file import Reading, read_journal
from fastagent.journal.entry import Entry
from fastagent.journal.file import FileJournal, JournalWriter, Trouble
from fastagent.journal.journal import KINDS, Journal
from fastagent.journal.memory import JournalLimits, MemoryJournal
from fastagent.journal.redaction import Redaction
from fastagent.journal.run_record import RunRecorder

__all__ = [
    "KINDS",
    "Entry",
    "FileJournal",
    "Journal",
    "JournalLimits",
    "JournalWriter",
    "MemoryJournal",
    "Reading",
    "Redaction",
    "RunRecorder",
    "Trouble",
    "read_journal",
]
