"""The file of routes: errors name file, route and field, and never a secret."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.contract.errors import BadInput, LinesideError, NotFound
from fleet.routes.settings import make_route, read_routes

GOOD = """
[[route]]
name = "team"
kind = "apprise"
url_env = "TEAM_URL"
severity = "warn"
match = { site = ["hall-*"], stream = ["low*"] }
repeat_min = 30

[[route]]
name = "mes"
kind = "webhook"
url = "https://mes.example/alerts"
secret_file = "mes.secret"
"""


@pytest.fixture
def write(tmp_path):
    def call(text):
        path = tmp_path / "routes.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return call


def test_a_file_is_read(write):
    team, mes = read_routes(write(GOOD))
    assert (team.repeat_ms, team.resend_ms, team.machine, mes.machine) == (1_800_000, 0, False, True)
    assert str(team.matcher) == "severity>=warn site=hall-* stream=low*"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"has no table \[\[route\]\]"),
        ("[[route", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        ("route = 3", "must be tables"),
        ("[route]\nname='a'", "must be tables"),
        ("[[routes]]\nname='a'", "there is"),
        ("[[route]]\nname='a'", "route 1 (a): object missing required field kind"),
        ("[[route]]\nname='a b'\nkind='apprise'", "route 1: name"),
        ("[[route]]\nname='a'\nkind='pager'\nurl='http://x'", "route 1 (a): kind = 'pager': must be one of"),
        ("[[route]]\nname='a'\nkind='webhook'\nurl='http://x'\nseverity='loud'", "route 1 (a): severity"),
        ("[[route]]\nname='a'\nkind='webhook'\nurl='http://x'\ntimeout_s=0", "route 1 (a): timeout_s"),
        ("[[route]]\nname='a'\nkind='webhook'\nurl='http://x'\nafter_min=nan", "route 1 (a): after_min"),
        ("[[route]]\nname='a'\nkind='webhook'\nurll='http://x'", "no field 'urll'; known are name, kind"),
        ("[[route]]\nname='a'\nkind='webhook'\nurl='http://x'\nmatch={place=['x']}", "match: no field 'place'"),
        ("[[route]]\nname='a'\nkind='webhook'\nurl='http://x'\nmatch={site='x'}", "route 1 (a): match.site"),
        ("[[route]]\nname='a'\nkind='webhook'", "url: needs one of url, url_env and url_file, got none"),
        ("[[route]]\nname='a'\nkind='webhook'\nurl='http://x'\nurl_env='X'", "got url, url_env"),
        ("[[route]]\nname='a'\nkind='apprise'\nurl='slack://token-x'", "url: holds a secret"),
        ("[[route]]\nname='a'\nkind='mqtt'\nurl='mqtt://u:token-x@h'", "url: holds a secret"),
        ("[[route]]\nname='a'\nkind='webhook'\nurl='http://x'\n" * 2, "route 2 (a): name stands there twice"),
    ],
)
def test_what_is_wrong_is_named(write, text, says):
    path = write(text)
    with pytest.raises(BadInput) as found:
        read_routes(path)
    said = str(found.value)
    assert said.startswith(str(path)) and says.replace("\\", "") in said
    assert "token-x" not in said and len(said.splitlines()) == 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: f"[[route]]\nname={text}".encode())))
def test_garbage_is_one_error_of_ours(write, content):
    with pytest.raises(LinesideError):
        read_routes(write(content))


def test_a_file_that_is_not_there_or_no_file(tmp_path):
    with pytest.raises(NotFound, match="no such file"):
        read_routes(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="cannot be read: is a directory"):
        read_routes(tmp_path)


def test_secrets_come_from_the_environment_or_a_file_of_ones_own(write, tmp_path):
    team, mes = read_routes(write(GOOD))
    with pytest.raises(BadInput, match="route team: url_env: the environment has no TEAM_URL"):
        make_route(team, tmp_path, {})
    with pytest.raises(BadInput, match=r"route team: url: nothing://\.\.\. is not one URL") as found:
        make_route(team, tmp_path, {"TEAM_URL": "nothing://token-x"})
    assert "token-x" not in str(found.value)
    make_route(team, tmp_path, {"TEAM_URL": "json://localhost/token-x"})
    secret = tmp_path / "mes.secret"
    with pytest.raises(NotFound, match=r"route mes: secret_file .*mes.secret: no such file"):
        make_route(mes, tmp_path, {})
    secret.write_text("token-x token-x token-x\n")
    secret.chmod(0o644)
    with pytest.raises(BadInput, match="other users may read or write it; chmod 600"):
        make_route(mes, tmp_path, {})
    secret.chmod(0o600)
    route = make_route(mes, tmp_path, {})
    assert "token-x" not in repr(vars(route).get("_post"))
    secret.write_text("short")
    with pytest.raises(BadInput, match="route mes: secret: 5 bytes are too few"):
        make_route(mes, tmp_path, {})
    secret.write_text("")
    with pytest.raises(BadInput, match="is empty"):
        make_route(mes, tmp_path, {})
