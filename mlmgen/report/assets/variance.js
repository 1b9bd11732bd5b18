// How much donors differ, gene by gene.

const spread = { t: -1, of: null, component: "" };

async function loadSpread() {
  const t = state.t;
  const of = await report.data.variance(t);
  if (t === state.t) Object.assign(spread, { t, of });
}

const componentsNow = () => (spread.of ? spread.of.components.filter((row) => row.m === state.m) : []);

/** The component that is looked at: the one chosen, else the first that is not the dispersion. */
function componentNow() {
  const rows = componentsNow();
  const random = rows.find((row) => row.component !== "dispersion");
  return rows.find((row) => row.component === spread.component) || random || rows[0] || null;
}

function componentTitle(m, component) {
  const row = report.meta.variance.components.find((other) => other.m === m && other.name === component);
  return row ? row.title : component;
}

function varianceSection() {
  const which = el("div");
  const top = el("div");
  const [mean, icc, violins] = [meanFigure(), iccFigure(), violinFigure()];
  const write = async () => {
    await loadSpread();
    fill(which, componentSelect(write));
    for (const it of [mean, icc, violins]) it.refresh();
    fill(top, topGenes(componentNow()));
  };
  onChoice((changed) => (changed.includes("t") || changed.includes("m")) && write());
  onChoice((changed) => changed.includes("gene") && mean.refresh());
  whenNear(which, write);
  return section(
    "variance",
    "Variance",
    "Part of what differs between cells is noise of counting, part is between cells, part is between donors. The " +
      "part between donors decides how many donors a study needs.",
    el("div", { class: "choices" }, choices("t", "m"), which),
    mean.node,
    el("div", { class: "pair" }, icc.node, violins.node),
    part(
      "Genes with the largest variance",
      "Genes that differ most beyond what the formula explains: sex, genotype, batches and contaminations show here.",
      top,
    ),
    summaryOfVariance(),
  );
}

function componentSelect(write) {
  const rows = componentsNow();
  if (!rows.length) return null;
  const titles = rows.map((row) => componentTitle(row.m, row.component));
  const now = componentNow();
  return localSelect("Variance component", titles, componentTitle(now.m, now.component), (title) => {
    spread.component = rows[titles.indexOf(title)].component;
    write();
  });
}

function meanFigure() {
  return figure({
    title: "Variance against mean expression",
    how: HOW.mean,
    height: 400,
    zoom: "xy",
    load: loadSpread,
    option: meanOption,
    empty: "No variances were estimated here.",
    label: () =>
      `Variance of each gene against its mean count, ${chosen("t", "m")}. The numbers are in the table below.`,
    note: meanNote,
    click: (at) => at.data && openGene(at.data[2], { t: state.t }),
    table: () => componentNow() && { ...meanTable(componentNow()), sort: { column: 2, descending: true } },
  });
}

function meanNote() {
  const now = componentNow();
  if (!now) return null;
  const some = `${whole(now.gene.length)} of ${whole(now.n)} genes are drawn, those of the largest variance with them.`;
  const none = now.unmeasured
    ? " This variance is too small to be measured: the points stand at the lowest value that was looked at. The " +
      "prior lies far below and is not drawn."
    : " This component has no prior: it stays as fitted.";
  const prior = now.line ? "" : none;
  return `${now.sampled ? some : `${counted(now.n, "gene")}.`}${prior}`;
}

function meanTable(now) {
  const columns = [
    { label: "Gene", value: (i) => symbol(now.gene[i]), node: (i) => geneLink(now.gene[i], { t: state.t }) },
    numberColumn("Mean count", (i) => now.mean_count[i]),
    numberColumn("Variance", (i) => now.variance[i]),
    numberColumn(
      "Share",
      (i) => now.fraction[i],
      (value) => percent(value, 1),
    ),
  ];
  return { rows: Array.from(now.gene, (_, i) => i), columns };
}

const log10 = (value) => Math.log10(Math.max(value, 1e-4));

