"""One fetch: from a URL and a ref to a checkout that is in use."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeAlias

from patchkiln.errors import CloneError, RepositoryEmpty
from patchkiln.ports.repository import FetchProgress
from patchkiln.ports.sandbox import HostMount, Sandbox
from patchkiln.repositories.addresses import shown
from patchkiln.repositories.box import Tell, fetch_places
from patchkiln.repositories.cache import Entry, Record
from patchkiln.repositories.commands import Order, check_out, list_remote, measure, receive
from patchkiln.repositories.failures import ref_not_found, size
from patchkiln.repositories.locks import locked
from patchkiln.repositories.refs import Wanted, choose, patterns

# Lends a box that reaches the order's remote and sees these places of the cache.
LendBox: TypeAlias = Callable[[Sequence[HostMount]], AbstractAsyncContextManager[Sandbox]]


@dataclass(slots=True, kw_only=True)
class Fetch:
    """The state of one fetch.

    ``lent`` holds the checkout in use; ``made`` tells that it is new, ``wrote`` that the cache may
    hold more than before.
    """

    order: Order
    entry: Entry
    tell: Tell
    lend_box: LendBox
    lent: tuple[Record, int] | None = None
    made: bool = False
    wrote: bool = False

    def take(self, commit: str | None) -> bool:
        """Take the commit's checkout into use, if it is in the cache."""
        if commit is not None:
            self.lent = self.entry.lend(self.order.checkout_name(commit))
        return self.lent is not None

    def drop(self) -> None:
        """Give back what was taken and not handed on. Idempotent."""
        if self.lent is not None:
            os.close(self.lent[1])
        self.lent = None

    async def run(self) -> None:
        """Ask the remote, bring in what the cache does not have, and take it into use."""
        async with self.lend_box(()) as box:
            wanted = await self._resolve(box)
        if self.take(wanted.commit):
            return
        async with locked(self.entry.lock):
            # Another fetch may have made it meanwhile.
            if not self.take(wanted.commit):
                await self._make(wanted)

    async def _resolve(self, box: Sandbox) -> Wanted:
        order = self.order
        advertised = await list_remote(box, order, *patterns(order.ref))
        wanted = choose(advertised, order.ref)
        if wanted is not None:
            return wanted
        if not advertised.ids and not (await list_remote(box, order)).ids:
            raise RepositoryEmpty(f"{shown(order.url)} has no commit.")
        raise ref_not_found(shown(order.url), order.ref)

    async def _make(self, wanted: Wanted) -> None:
        self.wrote = True
        new = self.entry.new_checkout()
        async with self.lend_box(fetch_places(self.entry, new)) as box:
            commit = await self._receive(box, wanted)
            if self.take(commit):  # by its name nobody could know
                self.entry.finish()
                return
            record = await measure(box, self.order, commit, wanted.branch)
            self.tell(_checking_out(record))
            record = await check_out(box, self.order, record)
        self.entry.finish()
        # The box is gone: nobody can change the checkout any more.
        name = self.order.checkout_name(commit)
        self.entry.place(new, name)
        self.entry.write(name, record)
        self.made = self.take(commit)

    async def _receive(self, box: Sandbox, wanted: Wanted) -> str:
        anew, before = self.entry.spoiled, self.entry.store_bytes
        self.entry.begin()
        try:
            return await receive(box, self.order, wanted, self.tell, anew=anew)
        except CloneError:
            if not anew and self.entry.store_bytes == before:  # no such commit, say
                self.entry.finish()
            raise


def resolving(order: Order) -> FetchProgress:
    """Return what to tell before the remote is asked."""
    return FetchProgress(
        message=f"Looking up {order.ref or 'HEAD'} of {shown(order.url)}",
        data={"phase": "resolving", "ref": order.ref},
    )


def _checking_out(record: Record) -> FetchProgress:
    return FetchProgress(
        message=f"Checking out {record.file_count} files, {size(record.size_bytes)}",
        data={
            "phase": "checking out",
            "file_count": record.file_count,
            "size_bytes": record.size_bytes,
        },
    )
