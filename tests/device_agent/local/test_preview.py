"""The preview shows what the agent does to who has the token, and nothing to anybody else."""

from __future__ import annotations

import pytest

from device_agent.contract.errors import BadInput
from device_agent.local.live import LiveState
from device_agent.local.preview import COOKIE, serve_preview
from device_agent.local.settings import PreviewSettings
from device_agent.local.token import open_token, session_of

PATHS = ("/", "/parts", "/frame.png")


@pytest.fixture
def said() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def preview(live, said, tmp_path):
    server = serve_preview(
        PreviewSettings(listen="127.0.0.1:0"),
        {"press-1": live},
        state=tmp_path,
        event=lambda kind, text: said.append((kind, text)),
    )
    yield server
    server.close()


@pytest.fixture
def token(preview, tmp_path) -> str:
    return open_token(tmp_path)[0]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_there_is_nothing(preview, token, live, answer_frame, get, path):
    answer_frame()
    wrong = "0" * 32
    for more, headers in [
        ("", {}),
        (f"?token={wrong}", {}),
        ("?token=", {}),
        (f"?token={token[:-1]}", {}),
        (f"?Token={token}", {}),
        ("", {"Cookie": f"{COOKIE}={wrong}"}),
        ("", {"Cookie": f"{COOKIE}={token}"}),
        ("", {"Cookie": f"{COOKIE}=\xff\xfe; ;;=="}),
        ("", {"Authorization": f"Bearer {wrong}"}),
        ("", {"Authorization": f"Basic {token}"}),
        ("", {"Authorization": f"Bearer {session_of(token)}"}),
        ("", {"Authorization": "Bearer", "Cookie": f"{COOKIE}={session_of(token)}"}),
    ]:
        status, found, content = get(preview, path + more, **headers)
        assert status == 401 and "set-cookie" not in found and b"steel" not in content and b"PNG" not in content
        assert token.encode() not in content
    assert live.view().counters["preview_refused"] == 12


def test_the_token_is_taken_once_and_becomes_a_cookie(preview, token, answer_frame, get):
    answer_frame()
    status, headers, content = get(preview, f"/?token={token}")
    assert status == 200 and b"url=/" in content and b"steel" not in content and token.encode() not in content
    cookie = headers["set-cookie"]
    assert cookie == f"{COOKIE}={session_of(token)}; HttpOnly; SameSite=Strict; Path=/"
    for path in PATHS:
        assert get(preview, path, Cookie=f"other=1; {cookie.partition(';')[0]}")[0] == 200
        assert get(preview, path, Authorization=f"bearer {token}")[0] == 200


def test_another_host_name_is_refused_even_with_the_token(preview, token, get):
    for path in PATHS:
        assert get(preview, path, Host="evil.example", Authorization=f"Bearer {token}")[0] == 421


def test_the_page_takes_nothing_from_elsewhere_and_its_nonce_is_new_each_time(preview, token, answer_frame, get):
    answer_frame()
    _, headers, content = get(preview, "/", Authorization=f"Bearer {token}")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'nonce-")
    assert "unsafe" not in policy and "http" not in policy and b"http" not in content.replace(b"http-equiv", b"")
    assert get(preview, "/", Authorization=f"Bearer {token}")[1]["content-security-policy"] != policy


def test_what_comes_from_a_bundle_or_an_event_is_text(preview, token, live, answer_frame, get):
    answer_frame(label=1)
    live.event("camera_lost", "<img src=x onerror=alert(1)>")
    for path in ("/", "/parts"):
        content = get(preview, path, Authorization=f"Bearer {token}")[2].decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content and "<script>alert" not in content
        assert "<img src=x" not in content and "&lt;img src=x" in content


def test_before_the_first_frame_there_is_a_page_and_no_picture(preview, token, get):
    content = get(preview, "/", Authorization=f"Bearer {token}")[2]
    assert b"no frame was answered yet" in content
    assert get(preview, "/frame.png", Authorization=f"Bearer {token}")[0] == 404


def test_the_state_is_said_in_words(preview, token, live, answer_frame, get):
    answer_frame()
    live.serves("litert-fp32", "steel", ["good", "bad"], degraded=True)
    for name, value in {"camera_up": 0, "online": 0, "spool_rows": 77, "throttled": 1}.items():
        live.gauge(name, value)
    content = get(preview, "/parts", Authorization=f"Bearer {token}")[2].decode()
    for words in ("lost", "not connected", "77 waiting", "fallback", "throttled", "5.40 ms", "93.0 % sure"):
        assert words in content
    live.gauge("breaker_open", 1)
    assert "breaker open" in get(preview, "/parts", Authorization=f"Bearer {token}")[2].decode()


