// Which discoveries cell types share.

const MOST_SETS = 24;
const MOST_ROWS = 20;

function overlapPart() {
  const heading = "Shared between cell types";
  if (fittedCellTypes().length < 2) return part(heading, "There is one cell type with results: nothing to compare.");
  const genes = el("div", { class: "set" });
  const [sets, pairs] = [setsFigure(genes), pairsFigure()];
  onChoice((changed) => {
    if (!changed.some((key) => key === "c" || key === "m")) return;
    genes.replaceChildren();
    sets.refresh();
    pairs.refresh();
  });
  const lead =
    "Genes called in several cell types for the same contrast. A cell type with more cells or donors finds more, so " +
    "an absence is weak evidence. Click a bar for its genes.";
  return part(heading, lead, sets.node, genes, pairs.node);
}

/** Return the sets of the chosen contrast and method, largest first, and the cell types in them. */
function setsNow() {
  const rows = (report.meta.overlap[state.c] || [])
    .filter((row) => row.m === state.m)
    .sort((a, b) => b.n - a.n || a.t.length - b.t.length)
    .slice(0, MOST_SETS);
  const seen = new Map();
  for (const row of rows) for (const t of row.t) seen.set(t, (seen.get(t) || 0) + row.n);
  const types = [...seen.keys()].sort((a, b) => seen.get(b) - seen.get(a)).slice(0, MOST_ROWS);
  return { rows: rows.filter((row) => row.t.every((t) => types.includes(t))), types };
}

/** Return the row of `setsNow` that a mark of the figure stands for. */
const setOf = (at) => setsNow().rows[Array.isArray(at.value) ? at.value[0] : at.dataIndex];

function setsFigure(genes) {
  const show = (row) => button("Show the genes", () => listGenesOfSet(genes, row.t), "small");
  const columns = [
    { label: "Cell types", value: (row) => row.t.map(cellTypeName).join(", ") },
    numberColumn("Genes", (row) => row.n, whole),
    { label: "", value: () => "", node: show, tsv: [] },
  ];
  return figure({
    title: "Genes called in exactly these cell types",
    file: "overlap",
    how: HOW.sets,
    height: () => 236 + 19 * setsNow().types.length,
    option: setsOption,
    click: (at) => setOf(at) && listGenesOfSet(genes, setOf(at).t),
    empty: nothingShared,
    label: () => `Cell types that share discoveries, ${chosen("c", "m")}. The numbers are in the table below.`,
    table: () => ({ rows: setsNow().rows, columns }),
  });
}

function nothingShared() {
  const { rows, types } = setsNow();
  if (!rows.length) return "Nothing is called for this contrast with this method, so there is no overlap to show.";
  return `Genes are called in ${cellTypeName(types[0])} alone, so there is no overlap to show.`;
}

/** Return the marks of the matrix under the bars: a dot for every member, a line through them, and the empty places. */
function setMarks(rows, types) {
  const members = rows.map((row) => row.t.map((t) => types.indexOf(t)).sort((a, b) => a - b));
  return {
    dots: members.flatMap((at, i) => at.map((k) => [i, k])),
    lines: members.map((at, i) => [i, at[0], i, at[at.length - 1]]),
    empty: rows.flatMap((_, i) => types.map((__, k) => [i, k])),
  };
}

function setsOption() {
  const { rows, types } = setsNow();
  if (types.length < 2) return null;
  const c = colours();
  const ids = rows.map((_, i) => String(i));
  const names = types.map(cellTypeName);
  const marks = setMarks(rows, types);
  const left = Math.min(190, 24 + 6.6 * Math.max(...names.map((name) => cut(name, 26).length)));
  const below = { xAxisIndex: 1, yAxisIndex: 1 };
  const label = { show: true, position: "top", color: c.soft, fontSize: 11, formatter: (at) => whole(at.value) };
  return frame({
    grid: [
      { left, right: 12, top: 26, height: 150 },
      { left, right: 12, top: 192, bottom: 8 },
    ],
    xAxis: [
      namesAxis(ids, { hidden: true, axisLine: { lineStyle: { color: c.line } } }),
      { type: "category", data: ids, gridIndex: 1, show: false },
    ],
    yAxis: [
      axis("genes", { type: "value", nameGap: 44, scale: false, minInterval: 1 }),
      namesAxis(names, { most: 26, size: 12, gridIndex: 1, inverse: true }),
    ],
    tooltip: { formatter: (at) => setTip(setOf(at)) },
    series: [
      { type: "bar", data: rows.map((row) => row.n), itemStyle: { color: c.accent }, barMaxWidth: 26, label },
      points("", marks.empty, { fill: c.grid, silent: true, z: 1, ...below }),
      segments(marks.lines, () => ({ stroke: c.ink, lineWidth: 2 }), below),
      points("", marks.dots, { size: 10, fill: c.ink, ...below }),
    ],
  });
}

