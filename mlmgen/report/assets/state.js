// What the reader looks at: one cell type, contrast, method and gene for the whole page.

/** The report: its reader of data, and its meta as in data.meta. */
const report = { name: "", data: null, meta: null };

/** Indices into meta.cell_types, meta.contrasts, meta.methods and data.genes. */
const state = { t: 0, c: 0, m: 0, gene: -1 };
const followers = [];

/** Call the function with the names of what changed whenever the reader chooses something else. */
const onChoice = (follower) => followers.push(follower);

/** Choose a cell type, contrast, method or gene: choose({t: 1}). */
function choose(change) {
  const changed = Object.keys(change).filter((key) => change[key] !== state[key] && !missing(change[key]));
  if (!changed.length) return;
  for (const key of changed) state[key] = change[key];
  for (const follower of followers) follower(changed);
}

const cellTypeName = (t) => report.meta.cell_types[t].name;
const contrastName = (c) => report.meta.contrasts[c].name;
const methodTitle = (m) => report.meta.methods[m].title;
const methodName = (m) => report.meta.methods[m].name;
const methodEffect = (m) => report.meta.methods[m].effect;

/** Whether all methods have effects of the same kind. */
const sameEffects = () => new Set(report.meta.methods.map((method) => method.effect)).size < 2;

/** What the effects are: of all methods, where these differ. */
const effectsOfMethods = (write = (effect) => effect) =>
  sameEffects()
    ? write(methodEffect(0))
    : report.meta.methods.map((method) => `${write(method.effect)} (${method.name})`).join(", ");
const symbol = (gene) => report.data.symbols[gene];

/** Return the indices of the cell types that were fitted. */
function fittedCellTypes() {
  const tested = new Set(report.meta.counts.map((row) => row.t));
  const all = report.meta.cell_types.map((_, t) => t);
  const fitted = all.filter((t) => tested.has(t));
  return fitted.length ? fitted : all.filter((t) => !report.meta.cell_types[t].skipped);
}

/** Return the row of meta.counts, or null. */
function countsOf(t, c, m) {
  return report.meta.counts.find((row) => row.t === t && row.c === c && row.m === m) || null;
}

let keys = null;
/** Return what names a gene in links: its symbol, or the name in the index where symbols repeat. */
function geneKey(gene) {
  if (!keys) {
    keys = new Map();
    for (const name of report.data.symbols) keys.set(name, (keys.get(name) || 0) + 1);
  }
  return keys.get(symbol(gene)) === 1 ? symbol(gene) : report.data.genes[gene];
}

/** Return the index of the gene with exactly this name or symbol, else of the best match, else -1. */
function findGene(text) {
  const { genes, symbols } = report.data;
  const exact = [genes.indexOf(text), symbols.indexOf(text)].find((i) => i >= 0);
  if (exact !== undefined) return exact;
  const [best] = report.data.search(text, 1);
  return best === undefined ? -1 : best;
}

const geneHash = (gene) => `#gene=${encodeURIComponent(geneKey(gene))}`;

/** Return a link that opens a gene. */
function geneLink(gene, more = {}) {
  return el(
    "a",
    {
      href: geneHash(gene),
      class: "gene",
      title: report.data.genes[gene] === symbol(gene) ? null : report.data.genes[gene],
      on: {
        click: (event) => {
          event.preventDefault();
          openGene(gene, more);
        },
      },
    },
    symbol(gene),
  );
}

/** Show a gene in its section. */
function openGene(gene, { t, c } = {}) {
  choose({ gene, t, c });
  if (location.hash !== geneHash(gene)) history.pushState(null, "", geneHash(gene));
  const heading = document.getElementById("gene-heading");
  heading.scrollIntoView({ block: "start" });
  heading.focus({ preventScroll: true });
}

/** Follow the address: #gene=NAME opens the gene. */
function followHash() {
  const match = /^#gene=(.+)$/.exec(location.hash);
  if (!match) return;
  const gene = findGene(decodeURIComponent(match[1]));
  if (gene >= 0) openGene(gene);
  else announce(`No gene ${decodeURIComponent(match[1])}`);
}

/** Return a labelled select that follows a choice: `key` of state, options [[value, text], ...]. */
function selectOf(key, label, options) {
  if (options.length < 2) return null;
  const select = el(
    "select",
    { on: { change: () => choose({ [key]: Number(select.value) }) } },
    options.map(([value, text]) => el("option", { value }, text)),
  );
  select.value = String(state[key]);
  onChoice((changed) => changed.includes(key) && (select.value = String(state[key])));
  return el("label", { class: "choice" }, el("span", null, label), select);
}

/** Return the selects of a section, for any of "t", "c" and "m"; none where there is nothing to choose. */
function choices(...wanted) {
  const { meta } = report;
  const options = {
    t: () =>
      selectOf(
        "t",
        "Cell type",
        fittedCellTypes().map((t) => [t, cellTypeName(t)]),
      ),
    c: () =>
      selectOf(
        "c",
        "Contrast",
        meta.contrasts.map((contrast, c) => [c, contrast.name]),
      ),
    m: () =>
      selectOf(
        "m",
        "Method",
        meta.methods.map((method, m) => [m, method.title]),
      ),
  };
  const nodes = wanted.map((key) => options[key]()).filter(Boolean);
  return nodes.length ? el("div", { class: "choices" }, nodes) : null;
}

/** Return what is chosen in words, for labels. */
const chosen = (...wanted) =>
  wanted.map((key) => ({ t: cellTypeName, c: contrastName, m: methodTitle })[key](state[key])).join(", ");

/** Load the drawing library, once. */
let library = null;
const libraryReady = () => (library = library || Promise.resolve(window.echarts || mlmgenData.load("echarts")));
