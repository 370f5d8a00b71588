"""HTML reports: each is one file that needs no other, runs no script and asks no network.

A report module (`discovery`, `evaluation`, `comparison`, `ablation`) turns a result into the
context of its template; `page(result, ...).render()` is the text of the file.

    templates/      pages: one layout, the parts of sections, one template per report
    style.css       the look of pages and charts
    charts/         numbers as SVG
    thumbnails      answers and head maps as small pictures
    cells           values as tables show them
"""
