// Volcano, MA plot and the table of all genes of one cell type, contrast and method.

function resultsSection() {
  const how = report.meta.weighted ? HOW.volcanoWeighted : HOW.volcano;
  const [volcano, ma] = [cloudFigure(VOLCANO, how), cloudFigure(MA, HOW.ma)];
  onChoice(() => (volcano.refresh(), ma.refresh()));
  return section(
    "results",
    "Results",
    `Choose what to look at; all plots and tables follow. Effects are ${effectsOfMethods(plural)}${effectNote()}.`,
    choices("t", "c", "m"),
    summaryLine(),
    el("div", { class: "pair" }, volcano.node, ma.node),
    genesPart(),
    overlapPart(),
  );
}

const plural = (effect) => effect.replace(/^difference\b|(?<=change|ratio)$/, (word) => `${word}s`);

function effectNote() {
  return sameEffects() && /log2 fold/.test(methodEffect(0))
    ? ": 1 is a doubling, \u22121 is half"
    : "";
}

/** What was found for the present choice, in a sentence. */
function summaryLine() {
  const node = el("p", { class: "found", "aria-live": "polite" });
  const write = () => {
    const { meta } = report;
    const row = countsOf(state.t, state.c, state.m);
    const expression = [meta.contrasts[state.c].expression].flat().join("; ");
    if (!row) return fill(node, `${contrastName(state.c)} was not tested in ${cellTypeName(state.t)}.`);
    const sides = row.up === null ? "" : ` (\u25b2 ${whole(row.up)} up, \u25bc ${whole(row.down)} down)`;
    const none = row.called ? "" : " The strongest genes are still worth a look as candidates, not as findings.";
    return fill(
      node,
      el("b", null, `${whole(row.called)} of ${counted(row.tested, "gene")} called`),
      sides,
      ` in ${cellTypeName(state.t)}, ${contrastName(state.c)} `,
      expression ? ["(", el("code", null, expression), ")"] : null,
      `, ${methodTitle(state.m)}.${none}`,
    );
  };
  onChoice(write);
  write();
  return node;
}

const STABLE = ["", "yes", "no", "not estimable", "not fitted"];

/** Columns of the table; rows are positions in the struct of effects. */
function geneColumns(effects, joint) {
  const { meta } = report;
  const title = (key) => ({ key, title: meta.columns[key] });
  const of = (key, label, text) => numberColumn(label, (i) => effects[key][i], text, title(key));
  const small = (key, label) => ({ ...of(key, label, pText), descending: false });
  const two = (value) => decimal(value, 2);
  return [
    geneColumn(effects),
    calledColumn(effects),
    ...(joint ? [] : [of("log2fc", "Effect", two), effectInterval(effects, two)]),
    of("statistic", "Statistic", two),
    small("pvalue", "p"),
    small("padj", "FDR"),
    of("mean_count", "Mean count", compact),
    of("pct_cells", "Cells with counts, %", (value) => decimal(value, 1)),
    statusColumn(effects, title("status")),
    wordColumn("Stable", (i) => STABLE[effects.stable[i]], title("stable")),
    ...(meta.methods.length > 1
      ? [wordColumn("Methods", (i) => (effects.disagree[i] ? "disagree" : ""), title("disagree"))]
      : []),
  ];
}

const wordColumn = (label, value, more) => ({ label, value, text: (i) => value(i) || "\u2013", ...more });

function geneColumn(effects) {
  const { data } = report;
  const names = [["gene", (i) => data.genes[effects.gene[i]]]];
  if (data.symbols !== data.genes) names.push(["gene_name", (i) => symbol(effects.gene[i])]);
  const node = (i) => geneLink(effects.gene[i], { t: state.t, c: state.c });
  return { label: "Gene", value: (i) => symbol(effects.gene[i]), node, tsv: names };
}

function calledColumn(effects) {
  const title = "Called, and in which direction";
  const words = [["called", (i) => (effects.called[i] ? "yes" : "no")]];
  return {
    label: "",
    title,
    descending: true,
    value: (i) => effects.called[i],
    tsv: words,
    node: (i) => arrow(effects, i),
  };
}

function effectInterval(effects, text) {
  const column = intervalColumn(
    (i) => effects.ci_low[i],
    (i) => effects.ci_high[i],
    text,
  );
  return { ...column, title: report.meta.columns.ci_low, tsv: [["lfc_se", (i) => effects.lfc_se[i]], ...column.tsv] };
}

function statusColumn(effects, more) {
  const status = (i) => report.meta.statuses[effects.status[i]];
  const node = (i) => el("span", { title: status(i).help }, status(i).name.replace("_", " "));
  return { label: "Fit", value: (i) => status(i).name, node, ...more };
}