def test_logs_have_the_path_and_never_the_token(preview, token, said, get, capfd, tmp_path):
    get(preview, f"/?token={token}")
    get(preview, "/?token=" + "0" * 32)
    get(preview, "/")
    assert said[0] == (
        "preview",
        f"http://127.0.0.1:{preview.port}/?token=, followed by what is in {tmp_path}/preview.token",
    )
    assert [kind for kind, _ in said] == ["preview", "preview_refused"], "one a minute at most"
    heard = str(said) + "".join(capfd.readouterr())
    assert token not in heard and session_of(token) not in heard


def test_a_preview_for_the_network_is_said(live, said, tmp_path):
    serve_preview(
        PreviewSettings(listen="0.0.0.0:0", expose=True),
        {"press-1": live},
        state=tmp_path,
        event=lambda kind, text: said.append((kind, text)),
    ).close()
    assert [kind for kind, _ in said] == ["preview", "preview_exposed"] and "whole network" in said[1][1]


def test_each_camera_has_its_page(live, answer_frame, said, tmp_path, get):
    answer_frame(label=0)
    lives = {"press-1": live, "press-2": LiveState()}
    server = serve_preview(PreviewSettings(listen="127.0.0.1:0"), lives, state=tmp_path, event=lambda *_: None)
    try:
        bearer = {"Authorization": f"Bearer {open_token(tmp_path)[0]}"}
        first, second = (get(server, path, **bearer) for path in ("/", "/?camera=press-2"))
        assert b"<h1>good" in first[2] and b'href="/?camera=press-2"' in first[2]
        assert b"no frame was answered yet" in second[2] and b'href="/?camera=press-1"' in second[2]
        assert get(server, "/frame.png", **bearer)[0] == 200
        assert get(server, "/frame.png?camera=press-2", **bearer)[0] == 404
        for path in PATHS:
            assert get(server, f"{path}?camera=<b>", **bearer)[0] == 404
            assert get(server, f"{path}?camera=press-2")[0] == 401
    finally:
        server.close()


def test_a_state_folder_that_cannot_be_written_is_one_sentence(live, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"preview\.token"):
        serve_preview(PreviewSettings(), {"press-1": live}, state=tmp_path / "file" / "x", event=print)


@pytest.mark.browser
def test_a_browser_shows_frame_and_answer_and_keeps_them_fresh(preview, token, live, answer_frame, page, eventually):
    answer_frame(label=0, grey=10)
    console = []
    page.on("console", lambda message: console.append(message.text))
    page.goto(f"http://127.0.0.1:{preview.port}/?token={token}")
    page.wait_for_url(f"http://127.0.0.1:{preview.port}/")
    assert page.inner_text("h1").startswith("good")
    pixel = """() => { const c = document.createElement('canvas'), i = document.getElementById('frame');
        const d = c.getContext('2d'); d.drawImage(i, 0, 0);
        return [i.naturalWidth, d.getImageData(9, 9, 1, 1).data[0]] }"""
    eventually(lambda: page.evaluate(pixel) == [64, 10])
    answer_frame(label=1, grey=200)
    eventually(lambda: page.evaluate(pixel) == [64, 200])
    eventually(lambda: page.inner_text("h1").startswith("<script>"))
    live.event("camera_lost", "camera: silent for 5 s")
    page.wait_for_selector("text=camera: silent for 5 s")
    assert page.evaluate("document.cookie") == "", "no script can read it"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off on a phone"
    assert page.errors == [] and console == []
    preview.close()
    page.wait_for_selector("text=no answer")


@pytest.mark.browser
def test_a_browser_without_scripts_sees_it_too(preview, token, answer_frame, page):
    answer_frame()
    context = page.context.browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(f"http://127.0.0.1:{preview.port}/?token={token}")
    plain.wait_for_selector("h1")
    assert plain.inner_text("h1").startswith("good")
    answer_frame(label=1)
    plain.wait_for_selector("em.bad")
    context.close()


@pytest.mark.browser
def test_a_page_of_somebody_else_gets_nothing_with_the_cookie_of_the_user(preview, token, answer_frame, page):
    answer_frame()
    own = f"http://127.0.0.1:{preview.port}"
    page.goto(f"{own}/?token={token}")
    page.wait_for_selector("#frame")
    page.route("http://evil.example/", lambda route: route.fulfill(body="<p>evil</p>", content_type="text/html"))
    page.goto("http://evil.example/")
    taken = page.evaluate(
        """own => new Promise(done => { const i = new Image(); i.onload = () => done('picture');
        i.onerror = () => done('nothing'); i.src = own + '/frame.png'; })""",
        own,
    )
    assert taken == "nothing"
