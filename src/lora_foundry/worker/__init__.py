"""The process on a slot: takes commands, trains packs, appends events to its spool."""
