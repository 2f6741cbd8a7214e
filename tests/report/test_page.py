"""The page: short, complete, linked, and as wide as its reader's screen."""

import html
import re
import shutil
import subprocess

import pytest

from internal_kd.report.make import outputs

CHROMIUM = shutil.which("chromium")


def outside_of(page: str, *parts: str) -> str:
    """The page's text without parts, given as patterns."""
    body = page[page.index("<body>") :]
    for part in parts:
        body = re.sub(part, " ", body, flags=re.S)
    return html.unescape(re.sub("<[^>]+>", " ", body))


def test_at_most_300_words_outside_captions_and_appendix(demo):
    text = outside_of(demo.page, "<figcaption>.*?</figcaption>", '<h2 id="appendix">.*')
    assert 60 < len(text.split()) <= 300


def test_sections_stand_in_their_order_and_empty_ones_are_left_out(demo):
    assert re.findall(r'<h2 id="(\w+)"', demo.page) == ["answer", "scores", "cost", "why", "appendix"]
    assert re.findall(r"<nav[^>]*>(.*?)</nav>", demo.page)[0].count("<a ") == 5
    assert demo.page.index('id="figure-forest"') < demo.page.index("<table")


def test_every_linked_file_exists(demo):
    folder = demo.folder / demo.study.folder
    links = {link for link in re.findall(r'href="([^"]+)"', demo.page) if not link.startswith(("#", "http"))}
    assert {"tables/main.csv", "tables/main.tex", "figures/forest.svg"} <= links
    assert [link for link in links if not (folder / link).is_file()] == []


def test_every_anchor_exists(demo):
    anchors = set(re.findall(r'href="#([^"]+)"', demo.page))
    assert anchors <= set(re.findall(r'id="([^"]+)"', demo.page))


def test_every_declared_output_is_made_by_its_step(demo):
    made = outputs(demo.study)
    assert set(made) == {"evaluate", "plot", "report", "map_attention", "measure_latency"}
    missing = [
        path for step in ("evaluate", "plot", "report") for path in made[step] if not (demo.folder / path).is_file()
    ]
    assert missing == []


def test_nothing_is_made_that_is_not_declared(demo):
    folder = demo.folder / demo.study.folder
    declared = {demo.folder / path for paths in outputs(demo.study).values() for path in paths}
    assert {path for path in folder.rglob("*") if path.is_file()} <= declared


def test_one_method_has_one_name(demo):
    for run in demo.study.runs:
        assert f"{run.method.id} {html.escape(run.method.title, quote=False)}" in demo.page
    text = outside_of(demo.page, '<h2 id="appendix">.*', "<style>.*?</style>")
    assert "soft_kl_cos" not in text


def test_head_has_date_commit_machine_time_and_encoder(demo):
    facts = re.search(r'<p class="facts">(.*?)</p>', demo.page)[1]
    for fact in ("2026-01-02", "commit a1b2c3d4", "cpu, 2 threads", "22 of 22 runs", "of training", "minilm-l6"):
        assert fact in facts


def test_settings_are_in_one_table(demo):
    settings = demo.page[demo.page.index("<summary>Settings") :]
    settings = settings[: settings.index("</details>")]
    for value in ("soft=1 attention_kl=1 cls_cosine=1", "stacked", "0.0002", "from=teacher"):
        assert value in settings


def test_no_raw_backticks_and_no_internal_words(demo):
    text = outside_of(demo.page, "<style>.*?</style>")
    assert "`" not in text
    assert "nan" not in text.lower().split() and "None" not in text.split() and "<NA>" not in text


def test_dark_print_and_narrow_are_provided_for(demo):
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 44rem", 'name="viewport"'):
        assert rule in demo.page


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_its_page(demo, tmp_path, width):
    script = (
        "<script>addEventListener('load',()=>{document.querySelectorAll('details').forEach(d=>d.open=true);"
        "const w=[...document.querySelectorAll('.scroll')].filter(e=>e.scrollWidth>e.clientWidth+1).length;"
        "document.title=[document.documentElement.scrollWidth,innerWidth,w].join(' ')})</script>"
    )
    (tmp_path / "page.html").write_text(demo.page.replace("</body>", f"{script}</body>"))
    read = "document.body.dataset.result=document.getElementById('f').contentDocument.title"
    (tmp_path / "frame.html").write_text(
        f"<body style='margin:0'><iframe id=f src=page.html style='width:{width}px;height:900px;border:0'></iframe>"
        f"<script>addEventListener('load',()=>setTimeout(()=>{read},300))</script></body>"
    )
    options = ("headless=new", "no-sandbox", "disable-gpu", "allow-file-access-from-files", "window-size=1400,900")
    options += ("hide-scrollbars", "virtual-time-budget=4000", "dump-dom")
    command = [str(CHROMIUM), *(f"--{option}" for option in options), (tmp_path / "frame.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    page_width, inner, scrolling = map(int, re.search(r'data-result="(\d+) (\d+) (\d+)"', dom).groups())
    assert page_width <= inner == width
    if width == 1280:
        assert scrolling == 0
