"""The accuracy report as one HTML file that needs nothing else."""

from __future__ import annotations

from device_agent.contract.optional import require
from fleet.accuracy.drawings import over_time, reliability
from fleet.accuracy.intervals import Interval
from fleet.accuracy.report import AccuracyReport
from fleet.wording import say_time


def say_share(share: Interval | None) -> str:
    """A share with its limits in percent.

    >>> say_share(Interval(0.9133, 0.85, 0.96)), say_share(None)
    ('91.3 % (85.0 to 96.0)', '–')
    """
    if share is None:
        return "–"
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"


def render_page(report: AccuracyReport) -> str:
    """The page; names of others are escaped.

    Raises:
        MissingPackage: Jinja is not installed.
    """
    jinja2 = require("jinja2", extra="fleet")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals.update(
        share=say_share,
        time=say_time,
        over_time=lambda days, figure: jinja2.utils.markupsafe.Markup(over_time(days, figure)),
        reliability=lambda bands: jinja2.utils.markupsafe.Markup(reliability(bands)),
    )
    return str(environment.from_string(TEMPLATE).render(report=report))


STYLE = """
:root { color-scheme: light dark; --ink: #1f2733; --soft: #6b7480; --edge: #d9dee5; --line: #3b82f6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #98a1ad; --edge: #37404c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin-bottom: .3rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .6rem .25rem 0; }
th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--edge); }
.note { color: var(--soft); } .badge { border: 1px solid var(--edge); border-radius: 1rem; padding: 0 .5rem; }
.found { border-left: 4px solid #ef4444; padding: .3rem .8rem; margin: .4rem 0; }
svg { width: 100%; max-width: 35rem; font-size: 11px; fill: var(--soft); } svg.square { max-width: 15rem; }
.grid { stroke: var(--edge); } .band { fill: var(--line); opacity: .18; } .line { fill: none; stroke: var(--line); }
.limits { stroke: var(--line); } .dot { fill: var(--line); }
"""

TEMPLATE = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Accuracy of {{ report.scope }}</title><style>"""
    + STYLE
    + """</style></head><body>
<h1>Accuracy of {{ report.scope }}</h1>
<p class="note">{{ time(report.since_ms) }} to {{ time(report.until_ms) }}. Limits are 95 %. What comes from counts is
predicted, under assumptions that counts cannot check; what comes from labels and golden parts is measured.</p>
<h2>Found</h2>
{% for one in report.findings %}<p class="found"><b>{{ one.severity }}</b> {{ one.text }}</p>
{% else %}<p>Nothing that was measured is worse than it was claimed to be.</p>{% endfor %}
<h2>Not known</h2><ul>
{% for why in report.unknown %}<li>{{ why }}</li>{% endfor %}
{% for one in report.models %}{% for why in one.unknown %}<li>{{ one.name }}: {{ why }}</li>{% endfor %}{% endfor %}
</ul>
<h2>Golden parts</h2>
{% if report.golden %}<table><tr><th>line</th><th>since</th><th>runs</th><th>defects found</th>
<th>good parts passed</th><th>evidence of a fall</th></tr>
{% for one in report.golden %}<tr><td>{{ one.device }}</td><td>{{ time(one.since_ms) }}</td>
<td>{{ one.outcome.runs }}</td><td>{{ share(one.recall) }}</td><td>{{ share(one.passed) }}</td>
<td>{{ "%.1f of %.1f"|format(one.outcome.log_e, one.outcome.bound) }}</td></tr>
{% endfor %}</table>{% else %}<p>None was run.</p>{% endif %}
{% for model in report.models %}
<h2>{{ model.name }} <span class="note">{{ model.model }}, {{ model.devices }} devices</span></h2>
{% if model.unlabelled %}
<h3>From counts (predicted)</h3>
<table><tr><th>figure</th><th>estimate</th><th>badge</th><th></th></tr>
{% for one in model.unlabelled.judgements %}<tr><td>{{ one.figure }} {{ one.of }}</td><td>{{ share(one.interval) }}</td>
<td><span class="badge">{{ one.badge }}</span></td><td class="note">{{ one.why }}</td></tr>{% endfor %}</table>
<p class="note">{{ "{:,}".format(model.unlabelled.frames) }} frames, {{ "%.0f"|format(model.unlabelled.independent) }}
independent; mean confidence {{ "%.2f"|format(100 * model.unlabelled.mean_confidence) }} %; like no validated class:
{{ share(model.unlabelled.strange) }}.</p>
{% if model.days|length > 1 %}<p>Accuracy by day, from counts</p>{{ over_time(model.days, "accuracy") }}
<p>Recall of defects by day, from counts</p>{{ over_time(model.days, "recall") }}{% endif %}
{% endif %}
{% if model.labelled %}
<h3>From {{ model.labelled.labels }} labels (measured)</h3>
<table><tr><th></th><th>now</th><th>in validation</th></tr>
<tr><td>accuracy</td><td>{{ share(model.labelled.accuracy) }}</td>
<td>{{ share(model.expected.accuracy) }}</td></tr>
<tr><td>recall of defects</td><td>{{ share(model.labelled.recall) }}</td>
<td>{{ share(model.expected.recall) }}</td></tr>
<tr><td>defects that pass</td><td>{{ share(model.labelled.escape) }}</td><td></td></tr>
<tr><td>good parts rejected</td><td>{{ share(model.labelled.overkill) }}</td>
<td>{{ share(model.expected.overkill) }}</td>
</tr></table>
{% endif %}
{% if model.calibration %}
<h3>Calibration: {{ model.calibration.verdict }}</h3>
<p class="note">Expected calibration error {{ "%.3f"|format(model.calibration.ece.value) }}
({{ "%.3f"|format(model.calibration.ece.low) }} to {{ "%.3f"|format(model.calibration.ece.high) }});
{{ "%.3f"|format(model.calibration.chance) }} by chance alone; p {{ "%.4f"|format(model.calibration.p) }}.</p>
{{ reliability(model.calibration.bands) }}
{% endif %}
{% if model.slices %}
<h3>Slices</h3>
<table><tr><th>slice</th><th>labels</th><th>wrong</th><th>expected</th><th></th></tr>
{% for one in model.slices %}<tr><td>{{ one.by }} {{ one.name }}</td><td>{{ one.labels }}</td>
<td>{{ share(one.wrong) }}</td>
<td>{{ "–" if one.expected is none else "%.1f %%"|format(100 * one.expected) }}</td><td>{{ one.verdict }}</td></tr>
{% endfor %}</table>
{% endif %}
{% if model.ranking %}
<h3>Devices, lowest limit of accuracy first (predicted)</h3>
<table><tr><th>device</th><th>site</th><th>frames</th><th>accuracy</th><th>recall of defects</th><th>badges</th></tr>
{% for one in model.ranking[:50] %}<tr><td>{{ one.device }}</td><td>{{ one.site }}</td><td>{{ one.frames }}</td>
<td>{{ share(one.accuracy.interval) }}</td><td>{{ share(one.recall.interval) }}</td>
<td>{{ one.accuracy.badge }} / {{ one.recall.badge }}</td></tr>{% endfor %}</table>
{% endif %}
{% else %}<p>No model was heard of in this time.</p>{% endfor %}
{% if report.requests %}<h2>Requested labels</h2><table><tr><th>request</th><th>made</th><th>labelled</th></tr>
{% for one in report.requests %}<tr><td>{{ one.request }}</td><td>{{ time(one.asked_ms) }}</td>
<td>{{ one.labelled }} of {{ one.samples }}</td></tr>{% endfor %}</table>{% endif %}
</body></html>
"""
)
