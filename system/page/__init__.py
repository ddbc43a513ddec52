"""HTML pages that open without a server: no script, no request; style (style.css) and figures stand inside.

base.html is what every page extends: its blocks are `title`, `style` (more of it, for one page) and `body`.
"""
