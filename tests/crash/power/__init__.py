"""Power cuts: what a disk still has of a database's files when everything that was not synced is gone."""