function meanOption() {
  const now = componentNow();
  if (!now || !now.gene.length) return null;
  const c = colours();
  const places = Array.from(now.gene, (gene, i) => [
    Math.log10(Math.max(now.mean_count[i], 1e-6)),
    log10(now.variance[i]),
    gene,
    i,
  ]);
  const drawn = places.filter((point) => Number.isFinite(point[0]) && Number.isFinite(point[1]));
  const band = now.line ? [...now.line.low, ...now.line.high].map(log10) : [];
  const open = drawn.filter((point) => point[2] === state.gene);
  const label = {
    show: true,
    position: "top",
    color: c.focus,
    fontWeight: "bold",
    formatter: (at) => symbol(at.data[2]),
  };
  return frame({
    grid: { left: 66, right: 18, top: 16, bottom: 48 },
    xAxis: logAxis("mean count per cell (logarithmic)", ...ends(drawn.map((point) => point[0]))),
    yAxis: logAxis("variance (logarithmic)", ...ends([...drawn.map((point) => point[1]), ...band]), { nameGap: 48 }),
    tooltip: { formatter: (at) => (at.data && at.data.length === 4 ? meanTip(now, at.data[3]) : "") },
    series: [
      points("genes", drawn, { size: 4.5, fill: c.first, opacity: drawn.length > 1500 ? 0.35 : 0.55 }),
      ...priorSeries(now),
      points("open", open, { size: 14, fill: "transparent", edge: c.focus, width: 2, z: 6, label }),
    ],
  });
}

function meanTip(now, i) {
  return tip(symbol(now.gene[i]), [
    ["Mean count", compact(now.mean_count[i])],
    ["Variance", compact(now.variance[i])],
    ["Share of variance", percent(now.fraction[i], 1)],
    ["p of zero", pText(now.pvalue[i])],
  ]);
}

/** The prior as a line in a band. */
function priorSeries(now) {
  if (!now.line) return [];
  const c = colours();
  const x = now.line.mean_count.map((value) => Math.log10(value));
  const curve = (values) => x.map((at, i) => [at, log10(values[i])]);
  const outline = [...curve(now.line.high), ...curve(now.line.low).reverse()];
  const renderItem = (params, api) => ({
    type: "polygon",
    shape: { points: outline.map((point) => api.coord(point)) },
    style: { fill: c.second, opacity: 0.14 },
  });
  const lineStyle = { color: c.second, width: 2 };
  return [
    { type: "custom", silent: true, z: 1, clip: true, data: [outline[0]], renderItem },
    { type: "line", silent: true, data: curve(now.line.variance), showSymbol: false, lineStyle, z: 5 },
  ];
}

function topGenes(now) {
  if (!now || !now.top.length) return el("p", { class: "empty" }, "No variances were estimated here.");
  const place = new Map(Array.from(now.gene, (gene, i) => [gene, i]));
  const of = (key) => (gene) => (place.has(gene) ? now[key][place.get(gene)] : null);
  const { columns } = report.meta;
  const share = { label: "Share", title: columns.fraction, value: of("fraction"), descending: true };
  return grid({
    caption: `Genes with the largest variance, ${componentTitle(now.m, now.component)}`,
    rows: [...now.top],
    page: 10,
    file: fileName(report.name, cellTypeName(state.t), "largest variance"),
    columns: [
      { label: "Gene", value: symbol, node: (gene) => geneLink(gene, { t: state.t }) },
      numberColumn("Variance", of("variance"), compact, { title: columns.variance }),
      { ...share, node: (gene) => shareBar(of("fraction")(gene)) },
      numberColumn("Mean count", of("mean_count")),
      numberColumn("p of zero", of("pvalue"), pText, { title: columns.pvalue, descending: false }),
    ],
  }).node;
}

function summaryOfVariance() {
  const rows = report.meta.variance.summary;
  if (!rows.length) return null;
  const middle = (row) => (row.quartiles ? `${compact(row.quartiles[0])} to ${compact(row.quartiles[1])}` : "\u2013");
  const columns = [
    { label: "Cell type", value: (row) => cellTypeName(row.t) },
    { label: "Method", value: (row) => methodName(row.m) },
    { label: "Component", value: (row) => componentTitle(row.m, row.component) },
    ...summaryColumns(),
    { label: "Middle half of genes", numeric: true, value: (row) => (row.quartiles || [])[0], text: middle },
  ];
  const file = fileName(report.name, "variances");
  const table = grid({ caption: "Variances of all cell types", rows, page: 20, file, columns });
  return el("details", null, el("summary", null, "All cell types side by side"), table.node);
}

function summaryColumns() {
  return [
    numberColumn("Genes", (row) => row.n, whole),
    numberColumn("Median variance", (row) => row.median),
    numberColumn(
      "Median share",
      (row) => row.median_fraction,
      (value) => percent(value, 1),
    ),
    numberColumn("Genes with p < 0.05", (row) => row.share_significant, percent),
  ];
}
