"""The kit that reports are made of: pages of HTML, charts as SVG, small pictures.

A report is one file that needs nothing else: style, charts and pictures stand inside it, it runs
no script and asks the network for nothing.

    page = Page(
        "Localization heads", "of one model",
        (section("S_img", figure(charts.elbow(curve, index=870, threshold=0.24, title="S_img"))),),
        command="vg-engine discover ...",
    )
    page.render()

`charts` turns numbers into SVG, `pictures` draws answers and head maps at the size of a thumbnail,
`page` lays all of it out.
"""