function setTip(row) {
  return tip(counted(row.n, "gene"), [], `Called in ${listed(row.t.map(cellTypeName))}, nowhere else.`);
}

/** Return the matrix of shared calls and the cell types of its rows. */
function pairsNow() {
  const matrix = (report.meta.pairs[state.c] || {})[state.m] || [];
  const order = report.meta.pairs_t || fittedCellTypes();
  const place = (t) => order.indexOf(t);
  const types = order.filter((t) => (matrix[place(t)] || [])[place(t)] > 0);
  return { types, at: (a, b) => matrix[place(a)][place(b)] };
}

function pairsFigure() {
  const height = (n) => Math.min(900, 120 + Math.max(120, n * (n > 25 ? 14 : 28)));
  return figure({
    title: "Genes called in the same direction in both",
    file: "shared pairs",
    how: HOW.pairs,
    height: () => height(pairsNow().types.length),
    option: pairsOption,
    empty: "Fewer than two cell types have discoveries for this contrast with this method.",
    label: () =>
      `Discoveries that pairs of cell types share, ${chosen("c", "m")}. The numbers are in the table below.`,
    table: () => {
      const { types, at } = pairsNow();
      const others = types.map((b) => numberColumn(cellTypeName(b), (a) => at(a, b), whole));
      return { rows: types, columns: [{ label: "Cell type", value: cellTypeName }, ...others] };
    },
  });
}

/** Return [column, row, Jaccard index (0 on the diagonal), genes in both] of all pairs. */
function pairValues({ types, at }) {
  const jaccard = (a, b) => at(a, b) / Math.max(1, at(a, a) + at(b, b) - at(a, b));
  return types.flatMap((a, i) => types.map((b, k) => [k, i, i === k ? 0 : jaccard(a, b), at(a, b)]));
}

function pairsOption() {
  const now = pairsNow();
  if (now.types.length < 2) return null;
  const c = colours();
  const names = now.types.map(cellTypeName);
  const values = pairValues(now);
  const largest = Math.max(0.05, ...values.map((value) => value[2]));
  const few = names.length <= 14;
  const size = names.length > 25 ? 9 : 11;
  const turn = (c === PALETTES.dark ? 0.6 : 0.42) * largest; // where the colour of the text has to change to be read
  const ink = (value) => ({ value, label: { color: value[2] > turn ? c.paper : c.ink } });
  const label = { show: few, fontSize: 11, formatter: ({ value }) => whole(value[3]) };
  return frame({
    grid: { left: 8, right: 8, top: 8, bottom: 8, outerBoundsMode: "same" },
    xAxis: namesAxis(names, { most: 20, size, rotate: names.length > 5 ? 55 : 0 }),
    yAxis: namesAxis(names, { most: 20, size, inverse: true }),
    visualMap: { show: false, min: 0, max: largest, dimension: 2, inRange: { color: c.heat } },
    tooltip: { formatter: ({ value }) => pairTip(names, value) },
    series: [
      {
        type: "heatmap",
        data: values.map(ink),
        itemStyle: { borderColor: c.paper, borderWidth: few ? 2 : 1 },
        label,
      },
    ],
  });
}

function pairTip(names, [k, i, share, n]) {
  if (i === k) return tip(names[i], [["Discoveries", whole(n)]]);
  const rows = Object.entries({ "In both, same direction": whole(n), "Share of all theirs": percent(share) });
  return tip(`${names[i]} and ${names[k]}`, rows);
}
