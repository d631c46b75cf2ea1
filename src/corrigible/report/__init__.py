"""From a plain summary to one self-contained page, Markdown, or a notebook fragment.

The room knows no method and no audit: it renders the dict it is given. What the dict holds is described in
`corrigible.report._summary`.
"""

from corrigible.report._charts import start_engine
from corrigible.report._markdown import to_markdown
from corrigible.report._notebook import notebook_html
from corrigible.report._render import render_audit, render_verification

__all__ = ["notebook_html", "render_audit", "render_verification", "start_engine", "to_markdown"]
