// What would show if the numbers were wrong: p-values, and the audit.

const ofChoice = (rows) => rows.filter((row) => row.t === state.t && row.c === state.c);

function trustSection() {
  const [histogram, qq] = [histogramFigure(), qqFigure()];
  onChoice((changed) => changed.some((key) => key === "t" || key === "c") && (histogram.refresh(), qq.refresh()));
  return section(
    "trust",
    "Trust",
    "Where to look before believing a result. Nothing here proves that the numbers are right; each part shows one " +
      "way in which they could be wrong.",
    choices("t", "c"),
    part(
      "P-values",
      "Where nothing changes, p-values are spread evenly between 0 and 1; real effects add to the left.",
      el("div", { class: "pair" }, histogram.node, qq.node),
      pvaluesOfAll(),
    ),
    auditTable(),
    report.meta.methods.length > 1 ? agreementPart() : null,
    stabilityPart(),
    ledgerPart(),
    randomEffectsPart(),
  );
}

/** The two numbers that sum up p-values, for everything that was tested. */
function pvaluesOfAll() {
  const { qq, pvalues } = report.meta.trust;
  if (qq.length < 2) return null;
  const same = (a) => (b) => a.t === b.t && a.c === b.c && a.m === b.m;
  const unchanged = (row) => (pvalues.find(same(row)) || {}).pi0;
  const columns = [
    { label: "Cell type", value: (row) => cellTypeName(row.t), node: (row) => showLink(row.t, row.c) },
    { label: "Contrast", value: (row) => contrastName(row.c) },
    { label: "Method", value: (row) => methodName(row.m) },
    numberColumn("Genes tested", (row) => (countsOf(row.t, row.c, row.m) || {}).tested, whole),
    numberColumn("Called", (row) => (countsOf(row.t, row.c, row.m) || {}).called, whole),
    numberColumn("Estimated not to change", unchanged, percent),
    numberColumn("Lambda", (row) => row.lambda, decimal),
  ];
  const table = grid({ caption: "P-values", rows: qq, page: 20, file: fileName(report.name, "pvalues"), columns });
  return el("details", null, el("summary", null, "All cell types and contrasts side by side"), table.node);
}

function histogramFigure() {
  const rows = () => ofChoice(report.meta.trust.pvalues);
  return figure({
    title: "Histogram of p-values",
    how: HOW.histogram,
    height: 320,
    empty: "There are no p-values for this choice.",
    label: () => `Histogram of p-values, ${chosen("t", "c")}. The numbers are in the table below.`,
    note: () => shareUnchanged(rows().filter((row) => !missing(row.pi0))),
    option: () => histogramOption(rows()),
    table: () => rows().length && { rows: rows()[0].counts.map((_, i) => i), columns: histogramColumns(rows()) },
  });
}

function shareUnchanged(rows) {
  const shares = rows.map((row) => `${percent(row.pi0)} by ${methodName(row.m)}`);
  return shares.length ? `Genes estimated not to change: ${listed(shares)}.` : null;
}

/** Edges of the bins, also where only their number is told. */
const edgesOf = (row) =>
  Array.isArray(row.edges) ? row.edges : row.counts.map((_, i) => i / row.counts.length).concat(1);

function histogramColumns(rows) {
  const counts = rows.map((row) => numberColumn(`Genes, ${methodName(row.m)}`, (i) => row.counts[i], whole));
  return [numberColumn("p from", (i) => edgesOf(rows[0])[i], decimal), ...counts];
}

function histogramOption(rows) {
  if (!rows.length) return null;
  const edges = edgesOf(rows[0]);
  const { counts } = rows[0];
  const expected = counts.reduce((a, b) => a + b, 0) / counts.length;
  const formatter = (items) => {
    const [{ dataIndex: i }] = items;
    const genes = items.map((item) => [item.seriesName, `${whole(item.value)} genes`]);
    return tip(`p from ${decimal(edges[i])} to ${decimal(edges[i + 1])}`, genes);
  };
  const label = { ...axis().axisLabel, interval: 3, formatter: (i) => decimal(edges[i], 1) };
  return frame({
    legend: rows.length > 1 ? legend(rows.map((row) => methodTitle(row.m))) : undefined,
    grid: { left: 60, right: 14, top: 30, bottom: 48 },
    xAxis: { ...axis("p-value"), ...namesAxis(counts.map((_, i) => i)), axisLabel: label },
    yAxis: axis("genes", { type: "value", scale: false, nameGap: 44 }),
    tooltip: { trigger: "axis", axisPointer: { type: "shadow" }, formatter },
    series: [...rows.map(histogramBars), rules([{ yAxis: expected }])],
  });
}

function histogramBars(row) {
  const hatch = { symbol: "line", rotation: 0.8, dashArrayX: [1, 0], dashArrayY: [2, 4], color: colours().paper };
  const itemStyle = { color: methodColour(row.m), ...(row.m ? { decal: hatch } : {}) };
  return { name: methodTitle(row.m), type: "bar", data: row.counts, barCategoryGap: "12%", barGap: "0%", itemStyle };
}

