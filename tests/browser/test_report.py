"""The report as people see it."""

import base64
import json
import re
import time

import pytest

from mlmgen.report import build, packing
from tests.browser.conftest import RUNS

SECTIONS = ["verdict", "design", "results", "gene", "variance", "trust", "methods"]
MINUS = "\N{MINUS SIGN}"
READY = "return performance.getEntriesByName('report ready')[0].startTime"


def keys(browser, *pressed: str) -> None:
    """Press keys, wherever the focus is."""
    from selenium.webdriver import ActionChains

    for key in pressed:
        ActionChains(browser.driver).send_keys(key).perform()


def rows(browser, inside: str = ".genes") -> list[list[str]]:
    """Return the texts of the rows of a table."""
    cells = "row => [...row.cells].map(cell => cell.textContent)"
    return browser.run(f"return [...document.querySelectorAll(arguments[0] + ' tbody tr')].map({cells})", inside)


def count(browser) -> int:
    """Return how many rows the table of genes has on all pages."""
    text = browser.run("return document.querySelector('.genes .grid-foot').textContent")
    found = re.search(r"of ([\d,]+)", text)
    return int(found[1].replace(",", "")) if found else len(rows(browser))


def heading(browser) -> str:
    """Return the gene that is open."""
    return browser.run("return document.querySelector('.gene-name').firstChild.textContent")


@pytest.fixture
def ordinary(browser, reports):
    """Open the ordinary report, with all of it drawn."""
    browser.open(reports("ordinary"))
    browser.drawn()
    return browser


@pytest.mark.parametrize("name", RUNS)
def test_every_kind_of_run_has_its_sections_fits_a_telephone_and_complains_of_nothing(browser, reports, name):
    browser.open(reports(name))
    browser.drawn()
    assert browser.run("return document.documentElement.scrollWidth") <= 1400
    assert browser.run("return [...document.querySelectorAll('main > section')].map(s => s.id)") == SECTIONS
    headline = browser.run("return report.meta.verdict.headline")
    assert browser.run("return document.querySelector('h1').textContent") == headline.replace("`", "")
    assert [entry["message"] for entry in browser.driver.get_log("browser")] == []
    assert (
        browser.run("return [...figures].filter(it => it.ready && !it.chart && !it.node.matches('.nothing')).length")
        == 0
    )
    assert browser.run("return [...figures].filter(it => it.chart).length") >= 8
    labels = browser.run("return [...document.querySelectorAll('.canvas')].map(c => c.getAttribute('aria-label'))")
    assert all(labels), labels
    browser.resize(380)
    browser.wait("return document.documentElement.scrollWidth <= 380 && innerWidth <= 380")
    assert browser.driver.get_log("browser") == []


def test_only_the_file_itself_is_read(ordinary):
    asked = [json.loads(entry["message"])["message"] for entry in ordinary.driver.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in asked if event["method"] == "Network.requestWillBeSent"]
    assert urls
    assert {url.partition(":")[0] for url in urls} <= {"file", "data", "blob", "about"}
    assert len({url for url in urls if url.startswith("file:")}) == 1


def test_report_opens_in_two_seconds_and_fits_its_budget(browser, reports):
    page = reports("many_genes")
    browser.open(page)
    assert browser.run(READY) < 2000
    whole = len(page.read_bytes())
    data = sum(len(block) for block in re.findall(r'id="block-(?!echarts)[^>]*>([^<]*)<', page.read_text()))
    assert whole - data < 700_000
    assert whole < 5_000_000


def test_charts_are_made_when_they_come_near_the_window(browser, reports):
    browser.open(reports("ordinary"))
    made = browser.run("return [...figures].filter(it => it.shown).map(it => it.spec.title)")
    assert "Histogram of p-values" not in made
    browser.run("document.getElementById('trust').scrollIntoView()")
    browser.wait("return [...figures].some(it => it.chart && it.spec.title === 'Histogram of p-values')")


