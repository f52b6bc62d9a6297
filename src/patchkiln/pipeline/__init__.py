"""The way of a run: seven steps, one module each, listed in `patchkiln.pipeline.steps`."""
