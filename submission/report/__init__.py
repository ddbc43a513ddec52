"""The complexity report of a package: what the INT8 graph costs, as JSON, Markdown and an HTML page."""
