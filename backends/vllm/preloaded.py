"""Imported last by the fork server: makes what was imported before cheap to share."""

import gc

gc.collect()
gc.freeze()  # a collection in a fork would write to every page that it shares
