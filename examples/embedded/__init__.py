"""An app of one's own with live documents in it."""
