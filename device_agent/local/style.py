"""Style and script of the preview page. Dark follows the browser; what is narrow, such as a phone, gets one column."""

CSS = """
:root { color-scheme: light dark; --bg: #f5f6f8; --card: #fff; --line: #e3e6ea; --ink: #1c2430; --soft: #66707d;
  --good: #0b8a5e; --warn: #a86400; --bad: #d92d20; --brand: #1d5fd1; }
@media (prefers-color-scheme: dark) { :root { --bg: #12161c; --card: #1a2029; --line: #2a323e; --ink: #e6eaf0;
  --soft: #95a0ae; --good: #34d399; --warn: #fbbf24; --bad: #f87171; --brand: #7fb0ff; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--bg); color: var(--ink); font: 15px/1.4 system-ui, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums; }
header { background: var(--card); border-bottom: 1px solid var(--line); padding: 10px 20px; display: flex; gap: 16px; }
header b { color: var(--brand); } header span { font-weight: 600; } header i { margin-left: auto; font-style: normal; }
#fresh { color: var(--good); } #fresh.stale { color: var(--bad); }
main { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 7fr); gap: 16px; padding: 16px 20px;
  max-width: 1400px; margin: 0 auto; align-items: start; }
#parts { display: grid; gap: 16px; min-width: 0; }
figure, section:not(.tiles) { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: 14px 16px; }
figure { padding: 8px; position: sticky; top: 16px; }
img { display: block; width: 100%; border-radius: 6px; image-rendering: pixelated; background: var(--line);
  min-height: 80px; }
h1 { font-size: 28px; line-height: 1.2; display: flex; gap: 12px; align-items: center; flex-wrap: wrap;
  overflow-wrap: anywhere; }
h2 { font-size: 14px; font-weight: 600; margin-bottom: 6px; }
em { font-style: normal; font-size: 15px; padding: 2px 12px; border-radius: 99px; border: 1px solid currentColor; }
p { color: var(--soft); }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.tiles { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); }
dl { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; min-width: 0; }
dt { color: var(--soft); font-size: 12px; } dd { font-size: 17px; font-weight: 600; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; font-size: 13.5px; }
td, th { padding: 4px 8px 4px 0; text-align: left; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
.events td:first-child, .head > * { color: var(--soft); font-weight: 400; }
.events td:last-child { overflow-wrap: anywhere; width: 100%; }
meter { width: 100%; height: 16px; margin: 8px 0 4px; } td meter { margin: 2px 0; min-width: 60px; }
@media (max-width: 760px) { main { grid-template-columns: minmax(0, 1fr); padding: 12px; } figure { position: static; }
  .events th { white-space: normal; } }
"""

SCRIPT = """
const picture = document.getElementById('frame'), parts = document.getElementById('parts');
const fresh = document.getElementById('fresh');
const who = new URLSearchParams(location.search).get('camera');
const query = who ? '?camera=' + encodeURIComponent(who) + '&' : '?';
let turn = 0;
const look = async () => {
  if (!document.hidden) try {
    const answer = await fetch('/parts' + query, {signal: AbortSignal.timeout(4000), cache: 'no-store'});
    if (!answer.ok) throw new Error(answer.status);
    parts.innerHTML = await answer.text();
    const next = new Image();
    next.src = '/frame.png' + query + 'turn=' + turn++;
    await next.decode().then(() => { picture.src = next.src; }, () => {});
    fresh.textContent = 'live'; fresh.className = '';
  } catch { fresh.textContent = 'no answer'; fresh.className = 'stale'; }
  setTimeout(look, 500);
};
setTimeout(look, 500);
"""
