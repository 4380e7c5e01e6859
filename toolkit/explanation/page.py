"""The page of an explanation: bars of the layers' signal-to-noise ratio, the causes and what helps."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from device_agent.contract.files import write_whole
from toolkit.explanation.explanation import Explanation
from toolkit.explanation.words import cause_rows, layer_rows, sentences
from toolkit.page import Picture, Section, Table, render


def write_explanation(path: Path, found: Explanation) -> None:
    """Write the page wholly or not at all.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    columns, rows = cause_rows(found)
    causes = Table(columns=columns, rows=rows, caption="the largest share of the noise first; every fix was measured")
    columns, rows = layer_rows(found)
    layers = Table(columns=columns, rows=rows, caption="noise: share of the noise in the answers")
    sections = [
        Section(title="Findings", sentences=sentences(found), tables=[causes]),
        Section(title="Layers", pictures=[_bars(found)], tables=[layers]),
    ]
    write_whole(path, render("What quantization did", found.path, sections))


def _bars(found: Explanation) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(8.0, 0.16 * len(found.layers)), 5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    places = range(len(found.layers))
    whole = sum(each.harm**2 for each in found.layers) or 1.0
    above.bar(places, [min(each.own_db, 80) for each in found.layers], color="0.85", label="own part alone")
    above.bar(
        places, [min(each.sqnr_db, 80) for each in found.layers], width=0.5, color="#1b5fa8", label="at its output"
    )
    above.set(ylabel="SQNR in dB", title="Signal-to-noise ratio by layer; a low grey bar is the layer's own doing")
    above.legend(fontsize=8, loc="upper right")
    below.bar(places, [100 * each.harm**2 / whole for each in found.layers], color="#a4510a")
    below.set(ylabel="noise, %")
    below.set_xticks(list(places), [each.name for each in found.layers], rotation=90, fontsize=6)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    uri = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    return Picture(uri=uri, caption="below: each layer's share of the noise in the answers")
