"""What pages about runs have in common."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 0 24px 48px; color: #252525; }
h1 { font-size: 22px; margin: 0 -24px 12px; padding: 14px 24px; color: white; }
h1.held { background: #238b45; } h1.broken { background: #cb181d; }
h2 { font-size: 17px; margin: 24px 0 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #fff5f0; border-left: 4px solid #cb181d;
      padding: 8px 12px; max-height: 12em; overflow: auto; }
.head { display: grid; grid-template-columns: 1fr 1fr; gap: 32px; align-items: start; }
table { border-collapse: collapse; }
th { text-align: left; font-weight: 600; vertical-align: top; padding: 1px 16px 1px 0; white-space: nowrap; }
td { vertical-align: top; padding: 1px 16px 1px 0; overflow-wrap: anywhere; }
"""


def rows(about: Iterable[tuple[str, str]]) -> str:
    """A table's rows: titles and texts."""
    return "".join(f"<tr><th>{escape(title)}</th><td>{escape(text)}</td></tr>\n" for title, text in about)
