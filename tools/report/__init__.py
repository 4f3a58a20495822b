"""The HTML report of a run: rows of its ticks, charts, sections, and the templates of the page."""
