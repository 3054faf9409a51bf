"""Journal lines: one JSON text for the header and one for each entry.

Owns the wire form: an entry is ``[now_ns, [[type, fields]…], [[type, fields]…]]``, the types being
the names of the core's event and action classes. Reading is strict: an unknown type or field is
an error that names the line's place, never a guess.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

import msgspec

from slalom.core import actions as core_actions
from slalom.core import events as core_events
from slalom.core.journal import Entry
from slalom.core.params import SchedulerParams
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.errors import SlalomError
from slalom.policies.registry import DEFAULT_KINDS, POLICIES, Slot, build, policy_class

#: Raised when the wire form changes; readers refuse others.
FORMAT_VERSION = 1


class JournalError(SlalomError):
    """A journal cannot be read; the message says where and why."""

    code = "journal_unreadable"


_EVENTS = {kind.__name__: kind for kind in get_args(core_events.Event)}
_ACTIONS = {kind.__name__: kind for kind in get_args(core_actions.Action)}
_ENCODER = msgspec.json.Encoder()


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What a fresh scheduler needs to replay the entries that follow."""

    version: int
    models: tuple[ModelSpec, ...]
    devices: tuple[DeviceSpec, ...]
    #: slot -> [kind, options]
    policies: Mapping[str, tuple[str, dict[str, Any]]]
    params: SchedulerParams
    #: Wall-clock time of `now_ns` = 0, ns since 1970; 0 in the twin.
    epoch_unix_ns: int = 0

    def scheduler(self) -> Scheduler:
        """A fresh scheduler as it was when the journal began.

        Raises:
            ConfigError: A policy of the journal does not exist in this version.
        """
        plain: dict[str, tuple[str, dict[str, Any]]] = {
            slot: (kind, {}) for slot, kind in DEFAULT_KINDS.items()
        }
        chosen = {**plain, **self.policies}  # an older journal knows fewer slots
        built = {slot: _policy(slot, *chosen[slot]) for slot in POLICIES}
        return Scheduler(self.models, self.devices, Policies(**built), self.params)  # type: ignore[arg-type]


def _policy(slot: Slot, kind: str, options: Mapping[str, Any]) -> object:
    """A policy with options as JSON has them, which knows neither tuples nor dataclasses."""
    types = get_type_hints(policy_class(slot, kind))
    typed = {name: msgspec.convert(value, types.get(name, Any)) for name, value in options.items()}
    return build(slot, kind, typed)


def header_for(scheduler: Scheduler, *, epoch_unix_ns: int = 0) -> Header:
    """The header of a journal that this scheduler begins.

    Raises:
        JournalError: One of its policies is not in the registry, so no replay could build it.
    """
    chosen: dict[str, tuple[str, dict[str, Any]]] = {}
    for slot in POLICIES:
        policy = getattr(scheduler.policies, slot)
        chosen[slot] = (_kind_of(slot, policy), dataclasses.asdict(policy))
    return Header(
        version=FORMAT_VERSION,
        models=tuple(model.spec for model in scheduler.state.models.values()),
        devices=tuple(device.spec for device in scheduler.state.devices.values()),
        policies=chosen,
        params=scheduler.params,
        epoch_unix_ns=epoch_unix_ns,
    )


def _kind_of(slot: Slot, policy: object) -> str:
    for kind, known in POLICIES[slot].items():
        if type(policy) is known:
            return kind
    raise JournalError(
        f"the {slot} policy {type(policy).__name__} is not in slalom.policies.registry, "
        "so a journal that uses it could not be replayed: add it there"
    )


def encode_header(header: Header) -> bytes:
    """One line, with its line end."""
    return _ENCODER.encode({"slalom_journal": header}) + b"\n"


def encode_entry(entry: Entry) -> bytes:
    """One line, with its line end."""
    events = [(type(event).__name__, event) for event in entry.events]
    actions = [(type(action).__name__, action) for action in entry.actions]
    return _ENCODER.encode((entry.now_ns, events, actions)) + b"\n"


def decode_header(line: bytes, where: str) -> Header:
    """Read the first line of a journal.

    Raises:
        JournalError: It is no header, or one of another format version.
    """
    try:
        found = msgspec.json.decode(line)["slalom_journal"]
        version = found["version"]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise JournalError(f"{where}: the first line is not the header of a journal") from error
    if version != FORMAT_VERSION:
        raise JournalError(
            f"{where}: journal format {version}, but this version reads {FORMAT_VERSION}"
        )
    header: Header = _convert(found, Header, where)
    return header


def decode_entry(line: bytes, where: str) -> Entry:
    """Read one entry.

    Raises:
        JournalError: The line is not an entry of this format.
    """
    try:
        now_ns, events, actions = msgspec.json.decode(line)
        return Entry(
            now_ns=now_ns,
            events=tuple(_convert(data, _EVENTS[name], where) for name, data in events),
            actions=tuple(_convert(data, _ACTIONS[name], where) for name, data in actions),
        )
    except (msgspec.DecodeError, ValueError, TypeError, KeyError) as error:
        raise JournalError(f"{where}: not a journal entry ({error})") from error


def _convert(data: Any, into: Any, where: str) -> Any:
    try:
        return msgspec.convert(data, into)
    except msgspec.ValidationError as error:
        raise JournalError(f"{where}: {into.__name__}: {error}") from error
