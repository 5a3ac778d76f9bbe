"""The finite state machine: which command number does what. Nothing else may change the state.

`State` is the whole replicated state, put together so that a restore can build a new one beside
the old and swap it in when it proved whole.
"""

from __future__ import annotations

from collections.abc import Callable

from callboard.agent.state.dedupe import RequestLog
from callboard.agent.state.digest import MASK
from callboard.agent.state.indexes import ResourceIndexes
from callboard.agent.state.keyvalues import KeyValueTable
from callboard.agent.state.registrations import Registrations
from callboard.agent.state.waits import WaitSets
from callboard.catalog.commands import (
    NUMBERS,
    Deregister,
    KeyValueDelete,
    KeyValueDeleteTree,
    KeyValueSet,
    Register,
    TombstoneReap,
    decode_command,
)
from callboard.catalog.tables import CatalogTables

Result = bool | int | str


class State:
    """Everything replicated: a function of the applied commands."""

    def __init__(self, waits: WaitSets) -> None:
        self.indexes = ResourceIndexes(waits.moved)
        self.tables = CatalogTables()
        self.registrations = Registrations(self.tables, self.indexes)
        self.keys = KeyValueTable(waits.keys_moved)
        self.requests = RequestLog()

    @property
    def digest(self) -> int:
        """64 bits of the whole state, the applied index not included."""
        parts = self.registrations.digest + self.keys.digest * 3 + self.indexes.digest * 5
        return (parts + self.requests.digest * 7) & MASK


def apply(state: State, index: int, data: bytes) -> Result:
    """Apply a log entry's data. Raises UnknownCommand, before anything is changed."""
    command = decode_command(data, index)
    return _TABLE[type(command)](state, index, command)


def _register(state: State, index: int, command: Register) -> Result:
    answered = state.requests.answer(command.request_id)
    if answered is not None:
        return answered
    answer = state.registrations.register(index, command)
    state.requests.remember(command.request_id, answer)
    return answer


def _deregister(state: State, index: int, command: Deregister) -> Result:
    answered = state.requests.answer(command.request_id)
    if answered is not None:
        return answered
    answer = state.registrations.deregister(index, command)
    state.requests.remember(command.request_id, answer)
    return answer


def _key_value_set(state: State, index: int, command: KeyValueSet) -> Result:
    return state.keys.set(index, command)


def _key_value_delete(state: State, index: int, command: KeyValueDelete) -> Result:
    return state.keys.delete(index, command)


def _key_value_delete_tree(state: State, index: int, command: KeyValueDeleteTree) -> Result:
    return state.keys.delete_below(index, command.prefix)


def _tombstone_reap(state: State, _index: int, command: TombstoneReap) -> Result:
    return state.keys.reap(command.index)


_TABLE: dict[type, Callable[..., Result]] = {
    Register: _register,
    Deregister: _deregister,
    KeyValueSet: _key_value_set,
    KeyValueDelete: _key_value_delete,
    KeyValueDeleteTree: _key_value_delete_tree,
    TombstoneReap: _tombstone_reap,
}

assert _TABLE.keys() == NUMBERS.keys(), "every command has its place in the table"
