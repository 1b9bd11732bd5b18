// The page: its sections in order, the bar on top, and what the address says.

/** name, heading, what it tells at a glance, and what makes its content. */
const SECTIONS = [
  ["verdict", "Verdict", verdictSection],
  ["design", "Design", designSection],
  ["results", "Results", resultsSection],
  ["gene", "One gene", geneSection],
  ["variance", "Variance", varianceSection],
  ["trust", "Trust", trustSection],
  ["methods", "Methods", methodsSection],
];

/** Return a section with its heading and one sentence that says what it is for. */
function section(name, heading, lead, ...content) {
  return el(
    "section",
    { id: name, "aria-labelledby": `${name}-heading` },
    el("h2", { id: `${name}-heading`, tabindex: "-1" }, heading),
    lead ? el("p", { class: "lead" }, prose(lead)) : null,
    content,
  );
}

/** Return a part of a section: heading, sentence, content. */
function part(heading, lead, ...content) {
  return el(
    "div",
    { class: "part" },
    el("h3", null, heading),
    lead ? el("p", { class: "sub" }, prose(lead)) : null,
    content,
  );
}

function writeNavigation() {
  const links = SECTIONS.map(([name, heading]) => el("a", { href: `#${name}`, data: { name } }, heading));
  fill(
    document.getElementById("sections"),
    links.map((link) => el("li", null, link)),
  );
  const current = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links) {
          if (link.dataset.name === entry.target.id) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
        }
      }
    },
    { rootMargin: "-20% 0px -70% 0px" },
  );
  document.querySelectorAll("main > section").forEach((node) => current.observe(node));
}

/** Start with the cell type and contrast with the most discoveries by the first method, and with their first gene. */
function firstChoice() {
  const best = [...report.meta.counts].sort((a, b) => a.m - b.m || b.called - a.called || a.t - b.t)[0];
  if (best) Object.assign(state, { t: best.t, c: best.c, m: best.m });
  else state.t = fittedCellTypes()[0] || 0;
  const top =
    report.meta.top.find((row) => row.t === state.t && row.c === state.c && row.m === state.m) || report.meta.top[0];
  state.gene = top && top.genes.length ? top.genes[0] : 0;
}

function writeFooter() {
  const { meta } = report;
  fill(
    document.getElementById("foot"),
    el(
      "p",
      null,
      `mlmgen ${meta.version}, run ${meta.run}. ${meta.rounding} `,
      "Everything is inside this file: it sends and fetches nothing.",
    ),
    chartsLicence(),
  );
}

/** The licence of the drawing library, which travels with it in this file. */
function chartsLicence() {
  const text = el("pre", { tabindex: "0", "aria-label": "Licence of Apache ECharts" });
  const summary = el("summary", null, "Charts by Apache ECharts (Apache License 2.0)");
  const node = el("details", null, summary, text);
  node.addEventListener("toggle", async () => (text.textContent = await mlmgenData.text("echarts.LICENSE")));
  return node;
}

/** Print when every chart has been drawn. */
async function printAll() {
  for (const it of figures) if (it.node.isConnected && it.canvas.offsetParent !== null) await it.show();
  window.print();
}

async function openReport() {
  report.data = await mlmgenData.open();
  report.meta = report.data.meta;
  report.name = report.meta.name;
  firstChoice();
  startTheme(document.getElementById("theme"));
  const search = geneSearch("Find a gene", (gene) => openGene(gene));
  document.getElementById("find").append(search.node);
  fill(
    document.getElementById("main"),
    SECTIONS.map(([, , content]) => content()),
  );
  writeNavigation();
  writeFooter();
  document.getElementById("print").addEventListener("click", printAll);
  addEventListener("hashchange", followHash);
  addEventListener("popstate", followHash);
  if (location.hash.startsWith("#gene=")) followHash();
  else if (location.hash.length > 1)
    (document.getElementById(location.hash.slice(1)) || document.body).scrollIntoView();
  document.documentElement.dataset.ready = "yes";
  performance.mark("report ready");
  setTimeout(drawInIdleTime, 400);
}

openReport().catch((error) => {
  document
    .getElementById("static")
    .append(
      el(
        "p",
        { class: "warning" },
        `This page could not be drawn: ${error.message}. Browsers from 2023 on show it (Firefox 113, Safari 16.4).`,
      ),
    );
  throw error;
});