def test_gene_is_found_by_typing_and_arrow_keys(ordinary):
    from selenium.webdriver import Keys

    wanted = ordinary.run("return report.data.symbols[200]")
    ordinary.run("document.querySelector('#find input').focus()")
    keys(ordinary, wanted[:3])
    ordinary.wait("return !document.querySelector('#find ul').hidden")
    found = ordinary.run("return [...document.querySelectorAll('#find li')].map(l => l.firstChild.textContent)")
    assert all(wanted[:3].lower() in one.lower() for one in found)
    keys(ordinary, *([Keys.DOWN] * found.index(wanted)))
    active = ordinary.run("return document.querySelector('#find input').getAttribute('aria-activedescendant')")
    assert ordinary.run("return document.getElementById(arguments[0]).ariaSelected", active) == "true"
    keys(ordinary, Keys.ENTER)
    ordinary.wait("return document.querySelector('.gene-name').textContent.startsWith(arguments[0])", wanted)
    assert ordinary.run("return location.hash") == f"#gene={wanted}"
    assert ordinary.run("return document.activeElement.id") == "gene-heading"


def test_gene_that_does_not_exist_is_said_so(ordinary):
    ordinary.run("document.querySelector('#find input').focus()")
    keys(ordinary, "no such gene")
    ordinary.wait("return document.querySelector('#find li.none')")


@pytest.mark.parametrize("title", ["Volcano plot", "Effect against mean (MA plot)"])
def test_click_on_a_point_opens_its_gene(ordinary, title):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    ordinary.run("document.getElementById('results').scrollIntoView()")
    place = """
      const it = [...figures].find(one => one.spec.title === arguments[0]);
      it.canvas.scrollIntoView({block: 'center'});
      it.canvas.dataset.test = 'yes';
      const names = it.chart.getOption().series.find(s => s.id === 'names').data;
      const value = names[names.length - 1].value;
      const [x, y] = it.chart.convertToPixel({xAxisIndex: 0, yAxisIndex: 0}, value);
      return [x - it.canvas.clientWidth / 2, y - it.canvas.clientHeight / 2, symbol(current.effects.gene[value[2]])];"""
    x, y, gene = ordinary.run(place, title)
    canvas = ordinary.driver.find_element(By.CSS_SELECTOR, "[data-test=yes]")
    ActionChains(ordinary.driver).move_to_element_with_offset(canvas, round(x), round(y)).pause(0.2).click().perform()
    ordinary.wait("return document.querySelector('.gene-name').textContent.startsWith(arguments[0])", gene)
    assert ordinary.run("return location.hash").startswith("#gene=")


def test_link_with_a_gene_opens_it(browser, reports):
    browser.open(reports("ordinary"))
    gene = browser.run("return report.data.symbols[123]")
    browser.open(reports("ordinary"), f"#gene={gene}")
    browser.wait("return document.querySelector('.gene-name').textContent.startsWith(arguments[0])", gene)
    assert 0 <= browser.run("return document.getElementById('gene').getBoundingClientRect().top") < 300
    browser.run("history.pushState(null, '', '#gene=' + report.data.symbols[7]); dispatchEvent(new Event('popstate'))")
    browser.wait("return document.querySelector('.gene-name').textContent.startsWith(report.data.symbols[7])")


def test_gene_in_the_file_shows_its_donors_and_another_how_to_get_them(ordinary):
    with_donors, without = ordinary.run(
        "const d = report.data.detailed; const n = report.data.genes.length;"
        "const alone = g => report.data.symbols.filter(s => s === report.data.symbols[g]).length === 1;"
        "return [[...d.keys()][0], [...Array(n).keys()].find(g => !d.has(g) && alone(g))]"
    )
    ordinary.run("openGene(arguments[0])", with_donors)
    for title in ("Expression in each sample", "What the model makes of each donor"):
        ordinary.wait(
            "return [...figures].some(it => it.chart && it.node.isConnected && it.spec.title === arguments[0])", title
        )
    assert "between donors" in ordinary.run("return document.querySelector('.donors').textContent")
    if without is not None:
        ordinary.run("openGene(arguments[0])", without)
        symbol = ordinary.run("return report.data.symbols[arguments[0]]", without)
        ordinary.wait(
            "return document.querySelector('.donors').textContent.includes(arguments[0])", f"mlmgen gene {symbol}"
        )


