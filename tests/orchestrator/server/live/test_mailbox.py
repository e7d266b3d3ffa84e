"""The bounded queue between a session and its reader."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.orchestrator.server.live.mailbox import Mailbox, MailboxClosed, MailboxFull


async def test_mailbox_gives_items_in_order_then_the_reason() -> None:
    mailbox: Mailbox[int] = Mailbox(3)
    mailbox.put(1)
    mailbox.put(2)
    reason = RuntimeError("over")
    mailbox.close(reason)
    mailbox.close()
    mailbox.put(3)
    assert [await mailbox.get(), await mailbox.get()] == [1, 2]
    with pytest.raises(MailboxClosed) as closed:
        await mailbox.get()
    assert closed.value.reason is reason


async def test_mailbox_over_its_limit_drops_everything_and_says_so() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    for number in range(5):
        mailbox.put(number)
    with pytest.raises(MailboxFull, match="2"):
        await mailbox.get()


def test_mailbox_reader_waits_for_the_next_item(virtual_run: Any) -> None:
    async def main() -> None:
        import asyncio

        mailbox: Mailbox[str] = Mailbox(2)
        asyncio.get_running_loop().call_later(5, mailbox.put, "late")
        assert await mailbox.get() == "late"
        assert asyncio.get_running_loop().time() == 5

    virtual_run(main())
