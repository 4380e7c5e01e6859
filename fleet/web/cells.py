"""Cells of the table of devices, as Vue templates."""

from __future__ import annotations

DEVICE = """
<q-td :props="props">
  <a class="ls-name ls-name-device" :title="props.value" :href="'/device/' + props.value">{{ props.value }}</a>
</q-td>
"""

NAME = """<q-td :props="props"><span class="ls-name" :title="props.value">{{ props.value }}</span></q-td>"""

HEALTH = """<q-td :props="props"><span :class="'ls-dot ls-dot-' + props.value"></span>{{ props.value }}</q-td>"""

SCORE = """
<q-td :props="props">
  <template v-if="props.value !== null">
    <span class="ls-score">{{ props.value.toFixed(1) }}</span>
    <span class="ls-meter" :title="'pages at ' + props.row.page_at">
      <i :class="props.row.tone" :style="{width: props.row.width + '%'}"></i>
      <b class="warn" :style="{left: props.row.warn + '%'}"></b>
      <b class="page" :style="{left: props.row.page + '%'}"></b>
    </span>
  </template>
  <span v-else>not judged yet</span>
</q-td>
"""

BADGE = """
<q-td :props="props">
  <span v-if="props.value" :class="'ls-badge ls-badge-' + props.value">{{ props.row.alert_text }}</span>
</q-td>
"""