def test_table_is_sorted_by_mouse_and_by_keyboard(ordinary):
    from selenium.webdriver import Keys

    header = "[...document.querySelectorAll('.genes thead button')].find(b => b.textContent.startsWith('Effect'))"
    ordinary.run(f"{header}.click()")
    number = [float(row[2].replace(MINUS, "-")) for row in rows(ordinary)]
    assert number == sorted(number, reverse=True)
    assert ordinary.run(f"return {header}.parentNode.ariaSort") == "descending"
    ordinary.run(f"{header}.focus()")
    keys(ordinary, Keys.ENTER)
    number = [float(row[2].replace(MINUS, "-")) for row in rows(ordinary)]
    assert number == sorted(number)
    assert ordinary.run(f"return document.activeElement === {header}")


def test_table_is_filtered(ordinary):
    called = ordinary.run("return countsOf(state.t, state.c, state.m).called")
    tested = ordinary.run("return countsOf(state.t, state.c, state.m).tested")
    assert count(ordinary) == tested
    ordinary.pick(".filters select", 1)
    assert count(ordinary) == called
    text = ordinary.run("return symbol(current.effects.gene[0])")[:2]
    ordinary.pick(".filters select", 0)
    ordinary.run("document.querySelector('.filters input[type=search]').focus()")
    keys(ordinary, text.lower())
    ordinary.wait("return document.querySelectorAll('.genes tbody tr').length < 20")
    assert all(text in row[0] for row in rows(ordinary))
    keys(ordinary, "nothing has this name")
    ordinary.wait("return document.querySelector('.genes td.empty')")


def test_download_has_the_rows_that_are_shown(ordinary, tmp_path):
    ordinary.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    ordinary.pick(".filters select", 1)
    n = count(ordinary)
    ordinary.run("document.querySelector('.genes .tsv').click()")
    until = time.monotonic() + 10
    while not (files := list(tmp_path.glob("*.tsv"))):
        assert time.monotonic() < until
        time.sleep(0.05)
    header, *lines = files[0].read_text().splitlines()
    names = header.split("\t")
    assert names[:3] == ["gene", "gene_name", "called"]
    assert {"log2fc", "lfc_se", "ci_low", "ci_high", "pvalue", "padj", "mean_count", "status"} <= set(names)
    assert len(lines) == n
    assert all(line.split("\t")[2] == "yes" for line in lines)
    assert [line.split("\t")[1] for line in lines[:5]] == [row[0] for row in rows(ordinary)[:5]]


def test_a_choice_is_followed_everywhere(ordinary):
    before = ordinary.run("return state.t")
    other = next(t for t in range(4) if t != before)
    ordinary.pick("#results select", other)
    name = ordinary.run("return cellTypeName(arguments[0])", other)
    assert name in ordinary.run("return document.querySelector('.found').textContent")
    for title in ("Volcano plot", "Histogram of p-values", "Variance against mean expression"):
        ordinary.wait_for(title, "return it.canvas.getAttribute('aria-label').includes(arguments[0])", name)
    values = ordinary.run("return ['variance', 'trust'].map(s => document.querySelector(`#${s} select`).value)")
    assert values == [str(other)] * 2


