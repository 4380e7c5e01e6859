"""The browser that other tests stand on."""

import pytest


@pytest.mark.browser
def test_a_page_runs_a_script(page):
    page.set_content("<p id=x>no</p><script>document.getElementById('x').textContent = 6 * 7</script>")
    assert page.inner_text("#x") == "42"
    assert page.errors == []
