"""Every page answers its reader within two seconds on a machine four times slower."""

from tests.site import speed

SLOW = """<!DOCTYPE html><html data-mode="auto"><title>Slow</title>
<button class="theme-switch-button" onclick="document.documentElement.dataset.mode=1">x</button>
<script>addEventListener("load", () => setTimeout(() => {
  const end = performance.now() + 2500; while (performance.now() < end);
}));</script></html>"""


def test_page_is_interactive_in_time_and_small(browser, site_url, name):
    found = speed.interactive(browser, site_url + name)
    assert found.interactive < speed.LIMIT_S
    assert found.size < speed.LIMIT_BYTES


def test_a_slow_page_is_seen(browser, tmp_path):
    (tmp_path / "slow.html").write_text(SLOW, encoding="utf-8")
    found = speed.interactive(browser, (tmp_path / "slow.html").as_uri(), loads=1)
    assert found.interactive > speed.LIMIT_S > found.answered


def test_a_page_that_never_answers_is_seen(browser, tmp_path):
    button = "<button class=theme-switch-button>x</button>"
    text = f"<!DOCTYPE html><html data-mode=auto><title>Dead</title>{button}</html>"
    (tmp_path / "dead.html").write_text(text, encoding="utf-8")
    page = browser.new_page()
    page.add_init_script(speed.WATCH)
    page.goto((tmp_path / "dead.html").as_uri())
    soon = "new Promise((done) => setTimeout(done, 300))"
    waiting = page.evaluate(f"Promise.race([window.answered, {soon}])")
    page.close()
    assert waiting is None
