"""A book of a few pages, made by Sphinx with the extensions of the real one."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONF = """\
extensions = ["myst_parser", {extensions}]
myst_enable_extensions = ["dollarmath", "deflist"]
html_theme = "basic"
templates_path = ["templates"]
html_static_path = [{static!r}]
numfig = True
"""
# The theme of the real book puts a page into an article.
LAYOUT = """\
{% extends "!layout.html" %}
{% block body %}<article>{% block inner %}{{ body }}{% endblock %}</article>{% endblock %}
"""


def build(folder, pages, *extensions, builder="html"):
    """Build the pages, texts by name; return the folder of the site, the status, what was said."""
    source = folder / "source"
    texts = {"templates/page.html": LAYOUT, "conf.py": conf(extensions)} | pages
    for name, text in texts.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "-n",
        "--keep-going",
        "-q",
        "-E",
        "-b",
        builder,
    ]
    paths = os.pathsep.join([str(ROOT / "book" / "_ext"), str(ROOT)])
    done = subprocess.run(
        [*command, str(source), str(folder / builder)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    return folder / builder, done.returncode, done.stdout + done.stderr


def conf(extensions):
    names = ", ".join(f'"{name}"' for name in extensions)
    return CONF.format(extensions=names, static=str(ROOT / "book" / "_static"))


def built(folder, pages, *extensions, builder="html"):
    """The folder of a site that was built without any warning."""
    site, status, said = build(folder, pages, *extensions, builder=builder)
    assert (status, said) == (0, ""), said
    return Path(site)
