"""Lines are asked in the name of the key that owns them, and with none of its admin rights."""

from dataclasses import replace
from pathlib import Path

import pytest

from slalom.gateway.auth import AccessError, Keys, key_digest
from slalom.gateway.params import KeyEntry
from slalom.testing import FakeLauncher, FakeScript
from slalom.testing.fake_script import FakeTimings
from slalom.testing.patience import until
from slalom.units import SECOND
from tests.batches.shop import CHAT, chat_lines, shop

ADMIN = KeyEntry("root", key_digest("secret"), admin=True, task="chat", ceiling="chat")


def test_it_is_the_key_without_its_rights() -> None:
    keys = Keys([ADMIN])
    secret = keys.stand_in("root")
    assert keys.stand_in("root") == secret
    found = keys.caller(b"Bearer " + secret, None)
    assert found is not None
    assert (found.name, found.task, found.ceiling) == ("root", "chat", "chat")
    with pytest.raises(AccessError):
        keys.admin(b"Bearer " + secret, None)
    assert keys.admin(b"Bearer secret", None) == ADMIN


def test_without_keys_none_is_needed_and_a_key_that_has_gone_has_none() -> None:
    assert Keys([]).stand_in("") == b""
    for keys, name in ((Keys([]), "root"), (Keys([ADMIN]), "other"), (Keys([ADMIN]), "")):
        with pytest.raises(AccessError):
            keys.stand_in(name)


async def test_lines_of_a_key_that_was_taken_away_are_refused(tmp_path: Path) -> None:
    one, two = (KeyEntry(name, key_digest(f"secret-{name}")) for name in ("one", "two"))

    slow = {"a": FakeLauncher(FakeScript(timings=FakeTimings(token_ns=100 * SECOND)))}
    async with (
        shop(tmp_path, slow, gateway=lambda params: replace(params, keys=(one,))) as world,
        world.client("secret-one") as sdk,
    ):
        file_id = await world.upload(chat_lines(3), sdk)
        batch = await sdk.batches.create(
            completion_window="24h", endpoint=CHAT, input_file_id=file_id
        )
    async with shop(tmp_path, gateway=lambda params: replace(params, keys=(two,))) as world:

        async def refused() -> bool:
            found = await world.desk.ask(lambda stored: stored.ledger.find("one", batch.id))
            return found.ended and found.failed == 3

        await until(refused, "every line is refused", seconds=20)
        assert not world.launchers["a"].engines