function arrow(effects, i) {
  if (!effects.called[i]) return "";
  const up = effects.log2fc[i] > 0;
  if (Number.isNaN(effects.log2fc[i])) return el("span", { title: "called" }, "\u25cf");
  return el(
    "span",
    { class: up ? "up" : "down", title: up ? "called, up" : "called, down" },
    up ? "\u25b2" : "\u25bc",
    el("span", { class: "away" }, up ? "up" : "down"),
  );
}

const KEPT = [
  ["all", "all tested genes", () => true],
  ["called", "discoveries", (e, i) => e.called[i]],
  ["up", "discoveries, up", (e, i) => e.called[i] && e.log2fc[i] > 0],
  ["down", "discoveries, down", (e, i) => e.called[i] && e.log2fc[i] < 0],
  ["stable", "discoveries that no single donor carries", (e, i) => e.called[i] && e.stable[i] === 1],
  ["disagree", "methods disagree", (e, i) => e.disagree[i]],
  [
    "trouble",
    "fits with trouble",
    (e, i) => !["converged", "boundary"].includes(report.meta.statuses[e.status[i]].name),
  ],
];

/** The table of all genes, with its filters. */
function genesPart() {
  const filters = { text: "", kept: KEPT[0], least: 0, mean: 0 };
  const holder = el("div", { class: "genes" });
  let table = null;
  const rows = () => keptRows(current.effects, filters);
  const narrow = () => table && table.set(rows());
  const write = async () => {
    await loadCurrent();
    const joint = report.meta.contrasts[state.c].joint;
    if (!current.effects) return ((table = null), fill(holder, el("p", { class: "empty" }, nothingToShow())));
    table = grid({
      caption: `Genes, ${chosen("t", "c", "m")}`,
      rows: rows(),
      columns: geneColumns(current.effects, joint),
      page: 20,
      sort: { column: joint ? 3 : 5, descending: false },
      empty: "No gene passes the filters.",
      file: fileName(report.name, cellTypeName(state.t), contrastName(state.c), report.meta.methods[state.m].key),
      attributes: (i) => ({ class: current.effects.gene[i] === state.gene ? "open" : null }),
    });
    return fill(holder, table.node);
  };
  onChoice((changed) => (changed.some((key) => key !== "gene") ? write() : table && table.again()));
  whenNear(holder, write);
  return part(
    "All genes",
    "Sort by a click on a header; search by any part of a name. The download has the rows that are shown, all pages.",
    filterBar(filters, narrow),
    holder,
  );
}

function keptRows(effects, { text, kept, least, mean }) {
  const rows = [];
  const wanted = text.trim().toLowerCase();
  const { genes, symbols } = report.data;
  for (let i = 0; i < effects.n; i += 1) {
    if (!kept[2](effects, i)) continue;
    if (least > 0 && !(Math.abs(effects.log2fc[i]) >= least)) continue;
    if (mean > 0 && !(effects.mean_count[i] >= mean)) continue;
    const gene = effects.gene[i];
    if (wanted && !symbols[gene].toLowerCase().includes(wanted) && !genes[gene].toLowerCase().includes(wanted))
      continue;
    rows.push(i);
  }
  return rows;
}

function filterBar(filters, narrow) {
  let timer = 0;
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(narrow, 120);
  };
  const field = (label, key, type, more = {}) => {
    const input = el("input", {
      type,
      ...more,
      on: {
        input: () => {
          filters[key] = type === "number" ? Number(input.value) : input.value;
          soon();
        },
      },
    });
    return el("label", { class: "choice" }, el("span", null, label), input);
  };
  const select = el(
    "select",
    {
      on: {
        change: () => {
          filters.kept = KEPT[Number(select.value)];
          narrow();
        },
      },
    },
    KEPT.map(([, label], i) => el("option", { value: i }, label)),
  );
  return el(
    "div",
    { class: "choices filters" },
    field("Name contains", "text", "search", { spellcheck: "false" }),
    el("label", { class: "choice" }, el("span", null, "Show"), select),
    field("Effect at least", "least", "number", { min: 0, step: 0.25, placeholder: "0" }),
    field("Mean count at least", "mean", "number", { min: 0, step: "any", placeholder: "0" }),
  );
}

const tablesWaiting = [];

/** Call the function once when the node comes near the window, or when there is nothing else to do. */
function whenNear(node, work) {
  let done = false;
  const once = () => done || ((done = true), work());
  tablesWaiting.push(once);
  const seen = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      once();
    },
    { rootMargin: "400px" },
  );
  seen.observe(node);
}
