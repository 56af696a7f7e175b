"""Makes the site of the docs: `python -m builder FOLDER`, which `loop task docs:build` runs.

| Module | What it knows |
| --- | --- |
| `sources` | which files become which pages, and how they are listed |
| `markdown` | what a page of Markdown is as HTML; its headings, links, sections |
| `wit` | the reference of a WIT package |
| `highlight` | the colours of code |
| `layout` | what is around the text of a page |
| `search` | the index that pages search in |
"""