/** The curves of the QQ plot: the run's p-values, and those with permuted labels. */
function qqCurves() {
  const { qq, audit_qq: permuted } = report.meta.trust;
  return [
    ...ofChoice(qq).map((row) => ({ ...row, name: methodTitle(row.m), permuted: false })),
    ...ofChoice(permuted).map((row) => ({ ...row, name: `${methodTitle(row.m)}, permuted`, permuted: true })),
  ];
}

function qqFigure() {
  const columns = [
    { label: "Test", value: (row) => row[0] },
    numberColumn("Expected, \u2212log10 p", (row) => row[1], decimal),
    numberColumn("Observed, \u2212log10 p", (row) => row[2], decimal),
  ];
  return figure({
    title: "Quantiles of p-values (QQ plot)",
    how: HOW.qq,
    height: 320,
    zoom: "xy",
    empty: "There are no p-values for this choice.",
    option: () => qqOption(qqCurves()),
    label: () => `Observed against expected p-values, ${chosen("t", "c")}. The numbers are in the table below.`,
    note: qqNote,
    table: () => ({
      columns,
      rows: qqCurves().flatMap((curve) => curve.expected.map((x, i) => [curve.name, x, curve.observed[i]])),
    }),
  });
}

function qqNote() {
  const rows = ofChoice(report.meta.trust.qq).filter((row) => !missing(row.lambda));
  const lambdas = rows.map((row) => `${decimal(row.lambda)} for ${methodName(row.m)}`);
  return rows.length
    ? `Median chi-square over its expectation (lambda, 1 if nothing changes): ${listed(lambdas)}.`
    : null;
}

function qqOption(curves) {
  if (!curves.length) return null;
  const largest = Math.max(1, ...curves.map((curve) => Math.max(...curve.expected)));
  const pair = (at) => [
    ["Expected", decimal(at.value[0])],
    ["Observed", decimal(at.value[1])],
  ];
  const names = curves.map((curve) => curve.name);
  return frame({
    legend: legend(names, { left: names.length > 2 && !narrow() ? 50 : undefined }),
    grid: { left: 56, right: 14, top: names.length > 2 ? (narrow() ? 92 : 50) : 30, bottom: 48 },
    xAxis: fixedAxis("expected \u2212log10 p", 0, largest * 1.03, {
      axisLabel: { ...axis().axisLabel, showMaxLabel: false },
    }),
    yAxis: axis("observed \u2212log10 p", { type: "value", min: 0, nameGap: 38 }),
    tooltip: { formatter: (at) => (Array.isArray(at.value) ? tip(at.seriesName, pair(at)) : "") },
    series: [...curves.map(qqSeries), diagonal(0, largest)],
  });
}

function qqSeries(curve) {
  const colour = methodColour(curve.m);
  return {
    name: curve.name,
    type: "line",
    data: curve.expected.map((x, i) => [x, curve.observed[i]]).sort((a, b) => a[0] - b[0]),
    symbol: curve.permuted ? "none" : methodSymbol(curve.m),
    symbolSize: 5,
    lineStyle: { color: colour, width: curve.permuted ? 2 : 1, type: curve.permuted ? "dotted" : "solid" },
    itemStyle: { color: colour },
  };
}

const AUDITED = { holds: "good", "not audited": "note", "cannot tell": "note" };

function auditTable() {
  const { trust, verdict } = report.meta;
  const heading = "Audit with permuted labels";
  const hint = el("p", { class: "callout" }, prose(verdict.audit_hint));
  if (!trust.audit.length) return verdict.audit_hint ? part(heading, "", hint) : null;
  const file = fileName(report.name, "audit");
  return part(
    heading,
    "Labels changed places between donors as the design allows, so every call is false. 5 % of these p-values should " +
      "be below 0.05.",
    grid({ caption: heading, rows: trust.audit, page: 15, file, columns: auditColumns() }).node,
  );
}

function auditColumns() {
  const { columns } = report.meta;
  const of = (key, label, text) => numberColumn(label, (row) => row[key], text, { title: columns[key] });
  const range = (row) =>
    `${percent(row.type1_05, 1)} (${percent(row.type1_05_low, 1)} to ${percent(row.type1_05_high, 1)})`;
  const pill = (row) =>
    el("span", { class: `pill ${AUDITED[row.verdict] || "warning"}`, title: row.text }, row.verdict);
  return [
    { label: "Cell type", value: (row) => cellTypeName(row.t) },
    { label: "Contrast", value: (row) => contrastName(row.c) },
    { label: "Method", value: (row) => methodName(row.m) },
    { label: "Verdict", value: (row) => row.verdict, node: pill },
    { ...of("type1_05", "p below 0.05", percent), text: (row) => (missing(row.type1_05) ? "\u2013" : range(row)) },
    of("type1_001", "p below 0.001", (value) => percent(value, 2)),
    of("lambda", "Lambda", decimal),
    of("n_splits", "Permutations", whole),
    of("power", "Power", percent),
    of("fdp", "False among calls", (value) => percent(value, 1)),
  ];
}
