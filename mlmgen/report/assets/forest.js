// The effects of one gene in all cell types and contrasts.

const MOST_FOREST = 40;

/** The rows of the forest: [t, c] pairs, of the chosen contrast only where all would be too many. */
function forestRows() {
  const all = new Map();
  for (const row of story.rows) all.set(`${row.c} ${row.t}`, [row.t, row.c]);
  let rows = [...all.values()];
  const several = new Set(rows.map((row) => row[1])).size > 1;
  const only = several && rows.length > MOST_FOREST;
  if (only) rows = rows.filter((row) => row[1] === state.c);
  rows.sort((a, b) => a[1] - b[1] || a[0] - b[0]);
  return { rows, only, several: several && !only };
}

function forestHeight() {
  const n = forestRows().rows.length;
  return 96 + n * (n > 25 ? 19 : n > 6 ? 27 : 36);
}

function forestFigure() {
  const name = () => (story.gene < 0 ? "no gene" : symbol(story.gene));
  const only = () => `Only ${contrastName(state.c)} is drawn; choose another contrast under Results.`;
  return figure({
    title: "Effect in every cell type and contrast",
    file: "forest",
    how: HOW.forest,
    height: forestHeight,
    load: loadStory,
    option: forestOption,
    empty: "This gene was not tested anywhere, or only jointly: there is no effect to draw.",
    label: () => `Forest plot of ${name()}, ${forestRows().rows.length} rows. The numbers are in the table below.`,
    note: () => (forestRows().only ? only() : null),
    click: (at) => at.data && at.data.row && choose({ t: at.data.row.t, c: at.data.row.c }),
    table: () => ({ rows: story.rows, columns: forestColumns() }),
  });
}

function forestColumns() {
  const status = (row) => report.meta.statuses[row.status].name.replace("_", " ");
  return [
    { label: "Cell type", value: (row) => cellTypeName(row.t), node: (row) => showLink(row.t, row.c) },
    { label: "Contrast", value: (row) => contrastName(row.c) },
    { label: "Method", value: (row) => methodName(row.m) },
    numberColumn("Effect", (row) => row.log2fc, decimal, { key: "log2fc" }),
    intervalColumn(
      (row) => row.ci_low,
      (row) => row.ci_high,
      decimal,
    ),
    numberColumn("p", (row) => row.pvalue, pText, { key: "pvalue", descending: false }),
    numberColumn("FDR", (row) => row.padj, pText, { key: "padj", descending: false }),
    { label: "Called", value: (row) => (row.called ? "yes" : "no") },
    { label: "Fit", value: status },
  ];
}

function forestOption() {
  const { rows, several } = forestRows();
  const place = new Map(rows.map(([t, k], i) => [`${t} ${k}`, i]));
  const drawn = story.rows.filter((row) => Number.isFinite(row.log2fc) && place.has(`${row.t} ${row.c}`));
  if (!drawn.length) return null;
  const { methods } = report.meta;
  const names = rows.map(([t, k]) => (several ? `${cellTypeName(t)} \u00b7 ${contrastName(k)}` : cellTypeName(t)));
  const limits = forestLimits(drawn);
  const shift = (m) => (methods.length > 1 ? (m ? 0.19 : -0.19) : 0);
  const of = (m) => drawn.filter((row) => row.m === m);
  const series = methods.flatMap((_, m) => forestSeries(of(m), m, place, shift(m), limits));
  const data = names.map((_, i) => String(i));
  const yAxis = namesAxis(data, { inverse: true, splitLine: nameLines() });
  yAxis.axisLabel.formatter = (i) => cut(names[i], 40);
  return frame({
    legend: methods.length > 1 ? legend(methods.map((method) => method.title)) : undefined,
    grid: namedBox(),
    xAxis: fixedAxis(effectsOfMethods(), ...limits),
    yAxis,
    tooltip: { formatter: (at) => (at.data && at.data.row ? forestTip(at.data.row) : "") },
    series: [...series, rules([{ xAxis: 0 }])],
  });
}

/** Ends of the axis: all estimates, and intervals unless they are far wider than the rest. */
function forestLimits(rows) {
  const reach = rows.flatMap((row) => [Math.abs(row.ci_low), Math.abs(row.ci_high)]).filter(Number.isFinite);
  reach.sort((a, b) => a - b);
  const usual = reach.length ? reach[Math.floor(0.75 * (reach.length - 1))] * 4 : 1;
  const inside = (value) => Math.max(-usual, Math.min(usual, value));
  return ends([0, ...rows.flatMap((row) => [row.log2fc, inside(row.ci_low), inside(row.ci_high)])], 0.05);
}

function forestSeries(rows, m, place, shift, [low, high]) {
  const colour = methodColour(m);
  const at = (row) => place.get(`${row.t} ${row.c}`);
  const lines = rows
    .filter((row) => Number.isFinite(row.ci_low))
    .map((row) => [Math.max(low, row.ci_low), at(row), Math.min(high, row.ci_high), at(row)]);
  const look = (row) => ({ color: row.called ? colour : colours().paper, borderColor: colour, borderWidth: 2 });
  const marks = rows.map((row) => ({ value: [row.log2fc, at(row)], row, itemStyle: look(row) }));
  const style = () => ({ stroke: colour, lineWidth: 1.6 });
  const symbolOffset = [0, shift ? `${shift < 0 ? -60 : 60}%` : 0];
  return [
    segments(lines, style, { shift: (api) => shift * api.size([0, 1])[1] }),
    points(methodTitle(m), marks, { symbol: methodSymbol(m), size: m ? 11 : 9, fill: colour, symbolOffset, z: 3 }),
  ];
}

function forestTip(row) {
  const rows = [
    ["Contrast", contrastName(row.c)],
    ["Method", methodTitle(row.m)],
    ["Effect", `${decimal(row.log2fc)}  [${decimal(row.ci_low)}, ${decimal(row.ci_high)}]`],
    ["p-value", pText(row.pvalue)],
    ["False discovery rate", pText(row.padj)],
  ];
  return tip(cellTypeName(row.t), rows, row.called ? "Called" : "Not called");
}