def test_page_works_with_the_keyboard_alone(browser, reports):
    from selenium.webdriver import Keys

    browser.open(reports("ordinary"))
    keys(browser, Keys.TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    assert browser.run("return document.activeElement.getBoundingClientRect().top") >= 0
    reached = []
    for _ in range(30):
        keys(browser, Keys.TAB)
        outline = (
            "const at = document.activeElement; const s = getComputedStyle(at);"
            "return [at.tagName, s.outlineStyle, parseFloat(s.outlineWidth)]"
        )
        reached.append(browser.run(outline))
    assert all(style != "none" and width >= 2 for _, style, width in reached), reached
    assert {"A", "BUTTON", "INPUT"} <= {tag for tag, *_ in reached}
    clickable = "return [...document.querySelectorAll('[onclick], [role=button]:not(button)')].length"
    assert browser.run(clickable) == 0


def test_every_chart_has_its_numbers_as_a_table(ordinary):
    script = "return [...figures].filter(it => it.chart && it.node.isConnected && !it.numbers).map(it => it.spec.title)"
    assert set(ordinary.run(script)) <= {"Volcano plot", "Effect against mean (MA plot)", "Effects of both methods"}
    ordinary.run(
        "[...figures].filter(it => it.chart && it.numbers && it.node.isConnected).forEach(it => it.numbers.open = true)"
    )
    ordinary.wait("return [...document.querySelectorAll('.numbers[open]')].every(n => n.querySelector('tbody tr > *'))")
    assert ordinary.driver.get_log("browser") == []


def test_dark_mode_follows_the_system_and_the_button(browser, reports):
    browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.open(reports("ordinary"))
    browser.drawn()
    paper = "return getComputedStyle(document.body).backgroundColor"
    dark = browser.run(paper)
    assert max(map(int, re.findall(r"\d+", dark))) < 60
    axis = "return [...figures].find(it => it.spec.title === 'Volcano plot').chart.getOption().xAxis[0].axisLabel.color"
    shade = browser.run(axis)
    browser.run("document.getElementById('theme').click()")
    assert min(map(int, re.findall(r"\d+", browser.run(paper)))) > 240
    assert browser.run(axis) != shade
    assert browser.run("return document.getElementById('theme').textContent") == "Dark"


def test_paper_is_light_and_has_every_section(browser, reports, tmp_path):
    browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.open(reports("ordinary"))
    browser.drawn()
    browser.run(
        "const open = () => [...document.querySelectorAll('details.prints')].every(d => d.open);"
        "const state = () => [theme.printing, document.documentElement.dataset.theme, open()];"
        "addEventListener('beforeprint', () => { window.onPaper = state(); })"
    )
    pdf = base64.b64decode(browser.command("Page.printToPDF")["data"])
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 100_000
    assert browser.run("return window.onPaper") == [True, "light", True]
    assert browser.run("return [theme.printing, document.documentElement.dataset.theme]") == [False, "dark"]
    browser.command("Emulation.setEmulatedMedia", media="print")
    assert browser.run("return getComputedStyle(document.querySelector('.top')).display") == "none"
    assert browser.run("return getComputedStyle(document.querySelector('button')).display") == "none"


def test_box_shows_single_genes_where_there_were_too_many(browser, reports):
    from selenium.webdriver import ActionChains

    browser.open(reports("many_genes"))
    browser.drawn()
    title = "Volcano plot"
    counts = "const of = id => it.chart.getOption().series.find(s => s.id === id).data.length;"
    bins, single = browser.figure(title, f"{counts} return [of('bins'), of('rest')]")
    assert bins > 100
    assert 0 < single < 1500
    browser.figure(title, "it.canvas.scrollIntoView({block: 'center'})")
    corners = (
        "const box = it.canvas.getBoundingClientRect();"
        "const at = (x, y) => it.chart.convertToPixel({gridIndex: 0}, [x, y]);"
        "return [at(-0.05, 0.5), at(0.05, 0.02)].flatMap(([x, y]) => [box.left + x, box.top + y])"
    )
    left, top, right, bottom = map(round, browser.figure(title, corners))
    drag = ActionChains(browser.driver, duration=50)
    drag.w3c_actions.pointer_action.move_to_location(left, top)
    drag.w3c_actions.pointer_action.pointer_down()
    drag.w3c_actions.pointer_action.move_to_location(right, bottom)
    drag.w3c_actions.pointer_action.pointer_up()
    drag.perform()
    browser.wait_for(title, f"{counts} return of('bins') === 0 && of('rest') > 0")
    press = "[...it.tools.querySelectorAll('button')].find(b => b.textContent === arguments[0]).click()"
    browser.figure(title, press, "Reset")
    browser.wait_for(title, f"{counts} return of('bins') > 100")
    browser.figure(title, press, "+")
    window = "const z = it.chart.getOption().dataZoom[0]; return [z.start, z.end]"
    assert browser.figure(title, window) == [25, 75]


def test_genes_that_cell_types_share_are_listed(ordinary):
    title = "Genes called in exactly these cell types"
    ordinary.figure(title, "it.numbers.open = true")
    ordinary.wait("return document.querySelector('.numbers[open] td button')")
    n, first = ordinary.run("const row = setsNow().rows[0]; return [row.n, cellTypeName(row.t[0])]")
    ordinary.run("document.querySelector('.numbers[open] td button').click()")
    ordinary.wait("return document.querySelector('.set ul')")
    assert ordinary.run("return document.querySelectorAll('.set li a').length") == n
    assert first in ordinary.run("return document.querySelector('.set h4').textContent")


def test_joint_test_has_p_values_and_no_effects(ordinary):
    joint = """
      const read = report.data.effects;
      report.data.effects = async (...at) => {
        const found = await read(...at);
        const none = new Float32Array(found.n).fill(NaN);
        return {...found, log2fc: none, lfc_se: none, ci_low: none, ci_high: none};
      };
      report.meta.contrasts[1].joint = true;
      report.meta.counts.filter(row => row.c === 1).forEach(row => { row.up = row.down = null; });
      choose({c: 1 - state.c});
      choose({c: 1});"""
    ordinary.run(joint)
    ordinary.wait_for("Volcano plot", "return it.canvas.textContent.includes('joint test')")
    header = "return [...document.querySelectorAll('.genes thead th')].map(h => h.textContent)"
    ordinary.wait(f"{header.replace('return', 'return !')}.includes('Effect')")
    assert count(ordinary) > 100
    assert "up," not in ordinary.run("return document.querySelector('.found').textContent")
    assert ordinary.driver.get_log("browser") == []


def test_names_are_text_and_never_markup(browser, reports):
    browser.open(reports("awkward_names"))
    browser.drawn()
    assert (
        browser.run(
            "return document.querySelectorAll('main script, main section > b, main td > b:not([class])').length"
        )
        == 0
    )
    wanted = browser.run("return fittedCellTypes().map(cellTypeName)")
    assert any("</script>" in name for name in wanted)
    shown = browser.run("return [...document.querySelector('#results select').options].map(o => o.textContent)")
    assert shown == wanted
    gene = browser.run("return report.data.genes.findIndex(name => name.includes('</script>'))")
    browser.run("openGene(arguments[0])", gene)
    browser.wait("return document.querySelector('.gene-name small').textContent.includes('</script>')")
    browser.wait("return [...figures].find(it => it.spec.title.startsWith('Effect in every')).chart !== null")
    tip = "return tip('<b>x</b>', [['<i>', '</script>']]).querySelectorAll('i, script, b b').length"
    assert browser.run(tip) == 0


def test_nothing_significant_says_what_could_have_been_found(browser, reports):
    browser.open(reports("nothing"))
    text = browser.run("return document.getElementById('verdict').textContent")
    assert browser.run("return report.meta.verdict.nothing").replace("`", "") in text
    assert "audit: true" in text
    browser.drawn()
    assert "Nothing is called" in browser.run("return document.getElementById('results').textContent")


def test_page_says_its_verdict_without_a_script(reports):
    text = reports("ordinary").read_text()
    static = text.partition('<div id="static">')[2].partition("<script")[0]
    assert static.count("<p>") > 2
    assert "JavaScript" in static


def test_licence_of_the_library_is_in_the_file(ordinary):
    ordinary.run("document.querySelector('#foot details').open = true")
    ordinary.wait("return document.querySelector('#foot pre').textContent.includes('Apache License')")


def test_labels_say_what_is_shown(ordinary):
    row = ordinary.run("return report.meta.design.contrasts[0].arms_text")
    assert row in ordinary.run("return document.querySelector('#design').textContent")
    trust = ordinary.run("return document.querySelector('#trust').textContent")
    labels = ordinary.figure("How far out each donor lies", "return it.spec.table().columns.map(one => one.label)")
    assert labels[-1] == "Share beyond 2.58 (1 % if normal)"
    assert "at most 200, or 50 of each contrast" in trust
    names = ordinary.figure(
        "How alike cells of the same group are (ICC)", "return it.chart.getOption().series.map(one => one.name)"
    )
    assert names == ["donor", "donor:condition", "donor, of sums per sample"]


def changed_page(reports, tmp_path, change):
    """Write the ordinary report with other data of the page."""
    page = reports("ordinary").read_text()
    found = re.search(r'(id="block-meta"[^>]*>)([^<]*)(<)', page)
    meta = json.loads(packing.unpacked(found[2]))
    change(meta)
    target = tmp_path / "changed.html"
    target.write_text(page[: found.start(2)] + packing.packed(packing.written(meta)) + page[found.end(2) :])
    return target


def test_weights_two_scales_and_no_random_effects_are_said(browser, reports, tmp_path):
    def change(meta):
        meta["weighted"], meta["trust"]["random_effects"] = True, []
        meta["methods"][0]["effect"] = "log2 odds ratio"

    ruled = "one => one.markLine && one.markLine.data.some(at => 'yAxis' in at)"
    lines = f"return it.chart.getOption().series.filter({ruled})"
    browser.open(reports("ordinary"))
    browser.drawn()
    assert browser.figure("Volcano plot", f"{lines}.length") == 1
    browser.open(changed_page(reports, tmp_path, change))
    browser.drawn()
    assert browser.figure("Volcano plot", f"{lines}.length") == 0
    assert "no one p-value parts" in browser.figure("Volcano plot", "return it.spec.how.join(' ')")
    both = "log2 odds ratio (cells), log2 fold change (pseudobulk)"
    forest = browser.figure("Effect in every cell type and contrast", "return it.chart.getOption().xAxis[0].name")
    assert forest == both
    assert browser.figure("Volcano plot", "return it.chart.getOption().xAxis[0].name") == "log2 odds ratio"
    text = browser.run("return document.querySelector('main').textContent")
    assert "Effects are log2 odds ratios (cells), log2 fold changes (pseudobulk)." in text
    assert both in browser.figure("Effects of both methods", "return it.spec.note()")
    assert "too few donors beside the fixed effects" in text


def test_variance_that_is_too_small_is_said_so(ordinary):
    said = "return (now => { now.line = null; now.unmeasured = true; return meanNote() })(componentNow())"
    assert "too small to be measured: the points stand at the lowest value" in ordinary.run(said)


def test_assets_load_nothing_from_elsewhere():
    page = build.asset("page.html")
    assert "default-src 'none'" in page
    names = re.findall(r'(?:src|href)="([\w.-]+\.(?:js|css))"', page)
    for name in (name for name in names if name != "echarts.min.js"):
        text = build.asset(name)
        assert "http" not in text, name
        assert "innerHTML" not in text, name
        assert max(map(len, text.splitlines())) <= 120, name
        assert len(text.splitlines()) < 400 or name == "report.css", name
