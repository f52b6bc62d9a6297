"""The records of a run's steps: where they are kept, and how a retry takes them over."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from patchkiln.domain.run import Run
from patchkiln.errors import StoreError
from patchkiln.pipeline.memory import PATCHES, STATE
from patchkiln.pipeline.record import StepRecord
from patchkiln.ports.store import Store

# An engine's journal is for small texts; a larger record goes into the store.
MAX_JOURNALED_CHARS = 64_000
TAKE_OVER = "take_over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Reads and keeps the records of one run, as this process has claimed it."""

    run: Run
    store: Store

    async def keep(self, name: str, text: str) -> str:
        """Return what the journal is to hold of a text."""
        if len(text) <= MAX_JOURNALED_CHARS:
            return text
        kept = f"step-{name}"
        await self.store.keep(self.run.id, kept, text.encode(), epoch=self.run.epoch)
        return json.dumps({"kept": kept})

    async def read(self, journaled: str) -> str:
        """Return the text of which the journal holds this."""
        return await self._read(self.run.id, journaled)

    async def take_over(self, parent_id: str, finished: Mapping[str, str]) -> str:
        """Make the finished steps of another run this one's; return their records by name.

        What the records say of that run, its patch among it, they say of this one from now on. Of
        a run that ended so long ago that its events are forgotten there is nothing to take.
        """
        first = await self.store.events(parent_id, after=0, limit=1)
        if not first or first[0].seq > 1:
            return "{}"
        texts = {name: await self._read(parent_id, text) for name, text in finished.items()}
        texts = {**json.loads(texts.pop(TAKE_OVER, "{}")), **texts}
        taken = {
            name: text.replace(parent_id, self.run.id)
            for name, text in texts.items()
            if StepRecord.read(text).ending is None
        }
        await self._take_files(parent_id)
        return await self.keep(TAKE_OVER, json.dumps(taken))

    async def _take_files(self, parent_id: str) -> None:
        run, store = self.run, self.store
        for name in (*PATCHES, STATE):
            data = await store.kept(parent_id, name)
            if data is not None:
                await store.keep(run.id, name, data, epoch=run.epoch)
        diff = await store.get_patch(parent_id)
        if diff is not None:
            await store.save_patch(run.id, diff, epoch=run.epoch)

    async def _read(self, run_id: str, journaled: str) -> str:
        kept = json.loads(journaled).get("kept")
        if kept is None:
            return journaled
        data = await self.store.kept(run_id, kept)
        if data is None:
            raise StoreError("The record of a finished step is gone.")
        return data.decode()
